use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::proxy::sse::reference::{Event, dechunked, fragments, parse, streams};

const MESSAGE: &str = "The upstream \"went\" away.";

const DIALECTS: [EventDialect; 4] =
    [EventDialect::Anthropic, EventDialect::Responses, EventDialect::Chat, EventDialect::Gemini];

fn json(event: &Event) -> Value {
    serde_json::from_str(&event.data).unwrap_or_default()
}

/// Returns whether this is the event of the dialect's own clients.
fn is_error(event: &Event, dialect: EventDialect) -> bool {
    let json = json(event);
    let error = &json["error"];
    let is_ours = match dialect {
        EventDialect::Anthropic => event.name == "error" && json["type"] == "error" && error["type"] == "api_error",
        EventDialect::Responses => {
            event.name == "error"
                && json["type"] == "error"
                && json["code"] == "upstream_disconnected"
                && json["message"] == MESSAGE
                && json["param"].is_null()
                && error["type"] == "upstream_error"
        }
        EventDialect::Chat => error["type"] == "upstream_error" && error["code"] == "upstream_disconnected",
        EventDialect::Gemini => error["code"] == 502 && error["status"] == "UNAVAILABLE",
    };
    is_ours && error["message"] == MESSAGE
}

fn observed<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> EventTracker {
    let mut tracker = EventTracker::new();
    parts.into_iter().for_each(|part| tracker.observe(part));
    tracker
}

/// The stream with its ending; `None` where it is cut.
fn ended(stream: &[u8], by_path: Option<EventDialect>) -> Option<Vec<u8>> {
    let mut ended = stream.to_vec();
    error_event(&mut ended, &observed([stream]), by_path, MESSAGE).map(|()| ended)
}

/// Checks what the client reads of `prefix` and the ending: the whole events, at most one that was half written, one
/// error of the stream's dialect. A half of a JSON object parses, and says that it is an error.
fn assert_ends_well(prefix: &[u8], ended: &[u8], by_path: EventDialect) {
    let tracker = observed([prefix]);
    let dialect = tracker.events.dialect(Some(by_path));
    let whole = parse(prefix);
    let read = parse(ended);
    let shown = String::from_utf8_lossy(ended);
    assert_eq!(read[..whole.len()], whole, "{shown:?}");
    let after = &read[whole.len()..];
    if tracker.turn_is_complete() {
        assert!(after.iter().all(|event| json(event)["error"].is_null()), "an event after the last: {shown:?}");
        return;
    }
    let dialect = dialect.expect("a stream without one is cut");
    let (last, half) = after.split_last().expect("an error event");
    assert!(is_error(last, dialect), "{shown:?}");
    if dialect == EventDialect::Anthropic || dialect == EventDialect::Responses {
        assert_eq!(last.name, "error", "{shown:?}");
    } else {
        assert_eq!(last.name, "", "{shown:?}");
    }
    assert!(half.len() <= 1, "{shown:?}");
    for half in half {
        let is_as_it_came = [prefix, b"\n\n"].concat();
        let is_left = parse(&is_as_it_came).last() == Some(half);
        assert!(
            is_error(half, dialect)
                || half.data == "[DONE]"
                || is_left && !half.data.starts_with('{')
                || json(half).is_object(),
            "{shown:?}"
        );
    }
    if dialect == EventDialect::Responses {
        let number = |event| json(event)["sequence_number"].as_u64();
        let (errors, before): (Vec<_>, Vec<_>) = read.iter().partition(|event| is_error(event, dialect));
        let own = before.into_iter().filter_map(number).next_back().map_or(0, |last| last + 1);
        let numbers: Vec<_> = errors.into_iter().map(number).collect();
        // The half event's own may have come, and counts as seen.
        assert!(numbers.iter().all(|number| *number == Some(own)) || numbers == [Some(own + 1); 2], "{shown:?}");
    }
}

#[test]
fn a_stream_that_breaks_anywhere_ends_in_one_error_event_or_a_cut() {
    let mut cuts = 0;
    for stream in streams() {
        for cut in 0..=stream.len() {
            for by_path in DIALECTS {
                match ended(&stream[..cut], Some(by_path)) {
                    Some(ended) => assert_ends_well(&stream[..cut], &ended, by_path),
                    None => {
                        cuts += 1;
                        assert_eq!(observed([&stream[..cut]]).events.dialect(Some(by_path)), None);
                    }
                }
            }
        }
    }
    assert!(cuts > 0, "one of them has a dialect that nobody knows");
}

