//! The event that says that the turn is over, among the events of a stream.
//!
//! Invariant: of each event the first bytes are kept, which is where its type stands, and they are looked at only when
//! that is asked, so that an event costs one short copy.

use crate::proxy::sse::consumer::{EventConsumer, EventField};
use crate::proxy::sse::prefix::Prefix;
use crate::proxy::sse::unfinished_json::end_of_string;

/// Room for `response.incomplete`, the longest event name that matters, and one byte to tell a longer one.
const NAME_BYTES_MAX: usize = 20;

/// Room for a `type` that is the first or second member of an event's data, as all known servers write it.
const DATA_BYTES_MAX: usize = 192;

/// The event that is being written and the last whole one.
pub struct RecentEvents {
    /// `current` says which of them is being written.
    events: [EventPrefix; 2],
    current: usize,
}

impl RecentEvents {
    pub const fn new() -> Self {
        RecentEvents { events: [EventPrefix::new(), EventPrefix::new()], current: 0 }
    }

    /// Returns whether the last whole event says that the turn is over.
    pub fn turn_is_complete(&self) -> bool {
        self.events[1 - self.current].ends_turn()
    }

    /// The event whose blank line has not come.
    pub fn half_written(&self) -> &EventPrefix {
        &self.events[self.current]
    }
}

impl EventConsumer for RecentEvents {
    fn begin_value(&mut self, field: EventField) {
        let event = &mut self.events[self.current];
        match field {
            EventField::Event => event.name.clear(),
            EventField::Data if event.has_data => event.data.append(b"\n"),
            EventField::Data => event.has_data = true,
        }
    }

    fn append_value(&mut self, field: EventField, part: &[u8]) {
        let event = &mut self.events[self.current];
        match field {
            EventField::Event => event.name.append(part),
            EventField::Data => event.data.append(part),
        }
    }

    fn end_value(&mut self, field: EventField, rest: &[u8]) {
        self.append_value(field, rest);
    }

    fn end_event(&mut self) {
        if self.events[self.current].has_data {
            self.current = 1 - self.current;
        }
        self.events[self.current].clear();
    }
}

/// The first bytes of an event.
pub struct EventPrefix {
    name: Prefix<NAME_BYTES_MAX>,
    data: Prefix<DATA_BYTES_MAX>,
    has_data: bool,
}

impl EventPrefix {
    const fn new() -> Self {
        EventPrefix { name: Prefix::new(), data: Prefix::new(), has_data: false }
    }

    pub fn has_name(&self) -> bool {
        !self.name.kept().is_empty()
    }

    pub fn has_data(&self) -> bool {
        self.has_data
    }

    fn clear(&mut self) {
        self.name.clear();
        self.data.clear();
        self.has_data = false;
    }

    fn ends_turn(&self) -> bool {
        is_last_type(self.name.kept())
            || self.data.kept().trim_ascii() == b"[DONE]"
            || top_level_type(self.data.kept()).is_some_and(is_last_type)
    }
}

/// The types of the last event of a turn: Anthropic's, and those of OpenAI's Responses.
fn is_last_type(name: &[u8]) -> bool {
    matches!(name, b"message_stop" | b"response.completed" | b"response.failed" | b"response.incomplete")
}

/// The value of the member `type` of the JSON object that `json` begins with, where it is a string without escapes and
/// within what was kept. A `type` of an object inside it does not count.
fn top_level_type(json: &[u8]) -> Option<&[u8]> {
    let mut rest = json.trim_ascii_start().strip_prefix(b"{")?;
    let mut depth = 0_u32;
    let mut previous: Option<&[u8]> = None;
    let mut is_value_of_type = false;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'"' => {
                let end = end_of_string(rest)?;
                let text = &rest[..end - 1];
                if depth == 0 && is_value_of_type {
                    return Some(text);
                }
                previous = Some(text);
                rest = &rest[end..];
            }
            b':' => is_value_of_type = depth == 0 && previous == Some(b"type"),
            b',' => is_value_of_type = false,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests;
