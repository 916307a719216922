//! What the first events of an event stream say: whether the upstream reports an error inside its 200.
//!
//! Reads whole events until one of them decides. Invariant: the verdict does not depend on how the stream was split; at
//! most [`HELD_BYTES_MAX`] bytes are kept, and none between two events or once there is a verdict.
//! Not here: the holding of the stream, and what an error in it leads to.

use std::borrow::Cow;
use std::time::Duration;

use memchr::{memchr, memchr2, memmem};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::sse::BYTE_ORDER_MARK;
use crate::io::Buffer;

/// At most this much of a stream is held: what a model says of itself before its first word is a tenth of it, and a
/// long wait for an error is not worth the memory.
pub const HELD_BYTES_MAX: usize = 16 * 1024;

/// No longer than this is a stream held: servers that report an error at once do so in one write with the head.
pub const HELD_LIMIT: Duration = Duration::from_millis(250);

/// What a stream has said so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// Only that it begins: comments, `ping`, `message_start`, `response.created`, `response.in_progress`.
    Undecided,
    /// It goes on to the client.
    Harmless,
    /// The upstream reports an error in it.
    Error { is_rate_limit: bool },
}

/// Reads the decoded bytes of an event stream up to the event that decides.
pub struct OpeningReader {
    opening: Opening,
    /// The event that is not whole yet.
    kept: Buffer,
    is_first_event: bool,
    is_at_line_start: bool,
    /// The last byte was a CR: an LF that follows belongs to the same line end.
    is_after_cr: bool,
}

impl OpeningReader {
    pub fn new() -> Self {
        OpeningReader {
            opening: Opening::Undecided,
            kept: Buffer::none(),
            is_first_event: true,
            is_at_line_start: true,
            is_after_cr: false,
        }
    }

    /// Takes the stream's next bytes. A verdict stands, whatever follows.
    pub fn observe(&mut self, mut data: &[u8]) -> Opening {
        while let (Opening::Undecided, Some(&first)) = (self.opening, data.first()) {
            if self.kept.is_empty() && self.is_after_cr && first == b'\n' {
                self.is_after_cr = false;
                data = &data[1..];
                continue;
            }
            let end = self.find_event_end(data);
            let (part, rest) = data.split_at(end.unwrap_or(data.len()));
            data = rest;
            if self.kept.len() + part.len() > HELD_BYTES_MAX {
                self.opening = Opening::Harmless;
            } else if end.is_some() && self.kept.is_empty() {
                self.opening = self.read_event(part);
            } else {
                self.kept.append(part);
                if end.is_some() {
                    let event = std::mem::take(&mut self.kept);
                    self.opening = self.read_event(event.filled());
                }
            }
        }
        if self.opening != Opening::Undecided {
            self.kept = Buffer::none();
        }
        self.opening
    }

    /// How much of `data` belongs to the event, up to and with the blank line that ends it.
    fn find_event_end(&mut self, data: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(found) = memchr2(b'\n', b'\r', &data[at..]) {
            let is_empty = found == 0;
            at += found + 1;
            let was_after_cr = std::mem::replace(&mut self.is_after_cr, data[at - 1] == b'\r');
            if is_empty && was_after_cr && data[at - 1] == b'\n' {
                continue;
            }
            let is_blank_line = is_empty && self.is_at_line_start;
            self.is_at_line_start = true;
            if is_blank_line {
                return Some(at);
            }
        }
        if at < data.len() {
            self.is_at_line_start = false;
            self.is_after_cr = false;
        }
        None
    }