#[test]
fn an_event_that_breaks_off_becomes_an_error_that_parses() {
    for stream in
        ["data: ", "data: {\"a\":{\"b\":\"", "data:{", "\u{FEFF}data: {\"a\":[1,", "data: {\"a\":\ndata: 1,\n"]
    {
        for dialect in DIALECTS {
            let events = parse(&ended(stream.as_bytes(), Some(dialect)).expect("an ending"));
            assert_eq!(events.len(), 2, "{stream:?}");
            assert!(events.iter().all(|event| is_error(event, dialect)), "{events:?}");
        }
    }
    for stream in ["event: message_delta\ndata: {\"type\":\"message", "event: message_delta\ndata: {\"x\":tr"] {
        let events = parse(&ended(stream.as_bytes(), None).expect("an ending"));
        assert!(events.iter().all(|event| is_error(event, EventDialect::Anthropic)));
    }
    for stream in [
        "event",
        "event: x",
        "event: x\n",
        "event: x\nid: 1",
        "event: x\ndat",
        "id: 1\nda",
        ": com",
        ": hi\n",
        "d",
        "data",
        "data:",
        "\u{FEFF}",
    ] {
        for dialect in DIALECTS {
            let events = parse(&ended(stream.as_bytes(), Some(dialect)).expect("an ending"));
            assert_eq!(events.len(), 1, "{stream:?}");
            assert!(is_error(&events[0], dialect), "{stream:?}");
        }
    }
    let long = format!("data: {{\"candidates\":[{{\"a\":\"{}", "x".repeat(300_000));
    let events = parse(&ended(long.as_bytes(), None).expect("an ending"));
    assert!(events.len() == 2 && events.iter().all(|event| is_error(event, EventDialect::Gemini)));
}

#[test]
fn each_dialect_has_its_own_event() {
    let ending = |stream: &str, by_path| {
        let ended = ended(stream.as_bytes(), by_path).expect("an ending");
        String::from_utf8(ended).unwrap().split_off(stream.len())
    };
    let responses = |number: u64| {
        format!(
            "event: error\ndata: {{\"type\":\"error\",\"sequence_number\":{number},\"code\":\"upstream_disconnected\",\
             \"message\":\"The upstream \\\"went\\\" away.\",\"param\":null,\"error\":{{\"message\":\"The upstream \\\"went\\\" away.\",\
             \"type\":\"upstream_error\",\"code\":\"upstream_disconnected\"}}}}\n\n"
        )
    };
    assert_eq!(ending("", Some(EventDialect::Responses)), responses(0));
    assert_eq!(
        ending("data: {\"type\":\"response.a\",\"sequence_number\":6}\n\n", Some(EventDialect::Chat)),
        responses(7)
    );
    let half = ending("data: {\"type\":\"response.a\",\"sequence_number\":6,\"b\":{", None);
    // To the AI SDK an error without a number is no valid event.
    let closed = responses(7).replace("event: error\ndata: {", "},").replace("\n\n", "\nevent: error\n\n");
    assert_eq!(half, closed + &responses(7));
    let without_own =
        ending("data: {\"type\":\"response.a\",\"sequence_number\":6}\n\ndata: {\"type\":\"response.b\",\"c\":{", None);
    assert_eq!(without_own, half);
    assert_eq!(
        ending("data: {\"candidates\":[]}\r\n\r\n", Some(EventDialect::Anthropic)),
        "\r\ndata: {\"error\":{\"code\":502,\"message\":\"The upstream \\\"went\\\" away.\",\"status\":\"UNAVAILABLE\"}}\r\n\r\n"
    );
    assert_eq!(
        ending("event: message_start\ndata: {}\n\n", Some(EventDialect::Gemini)),
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"The upstream \\\"went\\\" away.\"}}\n\n"
    );
}

#[test]
fn the_mark_of_the_end_is_completed_and_the_error_follows() {
    for half in ["[", "[DO", "[DONE]"] {
        let stream = format!("data: {{\"choices\":[]}}\n\ndata: {half}");
        let events = parse(&ended(stream.as_bytes(), None).expect("an ending"));
        assert_eq!(events[1].data, "[DONE]", "{half}");
        assert!(events.len() == 3 && is_error(&events[2], EventDialect::Chat), "{half}");
    }
}

/// The objects that Google's clients find: the data of events that begin with `data:` (JavaScript), and the lines that
/// begin with `data: `, each of which is all of an event (Python).
fn read_as_google_does(stream: &[u8]) -> [Vec<Value>; 2] {
    let text = String::from_utf8_lossy(stream).replace("\r\n", "\n");
    let json =
        |data: &str| serde_json::from_str(data.trim()).unwrap_or_else(|error| panic!("{error}: {data:?} of {text:?}"));
    let mut blocks: Vec<&str> = text.split("\n\n").collect();
    assert_eq!(blocks.pop().map(str::trim), Some(""), "an incomplete segment at the end: {text:?}");
    let of_blocks = blocks.iter().filter_map(|block| block.trim().strip_prefix("data:")).map(json).collect();
    [of_blocks, text.lines().filter_map(|line| line.strip_prefix("data: ")).map(json).collect()]
}

#[test]
fn google_s_clients_find_the_error_wherever_a_stream_of_gemini_breaks() {
    let stream = "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"a\\n\"}]}}]}\n\n: hi\n\n\
                  data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"\u{e9}\"}]}}]}\n\n: hi\n";
    for line_end in ["\n", "\r\n"] {
        let stream = stream.replace('\n', line_end).into_bytes();
        for cut in 0..=stream.len() {
            let ended = ended(&stream[..cut], Some(EventDialect::Gemini)).expect("an ending");
            for found in read_as_google_does(&ended) {
                assert_eq!(found.last().expect("an error")["error"]["code"], 502, "{}", ended.escape_ascii());
            }
        }
    }
}

