//! TLS with the upstream, driven by hand over rustls' unbuffered API.
//!
//! A [`Session`] turns ciphertext into plaintext and back without I/O and keeps no buffer while it is idle: a
//! connection costs 3.9 KiB, instead of the usual two buffers of 16 KiB. Invariant: what rustls discards is consumed
//! from the input before the next call, and each call gets the records that rustls has begun to read: it counts on them
//! being there, and panics where they are not.

use std::sync::Arc;

use crate::io::Buffer;
use rustls::ClientConfig;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError};

/// Bytes that a TLS record adds to its plaintext at most: header, explicit nonce, tag and content type (TLS 1.2 and
/// 1.3).
const RECORD_OVERHEAD_MAX: usize = 5 + 8 + 16 + 1;
/// Plaintext of one record at most (RFC 8446 §5.1).
const RECORD_PLAINTEXT_MAX: usize = 16 * 1024;
/// Room for a whole record without data: an alert or a key update.
const DATALESS_RECORD_BYTES: usize = 64;

/// The state of the direction that is read, after the received records were decrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadSide {
    /// Every whole record was decrypted; more may come.
    Open,
    /// The peer has sent close_notify: the plaintext so far is all there is.
    Closed,
}

/// One TLS connection, without its socket.
pub struct Session {
    connection: UnbufferedClientConnection,
    /// Records that must be sent before any other: handshake flights and answers to key updates.
    urgent: Vec<u8>,
    /// The records of a message of the handshake that has not come whole (RFC 8446 §5.1), with what follows them: a copy
    /// of the input for calls that have none. Empty but for moments.
    begun: Vec<u8>,
    /// Reading has failed, so that the input is not what rustls takes it for: no call is made any more.
    has_failed: bool,
}

/// The state of the handshake: complete, or in need of more from the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    Complete,
    NeedsInput,
}

impl Session {
    /// # Errors
    /// The error of rustls for an unusable configuration.
    pub fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, rustls::Error> {
        let connection = UnbufferedClientConnection::new(config, name)?;
        Ok(Session { connection, urgent: Vec::new(), begun: Vec::new(), has_failed: false })
    }

