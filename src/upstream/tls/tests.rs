use std::io::{Read, Write};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ServerConfig, ServerConnection};

use super::session::*;
use super::trust::*;
use crate::config::Trust;
use crate::io::Buffer;
use crate::io::buffer::PLAINTEXT_MAX;

/// Most of a record of a server that splits its messages: rustls takes no less than some dozens.
const FRAGMENT_BYTES: usize = 40;

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
    let (mut session, server, mut received) = shaken(version);
    // What the handshake left over, and the tickets after it, have no content.
    assert_eq!(session.decrypt(&mut received, |_| panic!("nothing was sent")), Ok(ReadSide::Open));
    assert!(received.is_empty());
    (session, server)
}

/// As [`connected`], with what the session has not read yet.
pub fn shaken(version: &'static rustls::SupportedProtocolVersion) -> (Session, ServerConnection, Buffer) {
    let (server, client) = acquainted(version);
    shaken_between(server, client)
}

/// As [`shaken`], with a server that splits its messages over records of few bytes: what is left are its tickets.
fn shaken_in_pieces() -> (Session, ServerConnection, Buffer) {
    let (server, client) = acquainted(&rustls::version::TLS13);
    let mut server = ServerConfig::clone(&server);
    server.max_fragment_size = Some(FRAGMENT_BYTES);
    shaken_between(Arc::new(server), client)
}

fn shaken_between(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> (Session, ServerConnection, Buffer) {
    let mut server = ServerConnection::new(server).unwrap();
    let mut session = Session::new(client, ServerName::try_from("flow.test").unwrap()).unwrap();
    let mut received = Buffer::none();
    loop {
        let step = session.shake_hands(&mut received).unwrap();
        give(&mut server, &session.take_urgent());
        if step == Handshake::Complete {
            break;
        }
        received.append(&taken(&mut server));
    }
    received.append(&taken(&mut server));
    (session, server, received)
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
            assert_eq!(turn, Ok(ReadSide::Open));
        }
        assert!(seen == content, "the content came changed");
        assert!(received.is_empty());
    }
}

#[test]
fn a_handshake_that_breaks_within_a_message_is_an_error() {
    // The beginning of a message, and a record that may not stand within it.
    for within in [&b"\x17\x03\x03\x00\x01x"[..], b"\x16\x03\x03\x00\x00\x16\x03\x03\x00\x00", b"\x00\x00\x00\x00\x00"]
    {
        let (_, config) = acquainted(&rustls::version::TLS13);
        let mut session = Session::new(config, ServerName::try_from("flow.test").unwrap()).unwrap();
        let mut received = Buffer::none();
        assert_eq!(session.shake_hands(&mut received), Ok(Handshake::NeedsInput));
        received.append(b"\x16\x03\x03\x00\x05\x02\x00\x01\x00\x00");
        assert_eq!(session.shake_hands(&mut received), Ok(Handshake::NeedsInput));
        received.append(within);
        let step = session.shake_hands(&mut received);
        assert!(step.is_err() || within[0] == 22, "{within:?}: {step:?}");
    }
}

/// Tickets are messages of a handshake that come at any time after it (RFC 8446 §4.6.1), over several records if the
/// server likes (§5.1).
#[test]
fn what_is_sent_while_a_message_of_the_handshake_has_come_in_part_arrives() {
    let (mut session, mut server, tickets) = shaken_in_pieces();
    server.writer().write_all(b"content").unwrap();
    let wire = [tickets.filled(), &taken(&mut server)].concat();
    let mut received = Buffer::none();
    assert!(wire.len() > 3 * FRAGMENT_BYTES, "the tickets have several records");
    let mut seen = Vec::new();
    for (number, byte) in wire.iter().enumerate() {
        received.append(&[*byte]);
        assert_eq!(session.decrypt(&mut received, |plaintext| seen.extend_from_slice(plaintext)), Ok(ReadSide::Open));
        let request = number.to_string();
        assert_eq!(seen_by(&mut server, &mut session, request.as_bytes()), request.as_bytes());
    }
    assert_eq!(seen, b"content");
    let mut out = Vec::new();
    session.encrypt_close_notify(&mut out);
    assert!(!out.is_empty());
}

#[test]
fn a_session_that_has_failed_says_nothing_more() {
    let (mut session, _, tickets) = shaken_in_pieces();
    // The first record of a ticket, and one that is none.
    let tickets = tickets.filled();
    let mut received = Buffer::none();
    let [_, _, _, high, low, ..] = tickets[..] else { panic!("a record") };
    received.append(&tickets[..5 + usize::from(u16::from_be_bytes([high, low]))]);
    received.append(b"\x00\x00\x00\x00\x00");
    assert!(session.decrypt(&mut received, |_| panic!("there is no content")).is_err());
    let mut out = Vec::new();
    assert!(session.encrypt(b"a request", &mut out).is_err());
    session.encrypt_close_notify(&mut out);
    assert_eq!(out, b"");
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
        assert_eq!((turn, seen), (Ok(ReadSide::Open), vec![round; 3]));
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
    assert_eq!(session.decrypt(&mut received, |plaintext| seen.extend_from_slice(plaintext)), Ok(ReadSide::Open));
    received.append(&wire[wire.len() - 1..]);
    assert_eq!(session.decrypt(&mut received, |_| panic!("nothing follows")), Ok(ReadSide::Closed));
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