#[test]
fn what_comes_after_a_complete_turn_of_gemini_can_be_parsed() {
    let turn = "data: {\"candidates\":[{\"finishReason\":\"STOP\"}]}\n\n";
    for (half, expected) in
        [("", None), (": hi", None), ("data: {\"usageMeta", Some(r#"{"usageMeta":null}"#)), ("data", Some("{}"))]
    {
        let ended = ended(format!("{turn}{half}").as_bytes(), None).expect("an ending");
        assert_eq!(parse(&ended).get(1).map(|event| event.data.as_str()), expected, "{half}");
    }
}

#[test]
fn the_ending_uses_the_line_end_of_the_stream() {
    let ending = |stream: &[u8]| {
        let mut out = Vec::new();
        error_event(&mut out, &observed([stream]), Some(EventDialect::Chat), "x").expect("a dialect");
        String::from_utf8(out).unwrap()
    };
    let event = r#"data: {"error":{"message":"x","type":"upstream_error","code":"upstream_disconnected"}}"#;
    assert_eq!(ending(b"data: {\"choices\":1}\r\n\r\n"), format!("{event}\r\n\r\n"));
    assert_eq!(ending(b"data: {\"choices\":1}\r\n\r"), format!("\n{event}\r\n\r\n"));
    assert_eq!(ending(b"data: 1\r\n"), format!("\r\n{event}\r\n\r\n"));
    assert_eq!(ending(b"data: {\"choices\":1}\n\n"), format!("{event}\n\n"));
    assert_eq!(ending(b"data: 1\n"), format!("\n{event}\n\n"));
    assert_eq!(ending(b"data: 1"), format!("\n\n{event}\n\n"));
    assert_eq!(ending(b"data: {\"choices\":1}\n\n: com"), format!("\n{event}\n\n"));
    assert_eq!(ending(b""), format!("{event}\n\n"));
}

#[test]
fn a_heartbeat_is_a_blank_line_where_google_s_clients_read_and_else_a_comment() {
    use EventDialect::{Anthropic, Chat, Gemini, Responses};
    let blank = Some("\n");
    let comment = Some(": ping\n");
    let cases = [
        ("", Some(Gemini), blank),
        (": hi\n\n", Some(Gemini), blank),
        ("data: {\"candidates\":[]}\n\n", None, blank),
        ("data: {\"candidates\":[]}\n\n", Some(Chat), blank),
        ("data: {\"candidates\":[]}\r\n\r\n", None, Some("\r\n")),
        // An event that tells nothing, such as one that says why a prompt was refused.
        ("data: {\"promptFeedback\":{}}\n\n", Some(Gemini), blank),
        ("data: {\"promptFeedback\":{}}\n\n", None, comment),
        ("data: {\"choices\":[]}\n\n", Some(Gemini), comment),
        ("event: message_start\ndata: {}\r\n\r\n", Some(Gemini), Some(": ping\r\n")),
        ("data: {\"jsonrpc\":\"2.0\"}\n\n", None, comment),
        ("", None, comment),
        ("", Some(Anthropic), comment),
        ("", Some(Responses), comment),
        ("data: {\"candidates\":[", None, None),
        ("data: {\"candidates\":[]}\n", None, None),
        ("data: {\"candidates\":[{\"finishReason\":\"STOP\"}]}\n\n", None, None),
    ];
    for (stream, by_path, expected) in cases {
        let line = heartbeat(&observed([stream.as_bytes()]), by_path);
        assert_eq!(line, expected.map(str::as_bytes), "{stream:?} {by_path:?}");
    }
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
                let by_path = EventDialect::Anthropic;
                if error_event(&mut event, &observed([data.as_slice()]), Some(by_path), MESSAGE).is_none() {
                    continue;
                }
                let mut ended = sent.to_vec();
                end_chunked(&mut ended, owed, &event).expect("little is missing");
                let decoded = dechunked(&ended);
                assert!(decoded.starts_with(&data));
                assert_ends_well(&data, &decoded, by_path);
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
    fn any_bytes_are_followed_by_one_error_event_or_were_complete_or_are_cut(stream in fragments()) {
        for by_path in DIALECTS {
            let tracker = observed([stream.as_slice()]);
            let Some(ended) = ended(&stream, Some(by_path)) else {
                prop_assert_eq!((tracker.events.dialect(Some(by_path)), tracker.turn_is_complete()), (None, false));
                continue;
            };
            let whole = parse(&stream);
            let read = parse(&ended);
            prop_assert_eq!(&read[..whole.len()], &whole[..]);
            if !tracker.turn_is_complete() {
                let dialect = tracker.events.dialect(Some(by_path)).expect("it was ended");
                prop_assert!(read.last().is_some_and(|event| is_error(event, dialect)));
            }
        }
    }
}
