//! One socket, read and written at the same time through a shared reference.
//!
//! monoio's operations take `&mut`, and its own halves need an allocation and shut the socket down when they are
//! dropped.
//! Invariant: at most one read and one write are under way, since each holds its half of the socket for as
//! long as it runs. That a read and a write do not disturb each other is what [`Split`] promises of a socket.

use std::cell::{Cell, UnsafeCell};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use monoio::BufResult;
use monoio::buf::{IoBuf, IoBufMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent, CancelHandle, CancelableAsyncReadRent, Split};
use monoio::net::TcpStream;

use crate::io::epoll::uninterrupted;

/// A socket whose two halves are borrowed one by one. Small, since it is a part of each connection's task.
pub struct Halves {
    socket: UnsafeCell<TcpStream>,
    descriptor: RawFd,
    /// Number of waits for readiness under way.
    waits_count: Cell<u16>,
    is_read: Cell<bool>,
    is_written: Cell<bool>,
}

impl Halves {
    pub fn new(socket: TcpStream) -> Self {
        Halves {
            descriptor: socket.as_raw_fd(),
            socket: UnsafeCell::new(socket),
            waits_count: Cell::new(0),
            is_read: Cell::new(false),
            is_written: Cell::new(false),
        }
    }

    /// Borrows the half that is read, for one read; `None` while another read or a wait is under way, which is a fault
    /// of the caller (see [`busy`]).
    pub fn read_half(&self) -> Option<ReadHalf<'_>> {
        let is_free = self.waits_count.get() == 0 && !self.is_read.replace(true);
        is_free.then(|| ReadHalf(self))
    }

    /// Borrows the half that is read, for a wait until it is readable, of which several may be under way; `None` while
    /// a read is.
    pub fn wait_half(&self) -> Option<WaitHalf<'_>> {
        let waits_count = self.waits_count.get().checked_add(1).filter(|_| !self.is_read.get())?;
        self.waits_count.set(waits_count);
        Some(WaitHalf(self))
    }

    /// Borrows the half that is written; `None` while another write is under way, which is a fault of the caller.
    pub fn write_half(&self) -> Option<WriteHalf<'_>> {
        let is_free = !self.is_written.replace(true);
        is_free.then(|| WriteHalf(self))
    }
}

impl AsRawFd for Halves {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor
    }
}

/// The half that is read, until it is dropped.
pub struct ReadHalf<'a>(&'a Halves);

impl ReadHalf<'_> {
    pub fn read<B: IoBufMut>(&mut self, buffer: B) -> impl Future<Output = BufResult<usize, B>> {
        self.socket().read(buffer)
    }

    pub fn cancelable_read<B: IoBufMut>(
        &mut self,
        buffer: B,
        cancel: CancelHandle,
    ) -> impl Future<Output = BufResult<usize, B>> {
        self.socket().cancelable_read(buffer, cancel)
    }

    fn socket(&mut self) -> &mut TcpStream {
        // SAFETY: there is one half of this kind at a time and no wait beside it, and it lends one borrow at a time,
        // for reading alone. The only other borrow is that of a write, beside which a socket that is `Split` may be
        // read.
        unsafe { &mut *can_split(&self.0.socket).get() }
    }
}

impl Drop for ReadHalf<'_> {
    fn drop(&mut self) {
        self.0.is_read.set(false);
    }
}

/// The half that is read, while it is waited for.
pub struct WaitHalf<'a>(&'a Halves);

impl WaitHalf<'_> {
    /// Waits until a read would not block.
    pub fn readable(&self) -> impl Future<Output = io::Result<()>> {
        // SAFETY: no read is under way beside this half. The only `&mut` is that of a write, beside which a socket
        // that is `Split` may be waited for as it may be read.
        let socket = unsafe { &*can_split(&self.0.socket).get() };
        uninterrupted(|| socket.readable(false))
    }
}

impl Drop for WaitHalf<'_> {
    fn drop(&mut self) {
        self.0.waits_count.set(self.0.waits_count.get() - 1);
    }
}

/// The half that is written, until it is dropped.
pub struct WriteHalf<'a>(&'a Halves);

impl WriteHalf<'_> {
    pub fn write<B: IoBuf>(&mut self, buffer: B) -> impl Future<Output = BufResult<usize, B>> {
        // SAFETY: there is one half of this kind at a time, and it lends one borrow at a time, for writing alone. Every
        // other borrow is for reading, beside which a socket that is `Split` may be written.
        let socket = unsafe { &mut *can_split(&self.0.socket).get() };
        socket.write(buffer)
    }
}

impl Drop for WriteHalf<'_> {
    fn drop(&mut self) {
        self.0.is_written.set(false);
    }
}

/// Holds the reason why the borrows above are sound: does not compile for a socket that makes no such promise.
fn can_split<T: Split>(socket: &UnsafeCell<T>) -> &UnsafeCell<T> {
    socket
}

/// The error of an operation whose half of the socket is in use: a second read or a second write.
pub fn busy() -> io::Error {
    tracing::error!("a half of a socket was used twice at a time, which is a fault of this program");
    io::ErrorKind::ResourceBusy.into()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream as Peer};

    use super::*;
    use crate::io::deadline::on_a_shard;
    use crate::io::race::{Either, race};

    #[test]
    fn one_read_and_one_write_go_on_at_the_same_time_and_no_second_one_of_either() {
        on_a_shard(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut peer = Peer::connect(listener.local_addr().unwrap()).unwrap();
            let ours = listener.accept().unwrap().0;
            ours.set_nonblocking(true).unwrap();
            let halves = Halves::new(TcpStream::from_std(ours).unwrap());
            let mut read_half = halves.read_half().unwrap();
            let reading = read_half.read(vec![0; 8]);
            let writing = async {
                assert!(halves.read_half().is_none() && halves.wait_half().is_none());
                let mut write_half = halves.write_half().unwrap();
                assert!(halves.write_half().is_none());
                assert_eq!(write_half.write(b"there".to_vec()).await.0.unwrap(), 5);
                let mut there = [0; 5];
                peer.read_exact(&mut there).unwrap();
                peer.write_all(b"back").unwrap();
                std::future::pending::<()>().await;
            };
            let Either::First((result, buffer)) = race(reading, writing).await else { unreachable!("it is pending") };
            assert_eq!((result.unwrap(), &buffer[..4]), (4, &b"back"[..]));
            drop(read_half);
            assert!(halves.write_half().is_some() && halves.read_half().is_some(), "what has ended holds nothing");
            let (one, other) = (halves.wait_half().unwrap(), halves.wait_half().unwrap());
            assert!(halves.read_half().is_none(), "it would take what others wait for");
            peer.write_all(b"more").unwrap();
            assert!(matches!(race(one.readable(), other.readable()).await, Either::First(Ok(()))));
            drop((one, other));
            assert!(halves.read_half().is_some());
        });
    }
}
