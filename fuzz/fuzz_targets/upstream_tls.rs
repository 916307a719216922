//! TLS with the upstream, over a wire that cuts, changes, repeats and invents: what arrives of the content is what was
//! sent, from its first byte to where the wire was tampered with, and only the upstream itself can say that it was all.

#![no_main]

use std::sync::{Arc, LazyLock};

use flow_uring::fuzz::pump::{AnswerOutcome, Ending, PumpStep, PumpedAnswer, pump};
use flow_uring::fuzz::tls::{Buffer, Handshake, ReadSide, Session, Trust, client_config};
use flow_uring_fuzz::input::{Random, ways_to_split};
use flow_uring_fuzz::tls_server::{NAME, Record, Server, certificate};
use libfuzzer_sys::fuzz_target;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

/// The largest record with its header (RFC 5246 §6.2.3, RFC 8446 §5.2).
const RECORD_BYTES_MAX: usize = 5 + 16 * 1024 + 2048;
/// Records of one input.
const RECORDS_MAX: usize = 12;

static CLIENT: LazyLock<Arc<ClientConfig>> =
    LazyLock::new(|| client_config(&Trust::Pem(certificate())).expect("a certificate").0);

fuzz_target!(|data: &[u8]| {
    let Some((&[kind, count], rest)) = data.split_first_chunk() else { return };
    match kind & 7 {
        0 => check_trust(rest),
        1 => check_garbage(rest),
        2 => check_handshake(kind & 0x80 != 0, rest),
        _ => check_content(&Plan::of(kind, count, rest)),
    }
});

/// Trust anchors of any text: what is accepted holds a certificate.
fn check_trust(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let text = text.replace('~', &certificate());
    if client_config(&Trust::Pem(text.clone())).is_ok() {
        assert!(text.contains("-----BEGIN CERTIFICATE-----"));
    }
}

fn session() -> Session {
    let name = ServerName::try_from(NAME).expect("a name");
    Session::new(CLIENT.clone(), name).expect("a session")
}

/// A handshake with somebody who does not speak TLS, or not ours.
fn check_garbage(bytes: &[u8]) {
    for parts in ways_to_split(bytes) {
        let mut session = session();
        let mut received = Buffer::none();
        assert!(matches!(session.shake_hands(&mut received), Ok(Handshake::NeedsInput)));
        assert!(session.take_urgent().starts_with(&[22, 3]), "its hello");
        for part in parts {
            received.append(part);
            match session.shake_hands(&mut received) {
                Ok(step) => assert_eq!(step, Handshake::NeedsInput, "with nobody it knows"),
                Err(_) => break,
            }
        }
    }
}

/// A handshake whose flights are tampered with. It ends; and if it ends well, then for both.
fn check_handshake(is_tls12: bool, changes: &[u8]) {
    let mut random = Random::of(changes);
    let (mut session, mut server) = (session(), Server::new(is_tls12));
    let mut received = Buffer::none();
    let mut changes = changes.chunks(4);
    // Each side has two flights at most.
    for _ in 0..6 {
        let step = session.shake_hands(&mut received);
        let goes_on = server.receive(&session.take_urgent());
        match step {
            Ok(Handshake::NeedsInput) => {}
            Ok(Handshake::Complete) => {
                assert!(goes_on && !server.is_handshaking(), "one alone is done");
                let mut out = Vec::new();
                session.encrypt(b"a request", &mut out).expect("it is open");
                assert!(server.receive(&out));
                return assert_eq!(server.received(), b"a request");
            }
            Err(_) => return,
        }
        let mut records = server.records();
        if records.is_empty() {
            return;
        }
        if let Some(change) = changes.next() {
            tamper(&mut records, change, &mut random);
        }
        records.iter().for_each(|record| received.append(&record.wire));
    }
    panic!("it does not end");
}

/// What a server sends, and what becomes of it on the way.
#[derive(Debug)]
struct Plan {
    is_tls12: bool,
    has_close_notify: bool,
    lengths: Vec<usize>,
    /// The records before which keys are updated.
    updates: u8,
    changes: Vec<u8>,
    is_cut: bool,
}

