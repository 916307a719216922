//! Descriptors over a Unix socket, and the process at its other end.
//!
//! Invariant: every descriptor that was received is owned from then on, so that an error closes it, and none survives
//! an `exec`.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::cmsg_space;
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Descriptors in one message, at most; the kernel takes 253 (`SCM_MAX_FD`).
pub const BATCH_MAX: usize = 64;

/// The one byte that a message must have; its value means nothing.
const CARRIER: u8 = b'D';

/// Sends at most [`BATCH_MAX`] descriptors, which stay open here too.
///
/// # Errors
/// There are more, or they cannot be sent.
pub fn send(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(BATCH_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    retry_on_intr(|| sendmsg(stream, &[IoSlice::new(&[CARRIER])], &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Receives the descriptors of one message; none if it holds bytes alone.
///
/// # Errors
/// The stream has ended, this process may open no more files, or the read fails.
pub fn receive(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut byte = [0; 1];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(BATCH_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    // A socket with a time limit is not read again by itself after a signal (signal(7)).
    let message =
        retry_on_intr(|| recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC))?;
    let received = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptors = received.flatten().collect();
    if message.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // The kernel passes as many as this process may open, and drops the rest.
    if message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    Ok(descriptors)
}

/// Returns the process that connected or listens at the other end (unix(7), `SO_PEERCRED`). Not by rustix, whose type
/// takes no process id 0, which a process of another namespace has.
///
/// # Errors
/// The kernel does not tell.
pub fn peer_of(stream: &UnixStream) -> io::Result<libc::ucred> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: both pointers are to values of this frame, and `length` is the size of the first.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(peer) } else { Err(io::Error::last_os_error()) }
}
