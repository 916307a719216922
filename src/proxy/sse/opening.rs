//! The verdict on an event stream by its first events: an answer, or an error that the upstream reports inside its 200.
//!
//! Whole events are read until one of them decides. Invariant: the verdict does not depend on how the stream was split;
//! at most [`HELD_BYTES_MAX`] bytes are kept, and none between two events or once there is a verdict.
//! Not here: the holding of the stream, and what an error in it leads to.

use std::borrow::Cow;
use std::time::Duration;

use memchr::memmem;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::io::Buffer;
use crate::json::prefix::Prefix;
use crate::proxy::sse::consumer::{EventConsumer, EventField};
use crate::proxy::sse::tokenizer::Tokenizer;

/// The most that is held of a stream: what a model says of itself before its first word is a tenth of it, and a long
/// wait for an error is not worth the memory.
pub const HELD_BYTES_MAX: usize = 16 * 1024;

/// The longest that a stream is held: servers that report an error at once do so in one write with the head.
pub const HELD_LIMIT: Duration = Duration::from_millis(250);

/// Room for `response.in_progress`, the longest event name that matters, and one byte to tell a longer one.
const NAME_BYTES_MAX: usize = 21;

/// The verdict on a stream so far.
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
    tokenizer: Tokenizer,
    event: OpeningEvent,
    /// So much more of the stream is read.
    room_bytes: usize,
}

impl OpeningReader {
    pub const fn new() -> Self {
        OpeningReader { tokenizer: Tokenizer::new(), event: OpeningEvent::new(), room_bytes: HELD_BYTES_MAX }
    }

    /// The verdict by all that was observed.
    pub fn verdict(&self) -> Opening {
        self.event.verdict
    }

    /// Takes the stream's next bytes. A verdict stands, whatever follows.
    pub fn observe(&mut self, data: &[u8]) -> Opening {
        let mut rest = &data[..data.len().min(self.room_bytes)];
        self.room_bytes -= rest.len();
        while self.event.verdict == Opening::Undecided {
            match self.tokenizer.read_event(rest, &mut self.event) {
                Some(after) => rest = after,
                None if self.room_bytes == 0 => self.event.decide(Opening::Harmless),
                None => break,
            }
        }
        self.event.verdict
    }
}

/// The event that is being read, and the verdict on the last whole one.
pub struct OpeningEvent {
    verdict: Opening,
    /// The last whole one began as an object and is none: it could not be read.
    is_broken: bool,
    name: Prefix<NAME_BYTES_MAX>,
    data: Option<Buffer>,
}

impl OpeningEvent {
    pub const fn new() -> Self {
        OpeningEvent { verdict: Opening::Undecided, is_broken: false, name: Prefix::new(), data: None }
    }

    /// Returns whether the last whole event was an error, or may have been one that cannot be read.
    pub fn may_be_error(&self) -> bool {
        self.is_broken || matches!(self.verdict, Opening::Error { .. })
    }

    /// Sets the verdict; nothing of the event is kept.
    fn decide(&mut self, verdict: Opening) {
        self.verdict = verdict;
        self.name.clear();
        self.data = None;
    }
}

impl EventConsumer for OpeningEvent {
    fn begin_value(&mut self, field: EventField) {
        match (field, &mut self.data) {
            (EventField::Event, _) => self.name.clear(),
            (EventField::Data, Some(lines)) => lines.append(b"\n"),
            (EventField::Data, None) => self.data = Some(Buffer::none()),
        }
    }

    fn append_value(&mut self, field: EventField, part: &[u8]) {
        match (field, &mut self.data) {
            (EventField::Event, _) => self.name.append(part),
            (EventField::Data, Some(data)) => data.append(part),
            (EventField::Data, None) => {}
        }
    }

    fn end_value(&mut self, field: EventField, rest: &[u8]) {
        self.append_value(field, rest);
    }

    fn end_event(&mut self) {
        let data = self.data.take();
        let payload = data.as_ref().map(|data| Payload::read(data.filled()));
        self.is_broken = payload.as_ref().is_some_and(Option::is_none);
        let verdict = data.as_ref().zip(payload).map_or(Opening::Undecided, |(data, payload)| {
            judge(self.name.kept(), &payload.unwrap_or_default(), data.filled())
        });
        self.decide(verdict);
    }
}

fn judge(name: &[u8], payload: &Payload<'_>, data: &[u8]) -> Opening {
    let by_type = payload.kind.as_ref().map_or(EventKind::Other, |kind| EventKind::of(kind.0.as_bytes()));
    let kinds = [EventKind::of(name), by_type];
    if payload.error.is_some() || kinds.contains(&EventKind::Error) {
        Opening::Error { is_rate_limit: says_rate_limit(data) }
    } else if kinds.contains(&EventKind::Beginning) {
        Opening::Undecided
    } else {
        Opening::Harmless
    }
}

/// The kind of an event, by its name or its `type`.
#[derive(Clone, Copy, PartialEq)]
enum EventKind {
    /// It comes before anything is said, and before most errors.
    Beginning,
    Error,
    Other,
}

impl EventKind {
    fn of(name: &[u8]) -> Self {
        match name {
            b"ping" | b"message_start" | b"response.created" | b"response.in_progress" => EventKind::Beginning,
            b"error" | b"response.failed" => EventKind::Error,
            _ => EventKind::Other,
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
    /// the members in their order. `None` of what begins as an object and is none.
    fn read(data: &'a [u8]) -> Option<Self> {
        if !data.trim_ascii_start().starts_with(b"{") {
            return Some(Payload::default());
        }
        serde_json::from_slice(data).ok()
    }
}

/// Returns whether an error is about a rate limit, in the words of OpenAI (`rate_limit_exceeded`), Anthropic
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
