//! Sending on a socket without a look at its stream.

use std::io;
use std::num::NonZeroI32;
use std::os::fd::{BorrowedFd, RawFd};

use socket2::SockRef;

/// The descriptor of a socket, to send on for as long as its stream is open.
#[derive(Debug, Clone, Copy)]
pub struct PlainSender {
    /// The descriptor, and one: an option of it is no larger then.
    above: NonZeroI32,
}

impl PlainSender {
    pub(super) fn new(descriptor: RawFd) -> Option<Self> {
        NonZeroI32::new(descriptor.checked_add(1)?).map(|above| PlainSender { above })
    }

    /// Sends what the socket takes at once: none of it, perhaps.
    ///
    /// # Errors
    /// The peer has gone.
    pub fn send(self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            // SAFETY: the kernel refuses a descriptor that is not open.
            let socket = unsafe { BorrowedFd::borrow_raw(self.above.get() - 1) };
            match SockRef::from(&socket).send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return sent,
            }
        }
    }
}
