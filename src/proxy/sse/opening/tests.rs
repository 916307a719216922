use proptest::prelude::*;

use super::*;
use crate::proxy::sse::reference::fragments;

const RATE_LIMIT: Opening = Opening::Error { is_rate_limit: true };
const OTHER_ERROR: Opening = Opening::Error { is_rate_limit: false };

const MESSAGE_START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\
    \"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"stop_reason\":null,\"error\":null,\
    \"usage\":{\"input_tokens\":25,\"cache\":{\"ephemeral\":0}}}}\n\n";
const PING: &str = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
const CREATED: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\
    \"response\":{\"id\":\"resp_1\",\"status\":\"in_progress\",\"error\":null,\"output\":[]}}\n\n";
const IN_PROGRESS: &str =
    "data: {\"sequence_number\":1,\"type\":\"response.in_progress\",\"response\":{\"error\":null}}\n\n";

fn opening(stream: &[u8]) -> Opening {
    OpeningReader::new().observe(stream)
}

fn kept_bytes(reader: &OpeningReader) -> usize {
    reader.event.name.kept().len() + reader.event.data.as_ref().map_or(0, Buffer::len)
}

/// Streams as servers send them, with what the whole of each says.
fn shapes() -> Vec<(String, Opening)> {
    let shapes = [
        ("", Opening::Undecided),
        (": OPENROUTER PROCESSING\n\n: ping\n\n\n\n", Opening::Undecided),
        (&[PING, ": hello\n", MESSAGE_START, PING].concat(), Opening::Undecided),
        (&[CREATED, IN_PROGRESS].concat(), Opening::Undecided),
        ("data: {\"type\":\"message_start\",\"error\":null}\n\n", Opening::Undecided),
        ("event: error\n\nevent: ping\ndata: x\n\n", Opening::Undecided),
        ("data: {\"error\":{\"code\":429}}\n", Opening::Undecided),
        ("data: {\"id\":\"1\",\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n", Opening::Harmless),
        ("data: {\"id\":\"1\",\"error\":null,\"choices\":[]}\n\n", Opening::Harmless),
        (
            &[
                MESSAGE_START,
                PING,
                "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{}}\n\n",
            ]
            .concat(),
            Opening::Harmless,
        ),
        (&[CREATED, "data: {\"type\":\"response.output_item.added\",\"error\":null}\n\n"].concat(), Opening::Harmless),
        ("data: [DONE]\n\n", Opening::Harmless),
        ("data:\n\n", Opening::Harmless),
        ("data: [\"error\", {}]\n\n", Opening::Harmless),
        ("data: {\"error\":{\"code\":429\n\n", Opening::Harmless),
        ("data: {\"delta\":{\"type\":\"error\",\"error\":{}}}\n\n", Opening::Harmless),
        ("eventful: error\ndata: x\n\n", Opening::Harmless),
        (
            "data: {\"error\": {\"message\": \"litellm.APIError: gone\", \"type\": null, \"code\": \"500\"}}\n\n",
            OTHER_ERROR,
        ),
        ("data: {\"error\": {\"message\": \"Too many\", \"code\": \"429\"}}\n\ndata: [DONE]\n\n", RATE_LIMIT),
        ("data: {\"error\": {\"message\": \"litellm.RateLimitError: slow down\"}}\n\n", RATE_LIMIT),
        ("data: {\"error\": {\"message\": \"Rate limit reached for a model\"}}\n\n", RATE_LIMIT),
        ("data: {\"error\": \"You hit the RATE-LIMIT\"}\n\n", RATE_LIMIT),
        ("data: {\"status\": 429, \"error\": true}\n\n", RATE_LIMIT),
        ("data: {\"status\": 4290, \"error\": false}\n\n", OTHER_ERROR),
        (
            &[MESSAGE_START, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n"]
                .concat(),
            OTHER_ERROR,
        ),
        (
            &[PING, "data: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"wait\"}}\n\n"]
                .concat(),
            RATE_LIMIT,
        ),
        ("event: error\ndata: no JSON\n\n", OTHER_ERROR),
        ("event:error\ndata: rate\ndata: limit\n\n", OTHER_ERROR),
        ("event: ping\ndata: {\"error\":{\"code\":529}}\n\n", OTHER_ERROR),
        (
            &[
                CREATED,
                "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"rate_limit_exceeded\"}}}\n\n",
            ]
            .concat(),
            RATE_LIMIT,
        ),
        ("data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":429}}}\n\n", RATE_LIMIT),
        ("data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"x\"}}}\n\n", OTHER_ERROR),
        ("data: {\ndata: \"type\"\ndata: : \"err\\u006fr\"}\n\n", OTHER_ERROR),
        ("\u{FEFF}event: error\ndata\n\n", OTHER_ERROR),
        ("\u{FEFF}\nevent: error\ndata\n\n", OTHER_ERROR),
        ("event: error\rdata: {}\n\n", OTHER_ERROR),
        ("data: {}\n\nevent: error\ndata: {}\n\n", Opening::Harmless),
    ];
    shapes.into_iter().map(|(stream, opening)| (stream.to_owned(), opening)).collect()
}

