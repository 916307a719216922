//! One socket, read and written at the same time through a shared reference.
//!
//! monoio's operations take `&mut`, and its own halves need an allocation and shut the socket down when they are dropped.
//! Invariant: at most one read and one write are under way, since each holds its side of the socket for as long as it
//! runs. That a read and a write do not disturb each other is what [`Split`] promises of a socket.

use std::cell::{RefCell, RefMut, UnsafeCell};
use std::io;

use monoio::BufResult;
use monoio::buf::{IoBuf, IoBufMut};
use monoio::io::{AsyncWriteRent, CancelHandle, CancelableAsyncReadRent, Split};
use monoio::net::TcpStream;

/// A socket whose two sides are borrowed one by one.
pub struct Halves<T> {
    socket: UnsafeCell<T>,
    /// Borrowed by waits for readiness, and mutably by a read.
    read_side: RefCell<()>,
    /// Borrowed mutably by a write.
    write_side: RefCell<()>,
}

impl<T: Split> Halves<T> {
    pub fn new(socket: T) -> Self {
        Halves { socket: UnsafeCell::new(socket), read_side: RefCell::new(()), write_side: RefCell::new(()) }
    }

    /// Borrows the side that is read; `None` while it is borrowed, which is a fault of the caller (see [`busy`]).
    pub fn read_half(&self) -> Option<ReadHalf<'_, T>> {
        let side = self.read_side.try_borrow_mut().ok()?;
        Some(ReadHalf { socket: &self.socket, _side: side })
    }

    /// Borrows the side that is written; `None` while it is borrowed, which is a fault of the caller (see [`busy`]).
    pub fn write_half(&self) -> Option<WriteHalf<'_, T>> {
        let side = self.write_side.try_borrow_mut().ok()?;
        Some(WriteHalf { socket: &self.socket, _side: side })
    }
}

impl Halves<TcpStream> {
    /// Waits until a read would not block. Several may wait at the same time.
    ///
    /// # Errors
    /// When a read is under way, which is a fault of the caller, or the ring can wait no more.
    #[expect(clippy::await_holding_refcell_ref, reason = "the side is borrowed for as long as the wait lasts")]
    pub async fn readable(&self) -> io::Result<()> {
        let _side = self.read_side.try_borrow().map_err(|_| busy())?;
        // SAFETY: `_side` keeps a read from starting, so the only `&mut` there may be is that of a write, and `Split`
        // lets what belongs to reading go on beside it.
        let socket = unsafe { &*self.socket.get() };
        socket.readable(false).await
    }
}

/// The side that is read, until it is dropped.
pub struct ReadHalf<'a, T> {
    socket: &'a UnsafeCell<T>,
    _side: RefMut<'a, ()>,
}

impl<T: Split + CancelableAsyncReadRent> ReadHalf<'_, T> {
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

    fn socket(&mut self) -> &mut T {
        // SAFETY: there is one half of this side at a time, and it gives out one borrow at a time, for reading alone. The
        // other `&mut` there may be is that of a write, and `Split` lets reading go on beside it.
        unsafe { &mut *self.socket.get() }
    }
}

/// The side that is written, until it is dropped.
pub struct WriteHalf<'a, T> {
    socket: &'a UnsafeCell<T>,
    _side: RefMut<'a, ()>,
}

impl<T: Split + AsyncWriteRent> WriteHalf<'_, T> {
    pub fn write<B: IoBuf>(&mut self, buffer: B) -> impl Future<Output = BufResult<usize, B>> {
        // SAFETY: there is one half of this side at a time, and it gives out one borrow at a time, for writing alone. What
        // else is borrowed is for reading, and `Split` lets writing go on beside it.
        unsafe { &mut *self.socket.get() }.write(buffer)
    }
}

/// The error of an operation whose side of the socket is in use: a second read or a second write.
pub fn busy() -> io::Error {
    io::ErrorKind::ResourceBusy.into()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream as Peer};

    use super::super::deadline::on_a_shard;
    use super::super::race::{Either, race};
    use super::*;

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
                let readable = halves.readable().await.map_err(|error| error.kind());
                assert_eq!((readable, halves.read_half().is_none()), (Err(busy().kind()), true));
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
            let first = race(halves.readable(), halves.readable());
            peer.write_all(b"more").unwrap();
            assert!(matches!(first.await, Either::First(Ok(())) | Either::Second(Ok(()))));
        });
    }
}
