//! One connection to the upstream: plaintext in, plaintext out, TLS in between if there is any.
//!
//! Reading and writing may go on at the same time, one of each: the TLS session is borrowed only between awaits.
//! Invariant: an idle connection holds no buffer; one that is read from holds one, with the part of a record that has
//! come.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use super::history::History;
use super::tls::session::{ReadSide, Session};
use crate::io::buffer::{PLAINTEXT_MAX, SMALL_CAPACITY};
use crate::io::{Buffer, Deadline, Stream, WriteError};

/// Room a read asks for; a recycled buffer has as much even after a partial TLS record.
const READ_ROOM_MIN: usize = 16 * 1024;

/// The reason why a connection broke. It can only be dropped then.
#[derive(Debug)]
pub enum TransportError {
    Io(io::Error),
    Tls(rustls::Error),
    /// The upstream took no byte for the whole limit.
    Stalled,
}

impl fmt::Display for TransportError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransportError::Io(error) => error.fmt(formatter),
            TransportError::Tls(error) => error.fmt(formatter),
            TransportError::Stalled => formatter.write_str("it accepts no more bytes"),
        }
    }
}

impl std::error::Error for TransportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TransportError::Io(error) => Some(error),
            TransportError::Tls(error) => Some(error),
            TransportError::Stalled => None,
        }
    }
}

impl From<WriteError> for TransportError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stalled => TransportError::Stalled,
            WriteError::Io(error) => TransportError::Io(error),
        }
    }
}

/// The result of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// At least one byte was emitted.
    Data,
    /// The upstream has closed. Only TLS distinguishes the end from truncation (RFC 9112 §9.8): `is_clean` is false
    /// when close_notify was missing.
    End { is_clean: bool },
}

/// An established connection to the upstream.
// In this order, so that a read finds all it needs in few cache lines.
#[repr(C)]
pub struct Connection {
    /// Boxed, since it is large and a connection is moved often.
    tls: Option<Box<RefCell<Session>>>,
    /// The size of the last read, by which the room for the next one is chosen.
    last_read_bytes: Cell<usize>,
    /// A partial TLS record.
    incoming: RefCell<Buffer>,
    read_side: Cell<ReadSide>,
    /// All that is received is overwritten.
    receives_secrets: Cell<bool>,
    /// That of a record which came after content: the next read returns it. Boxed, since it is hardly ever there.
    failure: RefCell<Option<Box<rustls::Error>>>,
    stream: Stream,
    write_progress: Deadline,
    history: Cell<History>,
    /// The longest rest between two exchanges, as the upstream said last.
    rest_limit: Cell<Option<Duration>>,
}

impl Connection {
    pub(crate) fn new(stream: Stream, tls: Option<Session>, incoming: Buffer) -> Self {
        Connection {
            tls: tls.map(|session| Box::new(RefCell::new(session))),
            last_read_bytes: Cell::new(READ_ROOM_MIN),
            incoming: RefCell::new(incoming),
            read_side: Cell::new(ReadSide::Open),
            receives_secrets: Cell::new(false),
            failure: RefCell::new(None),
            stream,
            write_progress: Deadline::default(),
            history: Cell::new(History::Fresh),
            rest_limit: Cell::new(None),
        }
    }

    /// Returns the past of the connection, until an exchange begins on it.
    pub fn history(&self) -> History {
        self.history.get()
    }

    /// Notes that it is to rest before its first exchange.
    pub(super) fn note_warm(&self) {
        self.history.set(History::Warm);
    }

