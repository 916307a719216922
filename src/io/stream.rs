//! A TCP socket on the shard's ring, with or without TLS: reads that append to a [`Buffer`], writes with a limit on
//! the time without progress.
//!
//! Reads and writes of one socket may be under way at the same time, one of each. A read that is dropped may take bytes
//! with it: such a stream may only be closed (dropped). [`Stream::readable`] and [`Stream::read_now`] lose nothing.

mod delivery;
mod halves;
mod plain_sender;
mod stall_watch;

use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::pin::pin;
use std::time::Duration;

use monoio::io::CancelHandle;
use monoio::net::TcpStream;
use socket2::SockRef;

pub use self::delivery::Delivery;
use self::halves::{Halves, busy};
pub use self::plain_sender::PlainSender;
pub use self::stall_watch::StallWatch;
use super::buffer::{Buffer, Filled, PLAINTEXT_MAX, Spare};
use super::clock;
use super::deadline::Deadline;
use super::tls::session::{CIPHERTEXT_MAX, Tls};

/// The reason why bytes could not be written.
#[derive(Debug)]
pub enum WriteError {
    /// The peer took nothing for the whole limit.
    Stalled,
    Io(io::Error),
}

/// The bytes that a read would return at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    Nothing,
    Bytes,
    /// None but the end of the stream, or an error.
    End,
}

/// A connected TCP socket.
pub struct Stream {
    tcp: Halves,
    tls: Option<Box<Tls>>,
}

impl Stream {
    pub fn new(tcp: TcpStream) -> Self {
        Stream { tcp: Halves::new(tcp), tls: None }
    }

    /// Turns this into a stream that speaks TLS from here on.
    pub(super) fn secured(mut self, tls: Box<Tls>) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Appends what the socket has to `buffer`, waiting for at least one byte; 0 is the end of the stream.
    ///
    /// # Cancel safety
    /// Not cancel safe (see the module); the buffer is lost too.
    pub async fn read(&self, buffer: Buffer) -> (io::Result<usize>, Buffer) {
        if let Some(tls) = &self.tls {
            // Boxed, so that streams without TLS are no larger for it.
            return Box::pin(self.read_secured(tls, buffer, None)).await;
        }
        let Some(mut socket) = self.tcp.read_half() else { return (Err(busy()), buffer) };
        let (result, Spare(buffer)) = socket.read(Spare(buffer)).await;
        (result, buffer)
    }

    /// As [`Stream::read`], but ended early when `cancel` is used. The result must be awaited even then: it may be
    /// data.
    pub async fn cancelable_read(&self, buffer: Buffer, cancel: CancelHandle) -> (io::Result<usize>, Buffer) {
        if let Some(tls) = &self.tls {
            return Box::pin(self.read_secured(tls, buffer, Some(cancel))).await;
        }
        let Some(mut socket) = self.tcp.read_half() else { return (Err(busy()), buffer) };
        let (result, Spare(buffer)) = socket.cancelable_read(Spare(buffer), cancel).await;
        (result, buffer)
    }

    /// Reads until there is plaintext. Partial records are kept by the session when it is cancelled.
    async fn read_secured(
        &self,
        tls: &Tls,
        mut buffer: Buffer,
        cancel: Option<CancelHandle>,
    ) -> (io::Result<usize>, Buffer) {
        if let Some(count) = tls.take_pending(&mut buffer) {
            return (Ok(count), buffer);
        }
        let Some(mut socket) = self.tcp.read_half() else { return (Err(busy()), buffer) };
        loop {
            let scratch = Spare(Buffer::take());
            let (result, Spare(ciphertext)) = match cancel.clone() {
                Some(cancel) => socket.cancelable_read(scratch, cancel).await,
                None => socket.read(scratch).await,
            };
            match result.and_then(|_| tls.receive(ciphertext.filled(), &mut buffer)) {
                Ok(Some(count)) => return (Ok(count), buffer),
                Ok(None) => {}
                Err(error) => return (Err(error), buffer),
            }
        }
    }

    /// Waits until a read would not block, or brings part of a TLS record. Holds no buffer and takes no bytes:
    /// dropping it is safe.
    pub async fn readable(&self) -> io::Result<()> {
        if self.has_pending() {
            return Ok(());
        }
        let Some(socket) = self.tcp.wait_half() else { return Err(busy()) };
        socket.readable().await
    }

    /// Appends what is there now to `buffer`, at most [`PLAINTEXT_MAX`] bytes: more would need two writes to pass on.
    /// `None` if there is nothing, 0 at the end of the stream.
    pub fn read_now(&self, buffer: &mut Buffer) -> io::Result<Option<usize>> {
        let Some(tls) = &self.tls else { return self.receive_now(buffer, PLAINTEXT_MAX) };
        if let Some(count) = tls.take_pending(buffer) {
            return Ok(Some(count));
        }
        let mut ciphertext = Buffer::take();
        match self.receive_now(&mut ciphertext, CIPHERTEXT_MAX)? {
            Some(_) => tls.receive(ciphertext.filled(), buffer),
            None => Ok(None),
        }
    }

