use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::proxy::sse::ending::error_event;
use crate::proxy::sse::reference::{Event, fragments, parse, streams};
use crate::proxy::sse::tracker::EventTracker;

fn observed<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> EventTracker {
    let mut tracker = EventTracker::new();
    parts.into_iter().for_each(|part| tracker.observe(part));
    tracker
}

#[test]
fn the_last_whole_event_tells_whether_the_turn_is_complete() {
    let long = format!("data: {{\"x\":\"{}\",\"type\":\"text\"}}\n\n", "y".repeat(4096));
    let late = format!("data: {{\"x\":\"{}\",\"type\":\"response.completed\"}}\n\n", "y".repeat(100_000));
    let cases: &[(&str, bool)] = &[
        ("", false),
        ("data: [DONE]\n", false),
        ("data: [DONE]\n\n", true),
        ("data:[DONE]\r\n\r\n", true),
        ("data:[DONE]\r\r", true),
        ("data: [DONE] \n\n", true),
        ("data: [DONE]\n\n: keep-alive\n\n\n\n", true),
        ("data: [DONE]\n\ndata: hal", true),
        ("data: [DONE]\n\ndata: more\n\n", false),
        ("data: [DONE]\n\ndata: {\"choices\":[]}\n\n", false),
        ("data: {\"choices\":[]}\n\ndata: [DONE]\n\ndata: {\"choices\":[]}\n\n", false),
        ("data: {\"choices\":[]}\n\ndata: [DONE]\n\n", true),
        ("data: [DONE]\ndata: more\n\n", false),
        ("data: [DONE]\n\nevent: ping\ndata: {}\n\n", true),
        ("data: {\"choices\":[]}\n\ndata: [DONE]\n\ndata: {\"type\":\"ping\"}\n\n", true),
        ("event: message_stop\ndata: {}\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n", true),
        ("event: message_stop\ndata: {}\n\nevent: ping\ndata: {}\n\nevent: message_start\ndata: {}\n\n", false),
        ("data: {\"type\":\"response.completed\"}\n\nevent: ping\ndata: {}\n\n", true),
        ("event: ping\ndata: {}\n\n", false),
        ("data: [DONE]!\n\n", false),
        ("event: message_stop\ndata: {}\n\n", true),
        ("event: message_stop\n\n", false),
        ("event: message_stopped\ndata: {}\n\n", false),
        ("event: response.incomplete_\ndata: {}\n\n", false),
        ("event: response.incomplete\ndata: {}\n\n", true),
        ("data: { \"type\" : \"response.failed\", \"a\": 1 }\n\n", true),
        ("data: {\"sequence_number\":7,\"type\":\"response.completed\",\"response\":{}}\n\n", true),
        // No client can parse it.
        ("data: {\"sequence_number\":7,\"type\":\"response.completed\",\"response\":{\n\n", false),
        (
            "data: {\"type\":\"response.created\",\"sequence_number\":0}\n\n\
             data: {\"type\":\"response.completed\",\"response\":{]},\"sequence_number\":1}\n\n",
            false,
        ),
        ("data: {\ndata: \"type\":\ndata: \"message_stop\"}\n\n", true),
        ("data: {\"delta\":{\"type\":\"message_stop\"}}\n\n", false),
        ("data: {\"text\":\"\\\"type\\\":\\\"message_stop\\\"\"}\n\n", false),
        ("data: {\"text\":\"type\",\"b\":\"message_stop\"}\n\n", false),
        ("data: {\"a\":\"\\", false),
        ("data: {\"type\":\"message_stop\n\n", false),
        ("data: message_stop\n\n", false),
        ("data: \"type\":\"message_stop\"\n\n", false),
        (&long, false),
        (&late, true),
    ];
    for (stream, is_complete) in cases {
        assert_eq!(observed([stream.as_bytes()]).turn_is_complete(), *is_complete, "{stream:?}");
    }
}

