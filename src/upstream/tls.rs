//! The upstream side of TLS, driven by hand over rustls' unbuffered API.
//!
//! A [`Session`] turns ciphertext into plaintext and back without I/O and keeps no buffer while it rests: a connection
//! costs 3.9 KiB where two 16 KiB buffers would be the usual price. Invariant: what a turn discards is taken from the
//! input before the next turn.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError};
use rustls::{ClientConfig, RootCertStore};

use crate::config::Trust;
use crate::io::Buffer;

/// What a TLS record adds to its plaintext at most: header, explicit nonce, tag and content type (TLS 1.2 and 1.3).
const RECORD_OVERHEAD_MAX: usize = 5 + 8 + 16 + 1;
/// Plaintext of one record at most (RFC 8446 §5.1).
const RECORD_PLAINTEXT_MAX: usize = 16 * 1024;
/// Room for a whole record without data: an alert or a key update.
const DATALESS_RECORD_BYTES: usize = 64;

/// Why the trust anchors could not be loaded.
#[derive(Debug)]
pub enum TrustError {
    /// What is wrong with the file that `--upstream-ca` names.
    File {
        path: String,
        fault: TrustFault,
    },
    Config(rustls::Error),
}

/// Why a PEM file cannot serve as a trust store.
#[derive(Debug)]
pub enum TrustFault {
    Unreadable(io::Error),
    Pem(pem::Error),
    Certificate { number: usize, error: rustls::Error },
    Empty,
}

impl fmt::Display for TrustError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrustError::File { path, fault } => write!(formatter, "--upstream-ca {path}: {fault}"),
            TrustError::Config(error) => write!(formatter, "cannot set up TLS: {error}"),
        }
    }
}

impl std::error::Error for TrustError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TrustError::File { fault, .. } => Some(fault),
            TrustError::Config(error) => Some(error),
        }
    }
}

impl fmt::Display for TrustFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrustFault::Unreadable(error) => write!(formatter, "cannot be read: {error}"),
            TrustFault::Pem(error) => write!(formatter, "is not valid PEM: {error}"),
            TrustFault::Certificate { number, error } => {
                write!(formatter, "certificate number {number} cannot be an authority: {error}")
            }
            TrustFault::Empty => formatter.write_str("holds no certificate (-----BEGIN CERTIFICATE-----)"),
        }
    }
}

impl std::error::Error for TrustFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TrustFault::Unreadable(error) => Some(error),
            TrustFault::Pem(error) => Some(error),
            TrustFault::Certificate { error, .. } => Some(error),
            TrustFault::Empty => None,
        }
    }
}

/// Where the trust anchors come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustSource {
    /// The file that was named, or a text of the program's own.
    Given { name: String, count: usize },
    /// The system's trust store, with what could not be read of it.
    System { count: usize, complaints: Vec<String> },
    /// The system has no usable trust store: Mozilla's, as bundled when this program was built.
    Bundled,
}

impl fmt::Display for TrustSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrustSource::Given { name, count } => write!(formatter, "{count} certificates in {name}"),
            TrustSource::System { count, .. } => write!(formatter, "{count} certificates of the system"),
            TrustSource::Bundled => formatter.write_str("the system has none, the bundled one is used"),
        }
    }
}

/// The one TLS configuration of the process: TLS 1.2 and 1.3, resumption on, ALPN `http/1.1`.
///
/// # Errors
/// [`TrustError`] when a file is named and cannot be used. A system without a trust store is no error: the bundled
/// anchors are used.
pub fn client_config(trust: &Trust) -> Result<(Arc<ClientConfig>, TrustSource), TrustError> {
    let (roots, source) = match trust {
        Trust::File(path) => {
            let name = path.display().to_string();
            let given = read(path).and_then(|pem| given_roots(&pem, &name));
            given.map_err(|fault| TrustError::File { path: name, fault })?
        }
        Trust::Pem(text) => given_roots(text.as_bytes(), "a text")
            .map_err(|fault| TrustError::File { path: "(a text)".into(), fault })?,
        Trust::System => system_roots(),
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TrustError::Config)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), source))
}

#[expect(clippy::disallowed_methods, reason = "the trust store is read before there are shards")]
fn read(path: &Path) -> Result<Vec<u8>, TrustFault> {
    std::fs::read(path).map_err(TrustFault::Unreadable)
}

