//! A TLS session with a client, over the client's stream, without buffers while nothing is under way.
//!
//! A session is driven by hand, from what the socket's own reads bring, so that a connection is waited for as without
//! TLS: by readiness, with nothing lost when the wait is dropped. Invariant: pending plaintext is never more than what
//! one read brought, with the handshake or while the client was watched; and a close_notify alert is sent before a
//! clean close, and before no other, so that a client can detect truncation (RFC 8446 §6.1).

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

use crate::io::buffer::Buffer;

/// Ciphertext of one read. With the rest of a partial record it decrypts to no more plaintext than is written in one
/// go.
pub(in crate::io) const CIPHERTEXT_MAX: usize = 16 * 1024;

/// The TLS part of a stream.
pub struct Tls {
    session: RefCell<ServerConnection>,
    /// Plaintext that came with the end of the handshake, or while nobody read.
    pending: RefCell<Buffer>,
    has_ended: Cell<bool>,
    is_cut: Cell<bool>,
}

impl Tls {
    /// Makes the session of a connection that was just accepted.
    ///
    /// # Errors
    /// The error of rustls for an unusable configuration.
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let mut session = ServerConnection::new(config)?;
        // What is encrypted is taken out at once.
        session.set_buffer_limit(None);
        Ok(Tls {
            session: RefCell::new(session),
            pending: RefCell::new(Buffer::none()),
            has_ended: Cell::new(false),
            is_cut: Cell::new(false),
        })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.session.borrow().is_handshaking()
    }

    /// Moves the pending plaintext to `buffer`; `None` if there is none, 0 after the client's close_notify.
    pub(in crate::io) fn take_pending(&self, buffer: &mut Buffer) -> Option<usize> {
        let pending = self.pending.take();
        if pending.is_empty() {
            return self.has_ended.get().then_some(0);
        }
        buffer.append(pending.filled());
        Some(pending.len())
    }

    /// Returns whether there is something to read even if the socket has nothing.
    pub(in crate::io) fn has_pending(&self) -> bool {
        self.has_ended.get() || self.has_plaintext()
    }

    /// Returns whether plaintext waits to be read.
    pub(in crate::io) fn has_plaintext(&self) -> bool {
        !self.pending.borrow().is_empty()
    }

    /// Returns whether the client has sent its close_notify, or its socket has ended.
    pub(in crate::io) fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    /// Keeps what one read brought (nothing: the socket's end) for the next read.
    pub(in crate::io) fn keep(&self, ciphertext: &[u8]) -> Result<(), rustls::Error> {
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

    /// Decrypts what one read brought (nothing: the socket's end) and appends it to `buffer`. `None`: no whole record
    /// has come yet; 0: the end.
    pub(in crate::io) fn receive(&self, ciphertext: &[u8], buffer: &mut Buffer) -> io::Result<Option<usize>> {
        if ciphertext.is_empty() {
            // Without close_notify, as from a client that was killed. Its own framing tells whether a request is
            // whole.
            return Ok(Some(0));
        }
        let before = buffer.len();
        let opened = self.open(ciphertext, buffer);
        let count = buffer.len() - before;
        match opened {
            Ok(()) if count > 0 => Ok(Some(count)),
            Ok(()) => Ok(self.has_ended.get().then_some(0)),
            // The records before it were whole; the next call fails again.
            Err(_) if count > 0 => Ok(Some(count)),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    /// Appends `plaintext`, encrypted, after records that must go first, to `out`.
    pub(in crate::io) fn seal(&self, plaintext: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        self.session.borrow_mut().writer().write_all(plaintext)?;
        self.take_records(out)
    }

    /// Appends a close_notify alert to `out`, once, unless the connection is cut.
    pub(in crate::io) fn seal_end(&self, out: &mut Vec<u8>) {
        if !self.is_cut.replace(true) {
            self.session.borrow_mut().send_close_notify();
            // A session that can send no more sends nothing.
            let _ = self.take_records(out);
        }
    }

    /// Marks the close as a cut: no close_notify is sent.
    pub(in crate::io) fn cut(&self) {
        self.is_cut.set(true);
    }

    fn open(&self, mut ciphertext: &[u8], plaintext: &mut Buffer) -> Result<(), rustls::Error> {
        let broken = |error: io::Error| rustls::Error::General(error.to_string());
        let mut session = self.session.borrow_mut();
        while !ciphertext.is_empty() && !self.has_ended.get() {
            let taken = session.read_tls(&mut ciphertext).map_err(broken)?;
            let state = session.process_new_packets()?;
            let count = state.plaintext_bytes_to_read();
            plaintext.reserve(count);
            let tail = plaintext.tail();
            let filled = tail.len();
            tail.resize(filled + count, 0);
            session.reader().read_exact(&mut tail[filled..]).map_err(broken)?;
            if state.peer_has_closed() || taken == 0 {
                self.has_ended.set(true);
            }
        }
        Ok(())
    }

    /// Appends the records that wait to be sent to `out`.
    pub(super) fn take_records(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let mut session = self.session.borrow_mut();
        while session.wants_write() {
            session.write_tls(out)?;
        }
        Ok(())
    }
}
