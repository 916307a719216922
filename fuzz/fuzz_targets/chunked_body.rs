//! A chunked body, in whatever reads it comes: followed as the reference follows it, passed on verbatim, ended well.

#![no_main]

use std::rc::Rc;

use flow_uring::credentials::TokenTraces;
use flow_uring::fuzz::http1::{BodyError, BodyLength, BodyReader, Owed, Piece, Version};
use flow_uring::fuzz::response::{BodyRelay, Buffer, examine};
use flow_uring::fuzz::sse::{EventDialect, end_chunked};
use flow_uring_fuzz::body::{Chunked, End};
use flow_uring_fuzz::events::{self, Event};
use flow_uring_fuzz::input::{Random, expanded, ways_to_split};
use flow_uring_fuzz::message::{HOP_BY_HOP, Head, KEYS, OF_WEBSOCKET, loosened};
use libfuzzer_sys::fuzz_target;

/// A body as a reader saw it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Followed {
    content: Vec<u8>,
    /// The bytes that a relay passes on.
    passed_on: Vec<u8>,
    body_bytes: usize,
    is_complete: bool,
    owed: Option<Owed>,
    error: Option<BodyError>,
}

fuzz_target!(|data: &[u8]| {
    let input = expanded(data);
    let whole = follow(&[&input]);
    for parts in ways_to_split(&input) {
        assert_eq!(follow(&parts), whole, "however it is split");
    }
    compare_with_reference(&whole, &input);
    check_owed(&whole);
    relay_events(&input);
});

fn follow(parts: &[&[u8]]) -> Followed {
    let mut reader = BodyReader::new(BodyLength::Chunked);
    let mut followed = Followed::default();
    for part in parts {
        let Followed { content, passed_on, .. } = &mut followed;
        let read = reader.read(part, |piece| match piece {
            Piece::Data(data) => {
                content.extend_from_slice(data);
                passed_on.extend_from_slice(data);
            }
            Piece::Framing(framing) => passed_on.extend_from_slice(framing),
        });
        match read {
            Ok(consumed) => {
                followed.body_bytes += consumed;
                assert!(consumed == part.len() || reader.is_complete(), "bytes are left before the end");
            }
            Err(error) => {
                followed.error = Some(error);
                assert_eq!(reader.read(b"x", |_| panic!("emitted after an error")), Err(error));
                break;
            }
        }
        if reader.is_complete() {
            break;
        }
    }
    assert_eq!(reader.data_bytes(), followed.content.len() as u64);
    if followed.error.is_some() {
        // Of a body that is refused it does not matter how far it was read.
        followed.body_bytes = 0;
    }
    followed.is_complete = reader.is_complete();
    followed.owed = Some(reader.owed());
    followed
}

fn compare_with_reference(followed: &Followed, input: &[u8]) {
    let reference = Chunked::read(input);
    assert_eq!(followed.content, reference.content);
    match reference.end {
        End::Whole { body_bytes, trailers } => {
            assert_eq!(followed.error, None);
            assert!(followed.is_complete);
            assert_eq!(followed.body_bytes, body_bytes);
            let (before, after) = input[..body_bytes].split_at(body_bytes - trailers.len() - 2);
            assert_eq!(after, [trailers, b"\r\n"].concat());
            check_trailers(followed.passed_on.strip_prefix(before).expect("passed on verbatim"), trailers);
        }
        End::Missing => {
            assert_eq!((followed.error, followed.is_complete), (None, false));
            assert!(input.starts_with(&followed.passed_on), "passed on verbatim");
        }
        End::Broken => {
            assert!(followed.error.is_some() && !followed.is_complete);
            assert!(input.starts_with(&followed.passed_on), "passed on verbatim");
        }
    }
}

/// The trailers go on as they came, in their order, but for those that must not (RFC 9110 §6.5.1).
fn check_trailers(passed_on: &[u8], came: &[u8]) {
    let (came, passed_on) = ([b"x\r\n", came, b"\r\n"].concat(), [b"x\r\n", passed_on].concat());
    let kept = Head::read(&passed_on).expect("trailers are left").fields;
    let mut kept = kept.iter().peekable();
    for field in &Head::read(&came).expect("trailers").fields {
        match kept.next_if_eq(&field) {
            Some(field) => assert!(!is_refused(field.name), "{} is kept", field.name),
            None => assert!(may_be_removed(field.name), "{} is lost", field.name),
        }
    }
    assert_eq!(kept.next(), None, "nothing is added");
}

