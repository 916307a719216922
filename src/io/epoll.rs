//! An epoll descriptor that is itself polled on the shard's ring, to watch sockets that nobody waits on.
//!
//! Every socket is in it under a token from the caller's [`TokenTable`], for one event (`EPOLLONESHOT`) or for each that
//! happens (`EPOLLET`). Invariant: nothing here blocks; a socket leaves the set when it is closed.

mod table;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use monoio::net::TcpStream;

pub use self::table::{Token, TokenTable};

/// Limit on the events taken from the kernel at once; more stay for the next turn.
pub const EVENTS_MAX: usize = 32;

/// A descriptor that tells of events by being readable. monoio polls any descriptor for readiness, but offers that only
/// on its socket types.
pub struct Events(TcpStream);

impl Events {
    /// # Errors
    /// The error of `epoll_ctl` on epoll.
    pub fn of(descriptor: OwnedFd) -> io::Result<Self> {
        TcpStream::from_std(std::net::TcpStream::from(descriptor)).map(Events)
    }

    /// Waits until there is an event.
    ///
    /// # Errors
    /// When the ring can wait no more.
    ///
    /// # Cancel safety
    /// Loses nothing.
    pub async fn happened(&self) -> io::Result<()> {
        uninterrupted(|| self.0.readable(false)).await
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Waits until a socket is readable, as `wait` does. On epoll that is asked by `poll`, which a signal ends that is
/// handled on this thread: a wait that took it for an error would be the last one of its task.
///
/// # Errors
/// Those of `wait`.
pub async fn uninterrupted<F: Future<Output = io::Result<()>>>(wait: impl Fn() -> F) -> io::Result<()> {
    loop {
        match wait().await {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A set of sockets. The descriptor belongs to the [`Events`] that [`Epoll::open`] returns with it.
#[derive(Debug, Clone, Copy)]
pub struct Epoll {
    descriptor: RawFd,
}

/// An event of a socket that is watched once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketEvent {
    /// There may be something to read.
    Readable,
    /// The peer has closed or reset the connection. There may be something to read that it had sent before.
    HungUp,
}

/// The events of a socket that have come at once.
#[derive(Debug, Clone, Copy)]
pub struct Readiness(u32);

impl Readiness {
    /// The peer has closed or reset the connection. There may be something to read that it had sent before.
    pub fn has_hung_up(self) -> bool {
        self.has(libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR)
    }

    /// Both sides have ended their direction, or the connection broke.
    pub fn is_over(self) -> bool {
        self.has(libc::EPOLLHUP)
    }

    /// The connection was reset, or broke.
    pub fn has_failed(self) -> bool {
        self.has(libc::EPOLLERR)
    }

    pub fn is_readable(self) -> bool {
        self.has(libc::EPOLLIN)
    }

    pub fn is_writable(self) -> bool {
        self.has(libc::EPOLLOUT)
    }

    fn has(self, events: i32) -> bool {
        self.0 & events as u32 != 0
    }
}

impl Epoll {
    /// No set: every watch is refused.
    pub const NONE: Epoll = Epoll { descriptor: -1 };

    /// Opens a set, and what to wait on for its events.
    ///
    /// # Errors
    /// The error of `epoll_create1`, such as a lack of descriptors.
    pub fn open() -> io::Result<(Self, Events)> {
        // SAFETY: no pointers are passed.
        let descriptor = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor.
        let events = Events::of(unsafe { OwnedFd::from_raw_fd(descriptor) })?;
        Ok((Epoll { descriptor }, events))
    }

    /// Watches `socket` for one of `events`, once; `operation` is `EPOLL_CTL_ADD` or, for one that is in the set,
    /// `EPOLL_CTL_MOD`.
    ///
    /// # Errors
    /// The error of `epoll_ctl`.
    pub fn watch(self, operation: i32, socket: &impl AsRawFd, events: i32, token: Token) -> io::Result<()> {
        self.control(operation, socket, events | libc::EPOLLONESHOT, token)
    }

    /// Follows `socket`: each of `events` is told whenever it happens, until the socket is forgotten (`EPOLLET`).
    ///
    /// # Errors
    /// The error of `epoll_ctl`.
    pub fn follow(self, operation: i32, socket: &impl AsRawFd, events: i32, token: Token) -> io::Result<()> {
        self.control(operation, socket, events | libc::EPOLLET, token)
    }

    fn control(self, operation: i32, socket: &impl AsRawFd, events: i32, token: Token) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: token.to_bits() };
        // SAFETY: `event` outlives the call; a descriptor that is not open is refused.
        let changed = unsafe { libc::epoll_ctl(self.descriptor, operation, socket.as_raw_fd(), &mut event) };
        if changed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Watches `socket` no more, before it is closed.
    pub fn forget(self, socket: &impl AsRawFd) {
        // SAFETY: no pointer is passed; a descriptor that is not open is refused.
        let _ =
            unsafe { libc::epoll_ctl(self.descriptor, libc::EPOLL_CTL_DEL, socket.as_raw_fd(), std::ptr::null_mut()) };
    }

    /// Takes the events that have come, [`EVENTS_MAX`] at most, without waiting. Returns their number.
    pub fn take(self, mut deliver: impl FnMut(Token, SocketEvent)) -> usize {
        self.take_many::<EVENTS_MAX>(|token, readiness| {
            deliver(token, if readiness.has_hung_up() { SocketEvent::HungUp } else { SocketEvent::Readable });
        })
    }

    /// Takes the events that have come, `MAX` at most, without waiting. Returns their number.
    pub fn take_many<const MAX: usize>(self, mut deliver: impl FnMut(Token, Readiness)) -> usize {
        let mut events = [const { MaybeUninit::<libc::epoll_event>::uninit() }; MAX];
        // SAFETY: `events` has room for `MAX` events; a timeout of 0 never blocks.
        let count = unsafe { libc::epoll_wait(self.descriptor, events.as_mut_ptr().cast(), MAX as i32, 0) };
        let count = usize::try_from(count).unwrap_or(0);
        for event in &events[..count] {
            // SAFETY: the kernel has written so many.
            let event = unsafe { event.assume_init() };
            deliver(Token::from_bits(event.u64), Readiness(event.events));
        }
        count
    }
}