impl Plan {
    fn of(kind: u8, count: u8, rest: &[u8]) -> Self {
        let count = usize::from(count) % RECORDS_MAX;
        let (lengths, rest) = rest.split_at(count.min(rest.len()));
        let (updates, changes) = rest.split_first().map_or((0, rest), |(updates, changes)| (*updates, changes));
        Plan {
            is_tls12: kind & 0x80 != 0,
            has_close_notify: kind & 0x40 != 0,
            is_cut: kind & 0x20 != 0,
            // Long ones too, up to the longest.
            lengths: lengths.iter().map(|length| 1 + usize::from(*length).pow(2) / 4).collect(),
            updates,
            changes: changes.to_vec(),
        }
    }

    /// Makes the records, and the wire that comes of them.
    fn play(&self, server: &mut Server) -> (Vec<Record>, Vec<u8>) {
        let mut records = server.records();
        for (number, length) in self.lengths.iter().enumerate() {
            if self.updates >> (number % 8) & 1 == 1 {
                records.extend(server.update_keys());
            }
            let content: Vec<u8> = (0..(*length).min(16 * 1024)).map(|at| (at + 31 * number) as u8).collect();
            records.push(server.record(&content));
        }
        if self.has_close_notify {
            records.push(server.close_notify());
        }
        let mut random = Random::of(&self.changes);
        let mut changed = records.clone();
        self.changes.chunks(4).take(8).for_each(|change| tamper(&mut changed, change, &mut random));
        let mut wire: Vec<u8> = changed.into_iter().flat_map(|record| record.wire).collect();
        if self.is_cut {
            wire.truncate(random.below(wire.len() + 1));
        }
        (records, wire)
    }
}

/// Does one thing to the records.
fn tamper(records: &mut Vec<Record>, change: &[u8], random: &mut Random) {
    let [what, place, more @ ..] = change else { return };
    if records.is_empty() {
        return;
    }
    let number = usize::from(*place) % records.len();
    let operand = more.first().copied().unwrap_or_default();
    match what % 8 {
        0 => drop(records.remove(number)),
        1 => records.insert(number, records[number].clone()),
        2 => {
            let other = usize::from(operand) % records.len();
            records.swap(number, other);
        }
        3 => {
            let wire = &mut records[number].wire;
            let at = random.below(wire.len().max(1));
            if let Some(byte) = wire.get_mut(at) {
                *byte ^= 1 << (operand & 7);
            }
        }
        4 => {
            let wire = &mut records[number].wire;
            wire.truncate(wire.len().saturating_sub(1 + usize::from(operand)));
        }
        5 => {
            // Of any type, in the clear: an alert, or the end of a handshake.
            let content = more.to_vec();
            let wire = [&[20 + operand % 8, 3, 3, 0, content.len() as u8][..], &content].concat();
            records.insert(number, Record { wire, content: Vec::new() });
        }
        6 => records.insert(number, Record { wire: vec![21, 3, 3, 0, 2, 1 + (operand & 1), 0], content: Vec::new() }),
        _ => records[number].wire.extend_from_slice(more),
    }
}

/// The content up to where the wire is no more what was sent.
#[derive(Debug)]
struct Expected {
    content: Vec<u8>,
    /// The upstream has said that it was all.
    is_closed: bool,
    /// Something whole came that was not sent there.
    is_tampered: bool,
}

impl Expected {
    /// Reads a wire as it must be read, and as it may be: in TLS 1.3 the version in the header of a record is to be
    /// ignored (RFC 8446 §5.1), and rustls takes the outer type for what it always is (§5.2); the true one is within.
    fn of(plan: &Plan, records: &[Record], wire: &[u8]) -> [Self; 2] {
        [false, !plan.is_tls12].map(|ignores_header| {
            let is_same = |sent: &[u8], came: &[u8]| {
                sent.iter()
                    .zip(came)
                    .enumerate()
                    .all(|(at, (sent, came))| sent == came || ignores_header && (0..3).contains(&at))
            };
            let (mut content, mut rest, mut count) = (Vec::new(), wire, 0);
            for Record { wire: sent, content: own } in records {
                let Some((came, after)) = rest.split_at_checked(sent.len()).filter(|(came, _)| is_same(sent, came))
                else {
                    break;
                };
                debug_assert_eq!(came.len(), sent.len());
                content.extend_from_slice(own);
                rest = after;
                count += 1;
            }
            let is_closed = plan.has_close_notify && count == records.len();
            let next = records.get(count).map_or(&[][..], |record| &record.wire);
            let is_beginning = rest.len() < next.len() && is_same(next, rest) || rest.is_empty();
            Expected { content, is_closed, is_tampered: !is_closed && !is_beginning }
        })
    }