    /// What an event says, whose last line is the only blank one.
    fn read_event(&mut self, mut event: &[u8]) -> Opening {
        if std::mem::take(&mut self.is_first_event) {
            event = event.strip_prefix(BYTE_ORDER_MARK).unwrap_or(event);
        }
        let (mut name, mut data): (&[u8], Option<Cow<'_, [u8]>>) = (b"", None);
        for line in event.split(|byte| matches!(byte, b'\n' | b'\r')) {
            let (field, value) = memchr(b':', line).map_or((line, &b""[..]), |at| (&line[..at], &line[at + 1..]));
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match (field, &mut data) {
                (b"event", _) => name = value,
                (b"data", None) => data = Some(Cow::Borrowed(value)),
                (b"data", Some(lines)) => {
                    let lines = lines.to_mut();
                    lines.push(b'\n');
                    lines.extend_from_slice(value);
                }
                _ => {}
            }
        }
        // Without data there was no event: the grammar drops it, and so do clients.
        data.map_or(Opening::Undecided, |data| judge(name, &data))
    }
}

fn judge(name: &[u8], data: &[u8]) -> Opening {
    let payload = Payload::read(data);
    let kinds = [Kind::of(name), payload.kind.map_or(Kind::Other, |kind| Kind::of(kind.0.as_bytes()))];
    if payload.error.is_some() || kinds.contains(&Kind::Error) {
        Opening::Error { is_rate_limit: says_rate_limit(data) }
    } else if kinds.contains(&Kind::Beginning) {
        Opening::Undecided
    } else {
        Opening::Harmless
    }
}

/// What is known of an event by its name or its `type`.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// It comes before anything is said, and before most errors.
    Beginning,
    Error,
    Other,
}

impl Kind {
    fn of(name: &[u8]) -> Self {
        match name {
            b"ping" | b"message_start" | b"response.created" | b"response.in_progress" => Kind::Beginning,
            b"error" | b"response.failed" => Kind::Error,
            _ => Kind::Other,
        }
    }
}

/// The members of an event's JSON object that tell an error.
#[derive(Default, Deserialize)]
struct Payload<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<TypeName<'a>>,
    error: Option<IgnoredAny>,
}

/// A type of its own, because serde borrows a `Cow` only where it is not wrapped in an `Option`.
#[derive(Deserialize)]
struct TypeName<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Payload<'a> {
    /// Nothing is known of data that is no such JSON object, `[DONE]` as well as an array, which serde would take for
    /// the members in their order.
    fn read(data: &'a [u8]) -> Self {
        if !data.trim_ascii_start().starts_with(b"{") {
            return Payload::default();
        }
        serde_json::from_slice(data).unwrap_or_default()
    }
}

/// Whether an error is about a rate limit, in the words of OpenAI (`rate_limit_exceeded`), Anthropic
/// (`rate_limit_error`), LiteLLM (`litellm.RateLimitError`) and their like, or by its number.
fn says_rate_limit(data: &[u8]) -> bool {
    const WORDS: [&str; 4] = ["rate_limit", "rate limit", "rate-limit", "ratelimit"];
    let lowercase = data.to_ascii_lowercase();
    WORDS.iter().any(|word| memmem::find(&lowercase, word.as_bytes()).is_some()) || has_status_429(data)
}

fn has_status_429(data: &[u8]) -> bool {
    let Ok(event) = serde_json::from_slice::<Value>(data) else { return false };
    // Beside `type`, in the error, and in the error of `response.failed`.
    [&event, &event["error"], &event["response"]["error"]]
        .into_iter()
        .flat_map(|object| [&object["code"], &object["status"]])
        .any(|status| *status == 429 || *status == "429")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sse::tests::fragments;
    use super::*;

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
            (
                &[CREATED, "data: {\"type\":\"response.output_item.added\",\"error\":null}\n\n"].concat(),
                Opening::Harmless,
            ),
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
                &[
                    MESSAGE_START,
                    "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n",
                ]
                .concat(),
                OTHER_ERROR,
            ),
            (
                &[
                    PING,
                    "data: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"wait\"}}\n\n",
                ]
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
    fn nothing_is_kept_of_whole_events_nor_behind_a_verdict() {
        for stream in [PING, &PING.replace('\n', "\r\n"), "data: {\"choices\":[]}\n\ndata: {"] {
            let mut reader = OpeningReader::new();
            reader.observe(stream.as_bytes());
            assert!(reader.kept.is_empty(), "{stream:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_within_the_limit(stream in fragments(), sizes in proptest::collection::vec(1_usize..9, 1..80)) {
            let (mut rest, mut reader) = (stream.as_slice(), OpeningReader::new());
            for size in sizes.iter().cycle() {
                let (part, behind) = rest.split_at((*size).min(rest.len()));
                reader.observe(part);
                prop_assert!(reader.kept.len() <= HELD_BYTES_MAX);
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(reader.observe(b""), opening(&stream));
        }
    }
}