#[test]
fn a_turn_of_gemini_is_complete_when_all_its_candidates_are() {
    let large = format!(
        r#"{{"candidates":[{{"content":{{"parts":[{{"inlineData":"{}"}}]}},"finishReason":"STOP"}}]}}"#,
        "x".repeat(200_000)
    );
    let cases: &[(&[&str], bool)] = &[
        (&[r#"{"candidates":[{"content":{}}]}"#], false),
        (&[r#"{"candidates":[{"content":{},"finishReason":"STOP"}]}"#], true),
        (&[r#"{"candidates":[{"content":{}}]}"#, r#"{"candidates":[{"finishReason":"STOP","index":0}]}"#], true),
        (&[r#"{"candidates":[{"finishReason":"STOP"}]}"#, r#"{"usageMetadata":{}}"#], true),
        (&[r#"{"candidates":[{},{"index":1}]}"#, r#"{"candidates":[{"index":1,"finishReason":"STOP"}]}"#], false),
        (
            &[
                r#"{"candidates":[{},{"index":1}]}"#,
                r#"{"candidates":[{"index":1,"finishReason":"STOP"}]}"#,
                r#"{"candidates":[{"finishReason":"SAFETY"}]}"#,
            ],
            true,
        ),
        (&[r#"{"candidates":[{"finishReason":"STOP"}]}"#, r#"{"candidates":[{"index":1}]}"#], false),
        (&[r#"{"candidates":[{"finishReason":"STOP"}]}"#, r#"{"candidates":[{"content":{}}]}"#], false),
        (&[r#"{"candidates":[{"finishReason":"STOP"}]}"#, r#"{"candidates":[{"index":0,"content":{}}]}"#], false),
        (&[r#"{"candidates":[{"finishReason":"STOP"},{"index":0}]}"#], false),
        (
            &[
                r#"{"candidates":[{"finishReason":"STOP"}]}"#,
                r#"{"candidates":[{"content":{}}]}"#,
                r#"{"candidates":[{"finishReason":"STOP"}]}"#,
            ],
            true,
        ),
        (&[r#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{}}"#], false),
        (&[&large], true),
        // No client can parse it.
        (&[r#"{"candidates":[{"finishReason":"STOP"}]}"#, r#"{"candidates":[{"content":(}]}"#], false),
        (&[r#"{"candidates":[{}]}"#, r#"{"candidates":[{}],"type":"message_stop"}"#], false),
        (&[r#"{"candidates":[{"finishReason":"STOP"}]}"#, r#"{"candidates":[],"usageMetadata":{}}"#], true),
        (
            &[
                r#"{"type":"response.a"}"#,
                r#"{"type":"response.b","sequence_number":1,"candidates":[{"finishReason":"STOP"}]}"#,
            ],
            false,
        ),
    ];
    for (events, is_complete) in cases {
        let stream: String = events.iter().map(|event| format!("data: {event}\r\n\r\n")).collect();
        for size in [3, 1000, usize::MAX] {
            let parts = stream.as_bytes().chunks(size.min(stream.len()));
            assert_eq!(observed(parts).turn_is_complete(), *is_complete, "{stream:?}");
        }
    }
    let half = "data: {\"candidates\":[{\"finishReason\":\"STOP\"}]}\n";
    assert!(!observed([half.as_bytes()]).turn_is_complete(), "its blank line has not come");
    for (half, is_complete) in [
        ("data: {\"candidates\":", false),
        ("data: {\"candidates\":[{\"content\":{}}]}", false),
        ("data: {\"candidates\":[{\"content\":{}}]}\n", false),
        ("data: {\"candidates\":[{\"content\":{}}],\"usageMetadata\":{", false),
        ("data: {\"usageMetadata\":{", true),
        ("data: {\"cand", true),
        ("event: x\n", true),
    ] {
        let stream = format!("data: {{\"candidates\":[{{\"finishReason\":\"STOP\"}}]}}\n\n{half}");
        for size in [1, 3, stream.len()] {
            assert_eq!(observed(stream.as_bytes().chunks(size)).turn_is_complete(), is_complete, "{half}");
        }
    }
}

#[test]
fn the_stream_tells_its_dialect_and_only_before_its_first_event_the_path() {
    use EventDialect::{Anthropic, Chat, Gemini, Responses};
    let of_path = Some(Chat);
    let cases: &[(&str, Option<EventDialect>)] = &[
        ("", of_path),
        (": hello\n\n", of_path),
        ("event: x\n\n", of_path),
        ("data: {", of_path),
        ("data: {\"cand", of_path),
        ("data: {\"candidates\":", Some(Gemini)),
        ("event: message_start\n", Some(Anthropic)),
        ("event: response.created\ndata", Some(Responses)),
        ("data: {\"type\":\"response.created\"", Some(Responses)),
        ("data: {}\n\n", None),
        ("data: 1\n\n", None),
        ("data: {\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n\n", None),
        ("event: message\ndata: {\"jsonrpc\":\"2.0\",\"result\":{\"object\":1}}\n\n", None),
        ("event: error\ndata: {\"type\":\"error\",\"error\":{}}\n\n", None),
        ("data: {\"object\":\n\n", None),
        ("data: {}\n\ndata: {\"choices\":", Some(Chat)),
        ("event: ping\ndata: {\"type\": \"ping\"}\n\n", Some(Anthropic)),
        ("event: ping", Some(Anthropic)),
        ("event: ping\ndata: {}\n\ndata: {\"candidates\":[]}\n\n", Some(Gemini)),
        ("event: ping\ndata: {}\n\ndata: {\"x\":[]}\n\n", None),
        ("event: ping\ndata: {}\n\ndata: {\"x\":[]}\n\nevent: ping\ndata: {}\n\n", None),
        ("event: ping\ndata: {}\n\nevent: ping\ndata: {}\n\n", Some(Anthropic)),
        ("data: {\"jsonrpc\":\"2.0\",\"id\":1}\n\nevent: ping\ndata: {}\n\n", None),
        ("data: {\"jsonrpc\":\"2.0\",\"id\":1}\n\nevent: ping\ndata: {", None),
        ("data: {\"id\":1}\n\ndata: {\"id\":2}\n\ndata: {\"choices\":[]}\n\n", Some(Chat)),
        ("data: {\"id\":1}\n\nevent: message_delta\ndata: {\"id\":2}\n\n", Some(Anthropic)),
        ("data: {\"id\":1}\n\ndata: {\"id\":{\"choices\":[]}}\n\n", None),
        ("data: {\"id\":1}\n\ndata: {\"a\" : 1, \"usageMetadata\" : {}}\n\n", Some(Gemini)),
        ("data: {\"usageMetadata\":{}}\n\nevent: ping\ndata: {}\n\n", Some(Gemini)),
        ("data: {\"id\":\"1\",\"object\":\"x\"}\n\ndata: {\"x\":1}\n\n", Some(Chat)),
        ("event: content_block_delta\ndata: {}\n\n", Some(Anthropic)),
        ("data: {\"type\":\"message_delta\"}\n\n", Some(Anthropic)),
        ("event: response.\ndata: {}\n\n", Some(Responses)),
    ];
    for (stream, expected) in cases {
        assert_eq!(observed([stream.as_bytes()]).events.dialect(of_path), *expected, "{stream:?}");
    }
}

#[test]
fn the_next_number_follows_the_last_wherever_it_stood() {
    let large = format!(
        "data: {{\"type\":\"response.x\",\"a\":\"{0}\",\"sequence_number\":41,\"b\":\"{0}\"}}\n\n",
        "x".repeat(100_000)
    );
    let cases = [
        ("", 0),
        ("event: response.created\ndata: {}\n\n", 0),
        ("data: {\"type\":\"response.x\",\"sequence_number\":3}\n\n", 4),
        ("data: {\"sequence_number\":3}\n\ndata: {\"type\":\"response.x\"}\n\n", 4),
        ("data: {\"id\":1}\n\ndata: {\"sequence_number\":5}\n\ndata: {\"type\":\"response.x\"}\n\n", 6),
        ("data: {\"sequence_number\":3,\"response\":{\"sequence_number\":9}}\n\n", 4),
        ("data: {\"sequence_number\":3}\n\ndata: {\"sequence_number\":4,\"a", 5),
        ("data: {\"sequence_number\":3}\n\ndata: {\"sequence_number\":4", 5),
        ("data: {\"sequence_number\":13}\n\ndata: {\"sequence_number\":1", 14),
        ("data: {\"sequence_number\":13}\n\ndata: {\"sequence_number\":", 14),
        ("data: {\"sequence_number\":18446744073709551615}\n\n", u64::MAX),
        (&large, 42),
    ];
    for (stream, expected) in cases {
        assert_eq!(observed([stream.as_bytes()]).events.next_sequence_number(), expected);
    }
}

#[test]
fn of_an_event_of_responses_that_is_wrong_the_beginning_and_end_count_if_it_comes_whole() {
    let first = r#"{"type":"response.created","sequence_number":1}"#;
    for (wrong, whole, in_parts) in [
        (r#"{"type":"response.a","sequence_number":2,"sequence_number":7}"#, (false, 3), (false, 8)),
        (r#"{"type":"response.a","type":"response.completed","sequence_number":2}"#, (false, 3), (true, 3)),
        (r#"{"type":"response.a","sequence_number":2,,"b":1}"#, (false, 3), (false, 2)),
        (r#"{"type":"response.a",,"sequence_number":2}"#, (false, 3), (false, 2)),
    ] {
        let stream = format!("data: {first}\n\ndata: {wrong}\n\n");
        for (size, expected) in [(usize::MAX, whole), (20, in_parts), (1, in_parts)] {
            let tracker = observed(stream.as_bytes().chunks(size));
            let facts = (tracker.turn_is_complete(), tracker.events.next_sequence_number());
            assert_eq!(facts, expected, "{wrong} in parts of {size}");
        }
    }
}

/// The facts of a whole stream, by parsers that have nothing to do with the ones here.
#[derive(Debug, PartialEq)]
struct StreamFacts {
    dialect: Option<EventDialect>,
    is_complete: bool,
    next_number: u64,
}

fn reference(stream: &[u8], by_path: Option<EventDialect>) -> StreamFacts {
    let events: Vec<(Event, Value)> = parse(stream)
        .into_iter()
        .map(|event| {
            let json = serde_json::from_str(&event.data).ok().filter(Value::is_object);
            (event, json.unwrap_or_default())
        })
        .collect();
    let kinds = |(event, json): &(Event, Value)| {
        [event.name.clone(), json["type"].as_str().unwrap_or_default().to_owned()]
            .map(|name| name.trim_end().to_owned())
    };
    let dialect = events.iter().find_map(|event| {
        let of_kind = |kind: &String| match kind.as_str() {
            "message_start" | "message_delta" | "message_stop" => Some(EventDialect::Anthropic),
            kind if kind.starts_with("content_block_") => Some(EventDialect::Anthropic),
            kind if kind.starts_with("response.") => Some(EventDialect::Responses),
            _ => None,
        };
        let has = |names: [&str; 2]| names.iter().any(|name| event.1.get(name).is_some());
        kinds(event).iter().find_map(of_kind).or_else(|| {
            if has(["object", "choices"]) {
                Some(EventDialect::Chat)
            } else {
                has(["candidates", "usageMetadata"]).then_some(EventDialect::Gemini)
            }
        })
    });
    let mut candidates = BTreeMap::new();
    for candidate in events.iter().flat_map(|(_, json)| json["candidates"].as_array().cloned().unwrap_or_default()) {
        let index = candidate["index"].as_u64().unwrap_or_default();
        candidates.insert(index, candidate["finishReason"].is_string());
    }
    let is_last = |event: &(Event, Value)| {
        const LAST: [&str; 4] = ["message_stop", "response.completed", "response.failed", "response.incomplete"];
        event.0.data.trim() == "[DONE]" || kinds(event).iter().any(|kind| LAST.contains(&kind.as_str()))
    };
    let is_ping = |event: &(Event, Value)| kinds(event).contains(&"ping".to_owned());
    // A ping after the last event changes nothing.
    let has_last = events.iter().rev().find(|event| is_last(event) || !is_ping(event)).is_some_and(is_last);
    let has_pings_alone = !events.is_empty() && events.iter().all(is_ping);
    StreamFacts {
        dialect: dialect
            .or(has_pings_alone.then_some(EventDialect::Anthropic))
            .or(by_path.filter(|_| events.is_empty())),
        is_complete: has_last || !candidates.is_empty() && candidates.values().all(|&is_finished| is_finished),
        next_number: events.iter().rev().find_map(|(_, json)| json["sequence_number"].as_u64()).map_or(0, |at| at + 1),
    }
}

fn facts_of(tracker: &EventTracker, by_path: Option<EventDialect>) -> StreamFacts {
    StreamFacts {
        dialect: tracker.events.dialect(by_path),
        is_complete: tracker.turn_is_complete(),
        next_number: tracker.events.next_sequence_number(),
    }
}

/// The data of an event: of the family, or of none.
fn data(family: usize) -> BoxedStrategy<String> {
    let text = |text: &str| Just(text.to_owned());
    let index = 0_u64..9;
    let of_family = match family {
        0 => prop_oneof![
            index
                .clone()
                .prop_map(|index| format!(r#"{{"candidates":[{{"content":{{"a":["\"é"]}},"index":{index}}}]}}"#)),
            index.prop_map(|index| format!(r#"{{"candidates":[{{"finishReason":"STOP","index":{index}}}]}}"#)),
            text(
                r#"{"candidates": [ {"finishReason" : "MAX_TOKENS"}, {"index": 1} ], "usageMetadata": {"a": [1, 2]}}"#
            ),
        ]
        .boxed(),
        1 => prop_oneof![
            index
                .clone()
                .prop_map(|at| format!(r#"{{"type":"response.a.delta","sequence_number":{at},"delta":"{{"}}"#)),
            index.prop_map(|at| format!(
                r#"{{"type":"response.completed","response":{{"type":"x","b":[{{}}]}},"sequence_number":{at}}}"#
            )),
            text(r#"{"type":"response.a.b"}"#),
        ]
        .boxed(),
        2 => text(r#"{"id":"1","object":"chat.completion.chunk","choices":[{"delta":{"content":"\\"}}]}"#).boxed(),
        _ => prop_oneof![
            text(r#"{"type":"content_block_delta","delta":{"text":"[DONE]"}}"#),
            text(r#"{"type": "message_stop"}"#),
        ]
        .boxed(),
    };
    let of_none = proptest::sample::select(vec![
        r#"{"type": "ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"choices":[]}}"#,
        r#"{"id":1,"params":{"progress":[0.5,"\"object\""]}}"#,
        "{\"two\":{}\ndata: ,\"lines\":1}",
        "[DONE]",
        "{\"half\":",
        "{\"two\":\ndata: [\"lines\"]}",
        "",
    ]);
    prop_oneof![2 => of_family, 1 => of_none.prop_map(str::to_owned)].boxed()
}

/// Streams of whole events.
fn whole_streams() -> impl Strategy<Value = Vec<u8>> {
    let name = proptest::sample::select(vec!["", "", ": hi\n", "id: 7\n", "event: x\n", "event: ping\n"]);
    let events =
        (0_usize..4).prop_flat_map(move |family| proptest::collection::vec((name.clone(), data(family)), 0..6));
    (events, proptest::sample::select(vec!["\n", "\r\n", "\r"])).prop_map(|(events, line_end)| {
        let text: String = events.iter().map(|(name, data)| format!("{name}data: {data}\n\n")).collect();
        text.replace('\n', line_end).into_bytes()
    })
}

fn ending(tracker: &EventTracker, by_path: Option<EventDialect>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    error_event(&mut out, tracker, by_path, "The upstream went away.").map(|()| out)
}

fn assert_splits_make_no_difference(stream: &[u8], sizes: &[usize]) {
    let whole = observed([stream]);
    let (mut rest, mut split) = (stream, EventTracker::new());
    for size in sizes.iter().cycle() {
        let (part, beyond) = rest.split_at((*size).min(rest.len()));
        split.observe(part);
        rest = beyond;
        if rest.is_empty() {
            break;
        }
    }
    for by_path in [None, Some(EventDialect::Anthropic), Some(EventDialect::Responses)] {
        assert_eq!(facts_of(&split, by_path), facts_of(&whole, by_path), "{}", stream.escape_ascii());
        assert_eq!(ending(&split, by_path), ending(&whole, by_path), "{}", stream.escape_ascii());
    }
}

#[test]
fn known_streams_are_the_same_wherever_they_are_split() {
    for stream in streams() {
        for cut in 0..=stream.len() {
            for size in [1, 2, 7] {
                assert_splits_make_no_difference(&stream[..cut], &[size]);
            }
        }
    }
}

#[test]
fn a_line_that_ends_like_an_object_is_the_same_whether_it_came_whole_or_in_parts() {
    let known = "data: {\"object\":\"chat.completion.chunk\",\"choices\":[]}\n\n";
    for half in ["data: {\"two\":{}\ndata", "data: {\"two\":{}\n", "data: {\"two\":{}\ndata: ,\"lines\":1"] {
        for size in 1..12 {
            assert_splits_make_no_difference([known, half].concat().as_bytes(), &[known.len(), size]);
        }
    }
}

proptest! {
    #[test]
    fn whole_events_tell_what_an_independent_reading_tells(
        stream in whole_streams(),
        sizes in proptest::collection::vec(1_usize..60, 1..20),
    ) {
        for by_path in [None, Some(EventDialect::Gemini)] {
            prop_assert_eq!(facts_of(&observed([stream.as_slice()]), by_path), reference(&stream, by_path));
        }
        assert_splits_make_no_difference(&stream, &sizes);
    }

    #[test]
    fn a_stream_cut_anywhere_is_the_same_however_it_was_split(
        stream in whole_streams(),
        cut in any::<proptest::sample::Index>(),
        sizes in proptest::collection::vec(1_usize..60, 1..20),
    ) {
        assert_splits_make_no_difference(&stream[..cut.index(stream.len() + 1)], &sizes);
    }

    #[test]
    fn any_bytes_are_the_same_however_they_are_split(
        stream in fragments(),
        sizes in proptest::collection::vec(1_usize..9, 1..80),
    ) {
        assert_splits_make_no_difference(&stream, &sizes);
    }
}