    /// Continues the handshake with what was received. [`Session::take_urgent`] then holds what must be sent.
    ///
    /// # Errors
    /// A failed handshake; [`is_certificate_error`] recognizes a refused certificate. An alert may wait to be sent.
    pub fn shake_hands(&mut self, received: &mut Buffer) -> Result<Handshake, rustls::Error> {
        loop {
            let status = self.connection.process_tls_records(received.filled_mut());
            let discard = status.discard;
            let progress = match status.state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut self.urgent, |room| data.encode(room))?;
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::WriteTraffic(_) | ConnectionState::ReadTraffic(_)) => Some(Handshake::Complete),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    return Err(rustls::Error::General("the peer closed during the handshake".into()));
                }
                Ok(_) => Some(Handshake::NeedsInput),
                Err(error) => return Err(self.with_alert(received, discard, error)),
            };
            received.consume(discard);
            if let Some(progress) = progress {
                self.note_begun(received);
                return Ok(progress);
            }
        }
    }

    /// Decrypts every whole record of `received` and gives its content to `emit`; a partial record stays in `received`.
    ///
    /// rustls decrypts a record where it lies and copies its content once, to a vector of the record's own, which
    /// `emit` sees. It brings one record with each call; a call with nothing left to look at is not made, since it costs
    /// as much as one that finds a record.
    ///
    /// # Errors
    /// A record that does not authenticate or a fatal alert: the connection can only be closed.
    pub fn decrypt(&mut self, received: &mut Buffer, emit: impl FnMut(&[u8])) -> Result<ReadSide, rustls::Error> {
        let read = self.decrypt_records(received, emit);
        self.has_failed |= read.is_err();
        self.note_begun(received);
        read
    }

    fn decrypt_records(
        &mut self,
        received: &mut Buffer,
        mut emit: impl FnMut(&[u8]),
    ) -> Result<ReadSide, rustls::Error> {
        loop {
            let available = received.len();
            let status = self.connection.process_tls_records(received.filled_mut());
            let mut discard = status.discard;
            let turn = match status.state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        emit(record.payload);
                    }
                    // What else the record may have led to waits for the next call.
                    (discard == available).then_some(ReadSide::Open)
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    encode(&mut self.urgent, |room| data.encode(room))?;
                    None
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    None
                }
                ConnectionState::PeerClosed | ConnectionState::Closed => Some(ReadSide::Closed),
                _ => Some(ReadSide::Open),
            };
            received.consume(discard);
            if let Some(turn) = turn {
                return Ok(turn);
            }
        }
    }

    /// Appends `plaintext`, encrypted, to `out`, after any urgent records.
    ///
    /// # Errors
    /// When the session can encrypt no more: the connection can only be closed.
    pub fn encrypt(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), rustls::Error> {
        if self.has_failed {
            return Err(rustls::Error::General("the connection has failed".into()));
        }
        out.append(&mut self.urgent);
        let records = plaintext.len().div_ceil(RECORD_PLAINTEXT_MAX).max(1);
        // One record more than the data needs: a key update may have to go first.
        let mut room = plaintext.len() + (records + 1) * RECORD_OVERHEAD_MAX + DATALESS_RECORD_BYTES;
        let filled = out.len();
        loop {
            let status = self.connection.process_tls_records(&mut self.begun);
            match status.state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    out.resize(filled + room, 0);
                    match traffic.encrypt(plaintext, &mut out[filled..]) {
                        Ok(written) => {
                            out.truncate(filled + written);
                            return Ok(());
                        }
                        Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
                            room = required_size;
                        }
                        Err(EncryptError::EncryptExhausted) => {
                            out.truncate(filled);
                            return Err(rustls::Error::EncryptError);
                        }
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    encode(out, |room| data.encode(room))?;
                    return self.encrypt(plaintext, out);
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                _ => return Err(rustls::Error::General("the connection is closed for writing".into())),
            }
        }
    }

    /// Appends a close_notify alert (RFC 8446 §6.1) to `out`, as far as the session can still send one.
    pub fn encrypt_close_notify(&mut self, out: &mut Vec<u8>) {
        if self.has_failed {
            return;
        }
        out.append(&mut self.urgent);
        let status = self.connection.process_tls_records(&mut self.begun);
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state {
            let filled = out.len();
            out.resize(filled + DATALESS_RECORD_BYTES, 0);
            let written = traffic.queue_close_notify(&mut out[filled..]).unwrap_or(0);
            out.truncate(filled + written);
        }
    }

    /// Returns whether the peer has chosen one of the protocols that were offered (ALPN).
    pub fn has_chosen_protocol(&self) -> bool {
        self.connection.alpn_protocol().is_some()
    }

    /// Takes the records that must be sent before any others; none in the steady state.
    pub fn take_urgent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.urgent)
    }

    /// Keeps a copy of what rustls has begun to read in `received`: it has read every whole record, and so one that is
    /// still there is part of a message.
    fn note_begun(&mut self, received: &Buffer) {
        self.begun.clear();
        if has_whole_record(received.filled()) {
            self.begun.extend_from_slice(received.filled());
        }
    }

    /// Lets rustls encode the alert for its error, if it has one, so that the peer's log has the reason.
    fn with_alert(&mut self, received: &mut Buffer, discard: usize, error: rustls::Error) -> rustls::Error {
        received.consume(discard);
        self.has_failed = true;
        // An alert is returned before the input is looked at, and no other call can be made after an error.
        if !self.connection.wants_write() {
            return error;
        }
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = self.connection.process_tls_records(&mut []).state {
            let _ = encode(&mut self.urgent, |room| data.encode(room));
        }
        error
    }
}

/// Tells whether bytes begin with a whole record (RFC 8446 §5.1).
fn has_whole_record(bytes: &[u8]) -> bool {
    matches!(bytes, [_, _, _, high, low, rest @ ..] if rest.len() >= usize::from(u16::from_be_bytes([*high, *low])))
}

/// Returns whether `error` means that the peer's certificate was not accepted.
pub fn is_certificate_error(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
}

/// Returns whether `error` means that the peer takes none of the protocols that were offered (RFC 7301 §3.2).
pub fn is_protocol_error(error: &rustls::Error) -> bool {
    use rustls::{AlertDescription, PeerMisbehaved};
    matches!(
        error,
        rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)
            | rustls::Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedApplicationProtocol)
    )
}

/// Appends what `encode` makes to `out`, with as much room as it asks for.
fn encode(
    out: &mut Vec<u8>,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), rustls::Error> {
    let filled = out.len();
    let required = match encode(&mut []) {
        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => required_size,
        Ok(_) | Err(EncodeError::AlreadyEncoded) => return Ok(()),
    };
    out.resize(filled + required, 0);
    match encode(&mut out[filled..]) {
        Ok(written) => {
            out.truncate(filled + written);
            Ok(())
        }
        Err(error) => {
            out.truncate(filled);
            Err(rustls::Error::General(error.to_string()))
        }
    }
}
