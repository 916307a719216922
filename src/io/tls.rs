//! TLS on the client's side: a session over a [`Stream`], without buffers while nothing is under way.
//!
//! A session is driven by hand, from what the socket's own reads bring, so that whoever waits for a connection waits as
//! it does without TLS: by readiness, with nothing lost when the wait is given up. Invariant: plaintext that is not
//! asked for yet is only ever what one read brought, with the handshake or while the client was watched; and a
//! close_notify alert is sent before a close that is a good end, and before no other, so that a client can tell a cut
//! (RFC 8446 §6.1).

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection};

use super::buffer::Buffer;
use super::{Deadline, Stream};

/// Ciphertext of one read. With what was left of a record it becomes no more plaintext than is written in one go.
pub(super) const CIPHERTEXT_MAX: usize = 16 * 1024;

/// A record of a handshake (RFC 8446 §5.1): how every client begins.
const HANDSHAKE_RECORD: u8 = 22;

/// What a stream has beside its socket.
pub struct Tls {
    session: RefCell<ServerConnection>,
    /// What came with the end of the handshake, or while nobody read.
    pending: RefCell<Buffer>,
    has_ended: Cell<bool>,
    is_cut: Cell<bool>,
}

/// Why a connection does not speak TLS.
pub enum HandshakeError {
    /// It begins as no TLS does: most likely plain HTTP, which can be told so.
    NotTls(Stream),
    /// The client gave up, took too long, or wants what this side does not have.
    Failed(HandshakeFault),
}

#[derive(Debug)]
pub enum HandshakeFault {
    Late,
    Io(io::Error),
    Tls(rustls::Error),
}

impl fmt::Display for HandshakeFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandshakeFault::Late => formatter.write_str("it took too long"),
            HandshakeFault::Io(error) => error.fmt(formatter),
            HandshakeFault::Tls(error) => error.fmt(formatter),
        }
    }
}

impl From<HandshakeFault> for HandshakeError {
    fn from(fault: HandshakeFault) -> Self {
        HandshakeError::Failed(fault)
    }
}

/// Shakes hands over a connection that was just accepted, within `limit`.
///
/// # Errors
/// See [`HandshakeError`].
///
/// # Cancel safety
/// Not cancel safe: the connection can only be closed.
pub async fn accept(stream: Stream, config: Arc<ServerConfig>, limit: Duration) -> Result<Stream, HandshakeError> {
    let due = Instant::now() + limit;
    let (deadline, progress) = (Deadline::default(), Deadline::default());
    let mut session = ServerConnection::new(config).map_err(HandshakeFault::Tls)?;
    // What is sealed is taken out at once.
    session.set_buffer_limit(None);
    let tls = Tls {
        session: RefCell::new(session),
        pending: RefCell::new(Buffer::none()),
        has_ended: Cell::new(false),
        is_cut: Cell::new(false),
    };
    let mut is_first = true;
    while tls.session.borrow().is_handshaking() {
        let (result, received) =
            deadline.before(due, stream.read(Buffer::take())).await.map_err(|_| HandshakeFault::Late)?;
        if result.map_err(HandshakeFault::Io)? == 0 {
            return Err(HandshakeFault::Io(io::ErrorKind::UnexpectedEof.into()).into());
        }
        if std::mem::take(&mut is_first) && received.filled()[0] != HANDSHAKE_RECORD {
            return Err(HandshakeError::NotTls(stream));
        }
        let opened = tls.open(received.filled(), &mut tls.pending.borrow_mut());
        drop(received);
        // An alert too, when it has failed.
        let mut out = Buffer::take();
        tls.take_records(out.tail()).map_err(HandshakeFault::Io)?;
        let left = due.saturating_duration_since(Instant::now());
        let written = stream.write_all(out, &progress, left).await.0;
        opened.map_err(HandshakeFault::Tls)?;
        written.map_err(|_| HandshakeFault::Late)?;
    }
    if tls.pending.borrow().is_empty() {
        tls.pending.replace(Buffer::none());
    }
    Ok(stream.secured(tls))
}

impl Tls {
    /// Moves what came with the handshake to `buffer`; `None` where there is nothing, 0 behind the client's close_notify.
    pub(super) fn take_pending(&self, buffer: &mut Buffer) -> Option<usize> {
        let pending = self.pending.take();
        if pending.is_empty() {
            return self.has_ended.get().then_some(0);
        }
        buffer.append(pending.filled());
        Some(pending.len())
    }

    /// Whether there is something to read although the socket may have nothing.
    pub(super) fn has_pending(&self) -> bool {
        self.has_ended.get() || !self.pending.borrow().is_empty()
    }

    /// Whether the client has sent its close_notify, or its socket has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    /// Keeps what one read brought (nothing: the socket's end) for whoever reads next.
    pub(super) fn keep(&self, ciphertext: &[u8]) -> Result<(), rustls::Error> {
        if ciphertext.is_empty() {
            self.has_ended.set(true);
            return Ok(());
        }
        let mut pending = self.pending.take();
        let opened = self.open(ciphertext, &mut pending);
        if !pending.is_empty() {
            self.pending.replace(pending);
        }
        opened
    }

    /// Decrypts what one read brought (nothing: the socket's end) and appends it to `buffer`. `None`: no whole record is
    /// there yet; 0: the end.
    pub(super) fn receive(&self, ciphertext: &[u8], buffer: &mut Buffer) -> io::Result<Option<usize>> {
        if ciphertext.is_empty() {
            // Without close_notify, as clients that are killed do. A request that is not whole is seen to be so by its own
            // framing.
            return Ok(Some(0));
        }
        let before = buffer.len();
        let opened = self.open(ciphertext, buffer);
        let count = buffer.len() - before;
        match opened {
            Ok(()) if count > 0 => Ok(Some(count)),
            Ok(()) => Ok(self.has_ended.get().then_some(0)),
            // What came whole before it counts; the rest fails again.
            Err(_) if count > 0 => Ok(Some(count)),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    /// Appends `plaintext`, encrypted, behind records that must go first, to `out`.
    pub(super) fn seal(&self, plaintext: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        self.session.borrow_mut().writer().write_all(plaintext)?;
        self.take_records(out)
    }

    /// Appends a close_notify alert to `out`, once, unless the connection is cut.
    pub(super) fn seal_end(&self, out: &mut Vec<u8>) {
        if !self.is_cut.replace(true) {
            self.session.borrow_mut().send_close_notify();
            // A session that can say no more says nothing.
            let _ = self.take_records(out);
        }
    }

    /// From here on the close is no good end.
    pub(super) fn cut(&self) {
        self.is_cut.set(true);
    }

    fn open(&self, mut ciphertext: &[u8], plaintext: &mut Buffer) -> Result<(), rustls::Error> {
        let mut session = self.session.borrow_mut();
        while !ciphertext.is_empty() && !self.has_ended.get() {
            let taken = session.read_tls(&mut ciphertext).map_err(|error| rustls::Error::General(error.to_string()))?;
            let state = session.process_new_packets()?;
            let count = state.plaintext_bytes_to_read();
            plaintext.reserve(count);
            let tail = plaintext.tail();
            let filled = tail.len();
            tail.resize(filled + count, 0);
            session
                .reader()
                .read_exact(&mut tail[filled..])
                .map_err(|error| rustls::Error::General(error.to_string()))?;
            if state.peer_has_closed() || taken == 0 {
                self.has_ended.set(true);
            }
        }
        Ok(())
    }

    fn take_records(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let mut session = self.session.borrow_mut();
        while session.wants_write() {
            session.write_tls(out)?;
        }
        Ok(())
    }
}
