//! The events of a stream in which nothing is masked.

use std::ops::Range;

use crate::proxy::sse::opening::OpeningEvent;
use crate::proxy::sse::tracker::EventTracker;

/// Returns the ranges of `data`, the next bytes of a stream, that are whole events and certainly no errors.
///
/// An event of which a part went out before, or is still to come, is none of them: of its members the one that makes it
/// an error may be the last. A run in it is no chance, and so it is masked.
pub fn harmless_events(before: &EventTracker, data: &[u8]) -> Vec<Range<usize>> {
    let mut tokenizer = before.tokenizer().clone();
    let mut harmless = Vec::new();
    let mut is_whole = !before.is_within_event();
    let mut start = 0;
    loop {
        let mut event = OpeningEvent::new();
        let Some(rest) = tokenizer.read_event(&data[start..], &mut event) else { return harmless };
        let end = data.len() - rest.len();
        if is_whole && !event.may_be_error() {
            harmless.push(start..end);
        }
        (is_whole, start) = (true, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the parts of `data` in which nothing is masked, after a stream has begun with `before`.
    fn harmless<'a>(before: &str, data: &'a str) -> Vec<&'a str> {
        let mut tracker = EventTracker::new();
        tracker.observe(before.as_bytes());
        harmless_events(&tracker, data.as_bytes()).into_iter().map(|range| &data[range]).collect()
    }

    #[test]
    fn whole_events_that_are_no_errors_are_harmless() {
        let chat = "data: {\"choices\":[{\"delta\":{\"content\":\"error\"}}],\"error\":null}\n\n";
        for error in [
            "event: error\ndata: {}\n\n",
            "event: response.failed\ndata: {}\n\n",
            "data: {\"type\":\"error\"}\n\n",
            "data: {\"type\":\"response.failed\",\"response\":{}}\n\n",
            "data: {\"choices\":[],\"error\":{\"message\":\"m\"}}\r\n\r\n",
            "data: {\"error\":\ndata: 1}\n\n",
            "data: {\"not JSON\n\n",
            ": a comment\ndata: {\"jsonrpc\":\"2.0\",\"error\":{}}\n\n",
        ] {
            let data = [chat, error, "data: [DONE]\n\n", ": bye\n\n"].concat();
            assert_eq!(harmless("", &data), [chat, "data: [DONE]\n\n", ": bye\n\n"], "{error}");
            assert_eq!(harmless("data: 1\n\n", &data).len(), 3, "{error}");
        }
    }

    #[test]
    fn an_event_that_is_not_here_as_a_whole_may_be_an_error() {
        let whole = "data: {\"a\":1}\n\n";
        for before in ["data: {", "event: x\n", ": hi", "data: 1\n"] {
            assert_eq!(harmless(before, &["\"b\":1}\n\n", whole, "data: {\"c\":"].concat()), [whole], "{before}");
        }
        assert!(harmless("", "data: {\"c\":1}\n").is_empty());
    }
}