    /// Checks what has arrived. `is_closed` says that the upstream has told that it is all; `None`: it was refused.
    fn check([must, may]: &[Self; 2], content: &[u8], is_closed: Option<bool>, plan: &Plan) {
        assert!(content.starts_with(&must.content), "{} bytes of {}: {plan:?}", content.len(), must.content.len());
        assert!(may.content.starts_with(content), "{} bytes of {}: {plan:?}", content.len(), may.content.len());
        match is_closed {
            Some(true) => assert!(may.is_closed, "somebody else has said that it is all: {plan:?}"),
            Some(false) => assert!(!must.is_closed, "the end was not heard: {plan:?}"),
            None => assert!(must.is_tampered, "what was sent is refused: {plan:?}"),
        }
    }
}

/// Shakes hands with a server that is what it seems.
fn shaken(is_tls12: bool) -> (Session, Server, Buffer) {
    let (mut session, mut server) = (session(), Server::new(is_tls12));
    let mut received = Buffer::none();
    loop {
        let step = session.shake_hands(&mut received).expect("a handshake");
        assert!(server.receive(&session.take_urgent()));
        if step == Handshake::Complete {
            return (session, server, received);
        }
        server.records().iter().for_each(|record| received.append(&record.wire));
    }
}

fn check_content(plan: &Plan) {
    let (mut session, mut server, mut received) = shaken(plan.is_tls12);
    let (records, wire) = plan.play(&mut server);
    let expected = Expected::of(plan, &records, &wire);
    let mut random = Random::of(&plan.changes);
    let mut content = Vec::new();
    let mut end = session.decrypt(&mut received, |bytes| content.extend_from_slice(bytes));
    let mut rest = &wire[..];
    while !rest.is_empty() && matches!(end, Ok(ReadSide::Open)) {
        let (piece, after) = rest.split_at((1 + random.below(20_000)).min(rest.len()));
        received.append(piece);
        rest = after;
        end = session.decrypt(&mut received, |bytes| content.extend_from_slice(bytes));
        assert!(received.len() <= RECORD_BYTES_MAX || !matches!(end, Ok(ReadSide::Open)), "it is kept for nothing");
    }
    Expected::check(&expected, &content, end.ok().map(|side| side == ReadSide::Closed), plan);
    check_relayed(plan);
}

/// The same over a socket and through the pump, of an answer that lasts until the connection ends.
fn check_relayed(plan: &Plan) {
    let (session, mut server, received) = shaken(plan.is_tls12);
    let (records, wire) = plan.play(&mut server);
    let expected = Expected::of(plan, &records, &wire);
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n".to_vec();
    let answer =
        PumpedAnswer { head, path: "/v1/files/x/content", is_for_http10: false, tls: Some((session, received)) };
    let mut random = Random::of(&wire[..wire.len().min(5)]);
    let (mut steps, mut rest) = (Vec::new(), &wire[..]);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((1 + random.below(30_000)).min(rest.len()));
        steps.extend([PumpStep::Send(0, piece), PumpStep::Turn, PumpStep::Take(0, 30_000)]);
        rest = after;
    }
    let end = pump(vec![answer], &steps).remove(0);
    let is_whole = match end.outcome {
        AnswerOutcome::Answered { ending: Ending::Ok, keep_alive: false } => true,
        AnswerOutcome::Aborted { ending: Ending::UpstreamClosed, needs_reset: true } => false,
        outcome => panic!("{outcome:?}: {plan:?}"),
    };
    // A refusal and a cut are told alike.
    let is_closed = (is_whole || !expected[0].is_tampered).then_some(is_whole);
    Expected::check(&expected, &end.received, is_closed, plan);
    assert!(!end.upstream_is_reusable);
}
