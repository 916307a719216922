use proptest::prelude::*;

use super::*;
use crate::proxy::sse::reference::{Event, dechunked, fragments, parse, streams};
use crate::proxy::sse::tracker::UNFINISHED_BYTES_MAX;

const MESSAGE: &str = "The upstream \"went\" away.";

fn is_last(event: &Event) -> bool {
    const LAST: [&str; 4] = ["message_stop", "response.completed", "response.failed", "response.incomplete"];
    let json = serde_json::from_str::<serde_json::Value>(&event.data).unwrap_or_default();
    event.data.trim() == "[DONE]"
        || LAST.contains(&event.name.as_str())
        || json["type"].as_str().is_some_and(|name| LAST.contains(&name))
}

fn is_error(event: &Event, dialect: Dialect) -> bool {
    let json = serde_json::from_str::<serde_json::Value>(&event.data).unwrap_or_default();
    let kind = match dialect {
        Dialect::Anthropic if event.name != "error" || json["type"] != "error" => return false,
        Dialect::Anthropic => "api_error",
        Dialect::OpenAi if json["error"]["code"] != "upstream_disconnected" => return false,
        Dialect::OpenAi => "upstream_error",
    };
    json["error"]["message"] == MESSAGE && json["error"]["type"] == kind
}

fn observed<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> EventTracker {
    let mut tracker = EventTracker::new();
    parts.into_iter().for_each(|part| tracker.observe(part));
    tracker
}

/// Checks what the client reads of `prefix` and the ending: the whole events, at most one that was half written, one
/// error. A half of a JSON object parses, and says that it is an error.
fn assert_ends_well(prefix: &[u8], ended: &[u8], dialect: Dialect) {
    let whole = parse(prefix);
    let read = parse(ended);
    let shown = String::from_utf8_lossy(ended);
    assert_eq!(read[..whole.len()], whole, "{shown:?}");
    let after = &read[whole.len()..];
    if whole.last().is_some_and(is_last) {
        assert!(after.iter().all(|event| !is_error(event, dialect)), "an event after the last: {shown:?}");
    } else {
        let (last, half) = after.split_last().expect("an error event");
        assert!(is_error(last, dialect), "{shown:?}");
        assert!(half.len() <= 1, "{shown:?}");
        // A line that came whole is as the upstream wanted it.
        if !prefix.ends_with(b"\n") && !prefix.ends_with(b"\r") {
            let is_cut = |event: &&Event| event.data.starts_with('{') && !event.data.contains('\n');
            let parses = |event: &Event| serde_json::from_str::<serde_json::Value>(&event.data).is_ok();
            assert!(half.iter().filter(is_cut).all(parses), "{shown:?}");
        }
    }
}

#[test]
fn a_stream_that_breaks_anywhere_ends_in_one_error_event() {
    for stream in streams() {
        for cut in 0..=stream.len() {
            for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
                let mut ended = stream[..cut].to_vec();
                error_event(&mut ended, &observed([&stream[..cut]]), dialect, MESSAGE);
                assert_ends_well(&stream[..cut], &ended, dialect);
            }
        }
    }
}

#[test]
fn an_event_that_breaks_off_becomes_an_error_that_parses() {
    let ending = |stream: &str, dialect| {
        let mut out = Vec::new();
        error_event(&mut out, &observed([stream.as_bytes()]), dialect, MESSAGE);
        parse(&[stream.as_bytes(), &out].concat())
    };
    for stream in ["data:", "data: ", "data: {\"a\":{\"b\":\"", "data:{", "\u{FEFF}data: {\"a\":[1,"] {
        for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
            let events = ending(stream, dialect);
            assert_eq!(events.len(), 2, "{stream:?}");
            assert!(events.iter().all(|event| is_error(event, dialect)), "{events:?}");
        }
    }
    for stream in ["event: message_delta\ndata: {\"type\":\"message", "event: message_delta\ndata: {\"x\":tr"] {
        assert!(ending(stream, Dialect::Anthropic).iter().all(|event| is_error(event, Dialect::Anthropic)));
    }
    for stream in ["event", "event: x", "event: x\n", "event: x\nid: 1", "id: 1\nda", ": com"] {
        assert_eq!(ending(stream, Dialect::OpenAi).len(), 1, "{stream:?}");
        assert!(is_error(&ending(stream, Dialect::OpenAi)[0], Dialect::OpenAi), "{stream:?}");
    }
    let long = format!("data: {{\"a\":\"{}", "x".repeat(UNFINISHED_BYTES_MAX));
    assert_eq!(ending(&long, Dialect::OpenAi).len(), 2, "what is too long is ended as it is");
}

#[test]
fn the_ending_uses_the_line_end_of_the_stream() {
    let ending = |stream: &[u8]| {
        let mut out = Vec::new();
        error_event(&mut out, &observed([stream]), Dialect::OpenAi, "x");
        String::from_utf8(out).unwrap()
    };
    let event = r#"data: {"error":{"message":"x","type":"upstream_error","code":"upstream_disconnected"}}"#;
    assert_eq!(ending(b"data: 1\r\n\r\n"), format!("{event}\r\n\r\n"));
    assert_eq!(ending(b"data: 1\r\n\r"), format!("\n{event}\r\n\r\n"));
    assert_eq!(ending(b"data: 1\r\n"), format!("\r\n{event}\r\n\r\n"));
    assert_eq!(ending(b"data: 1\n\n"), format!("{event}\n\n"));
    assert_eq!(ending(b"data: 1\n"), format!("\n{event}\n\n"));
    assert_eq!(ending(b"data: 1"), format!("\n\n{event}\n\n"));
    assert_eq!(ending(b"data: 1\n\n: com"), format!("\n{event}\n\n"));
    assert_eq!(ending(b""), format!("{event}\n\n"));
}

