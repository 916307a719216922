//! The calls on a listening socket: accepting a connection, bounding the queue, and ending the socket.
//!
//! Invariant: nothing here blocks.

use std::cell::Cell;
use std::io;
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::listener;

/// Makes a listener that never blocks, on either driver: connections are accepted until none waits. The flag belongs to
/// the socket, not to this process, and every gateway that takes the socket over, or lends it, sets it the same.
pub fn listening(listener: TcpListener) -> io::Result<monoio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    monoio::net::TcpListener::from_std(listener)
}

/// Accepts a connection by `accept4`; `None` when none waits. On io_uring sockets are blocking: the kernel waits for
/// them.
pub fn accept(listener: &monoio::net::TcpListener, nonblocking: bool) -> io::Result<Option<OwnedFd>> {
    let flags = libc::SOCK_CLOEXEC | if nonblocking { libc::SOCK_NONBLOCK } else { 0 };
    loop {
        // SAFETY: the descriptor is open, and no address is asked for.
        let accepted =
            unsafe { libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags) };
        if accepted >= 0 {
            // SAFETY: the kernel has just given us this descriptor.
            return Ok(Some(unsafe { OwnedFd::from_raw_fd(accepted) }));
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock => return Ok(None),
            // The client gave up while it waited in the queue.
            io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
            _ => return Err(error),
        }
    }
}

/// Returns whether `error` says that this process, or the system, may open no more descriptors.
pub fn lacks_descriptor(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// A warning that would be repeated as long as its reason lasts: one in so long at most.
pub struct SparseWarning {
    interval: Duration,
    last: Cell<Option<Instant>>,
}

impl SparseWarning {
    pub const fn each(interval: Duration) -> Self {
        SparseWarning { interval, last: Cell::new(None) }
    }

    /// Returns whether it is to be said now, and notes that it was.
    pub fn is_due(&self) -> bool {
        let now = Instant::now();
        let is_due = self.last.get().is_none_or(|last| now - last >= self.interval);
        if is_due {
            self.last.set(Some(now));
        }
        is_due
    }
}

/// The warnings of a shard that cannot accept, one a second at most: a lack of descriptors lasts.
pub struct AcceptWarnings(SparseWarning);

impl Default for AcceptWarnings {
    fn default() -> Self {
        AcceptWarnings(SparseWarning::each(Duration::from_secs(1)))
    }
}

impl AcceptWarnings {
    pub fn warn(&self, error: &io::Error) {
        if self.0.is_due() {
            tracing::warn!(%error, "cannot accept a connection");
        }
    }
}

/// Bounds the queue of a listener, as [`listener::bound_queue`] does.
pub fn bound_queue(listener: &monoio::net::TcpListener, len: usize) {
    listener::bound_queue(&SockRef::from(&socket_of(listener)), len);
}

/// Shuts a listening socket down, whoever else holds it. The ring holds it until a cancelled wait has been removed; the
/// port is free from here on all the same, so that another gateway can start at once.
pub fn shut_down(listener: &monoio::net::TcpListener) {
    let _ = SockRef::from(&socket_of(listener)).shutdown(Shutdown::Both);
}

fn socket_of(listener: &monoio::net::TcpListener) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open as long as `listener` is.
    unsafe { BorrowedFd::borrow_raw(listener.as_raw_fd()) }
}