    /// Returns whether the upstream has chosen one of the protocols that were offered (ALPN).
    pub fn has_chosen_protocol(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.borrow().has_chosen_protocol())
    }

    /// Prepares `plaintext`, at most [`PLAINTEXT_MAX`] bytes, for [`Connection::send`]: encrypts it if there is TLS; else
    /// its first `secret_bytes` are overwritten after they were sent. What was prepared must be sent, in the same order.
    ///
    /// # Errors
    /// When the TLS session can encrypt no more.
    pub fn seal(&self, plaintext: &[u8], secret_bytes: usize) -> Result<Buffer, TransportError> {
        debug_assert!(plaintext.len() <= PLAINTEXT_MAX);
        let mut sealed = Buffer::take();
        match &self.tls {
            Some(session) => session.borrow_mut().encrypt(plaintext, sealed.tail()).map_err(TransportError::Tls)?,
            None => {
                sealed.append(plaintext);
                sealed.mark_secret(secret_bytes);
            }
        }
        Ok(sealed)
    }

    /// Sends what [`Connection::seal`] made. `stall` is how long the upstream may take nothing.
    ///
    /// # Errors
    /// See [`TransportError`].
    ///
    /// # Cancel safety
    /// Not cancel safe: what was sent is unknown, and the connection can only be closed.
    pub async fn send(&self, sealed: Buffer, stall: Duration) -> Result<(), TransportError> {
        Ok(self.stream.write_all(sealed, &self.write_progress, stall).await.0?)
    }

    /// Lets what is received from now on be overwritten in the buffers of this connection.
    pub fn receive_secrets(&self) {
        self.receives_secrets.set(true);
    }

    /// Waits for bytes and gives them, decrypted, to `emit`, which may be called several times.
    ///
    /// # Errors
    /// See [`TransportError`].
    ///
    /// # Cancel safety
    /// Not cancel safe: bytes may be lost, and the connection can only be closed.
    pub async fn read(&self, mut emit: impl FnMut(&[u8])) -> Result<Received, TransportError> {
        if let Some(end) = self.known_end()? {
            return Ok(end);
        }
        loop {
            let (result, mut buffer) = self.stream.read(self.room_to_wait_in()).await;
            let received = match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
                result => self.take_in(result, &mut buffer, &mut emit)?,
            };
            self.keep(buffer);
            if let Some(received) = received {
                return Ok(received);
            }
        }
    }

    /// Returns the buffer for a read that waits: a small one if the last read brought little, as most events are. The
    /// rest of a larger one comes with the next read.
    fn room_to_wait_in(&self) -> Buffer {
        let mut buffer = self.incoming.take();
        if buffer.is_empty() && self.last_read_bytes.get() <= SMALL_CAPACITY / 2 {
            return Buffer::take_small();
        }
        buffer.reserve(READ_ROOM_MIN);
        buffer
    }

    /// Waits until [`Connection::read_now`] would bring something.
    ///
    /// # Cancel safety
    /// Takes no bytes: dropping it is safe.
    pub async fn readable(&self) {
        if self.is_open() {
            // The read that follows returns the error.
            let _ = self.stream.readable().await;
        }
    }

    /// As [`Connection::read`], without waiting; `None` if nothing has come, or nothing that can be decrypted yet.
    ///
    /// # Errors
    /// See [`TransportError`].
    pub fn read_now(&self, mut emit: impl FnMut(&[u8])) -> Result<Option<Received>, TransportError> {
        if let Some(end) = self.known_end()? {
            return Ok(Some(end));
        }
        let mut buffer = self.incoming.take();
        buffer.reserve(READ_ROOM_MIN);
        let received = match self.stream.read_now(&mut buffer).transpose() {
            Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => None,
            Some(result) => self.take_in(result, &mut buffer, &mut emit)?,
            None => None,
        };
        self.keep(buffer);
        Ok(received)
    }

    /// As [`Connection::read_now`], by way of `scratch`, a recycled buffer that many connections share: it is empty
    /// before and after. Tells also whether more may be there: a read that found less than it had room for has emptied
    /// the socket.
    ///
    /// # Errors
    /// See [`TransportError`].
    pub fn read_through(
        &self,
        scratch: &mut Buffer,
        mut emit: impl FnMut(&[u8]),
    ) -> Result<(Option<Received>, bool), TransportError> {
        if let Some(end) = self.known_end()? {
            return Ok((Some(end), false));
        }
        let incoming = self.incoming.take();
        if !incoming.is_empty() {
            scratch.append(incoming.filled());
        }
        scratch.reserve(READ_ROOM_MIN);
        let room = scratch.spare_len().min(PLAINTEXT_MAX);
        let (received, may_have_more) = match self.stream.read_now(scratch).transpose() {
            Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => (Ok(None), true),
            Some(result) => {
                let has_filled_it = result.as_ref().is_ok_and(|count| *count == room);
                (self.take_in(result, scratch, &mut emit), has_filled_it)
            }
            None => (Ok(None), false),
        };
        if !scratch.is_empty() {
            self.incoming.borrow_mut().append(scratch.filled());
            scratch.clear();
        }
        Ok((received?, may_have_more))
    }

    /// Returns the end or the failure that the last read left to be reported.
    fn known_end(&self) -> Result<Option<Received>, TransportError> {
        if let Some(error) = &*self.failure.borrow() {
            return Err(TransportError::Tls((**error).clone()));
        }
        Ok(match self.read_side.get() {
            ReadSide::Open => None,
            ReadSide::Closed => Some(Received::End { is_clean: true }),
        })
    }

    fn is_open(&self) -> bool {
        self.read_side.get() == ReadSide::Open && self.failure.borrow().is_none()
    }

    /// Takes what a read brought into `buffer`; `None` if that is not yet a whole TLS record. The part of one that is left
    /// stays there.
    fn take_in(
        &self,
        result: io::Result<usize>,
        buffer: &mut Buffer,
        emit: &mut impl FnMut(&[u8]),
    ) -> Result<Option<Received>, TransportError> {
        let count = result.map_err(TransportError::Io)?;
        self.last_read_bytes.set(count);
        if count == 0 {
            return Ok(Some(Received::End { is_clean: self.tls.is_none() }));
        }
        if self.receives_secrets.get() {
            buffer.mark_secret(buffer.len());
        }
        match &self.tls {
            Some(session) => self.decrypt(session, buffer, emit),
            None => {
                emit(buffer.filled());
                buffer.clear();
                Ok(Some(Received::Data))
            }
        }
    }

    /// Decrypts every whole record of `buffer`; the part of one that is left stays there.
    fn decrypt(
        &self,
        session: &RefCell<Session>,
        buffer: &mut Buffer,
        emit: &mut impl FnMut(&[u8]),
    ) -> Result<Option<Received>, TransportError> {
        let mut has_emitted = false;
        let decrypted = session.borrow_mut().decrypt(buffer, |plaintext| {
            has_emitted |= !plaintext.is_empty();
            emit(plaintext);
        });
        match decrypted {
            Ok(ReadSide::Open) => {}
            Ok(ReadSide::Closed) => self.read_side.set(ReadSide::Closed),
            // The content before it is authentic: it is passed on before the connection is given up.
            Err(error) if has_emitted => drop(self.failure.replace(Some(Box::new(error)))),
            Err(error) => return Err(TransportError::Tls(error)),
        }
        if has_emitted {
            return Ok(Some(Received::Data));
        }
        self.known_end()
    }

    /// Keeps the part of a record that is left in `buffer` for the next read.
    fn keep(&self, buffer: Buffer) {
        if !buffer.is_empty() {
            self.incoming.replace(buffer);
        }
    }

    /// Returns whether a whole record, or the end, was read that the next read would bring without its socket.
    pub fn has_known_end(&self) -> bool {
        !self.is_open()
    }

    /// Lets go of the task that has waited on it last: it would stay in memory for as long as this connection.
    pub fn forget_waiter(&self) {
        self.write_progress.forget_waiter();
    }

    /// Notes that an exchange begins on this connection.
    pub fn begin_exchange(&self) {
        self.history.set(History::Used);
    }

    /// Notes the longest rest that the upstream allows. What it said before holds where it says nothing.
    pub fn limit_rest(&self, limit: Option<Duration>) {
        if limit.is_some() {
            self.rest_limit.set(limit);
        }
    }

    /// Returns the longest rest that the upstream allows, where it has said so.
    pub fn rest_limit(&self) -> Option<Duration> {
        self.rest_limit.get()
    }

    /// Returns whether nothing was read after the last exchange: neither the end, nor a failure, nor a part of a
    /// record. Costs no system call.
    pub fn has_ended_clean(&self) -> bool {
        self.is_open() && self.incoming.borrow().is_empty()
    }

    /// Returns whether nothing has come since the last exchange, neither bytes nor the end, as it must be with an idle
    /// connection. Anything else would be taken for the answer to the next request. Records without content, such as the
    /// session tickets that follow a handshake (RFC 8446 §4.6.1), are taken in.
    pub fn is_idle(&self) -> bool {
        let is_quiet = || self.has_ended_clean() && self.stream.is_quiet();
        is_quiet() || self.take_contentless_records() && is_quiet()
    }

    /// Takes in what has come, without waiting; false if that is the end, a failure or content.
    fn take_contentless_records(&self) -> bool {
        let Some(session) = self.tls.as_ref().filter(|_| self.is_open()) else { return false };
        let mut buffer = self.incoming.take();
        buffer.reserve(READ_ROOM_MIN);
        match self.stream.read_now(&mut buffer) {
            // With the handshake they may have come already.
            Ok(None | Some(1..)) => {
                let has_no_content = matches!(self.decrypt(session, &mut buffer, &mut |_| {}), Ok(None));
                self.keep(buffer);
                has_no_content
            }
            Ok(Some(0)) | Err(_) => false,
        }
    }

    /// Sends the end of this direction, with a close_notify alert where there is TLS (RFC 8446 §6.1); reading goes on.
    ///
    /// # Cancel safety
    /// As [`Connection::send`].
    pub async fn end_sending(&self, limit: Duration) {
        if let Some(session) = &self.tls {
            let mut out = Buffer::take();
            session.borrow_mut().encrypt_close_notify(out.tail());
            let _ = self.stream.write_all(out, &self.write_progress, limit).await;
        }
        self.stream.shutdown_write();
    }

    /// Closes with a close_notify alert, for a peer that still reads; a dropped connection is closed without.
    pub async fn close(self, limit: Duration) {
        self.end_sending(limit).await;
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::super::tls::tests::{connected, shaken, taken};
    use super::*;
    use crate::io::deadline::on_a_shard;

    #[test]
    fn content_before_a_broken_record_is_brought_before_the_failure() {
        let (session, mut server) = connected(&rustls::version::TLS13);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        server.writer().write_all(b"whole").unwrap();
        let mut wire = taken(&mut server);
        server.writer().write_all(b"broken").unwrap();
        wire.extend_from_slice(&taken(&mut server));
        *wire.last_mut().unwrap() ^= 1;
        peer.write_all(&wire).unwrap();
        on_a_shard(async {
            let stream = Stream::new(monoio::net::TcpStream::from_std(ours).unwrap());
            let connection = Connection::new(stream, Some(session), Buffer::none());
            let mut seen = Vec::new();
            let read = connection.read(|plaintext| seen.extend_from_slice(plaintext)).await;
            assert!(matches!(read, Ok(Received::Data)), "{read:?}");
            assert_eq!(seen, b"whole");
            assert!(!connection.is_idle(), "it would be used again");
            let read = connection.read(|_| panic!("nothing more can be read")).await;
            assert!(matches!(read, Err(TransportError::Tls(_))), "{read:?}");
        });
    }

    /// Makes a connection of which these bytes were read in the handshake, and those have come since.
    fn resting(session: Session, read: &[u8], came: &[u8]) -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        peer.write_all(came).unwrap();
        let stream = Stream::new(monoio::net::TcpStream::from_std(ours).unwrap());
        let mut incoming = Buffer::none();
        incoming.append(read);
        (Connection::new(stream, Some(session), incoming), peer)
    }

    #[test]
    fn tickets_that_follow_a_handshake_do_not_keep_a_connection_from_being_used() {
        let tickets = || {
            let (session, server, received) = shaken(&rustls::version::TLS13);
            assert!(!received.is_empty());
            (session, server, received.filled().to_vec())
        };
        on_a_shard(async {
            for cut in [0, 20, usize::MAX] {
                let (session, _server, bytes) = tickets();
                let (read, came) = bytes.split_at(cut.min(bytes.len()));
                let (connection, _peer) = resting(session, read, came);
                assert!(connection.is_idle() && connection.is_idle(), "{cut}");
            }
            let (session, _server, bytes) = tickets();
            let (half, rest) = bytes.split_at(20);
            let (connection, mut peer) = resting(session, &[], half);
            assert!(!connection.is_idle(), "the rest may be anything");
            peer.write_all(rest).unwrap();
            assert!(connection.is_idle());
            let (session, mut server, mut bytes) = tickets();
            server.writer().write_all(b"unasked").unwrap();
            bytes.extend(taken(&mut server));
            let (connection, _peer) = resting(session, &bytes, &[]);
            assert!(!connection.is_idle(), "content");
            let (session, mut server, mut bytes) = tickets();
            server.send_close_notify();
            bytes.extend(taken(&mut server));
            let (connection, _peer) = resting(session, &[], &bytes);
            assert!(!connection.is_idle(), "the end");
            let (session, _server, bytes) = tickets();
            let (connection, peer) = resting(session, &[], &bytes);
            drop(peer);
            assert!(!connection.is_idle(), "the end without close_notify");
        });
    }
}
