//! The token of an attempt, kept out of its answer: whatever an upstream sends back of it becomes as many `*`.
//!
//! Searched are heads and trailers (`lines`), the bodies of errors, and the error events of streams (`events`); all of
//! them as they go by (`masked_text`). What a content coding hides cannot be masked, so an error that has one is
//! decoded first (`coded`, `decoded`). Invariant: lengths and framing stay; no byte is held but of a suffix that may be
//! the beginning of a run, and the framing after it. Not here: what a run is (`credentials::TokenTraces`).

pub mod coded;
mod decoded;
mod events;
pub mod lines;
mod masked_text;

use std::rc::Rc;

use crate::credentials::{TextEnd, TokenTraces};
use crate::io::Buffer;
use crate::proxy::response::coding::ContentCoding;
use crate::proxy::response::head::ResponseFacts;
use crate::proxy::response::mask::coded::CodedError;
use crate::proxy::response::mask::events::harmless_events;
use crate::proxy::response::mask::lines::mask_framing;
use crate::proxy::response::mask::masked_text::{MaskedText, Share};
use crate::proxy::sse::tracker::EventTracker;

/// Statuses from this one on are errors, whose bodies are searched.
const FIRST_ERROR_STATUS: u16 = 400;

/// Masks the body of one answer.
pub struct BodyMask {
    traces: Rc<TokenTraces>,
    /// `None` where nothing of the content is searched, and for events while there is nothing to remember.
    state: Option<Box<MaskState>>,
}

/// The result of a look at bytes of the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaskLook {
    /// They go downstream as they are.
    Pass,
    /// Nothing was done: they are to be pushed.
    Push,
    /// The events have seen them; the rest is for [`BodyMask::push_observed`].
    PushObserved,
}

/// The content that is searched; framing is in any case.
enum MaskState {
    /// The error events of a stream, of which a read has ended within an event, or had a run in it.
    ErrorEvents(MaskedText),
    /// All of an error, as it comes.
    Everything(MaskedText),
    /// All of an error whose content coding hides it: it is judged as a whole.
    Coded(CodedError),
}

impl BodyMask {
    pub fn new(facts: &ResponseFacts, traces: Rc<TokenTraces>) -> Self {
        let state = match facts.coding {
            _ if facts.status < FIRST_ERROR_STATUS || facts.body.is_empty() => None,
            // An unknown name may stand for no coding at all.
            ContentCoding::Identity | ContentCoding::Other => Some(MaskState::Everything(MaskedText::default())),
            coding => Some(MaskState::Coded(CodedError::new(coding))),
        };
        BodyMask { traces, state: state.map(Box::new) }
    }

    /// Looks at the next bytes of the content of an answer that is no error, and shows them to `events`, if it is a stream
    /// that is followed, unless they have to be pushed.
    #[inline]
    pub fn look(&mut self, data: &[u8], events: Option<&mut EventTracker>) -> MaskLook {
        if self.state.is_some() {
            return MaskLook::Push;
        }
        let Some(events) = events else { return MaskLook::Pass };
        if self.traces.may_be_in(data) {
            return MaskLook::Push;
        }
        events.observe(data);
        let may_go_on = events.is_within_event() && self.traces.open_suffix(data) < data.len();
        if may_go_on { MaskLook::PushObserved } else { MaskLook::Pass }
    }

    /// Appends bytes to `out` that `events` was shown already. Returns whether a run was masked.
    pub fn push_observed(&mut self, data: &[u8], events: &EventTracker, out: &mut Buffer) -> bool {
        self.push_events(data, share_of_events(events), out)
    }