/// Trailers that would frame, route or authorize.
fn is_refused(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    KEYS.contains(&&*name) || HOP_BY_HOP.contains(&&*name) || ["host", "set-cookie", "content-type"].contains(&&*name)
}

/// Fields that the program knows in heads are not passed on after a body.
fn may_be_removed(name: &str) -> bool {
    const KNOWN: [&str; 13] = [
        "content-encoding",
        "expect",
        "location",
        "origin",
        "sec-fetch-site",
        "trailer",
        "x-accel-buffering",
        "x-flow-uring-error",
        "x-request-id",
        "set-cookie",
        "traceparent",
        "tracestate",
        "x-litellm-response-cost",
    ];
    let name = loosened(name);
    is_refused(&name) || KNOWN.contains(&&*name) || OF_WEBSOCKET.contains(&&*name)
}

/// Checks that what was passed on is a valid body with what is owed.
fn check_owed(followed: &Followed) {
    let owed = followed.owed.expect("noted");
    let mut out = followed.passed_on.clone();
    if followed.is_complete || end_chunked(&mut out, owed, b"more").is_none() {
        assert!(followed.is_complete || matches!(owed, Owed::ChunkData { remaining } if remaining > 64 * 1024));
        return;
    }
    let ended = Chunked::read(&out);
    assert_eq!(ended.end, End::Whole { body_bytes: out.len(), trailers: b"" });
    let added = ended.content.strip_prefix(&followed.content[..]).expect("the content that came");
    assert_eq!(added.strip_prefix(b"more").map(|filler| filler.iter().all(|byte| *byte == b'\n')), Some(true));
}

/// The body of an event stream that breaks where the input ends: downstream it is valid, and the events are whole.
fn relay_events(input: &[u8]) {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let facts = flow_uring::fuzz::http1::with_response(head, |head| examine(head, false).expect("valid"));
    let facts = facts.expect("a valid head");
    let came = events::whole(&Chunked::read(input).content);
    let mut random = Random::of(input);
    for version in [Version::Http11, Version::Http10] {
        let mut relay = BodyRelay::new(&facts, version, Buffer::take(), Rc::new(TokenTraces::none()));
        let (before, after) = input.split_at(random.below(input.len() + 1));
        relay.push(before);
        let mut out = relay.out.filled().to_vec();
        relay.out.clear();
        // A mark after the heartbeat is not the stream's first character any more.
        if !input.windows(3).any(|bytes| bytes == b"\xEF\xBB\xBF") {
            out.extend(relay.heartbeat(None).iter().flat_map(|heartbeat| heartbeat.filled().to_vec()));
        }
        relay.push(after);
        out.extend_from_slice(relay.out.filled());
        let is_complete = relay.reader.is_complete();
        if !is_complete {
            let Some(ending) = relay.ending(Some(EventDialect::Chat), "It broke.") else { continue };
            out.extend_from_slice(ending.filled());
        }
        check_relayed(&out, version, &came, relay.turn_is_complete(), is_complete);
    }
}

fn check_relayed(out: &[u8], version: Version, came: &[Event], turn_is_complete: bool, is_complete: bool) {
    let decoded = if version == Version::Http11 {
        let body = Chunked::read(out);
        assert!(matches!(body.end, End::Whole { body_bytes, .. } if body_bytes == out.len()), "valid chunks");
        body.content
    } else {
        out.to_vec()
    };
    let read = events::whole(&decoded);
    assert_eq!(&read[..came.len()], came, "all that came whole");
    let after = &read[came.len()..];
    if is_complete {
        assert!(after.is_empty(), "nothing is added");
    } else if !turn_is_complete {
        assert!(
            after.last().is_some_and(|last| last.json().is_some_and(|json| json.has("error"))),
            "an error at the end"
        );
    }
}