/// Relays `raw`, which stops somewhere, as far as the rules allow: a chunk's size line and the last chunk only when
/// they are whole. Says what was relayed, its decoded bytes, and what is owed.
fn relayed(raw: &[u8]) -> (&[u8], Vec<u8>, Owed) {
    let (mut at, mut data) = (0, Vec::new());
    loop {
        let Some(line) = raw[at..].windows(2).position(|pair| pair == b"\r\n") else {
            return (&raw[..at], data, Owed::Nothing);
        };
        let size = usize::from_str_radix(std::str::from_utf8(&raw[at..at + line]).unwrap(), 16).unwrap();
        if size == 0 {
            return (&raw[..at], data, Owed::Nothing);
        }
        at += line + 2;
        let there = size.min(raw.len() - at);
        data.extend_from_slice(&raw[at..at + there]);
        at += there;
        match (size - there, raw.len() - at) {
            (0, 0) => return (raw, data, Owed::ChunkEnd),
            (0, 1) => return (&raw[..at], data, Owed::ChunkEnd),
            (0, _) => at += 2,
            (missing, _) => return (raw, data, Owed::ChunkData { remaining: missing as u64 }),
        }
    }
}

#[test]
fn a_chunked_stream_that_breaks_anywhere_stays_valid() {
    for stream in streams() {
        for chunk_length in [1, 7, 1000] {
            let mut raw = Vec::new();
            for chunk in stream.chunks(chunk_length) {
                raw.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                raw.extend_from_slice(chunk);
                raw.extend_from_slice(b"\r\n");
            }
            raw.extend_from_slice(b"0\r\n\r\n");
            for cut in 0..raw.len() {
                let (sent, data, owed) = relayed(&raw[..cut]);
                let mut event = Vec::new();
                error_event(&mut event, &observed([data.as_slice()]), Dialect::Anthropic, MESSAGE);
                let mut ended = sent.to_vec();
                end_chunked(&mut ended, owed, &event).expect("little is missing");
                let decoded = dechunked(&ended);
                assert!(decoded.starts_with(&data));
                assert_ends_well(&data, &decoded, Dialect::Anthropic);
            }
        }
    }
}

#[test]
fn an_open_chunk_is_filled_exactly_or_not_at_all() {
    let ended = |owed, content: &[u8]| {
        let mut out = b"x".to_vec();
        let done = end_chunked(&mut out, owed, content);
        (String::from_utf8(out).unwrap(), done)
    };
    let data = |remaining| Owed::ChunkData { remaining };
    assert_eq!(ended(data(3), b"abc").0, "xabc\r\n0\r\n\r\n");
    assert_eq!(ended(data(5), b"abc").0, "xabc\n\n\r\n0\r\n\r\n");
    assert_eq!(ended(data(1), b"abc").0, "xa\r\n2\r\nbc\r\n0\r\n\r\n");
    assert_eq!(ended(data(2), b"").0, "x\n\n\r\n0\r\n\r\n");
    assert_eq!(ended(Owed::ChunkEnd, b"").0, "x\r\n0\r\n\r\n");
    assert_eq!(ended(Owed::ChunkEnd, b"abc").0, "x\r\n3\r\nabc\r\n0\r\n\r\n");
    assert_eq!(ended(Owed::Nothing, b"").0, "x0\r\n\r\n");
    assert!(ended(data(FILL_BYTES_MAX), b"abc").1.is_some());
    assert_eq!(ended(data(FILL_BYTES_MAX + 1), b"abc"), ("x".to_owned(), None));
    assert_eq!(ended(data(u64::MAX), b"abc"), ("x".to_owned(), None));
}

proptest! {
    #[test]
    fn where_the_stream_is_split_makes_no_difference(stream in fragments(), sizes in proptest::collection::vec(1_usize..9, 1..80)) {
        let (mut rest, mut split) = (stream.as_slice(), EventTracker::new());
        for size in sizes.iter().cycle() {
            let (part, beyond) = rest.split_at((*size).min(rest.len()));
            split.observe(part);
            rest = beyond;
            if rest.is_empty() {
                break;
            }
        }
        let whole = observed([stream.as_slice()]);
        let ending = |tracker: &EventTracker| {
            let mut out = Vec::new();
            error_event(&mut out, tracker, Dialect::Anthropic, MESSAGE);
            out
        };
        prop_assert_eq!(split.turn_is_complete(), whole.turn_is_complete());
        prop_assert_eq!(ending(&split), ending(&whole));
    }

    #[test]
    fn any_bytes_are_followed_by_one_error_event_or_were_complete(stream in fragments()) {
        let tracker = observed([stream.as_slice()]);
        let mut ended = stream.clone();
        error_event(&mut ended, &tracker, Dialect::OpenAi, MESSAGE);
        let whole = parse(&stream);
        let read = parse(&ended);
        prop_assert_eq!(&read[..whole.len()], &whole[..]);
        prop_assert_eq!(read.last().is_some_and(|event| is_error(event, Dialect::OpenAi)), !tracker.turn_is_complete());
    }
}