    /// Appends the next bytes of the content to `out`, and shows them to `events`, if it is a stream that is followed.
    /// Returns whether a run was masked.
    #[inline]
    pub fn push(&mut self, data: &[u8], events: Option<&mut EventTracker>, out: &mut Buffer) -> bool {
        let has_open_suffix = match self.state.as_deref_mut() {
            None => false,
            Some(MaskState::ErrorEvents(text)) => text.has_open_suffix(),
            Some(error) => return push_error(&self.traces, error, data, events, out),
        };
        let Some(events) = events else {
            out.append(data);
            return false;
        };
        if has_open_suffix || self.traces.may_be_in(data) {
            let harmless = harmless_events(events, data);
            events.observe(data);
            return self.push_events(data, Share { harmless: &harmless, ..share_of_events(events) }, out);
        }
        events.observe(data);
        if events.is_within_event() && self.traces.open_suffix(data) < data.len() {
            return self.push_observed(data, events, out);
        }
        out.append(data);
        false
    }

    /// Passes on bytes of a stream that have a run in them, or may end with the beginning of one.
    #[cold]
    #[inline(never)]
    fn push_events(&mut self, data: &[u8], share: Share<'_>, out: &mut Buffer) -> bool {
        self.state.get_or_insert_with(|| Box::new(MaskState::ErrorEvents(MaskedText::default())));
        let Some(text) = text_mut(&mut self.state) else { return false };
        text.push(&self.traces, data, share, out)
    }

    /// Appends a piece of framing to `out`, after the content before it. Returns whether a run was masked.
    #[inline]
    pub fn push_framing(&mut self, framing: &[u8], out: &mut Buffer) -> bool {
        let BodyMask { traces, state } = self;
        if let Some(text) = text_mut(state).filter(|text| text.holds_any()) {
            let mut framing = framing.to_vec();
            let has_masked = mask_framing(traces, &mut framing);
            text.push_framing(&framing);
            return has_masked;
        }
        let start = out.len();
        out.append(framing);
        framing.len() >= traces.run_bytes_min() && mask_framing(traces, &mut out.filled_mut()[start..])
    }

    /// Returns whether any of what came has not gone out.
    pub fn holds_any(&self) -> bool {
        match self.state.as_deref() {
            Some(MaskState::ErrorEvents(text) | MaskState::Everything(text)) => text.holds_any(),
            Some(MaskState::Coded(_)) | None => false,
        }
    }

    /// Appends what is held: no more follows. Of an answer that `is_cut` the beginning of a run is masked too;
    /// returns whether it was.
    pub fn finish(&mut self, is_cut: bool, out: &mut Buffer) -> bool {
        let BodyMask { traces, state } = self;
        text_mut(state).is_some_and(|text| text.finish(traces, is_cut, out))
    }

    /// Returns the error that is judged before any of it goes downstream, where it is one.
    pub fn coded(&mut self) -> Option<(&mut CodedError, &TokenTraces)> {
        match self.state.as_deref_mut() {
            Some(MaskState::Coded(error)) => Some((error, &self.traces)),
            _ => None,
        }
    }
}

/// Returns the share of the bytes up to the present place of a stream. An event that has not shown that it is an error
/// is held only for what is hardly ordinary text: most reads that end within one end with a letter of some token.
fn share_of_events(events: &EventTracker) -> Share<'static> {
    let end = if events.events.half_is_error() { TextEnd::GoesOn } else { TextEnd::Undecided };
    Share { goes_on: events.is_within_event(), harmless: &[], end }
}

/// Passes on bytes of an error.
#[inline(never)]
fn push_error(
    traces: &TokenTraces,
    error: &mut MaskState,
    data: &[u8],
    events: Option<&mut EventTracker>,
    out: &mut Buffer,
) -> bool {
    if let Some(events) = events {
        events.observe(data);
    }
    match error {
        MaskState::Everything(text) | MaskState::ErrorEvents(text) => text.push(traces, data, Share::GOES_ON, out),
        MaskState::Coded(error) => {
            error.observe(data);
            out.append(data);
            false
        }
    }
}

fn text_mut(state: &mut Option<Box<MaskState>>) -> Option<&mut MaskedText> {
    match state.as_deref_mut() {
        Some(MaskState::ErrorEvents(text) | MaskState::Everything(text)) => Some(text),
        Some(MaskState::Coded(_)) | None => None,
    }
}

#[cfg(test)]
mod tests;
