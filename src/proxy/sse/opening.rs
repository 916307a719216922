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

use crate::io::Buffer;
use crate::proxy::sse::tracker::BYTE_ORDER_MARK;

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
mod tests;