#[test]
fn each_stream_is_judged_by_its_first_event_that_says_something() {
    for (stream, expected) in shapes() {
        for line_end in ["\n", "\r\n", "\r"] {
            let stream = stream.replace('\n', line_end);
            assert_eq!(opening(stream.as_bytes()), expected, "{stream:?}");
        }
    }
}

#[test]
fn where_a_stream_is_split_makes_no_difference() {
    for (stream, expected) in shapes() {
        for line_end in ["\n", "\r\n", "\r"] {
            let stream = stream.replace('\n', line_end).into_bytes();
            for split in 0..=stream.len() {
                let mut reader = OpeningReader::new();
                reader.observe(&stream[..split]);
                assert_eq!(reader.observe(&stream[split..]), expected, "{} at {split}", stream.escape_ascii());
            }
            let mut reader = OpeningReader::new();
            stream.iter().for_each(|byte| _ = reader.observe(&[*byte]));
            assert_eq!(reader.observe(b""), expected, "{}", stream.escape_ascii());
        }
    }
}

#[test]
fn an_event_beyond_the_limit_is_harmless_whether_it_came_whole_or_not() {
    let frame = "event: error\ndata: \n\n".len();
    for (excess, expected) in [(0, OTHER_ERROR), (1, Opening::Harmless)] {
        let text = "x".repeat(HELD_BYTES_MAX - frame + excess);
        let stream = format!("event: error\ndata: {text}\n\n").into_bytes();
        for size in [stream.len(), HELD_BYTES_MAX, 1000, 1] {
            let mut reader = OpeningReader::new();
            stream.chunks(size).for_each(|part| _ = reader.observe(part));
            assert_eq!(reader.observe(b""), expected, "{excess} in parts of {size}");
        }
    }
}

#[test]
fn nothing_is_kept_of_whole_events_nor_after_a_verdict() {
    for stream in [PING, &PING.replace('\n', "\r\n"), "data: {\"choices\":[]}\n\ndata: {"] {
        let mut reader = OpeningReader::new();
        reader.observe(stream.as_bytes());
        assert!(kept_bytes(&reader) == 0, "{stream:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_within_the_limit(stream in fragments(), sizes in proptest::collection::vec(1_usize..9, 1..80)) {
        let (mut rest, mut reader) = (stream.as_slice(), OpeningReader::new());
        for size in sizes.iter().cycle() {
            let (part, beyond) = rest.split_at((*size).min(rest.len()));
            reader.observe(part);
            prop_assert!(kept_bytes(&reader) <= HELD_BYTES_MAX);
            rest = beyond;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(reader.observe(b""), opening(&stream));
    }
}
