//! The place in an event stream at which the upstream stands, for what is written into the stream here.
//!
//! Invariant: memory is bounded. Not here: what is read, written or timed out.

use crate::proxy::sse::dialect::EventDialect;
use crate::proxy::sse::events::StreamEvents;
use crate::proxy::sse::tokenizer::{LineEnd, Tokenizer};

/// Follows the decoded bytes of an event stream as the upstream sends them, however they are split. What is written
/// into the stream here is never observed: it stands where the upstream's bytes go on as if it were not there.
// In this order, so that what each event needs is together.
#[repr(C)]
pub struct EventTracker {
    tokenizer: Tokenizer,
    pub events: StreamEvents,
}

impl EventTracker {
    pub const fn new() -> Self {
        EventTracker { tokenizer: Tokenizer::new(), events: StreamEvents::new() }
    }

    /// Takes the stream's next bytes.
    pub fn observe(&mut self, data: &[u8]) {
        self.tokenizer.read(data, &mut self.events);
    }

    /// Returns whether the turn is over: see [`StreamEvents::turn_is_complete`].
    pub fn turn_is_complete(&self) -> bool {
        self.events.turn_is_complete()
    }

    /// Returns whether the stream may end here where only the end of its connection tells its end: not within the data
    /// of an event, nor in a dialect whose last event always comes before that.
    pub fn may_end(&self, by_path: Option<EventDialect>) -> bool {
        let always_has_last =
            matches!(self.events.dialect(by_path), Some(EventDialect::Anthropic | EventDialect::Responses));
        let has_open_data = self.events.has_open_data() || self.rest_of_data_field().is_some();
        !has_open_data && (self.turn_is_complete() || !always_has_last)
    }

    /// The bytes after which a value of the event's data goes on: see [`Tokenizer::rest_of_data_field`].
    pub fn rest_of_data_field(&self) -> Option<&'static [u8]> {
        self.tokenizer.rest_of_data_field()
    }

    /// Returns whether the last line has its end, which may be half a CRLF.
    pub fn is_at_line_start(&self) -> bool {
        self.tokenizer.is_at_line_start()
    }

    /// Returns whether the last byte was a CR, which may be half a CRLF.
    pub fn is_after_cr(&self) -> bool {
        self.tokenizer.is_after_cr()
    }

    /// Returns whether a line or an event has begun that is not over.
    pub fn is_within_event(&self) -> bool {
        !self.tokenizer.is_between_events()
    }

    /// Returns what reads the stream, as it stands.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Returns whether a line of this gateway may stand here: at a line's start, with no event begun, and not after a
    /// CR whose LF may still come.
    pub fn is_between_events(&self) -> bool {
        self.tokenizer.is_between_events() && !self.tokenizer.is_after_cr()
    }

    pub fn line_end(&self) -> LineEnd {
        self.tokenizer.line_end()
    }
}
