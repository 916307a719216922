//! The object of one event: its usage, by the path to it, the lengths of its texts, and the model's name.
//!
//! Only the usage of the object, of its `message` (Anthropic's `message_start`) and of its `response` (OpenAI's
//! Responses, and Gemini's in Code Assist) counts, never one that is deeper, in what a model calls or says. Invariant:
//! what is noted does not depend on how the text was split.

use crate::json::text::{Bracket, JsonObserver, JsonScalar};
use crate::usage::answer::fields::{UsageFields, UsageMember};
use crate::usage::answer::text_key::{RESPONSES_TYPE, TextBytes, TextKey};
use crate::usage::answer::told::ModelName;

/// The last events of an answer, after [`RESPONSES_TYPE`]: of Responses, and of Realtime (`done`).
const LAST_OF_RESPONSES: [&[u8]; 4] = [b"completed", b"incomplete", b"failed", b"done"];

/// Messages whose `delta` is audio, after [`RESPONSES_TYPE`].
const AUDIO_OF_RESPONSES: [&[u8]; 2] = [b"audio.delta", b"output_audio.delta"];

/// The depth of the members of the outermost object.
const TOP: usize = 1;

/// Observes the objects of events one after the other.
pub struct EventUsage {
    /// Of the present event; it counts when that is whole.
    pub fields: UsageFields,
    /// Of all events so far.
    pub texts: TextBytes,
    pub name: ModelName,
    /// A name may still be taken.
    pub wants_name: bool,
    /// The member whose value is to come.
    member: EventMember,
    /// The member of the usage whose object is open.
    details: UsageMember,
    /// The depth of the members of the usage that is open; 0: none is.
    usage_depth: u8,
    /// The object of `message` or `response` is open.
    is_wrapped: bool,
    has_members: bool,
    /// It is an event of Responses.
    is_responses: bool,
    /// It is the last one of an answer.
    is_last: bool,
    /// It is a message whose `delta` is audio, which is no text.
    is_audio: bool,
    /// Its type may stand after other members.
    is_message: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EventMember {
    Text(TextKey),
    Type,
    Model,
    Usage,
    /// An object with a usage of its own.
    Wrapper,
    /// Of a usage.
    Within(UsageMember),
    Other,
}

impl EventUsage {
    pub const fn new() -> Self {
        EventUsage {
            fields: UsageFields::NONE,
            texts: TextBytes::new(),
            name: ModelName::new(),
            wants_name: true,
            member: EventMember::Other,
            details: UsageMember::Other,
            usage_depth: 0,
            is_wrapped: false,
            has_members: false,
            is_responses: false,
            is_last: false,
            is_audio: false,
            is_message: false,
        }
    }

    /// For events that are messages of their own, whose first member may be another than their type.
    pub const fn of_message() -> Self {
        let mut event = EventUsage::new();
        event.is_message = true;
        event
    }

    /// Tells whether it is an event of Responses, or of Realtime about an answer.
    pub fn is_of_responses(&self) -> bool {
        self.is_responses
    }

    /// Tells whether it is the last event of an answer of Responses or of Realtime.
    pub fn is_last_of_responses(&self) -> bool {
        self.is_last
    }

    /// Tells whether it is a message whose `delta` is audio.
    pub fn is_audio(&self) -> bool {
        self.is_audio
    }

    /// Begins the next event.
    pub fn begin(&mut self) {
        self.texts.end_event();
        self.fields = UsageFields::NONE;
        self.member = EventMember::Other;
        self.details = UsageMember::Other;
        self.usage_depth = 0;
        self.is_wrapped = false;
        self.has_members = false;
        self.is_responses = false;
        self.is_last = false;
        self.is_audio = false;
    }

    fn outer_member(&self, depth: usize, name: &[u8]) -> EventMember {
        let is_outer = depth == TOP || depth == TOP + 1 && self.is_wrapped;
        match name {
            b"usage" | b"usageMetadata" if is_outer => EventMember::Usage,
            b"message" | b"response" if depth == TOP => EventMember::Wrapper,
            b"model" | b"modelVersion" if is_outer && self.wants_name && !self.name.is_known() => EventMember::Model,
            b"type" if depth == TOP && (self.is_message || !self.has_members) => EventMember::Type,
            _ => TextKey::named(name, self.is_responses).map_or(EventMember::Other, EventMember::Text),
        }
    }
}

impl JsonObserver for EventUsage {
    fn wants(&self, _depth: usize) -> bool {
        true
    }

    fn key(&mut self, depth: usize, name: &[u8]) {
        let usage_depth = usize::from(self.usage_depth);
        self.member = if usage_depth == 0 {
            self.outer_member(depth, name)
        } else if depth == usage_depth {
            EventMember::Within(UsageMember::of(name))
        } else if depth == usage_depth + 1 {
            EventMember::Within(self.details.within(name))
        } else {
            EventMember::Other
        };
        if self.member == EventMember::Model {
            self.name.begin();
        }
        self.has_members = true;
    }

    fn text(&mut self, _depth: usize, part: &[u8]) {
        match self.member {
            EventMember::Text(_) if self.is_audio => {}
            EventMember::Text(key) => self.texts.add(key, part.len()),
            EventMember::Model => self.name.append(part),
            _ => {}
        }
    }

    fn value(&mut self, _depth: usize, value: JsonScalar<'_>) {
        match (self.member, value) {
            (EventMember::Within(member), value) => self.fields.set(member, value),
            (EventMember::Type, JsonScalar::String(name)) => {
                let of_responses = name.strip_prefix(RESPONSES_TYPE);
                self.is_responses = of_responses.is_some();
                self.is_last = of_responses.is_some_and(|name| LAST_OF_RESPONSES.contains(&name));
                self.is_audio = self.is_message && of_responses.is_some_and(|name| AUDIO_OF_RESPONSES.contains(&name));
            }
            (EventMember::Model, JsonScalar::String(_)) => self.name.end(),
            _ => {}
        }
        self.member = EventMember::Other;
    }

    fn open(&mut self, depth: usize, bracket: Bracket) {
        match (self.member, bracket) {
            // It is at most one below `TOP + 1`.
            (EventMember::Usage, Bracket::Object) => self.usage_depth = depth as u8,
            (EventMember::Wrapper, Bracket::Object) => self.is_wrapped = true,
            (EventMember::Within(member), Bracket::Object) if depth == usize::from(self.usage_depth) + 1 => {
                self.details = member;
                self.fields.open(member);
            }
            _ => {}
        }
        self.member = EventMember::Other;
    }

    fn close(&mut self, depth: usize) {
        let usage_depth = usize::from(self.usage_depth);
        if usage_depth != 0 && depth == usage_depth {
            self.usage_depth = 0;
        } else if usage_depth != 0 && depth == usage_depth + 1 {
            self.details = UsageMember::Other;
        }
        self.is_wrapped &= depth != TOP + 1;
        self.member = EventMember::Other;
    }
}