fn given_roots(pem: &[u8], name: &str) -> Result<(RootCertStore, TrustSource), TrustFault> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let certificate = certificate.map_err(TrustFault::Pem)?;
        roots.add(certificate).map_err(|error| TrustFault::Certificate { number: index + 1, error })?;
    }
    if roots.is_empty() {
        return Err(TrustFault::Empty);
    }
    let source = TrustSource::Given { name: name.to_owned(), count: roots.len() };
    Ok((roots, source))
}

fn system_roots() -> (RootCertStore, TrustSource) {
    let mut roots = RootCertStore::empty();
    let loaded = rustls_native_certs::load_native_certs();
    let (count, _) = roots.add_parsable_certificates(loaded.certs);
    if count > 0 {
        let complaints = loaded.errors.iter().map(ToString::to_string).collect();
        return (roots, TrustSource::System { count, complaints });
    }
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    (roots, TrustSource::Bundled)
}

/// What one turn over received ciphertext came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Everything whole was decrypted; more may come.
    Open,
    /// The peer has sent close_notify: the plaintext so far is all there is.
    Closed,
}

/// One TLS connection, without its socket.
pub struct Session {
    connection: UnbufferedClientConnection,
    /// Records that must be sent before any other: handshake flights and answers to key updates.
    urgent: Vec<u8>,
}

/// Whether the handshake needs more from the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    Complete,
    NeedsInput,
}

impl Session {
    /// # Errors
    /// What rustls reports for an unusable configuration.
    pub fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, rustls::Error> {
        Ok(Session { connection: UnbufferedClientConnection::new(config, name)?, urgent: Vec::new() })
    }

    /// Goes on with the handshake over what was received. [`Session::take_urgent`] then holds what must be sent.
    ///
    /// # Errors
    /// A failed handshake; [`is_certificate_error`] tells a refused certificate. An alert may wait to be sent.
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
                return Ok(progress);
            }
        }
    }

    /// Decrypts every whole record of `received` and gives its content to `emit`; a partial record stays in `received`.
    ///
    /// # Errors
    /// A record that does not authenticate or a fatal alert: the connection can only be closed.
    pub fn decrypt(&mut self, received: &mut Buffer, mut emit: impl FnMut(&[u8])) -> Result<Turn, rustls::Error> {
        loop {
            let status = self.connection.process_tls_records(received.filled_mut());
            let mut discard = status.discard;
            let turn = match status.state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        emit(record.payload);
                    }
                    None
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    encode(&mut self.urgent, |room| data.encode(room))?;
                    None
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    None
                }
                ConnectionState::PeerClosed | ConnectionState::Closed => Some(Turn::Closed),
                _ => Some(Turn::Open),
            };
            received.consume(discard);
            if let Some(turn) = turn {
                return Ok(turn);
            }
        }
    }

    /// Appends `plaintext`, encrypted, to `out`, behind any urgent records.
    ///
    /// # Errors
    /// When the session can encrypt no more: the connection can only be closed.
    pub fn encrypt(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), rustls::Error> {
        out.append(&mut self.urgent);
        let records = plaintext.len().div_ceil(RECORD_PLAINTEXT_MAX).max(1);
        // One record more than the data needs: a key update may have to go first.
        let mut room = plaintext.len() + (records + 1) * RECORD_OVERHEAD_MAX + DATALESS_RECORD_BYTES;
        let filled = out.len();
        loop {
            let status = self.connection.process_tls_records(&mut []);
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
        out.append(&mut self.urgent);
        let status = self.connection.process_tls_records(&mut []);
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state {
            let filled = out.len();
            out.resize(filled + DATALESS_RECORD_BYTES, 0);
            let written = traffic.queue_close_notify(&mut out[filled..]).unwrap_or(0);
            out.truncate(filled + written);
        }
    }

    /// Records that must be sent before any others; empty in the steady state.
    pub fn take_urgent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.urgent)
    }

    /// Lets rustls say why it gives up, as far as it can, so that the peer's log has the reason.
    fn with_alert(&mut self, received: &mut Buffer, discard: usize, error: rustls::Error) -> rustls::Error {
        received.consume(discard);
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = self.connection.process_tls_records(&mut []).state {
            let _ = encode(&mut self.urgent, |room| data.encode(room));
        }
        error
    }
}

