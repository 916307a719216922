//! The place in an event stream at which the upstream stands, for what is written into the stream here.
//!
//! Invariant: memory is bounded. Not here: what is read, written or timed out.

use std::time::Instant;

use crate::io::clock;
use crate::proxy::sse::dialect::EventDialect;
use crate::proxy::sse::events::StreamEvents;
use crate::proxy::sse::tokenizer::{LineEnd, Tokenizer};
use crate::usage::answer::stream::StreamUsage;
use crate::usage::answer::told::AnswerUsage;

/// The text in the events of a stream, as far as it has come.
#[derive(Debug, Clone, Copy)]
pub struct StreamedText {
    pub bytes: u64,
    /// The time at which it began.
    pub since: Option<Instant>,
}

/// Follows the decoded bytes of an event stream as the upstream sends them, however they are split. What is written
/// into the stream here is never observed: it stands where the upstream's bytes go on as if it were not there.
// In this order, so that what each event needs is together.
#[repr(C)]
pub struct EventTracker {
    tokenizer: Tokenizer,
    pub events: StreamEvents,
    /// `None`: nobody counts it.
    usage: Option<StreamUsage>,
    first_text: Option<Instant>,
}

impl EventTracker {
    pub const fn new() -> Self {
        EventTracker { tokenizer: Tokenizer::new(), events: StreamEvents::new(), usage: None, first_text: None }
    }

    /// Reads the usage too, with the name of the model, where that is wanted. To be called before the first byte is
    /// observed.
    pub fn count_usage(&mut self, wants_name: bool) {
        self.usage = Some(if wants_name { StreamUsage::new() } else { StreamUsage::without_name() });
    }

    /// Takes the stream's next bytes.
    pub fn observe(&mut self, data: &[u8]) {
        let EventTracker { tokenizer, events, usage, first_text } = self;
        let Some(usage) = usage else { return tokenizer.read(data, events) };
        tokenizer.read(data, &mut (&mut *events, &mut *usage));
        if first_text.is_none() && usage.text_bytes() > 0 {
            *first_text = Some(clock::now());
        }
    }

    /// The usage that the events have told; `None` where nobody counts it.
    pub fn usage(&self) -> Option<AnswerUsage> {
        self.usage.as_ref().map(StreamUsage::usage)
    }

    /// The bytes of text that have come, and the time of the first; `None` where nobody counts them.
    pub fn text(&self) -> Option<StreamedText> {
        let bytes = self.usage.as_ref()?.text_bytes();
        Some(StreamedText { bytes, since: self.first_text })
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
