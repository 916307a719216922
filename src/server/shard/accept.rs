//! Taking connections off a listening socket, and the place that each of them holds.
//!
//! Invariant: nothing here blocks, and every connection that is counted is counted off when it ends.

use std::cell::Cell;
use std::io;
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use socket2::SockRef;

/// Never blocks, on either driver: connections are taken until there are none. The flag is the socket's and not this
/// process' alone, and every gateway that takes the socket over, or lends it, sets it the same.
pub fn listening(listener: TcpListener) -> io::Result<monoio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    monoio::net::TcpListener::from_std(listener)
}

/// `accept4`; `None` when no connection waits. On the ring sockets block, since the kernel waits for them there.
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
            // The client gave up while it waited.
            io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
            _ => return Err(error),
        }
    }
}

/// What a shard says when it cannot accept. A lack of descriptors lasts: one line a second says enough.
#[derive(Default)]
pub struct AcceptWarnings {
    last: Cell<Option<Instant>>,
}

impl AcceptWarnings {
    pub fn warn(&self, error: &io::Error) {
        let now = Instant::now();
        if self.last.get().is_none_or(|last| now - last >= Duration::from_secs(1)) {
            self.last.set(Some(now));
            tracing::warn!(%error, "cannot accept a connection");
        }
    }
}

/// Ends the listening of the socket, whoever else holds it. A ring holds it until a wait that was given up is off it; the
/// port is free from here on all the same, so that a successor can start at once.
pub fn shut_down(listener: &monoio::net::TcpListener) {
    // SAFETY: the descriptor is open as long as `listener` is.
    let socket = unsafe { BorrowedFd::borrow_raw(listener.as_raw_fd()) };
    let _ = SockRef::from(&socket).shutdown(Shutdown::Both);
}
