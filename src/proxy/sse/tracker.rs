//! The place in an event stream at which the upstream stands, for what is written into the stream here.
//!
//! Invariant: memory is bounded, and what is kept is looked at only when the stream is silent or has ended.
//! Not here: what is read, written or timed out.

use crate::proxy::sse::consumer::{EventConsumer, EventField};
use crate::proxy::sse::tokenizer::{LineEnd, Tokenizer};
use crate::proxy::sse::turn_end::{EventPrefix, RecentEvents};

/// The longest unfinished line of data that is kept; a longer one of a broken stream stays unfinished.
pub const UNFINISHED_BYTES_MAX: usize = 64 * 1024;

/// Follows the decoded bytes of an event stream as the upstream sends them, however they are split. What is written
/// into the stream here is never observed: it stands where the upstream's bytes go on as if it were not there.
pub struct EventTracker {
    tokenizer: Tokenizer,
    events: RecentEvents,
    unfinished: UnfinishedLine,
}

impl EventTracker {
    pub const fn new() -> Self {
        EventTracker {
            tokenizer: Tokenizer::new(),
            events: RecentEvents::new(),
            unfinished: UnfinishedLine { value: Vec::new() },
        }
    }

    /// Takes the stream's next bytes.
    pub fn observe(&mut self, data: &[u8]) {
        self.tokenizer.read(data, &mut (&mut self.events, &mut self.unfinished));
    }

    /// Returns whether the last whole event says that the turn is over.
    pub fn turn_is_complete(&self) -> bool {
        self.events.turn_is_complete()
    }

    /// The data of an event that broke off in its data. Data of several lines, which no known server writes, is not
    /// put together.
    pub fn unfinished_data(&self) -> Option<&[u8]> {
        match self.tokenizer.open_field() {
            Some(EventField::Data) if self.unfinished.value.len() <= UNFINISHED_BYTES_MAX => {
                Some(&self.unfinished.value)
            }
            _ => None,
        }
    }

    /// The event whose blank line has not come.
    pub fn half_written(&self) -> &EventPrefix {
        self.events.half_written()
    }

    /// Returns whether the last line has its end, which may be half a CRLF.
    pub fn is_at_line_start(&self) -> bool {
        self.tokenizer.is_at_line_start()
    }

    /// Returns whether the last byte was a CR, which may be half a CRLF.
    pub fn is_after_cr(&self) -> bool {
        self.tokenizer.is_after_cr()
    }

    /// Returns whether a line of this gateway may stand here: at a line's start, with no event begun, and not after a CR
    /// whose LF may still come.
    pub fn is_between_events(&self) -> bool {
        self.tokenizer.is_between_events() && !self.tokenizer.is_after_cr()
    }

    pub fn line_end(&self) -> LineEnd {
        self.tokenizer.line_end()
    }
}

/// The value of the line that has no end yet. Most events come whole, so there is seldom anything to keep.
struct UnfinishedLine {
    value: Vec<u8>,
}

impl EventConsumer for UnfinishedLine {
    fn begin_value(&mut self, _: EventField) {}

    fn append_value(&mut self, _: EventField, part: &[u8]) {
        // One byte more than is allowed tells a line that is too long.
        let room = (UNFINISHED_BYTES_MAX + 1).saturating_sub(self.value.len());
        self.value.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn end_value(&mut self, _: EventField, _: &[u8]) {
        self.value.clear();
    }

    fn end_event(&mut self) {}
}