    fn receive_now(&self, buffer: &mut Buffer, bytes_max: usize) -> io::Result<Option<usize>> {
        let tail = buffer.tail();
        let filled = tail.len();
        let spare = tail.spare_capacity_mut();
        let room = spare.len().min(bytes_max);
        match SockRef::from(&self.borrow()).recv_with_flags(&mut spare[..room], libc::MSG_DONTWAIT) {
            Ok(count) => {
                // SAFETY: the kernel has written `count` bytes after the filled part.
                unsafe { tail.set_len(filled + count) };
                Ok(Some(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Resolves when the peer has said by TLS that it sends no more (close_notify, RFC 8446 §6.1), which it may do
    /// without closing its socket. Never without TLS, and not while plaintext waits to be read. Only while nobody
    /// reads.
    ///
    /// # Cancel safety
    /// Loses nothing: what comes is kept for the next read.
    pub async fn goodbye(&self) {
        match &self.tls {
            Some(tls) => Box::pin(self.read_goodbye(tls)).await,
            None => std::future::pending().await,
        }
    }

    async fn read_goodbye(&self, tls: &Tls) {
        while !tls.has_ended() {
            if tls.has_pending() {
                return std::future::pending().await;
            }
            let Some(socket) = self.tcp.wait_half() else { return };
            if socket.readable().await.is_err() || self.has_said_goodbye(tls) {
                return;
            }
        }
    }

    /// Looks without waiting at what [`Stream::goodbye`] waits for. Only while nobody reads; what comes is kept for the
    /// next read.
    pub fn is_goodbye(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| self.has_said_goodbye(tls))
    }

    fn has_said_goodbye(&self, tls: &Tls) -> bool {
        while !tls.has_pending() {
            let mut ciphertext = Buffer::take();
            match self.receive_now(&mut ciphertext, CIPHERTEXT_MAX) {
                Ok(Some(_)) if tls.keep(ciphertext.filled()).is_ok() => {}
                Ok(None) => return false,
                Ok(Some(_)) | Err(_) => return true,
            }
        }
        tls.has_ended()
    }

    /// Returns whether the goodbye of the peer, or its end, was read already: nothing will tell it again.
    pub fn has_read_goodbye(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_ended())
    }

    /// Returns whether the peer speaks TLS: it may then leave without its socket (see [`Stream::goodbye`]).
    pub fn is_secured(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns whether a read would return something even if the socket has nothing.
    pub fn has_pending(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_pending())
    }

    /// Returns whether nothing waits to be read and the peer has not closed.
    pub fn is_quiet(&self) -> bool {
        !self.has_pending() && self.peek() == Unread::Nothing
    }

    /// Returns what waits to be read. Records of TLS are taken from the socket for that, and kept for the next read. Only
    /// while nobody reads.
    pub fn unread(&self) -> Unread {
        match &self.tls {
            Some(tls) => self.unread_plaintext(tls),
            None => self.peek(),
        }
    }

    fn unread_plaintext(&self, tls: &Tls) -> Unread {
        let mut has_failed = false;
        if !tls.has_pending() {
            let mut ciphertext = Buffer::take();
            has_failed = match self.receive_now(&mut ciphertext, CIPHERTEXT_MAX) {
                Ok(Some(_)) => tls.keep(ciphertext.filled()).is_err(),
                Ok(None) => false,
                Err(_) => true,
            };
        }
        match (tls.has_plaintext(), tls.has_ended() || has_failed) {
            (true, _) => Unread::Bytes,
            (false, true) => Unread::End,
            (false, false) => Unread::Nothing,
        }
    }

    fn peek(&self) -> Unread {
        let mut probe = [MaybeUninit::uninit(); 1];
        match SockRef::from(&self.borrow()).recv_with_flags(&mut probe, libc::MSG_PEEK | libc::MSG_DONTWAIT) {
            Ok(1..) => Unread::Bytes,
            Ok(0) => Unread::End,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Unread::Nothing,
            Err(_) => Unread::End,
        }
    }

    /// Writes all of `buffer`, which comes back empty. `progress` guards every single write: it fails when the peer
    /// takes nothing for `stall` long, however long the whole takes (see [`StallWatch`]).
    ///
    /// # Cancel safety
    /// Not cancel safe: what was written is unknown.
    pub fn write_all<'a>(
        &'a self,
        buffer: Buffer,
        progress: &'a Deadline,
        stall: Duration,
    ) -> impl Future<Output = (Result<(), WriteError>, Buffer)> + use<'a> {
        self.write_part(buffer, self.tls.as_deref(), progress, stall)
    }

    /// As [`Stream::write_all`], for bytes as they are on the wire: what [`Stream::write_now`] left.
    ///
    /// # Cancel safety
    /// As there.
    pub fn write_wire<'a>(
        &'a self,
        buffer: Buffer,
        progress: &'a Deadline,
        stall: Duration,
    ) -> impl Future<Output = (Result<(), WriteError>, Buffer)> + use<'a> {
        self.write_part(buffer, None, progress, stall)
    }

    /// Writes all of `buffer`, encrypted by `tls` if that is given.
    #[expect(clippy::manual_async_fn, reason = "an async fn would hold the buffer twice")]
    fn write_part<'a>(
        &'a self,
        mut buffer: Buffer,
        tls: Option<&'a Tls>,
        progress: &'a Deadline,
        stall: Duration,
    ) -> impl Future<Output = (Result<(), WriteError>, Buffer)> + use<'a> {
        async move {
            if let Some(tls) = tls {
                let mut sealed = Buffer::take();
                if let Err(error) = tls.seal(buffer.filled(), sealed.tail()) {
                    return (Err(WriteError::Io(error)), buffer);
                }
                buffer = sealed;
            }
            let Some(mut socket) = self.tcp.write_half() else { return (Err(WriteError::Io(busy())), buffer) };
            while !buffer.is_empty() {
                let mut watch = StallWatch::new(clock::now());
                let mut writing = pin!(socket.write(Filled(buffer)));
                let (result, Filled(written)) = loop {
                    match progress.before(watch.next_look(stall), writing.as_mut()).await {
                        Ok(done) => break done,
                        Err(_) if watch.has_stalled(self, stall, clock::now()) => {
                            return (Err(WriteError::Stalled), Buffer::none());
                        }
                        Err(_) => {}
                    }
                };
                buffer = written;
                match result {
                    Ok(0) => return (Err(WriteError::Io(io::ErrorKind::WriteZero.into())), buffer),
                    Ok(count) => buffer.consume(count),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return (Err(WriteError::Io(error)), buffer),
                }
            }
            (Ok(()), buffer)
        }
    }

    /// Writes as much of `bytes` as the socket takes at once. Returns what is left, as it is to go over the wire: it
    /// goes out before anything else ([`Stream::flush_now`], [`Stream::write_wire`]). Only while nothing else is
    /// written.
    ///
    /// # Errors
    /// The peer has gone.
    pub fn write_now(&self, bytes: &[u8]) -> io::Result<Buffer> {
        if let Some(tls) = &self.tls {
            let mut sealed = Buffer::take();
            tls.seal(bytes, sealed.tail())?;
            self.flush_now(&mut sealed)?;
            return Ok(sealed);
        }
        let sent = self.send_once(bytes)?;
        let mut left = Buffer::none();
        if sent < bytes.len() {
            left.append(&bytes[sent..]);
        }
        Ok(left)
    }

    fn send_once(&self, bytes: &[u8]) -> io::Result<usize> {
        match PlainSender::new(self.as_raw_fd()) {
            Some(sender) => sender.send(bytes),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Returns what sends on this socket as [`Stream::write_now`] does, without a look at this stream; `None` if it
    /// speaks TLS. To be used no longer than this stream is open.
    pub fn plain_sender(&self) -> Option<PlainSender> {
        if self.tls.is_some() { None } else { PlainSender::new(self.as_raw_fd()) }
    }

    /// Sends as much of `buffer` as the socket takes at once, as it is: without TLS.
    pub fn flush_now(&self, buffer: &mut Buffer) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.send_once(buffer.filled())? {
                0 => return Ok(()),
                count => buffer.consume(count),
            }
        }
        Ok(())
    }

    /// Sends the end of the stream; reading goes on.
    pub fn shutdown_write(&self) {
        self.end_tls();
        // The peer may have closed already, which is as good.
        let _ = SockRef::from(&self.borrow()).shutdown(Shutdown::Write);
    }

    /// Makes the close a reset, so that the peer cannot take the end for a complete answer.
    pub fn reset_on_close(&self) {
        self.cut();
        let _ = SockRef::from(&self.borrow()).set_linger(Some(Duration::ZERO));
    }

    /// Marks the close that follows as a cut, so that a TLS client can tell it from a complete answer.
    pub fn cut(&self) {
        if let Some(tls) = &self.tls {
            tls.cut();
        }
    }

    /// Sends a TLS client close_notify, as far as the socket takes it at once: nobody waits for it.
    fn end_tls(&self) {
        if let Some(tls) = &self.tls {
            let mut out = Vec::new();
            tls.seal_end(&mut out);
            if out.is_empty() {
                return;
            }
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            let _ = SockRef::from(&self.borrow()).send_with_flags(&out, flags);
        }
    }

    fn borrow(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open for as long as `self.tcp` is.
        unsafe { BorrowedFd::borrow_raw(self.tcp.as_raw_fd()) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end_tls();
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.tcp.as_raw_fd()
    }
}
