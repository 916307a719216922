//! Tells at once when a peer has gone, whether or not anybody reads from it.
//!
//! While the upstream thinks, nothing is read from the downstream socket, so neither its end of file nor its reset
//! would be seen; a peek is blind behind pipelined bytes. One epoll descriptor a shard therefore holds every such
//! socket with
//! `EPOLLRDHUP | EPOLLONESHOT`, and is itself polled on the ring. A socket is added once in its life and needs no
//! further call: the event can come only once, and data never raises it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::task::{Poll, Waker};

use monoio::net::TcpStream;
use slab::Slab;

/// Events taken from the kernel at once; more stay for the next turn.
const EVENTS_MAX: usize = 64;

thread_local! {
    static WATCHES: Watches = const {
        Watches { epoll: Cell::new(-1), entries: RefCell::new(Slab::new()), generation: Cell::new(0) }
    };
}

struct Watches {
    epoll: Cell<RawFd>,
    entries: RefCell<Slab<Entry>>,
    /// Tells a late event for a slot's former socket from one for its present one.
    generation: Cell<u32>,
}

struct Entry {
    generation: u32,
    has_left: bool,
    waker: Option<Waker>,
}

/// The watch on one socket.
#[derive(Debug)]
pub struct Departure {
    key: usize,
}

impl Departure {
    /// Starts to watch `socket`, which must stay open until this watch is dropped.
    ///
    /// # Errors
    /// What `epoll_ctl` reports: the shard runs no [`watch`], or the kernel's limit on watches is reached.
    pub fn of(socket: &impl AsRawFd) -> io::Result<Self> {
        WATCHES.with(|watches| {
            let generation = watches.generation.get().wrapping_add(1);
            watches.generation.set(generation);
            let key = watches.entries.borrow_mut().insert(Entry { generation, has_left: false, waker: None });
            let departure = Departure { key };
            let mut event = libc::epoll_event {
                events: (libc::EPOLLRDHUP | libc::EPOLLONESHOT) as u32,
                u64: u64::from(generation) << 32 | key as u64,
            };
            // SAFETY: both descriptors are open and `event` outlives the call.
            let added =
                unsafe { libc::epoll_ctl(watches.epoll.get(), libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &mut event) };
            if added == 0 { Ok(departure) } else { Err(io::Error::last_os_error()) }
        })
    }

    /// Resolves when the peer has sent its end of file or a reset.
    pub async fn happened(&self) {
        poll_fn(|context| {
            WATCHES.with(|watches| {
                let entry = &mut watches.entries.borrow_mut()[self.key];
                if entry.has_left {
                    return Poll::Ready(());
                }
                if !entry.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                    entry.waker = Some(context.waker().clone());
                }
                Poll::Pending
            })
        })
        .await;
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        // Closing the socket takes it out of the epoll set; the generation guards the moment until then.
        let _ = WATCHES.try_with(|watches| watches.entries.borrow_mut().try_remove(self.key));
    }
}

/// Opens this shard's set of watches; [`watch`] then has to be run.
///
/// # Errors
/// What `epoll_create1` reports, as a lack of descriptors.
pub fn open() -> io::Result<TcpStream> {
    // SAFETY: no pointers are passed; the new descriptor is owned by the stream from here on.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if epoll < 0 {
        return Err(io::Error::last_os_error());
    }
    WATCHES.with(|watches| watches.epoll.set(epoll));
    // monoio polls any descriptor for readiness, but offers that only on its socket types.
    TcpStream::from_std(unsafe { std::net::TcpStream::from_raw_fd(epoll) })
}

/// Delivers the departures of this shard for as long as it is polled. Every shard runs exactly one.
pub async fn watch(epoll: TcpStream) -> io::Result<()> {
    loop {
        epoll.readable(false).await?;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        // SAFETY: `events` has room for `EVENTS_MAX` events; a timeout of 0 never blocks.
        let count = unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), EVENTS_MAX as i32, 0) };
        for event in &events[..usize::try_from(count).unwrap_or(0)] {
            deliver(event.u64);
        }
    }
}

fn deliver(token: u64) {
    let (generation, key) = ((token >> 32) as u32, (token & u64::from(u32::MAX)) as usize);
    WATCHES.with(|watches| {
        if let Some(entry) = watches.entries.borrow_mut().get_mut(key).filter(|entry| entry.generation == generation) {
            entry.has_left = true;
            if let Some(waker) = entry.waker.take() {
                waker.wake();
            }
        }
    });
}
