//! Notifies at once when a peer has left, whether or not anybody reads from it.
//!
//! While the upstream prepares its answer nothing is read from the downstream socket, so neither its end of file nor
//! its reset would be seen, and a peek sees nothing past pipelined bytes. One epoll descriptor a shard therefore holds
//! every such socket with `EPOLLRDHUP | EPOLLONESHOT`, and is itself polled on the ring. A socket is added once in its
//! life and needs no further call: the event can come only once, and data never raises it.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::io;
use std::os::fd::AsRawFd;
use std::task::{Poll, Waker};

use super::deadline::next_turn;
use super::epoll::{EVENTS_MAX, Epoll, Events, Readiness, Token, TokenTable};

thread_local! {
    static WATCHES: Watches =
        const { Watches { epoll: Cell::new(Epoll::NONE), entries: RefCell::new(TokenTable::new()) } };
}

struct Watches {
    epoll: Cell<Epoll>,
    entries: RefCell<TokenTable<Entry>>,
}

struct Entry {
    has_left: bool,
    /// It was reset; an end of file alone is none.
    has_failed: bool,
    /// Both sides have ended their direction: more is not to be waited for.
    is_over: bool,
    waker: Option<Waker>,
}

/// The watch on one socket.
#[derive(Debug)]
pub struct Departure {
    token: Token,
}

impl Departure {
    /// Starts to watch `socket`, which must stay open until this watch is dropped.
    ///
    /// # Errors
    /// The error of `epoll_ctl`: the shard runs no [`watch`], or the kernel's limit on watches is reached.
    pub fn of(socket: &impl AsRawFd) -> io::Result<Self> {
        let token = WATCHES.with(|watches| {
            watches.entries.borrow_mut().insert_with(|token| {
                watches.epoll.get().watch(libc::EPOLL_CTL_ADD, socket, libc::EPOLLRDHUP, token)?;
                Ok::<_, io::Error>(Entry { has_left: false, has_failed: false, is_over: false, waker: None })
            })
        })?;
        Ok(Departure { token })
    }

    /// Resolves when the peer has sent its end of file or a reset.
    pub async fn happened(&self) {
        poll_fn(|context| {
            WATCHES.with(|watches| {
                let mut entries = watches.entries.borrow_mut();
                // It is there for as long as its watch is.
                let Some(entry) = entries.get_mut(self.token).filter(|entry| !entry.has_left) else {
                    return Poll::Ready(());
                };
                if !entry.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                    entry.waker = Some(context.waker().clone());
                }
                Poll::Pending
            })
        })
        .await;
    }

    /// Resolves when the connection of `socket`, which is the one that is watched, was reset or has broken. An end of file
    /// alone is none, and tells nothing of what follows it: from the first call on [`Departure::happened`] misses it.
    pub async fn failed(&self, socket: &impl AsRawFd) {
        loop {
            self.happened().await;
            let has_failed = WATCHES.with(|watches| {
                let mut entries = watches.entries.borrow_mut();
                // It is there for as long as its watch is.
                let Some(entry) = entries.get_mut(self.token) else { return true };
                // Where both have ended, that would be told again and again.
                if !entry.has_failed && !entry.is_over {
                    // No event of its own is asked for: errors are told in any case.
                    let is_watched = watches.epoll.get().watch(libc::EPOLL_CTL_MOD, socket, 0, self.token).is_ok();
                    entry.has_left = !is_watched;
                    entry.is_over = !is_watched;
                }
                entry.has_failed
            });
            if has_failed {
                return;
            }
            if self.is_over() {
                return pending().await;
            }
        }
    }

    fn is_over(&self) -> bool {
        WATCHES.with(|watches| watches.entries.borrow_mut().get_mut(self.token).is_some_and(|entry| entry.is_over))
    }

    /// Drops the waker of the last waiter: a task that has ended stays in memory as long as its waker does.
    pub fn forget_waiter(&self) {
        let waker = WATCHES.with(|watches| watches.entries.borrow_mut().get_mut(self.token)?.waker.take());
        drop(waker);
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        // Closing the socket removes it from the epoll set; its token reaches nothing until then.
        let _ = WATCHES.try_with(|watches| watches.entries.borrow_mut().remove(self.token));
    }
}

/// Opens this shard's set of watches; [`watch`] then has to be run.
///
/// # Errors
/// The error of `epoll_create1`, such as a lack of descriptors.
pub fn open() -> io::Result<Events> {
    let (epoll, events) = Epoll::open()?;
    WATCHES.with(|watches| watches.epoll.set(epoll));
    Ok(events)
}

/// Delivers the departures of this shard for as long as it is polled. Every shard runs exactly one.
pub async fn watch(events: Events) -> io::Result<()> {
    let mut count_in_turn = 0;
    loop {
        events.happened().await?;
        count_in_turn += WATCHES.with(|watches| watches.epoll.get()).take_many::<EVENTS_MAX>(deliver);
        // On epoll the wait may have been none at all, however many leave at once.
        if count_in_turn >= EVENTS_MAX {
            next_turn().await;
            count_in_turn = 0;
        }
    }
}

fn deliver(token: Token, readiness: Readiness) {
    WATCHES.with(|watches| {
        if let Some(entry) = watches.entries.borrow_mut().get_mut(token) {
            entry.has_left = true;
            entry.has_failed |= readiness.has_failed();
            entry.is_over |= readiness.is_over();
            if let Some(waker) = entry.waker.take() {
                waker.wake();
            }
        }
    });
}