/// Whether `error` means that the peer's certificate was not accepted.
pub fn is_certificate_error(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
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

#[cfg(test)]
pub(super) mod tests {
    use std::io::{Read, Write};

    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection};

    use super::*;
    use crate::io::buffer::PLAINTEXT_MAX;

    /// A server for `flow.test`, and a client that trusts it alone.
    pub fn acquainted(version: &'static rustls::SupportedProtocolVersion) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
        let made = rcgen::generate_simple_self_signed(vec!["flow.test".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let (client, _) = client_config(&Trust::Pem(made.cert.pem())).unwrap();
        (Arc::new(server), client)
    }

    /// A client's session and the server that it talks to, handshake done.
    pub fn connected(version: &'static rustls::SupportedProtocolVersion) -> (Session, ServerConnection) {
        let (server, config) = acquainted(version);
        let mut server = ServerConnection::new(server).unwrap();
        let mut session = Session::new(config, ServerName::try_from("flow.test").unwrap()).unwrap();
        let mut received = Buffer::none();
        loop {
            let step = session.shake_hands(&mut received).unwrap();
            give(&mut server, &session.take_urgent());
            if step == Handshake::Complete {
                break;
            }
            received.append(&taken(&mut server));
        }
        // What the handshake left over, and the tickets behind it, bring no content.
        received.append(&taken(&mut server));
        assert_eq!(session.decrypt(&mut received, |_| panic!("nothing was sent")), Ok(Turn::Open));
        assert!(received.is_empty());
        (session, server)
    }

    fn give(server: &mut ServerConnection, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).unwrap();
            server.process_new_packets().unwrap();
        }
    }

    pub fn taken(server: &mut ServerConnection) -> Vec<u8> {
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    fn seen_by(server: &mut ServerConnection, session: &mut Session, plaintext: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        session.encrypt(plaintext, &mut out).unwrap();
        give(server, &out);
        let mut seen = Vec::new();
        let _ = server.reader().read_to_end(&mut seen);
        seen
    }

    #[test]
    fn records_that_come_in_pieces_are_decrypted_when_they_are_whole() {
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let (mut session, mut server) = connected(version);
            let content: Vec<u8> = (0..40_000_u32).map(|index| index as u8).collect();
            server.writer().write_all(&content).unwrap();
            let wire = taken(&mut server);
            let mut received = Buffer::none();
            let mut seen = Vec::new();
            for piece in wire.chunks(997) {
                received.append(piece);
                let turn = session.decrypt(&mut received, |plaintext| seen.extend_from_slice(plaintext));
                assert_eq!(turn, Ok(Turn::Open));
            }
            assert!(seen == content, "the content came changed");
            assert!(received.is_empty());
        }
    }

    #[test]
    fn keys_that_are_updated_in_mid_stream_are_followed_in_both_directions() {
        let (mut session, mut server) = connected(&rustls::version::TLS13);
        for round in 0..3_u8 {
            server.writer().write_all(&[round]).unwrap();
            server.refresh_traffic_keys().unwrap();
            server.writer().write_all(&[round, round]).unwrap();
            let mut received = Buffer::none();
            received.append(&taken(&mut server));
            let mut seen = Vec::new();
            let turn = session.decrypt(&mut received, |plaintext| seen.extend_from_slice(plaintext));
            assert_eq!((turn, seen), (Ok(Turn::Open), vec![round; 3]));
            assert_eq!(seen_by(&mut server, &mut session, b"the next request"), b"the next request");
            assert_eq!(seen_by(&mut server, &mut session, &[round; PLAINTEXT_MAX]), [round; PLAINTEXT_MAX]);
        }
    }

    #[test]
    fn a_close_notify_ends_the_content_and_a_cut_does_not() {
        let (mut session, mut server) = connected(&rustls::version::TLS13);
        server.writer().write_all(b"all").unwrap();
        server.send_close_notify();
        let wire = taken(&mut server);
        let mut received = Buffer::none();
        let mut seen = Vec::new();
        received.append(&wire[..wire.len() - 1]);
        assert_eq!(session.decrypt(&mut received, |plaintext| seen.extend_from_slice(plaintext)), Ok(Turn::Open));
        received.append(&wire[wire.len() - 1..]);
        assert_eq!(session.decrypt(&mut received, |_| panic!("nothing follows")), Ok(Turn::Closed));
        assert_eq!(seen, b"all");
    }

    #[test]
    fn a_record_that_was_changed_on_its_way_is_refused() {
        let (mut session, mut server) = connected(&rustls::version::TLS13);
        server.writer().write_all(b"content").unwrap();
        let mut wire = taken(&mut server);
        *wire.last_mut().unwrap() ^= 1;
        let mut received = Buffer::none();
        received.append(&wire);
        assert!(session.decrypt(&mut received, |_| panic!("it does not authenticate")).is_err());
    }
}
