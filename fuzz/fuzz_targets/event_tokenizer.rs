//! An event stream, in whatever reads it comes: its events, its dialect and the end of its turn are those of the
//! reference, and wherever it breaks, what is added to it makes it whole.

#![no_main]

use flow_uring::fuzz::sse::{
    EventConsumer, EventDialect, EventField, EventTracker, OpeningReader, Tokenizer, error_event,
};
use flow_uring_fuzz::events::{Event, Reading};
use flow_uring_fuzz::input::{expanded, ways_to_split};
use flow_uring_fuzz::json::Json;
use flow_uring_fuzz::turn::{Dialect, Turn};
use libfuzzer_sys::fuzz_target;

const MESSAGE: &str = "The upstream \"went\" away.";

const BY_PATH: [Option<EventDialect>; 5] = [
    None,
    Some(EventDialect::Anthropic),
    Some(EventDialect::Responses),
    Some(EventDialect::Chat),
    Some(EventDialect::Gemini),
];

fuzz_target!(|data: &[u8]| {
    let stream = expanded(data);
    let reading = Reading::of(&stream);
    let tracker = observed(&[&stream]);
    assert_eq!(read(&[&stream]), reading.events);
    let (place, state, opening) = (place(&tracker), state(&tracker, &reading), opened(&[&stream]));
    for parts in ways_to_split(&stream) {
        assert_eq!(read(&parts), reading.events, "however it is split");
        assert_eq!(opened(&parts), opening, "however it is split");
        let tracker = observed(&parts);
        assert_eq!(self::place(&tracker), place, "however it is split");
        if reading.is_plain() {
            assert_eq!(self::state(&tracker, &reading), state, "however it is split");
        }
    }
    assert_eq!(tracker.is_between_events(), reading.is_between_events && !stream.ends_with(b"\r"));
    if reading.is_between_events {
        check_turn(&tracker, &reading);
    }
    for by_path in by_paths(&tracker) {
        check_ending(&stream, &tracker, &reading, *by_path);
    }
});

/// Collects whole events.
#[derive(Default)]
struct Collector {
    name: Vec<u8>,
    data: Option<Vec<u8>>,
    events: Vec<Event>,
}

impl EventConsumer for Collector {
    fn begin_value(&mut self, field: EventField) {
        match (field, &mut self.data) {
            (EventField::Event, _) => self.name.clear(),
            (EventField::Data, Some(lines)) => lines.push(b'\n'),
            (EventField::Data, None) => self.data = Some(Vec::new()),
        }
    }

    fn append_value(&mut self, field: EventField, part: &[u8]) {
        assert!(!part.is_empty(), "nothing is appended");
        self.end_value(field, part);
    }

    fn end_value(&mut self, field: EventField, rest: &[u8]) {
        match field {
            EventField::Event => &mut self.name,
            EventField::Data => self.data.as_mut().expect("a value that has begun"),
        }
        .extend_from_slice(rest);
    }

    fn end_event(&mut self) {
        let name = std::mem::take(&mut self.name);
        if let Some(data) = self.data.take() {
            self.events.push(Event { name, data });
        }
    }
}

fn read(parts: &[&[u8]]) -> Vec<Event> {
    let (mut tokenizer, mut collector) = (Tokenizer::new(), Collector::default());
    parts.iter().for_each(|part| tokenizer.read(part, &mut collector));
    collector.events
}

fn observed(parts: &[&[u8]]) -> EventTracker {
    let mut tracker = EventTracker::new();
    parts.iter().for_each(|part| tracker.observe(part));
    tracker
}

fn opened(parts: &[&[u8]]) -> impl PartialEq + std::fmt::Debug + use<> {
    let mut opening = OpeningReader::new();
    for part in parts {
        opening.observe(part);
    }
    opening.verdict()
}

/// The dialects of paths that can matter: where an event tells the dialect, none of them does.
fn by_paths(tracker: &EventTracker) -> &'static [Option<EventDialect>] {
    let by_events = tracker.events.dialect(None);
    if by_events.is_none() {
        return &BY_PATH;
    }
    assert!(BY_PATH.iter().all(|by_path| tracker.events.dialect(*by_path) == by_events));
    &BY_PATH[..1]
}

fn place(tracker: &EventTracker) -> [bool; 3] {
    [tracker.is_at_line_start(), tracker.is_after_cr(), tracker.is_between_events()]
}

/// All that is known of a stream, and what would end it here.
fn state(tracker: &EventTracker, reading: &Reading) -> impl PartialEq + std::fmt::Debug + use<> {
    // The number is that of Responses, whose events can all be parsed.
    let is_numbered = reading.is_json() && tracker.events.dialect(None) == Some(EventDialect::Responses);
    let number = is_numbered.then(|| tracker.events.next_sequence_number());
    let by_path = by_paths(tracker).iter().map(|&by_path| {
        let ending = ended(b"", tracker, by_path)
            .filter(|_| is_numbered || tracker.events.dialect(by_path) != Some(EventDialect::Responses));
        (tracker.events.dialect(by_path), tracker.may_end(by_path), ending)
    });
    (tracker.turn_is_complete(), number, by_path.collect::<Vec<_>>())
}

fn ended(stream: &[u8], tracker: &EventTracker, by_path: Option<EventDialect>) -> Option<Vec<u8>> {
    let mut out = stream.to_vec();
    let is_ended = error_event(&mut out, tracker, by_path, MESSAGE).is_some();
    assert!(is_ended || out == stream, "nothing is appended to what is cut");
    is_ended.then_some(out)
}

/// Compares what is known of whole events with what the reference knows, where that is of one mind.
fn check_turn(tracker: &EventTracker, reading: &Reading) {
    let Some(turn) = Turn::of(&reading.events) else { return };
    for by_path in BY_PATH {
        let expected = match turn.dialect {
            Dialect::None if reading.events.is_empty() => by_path,
            Dialect::None => None,
            Dialect::Anthropic => Some(EventDialect::Anthropic),
            Dialect::Responses => Some(EventDialect::Responses),
            Dialect::Chat => Some(EventDialect::Chat),
            Dialect::Gemini => Some(EventDialect::Gemini),
        };
        assert_eq!(tracker.events.dialect(by_path), expected);
    }
    assert_eq!(tracker.turn_is_complete(), turn.is_complete);
    if turn.dialect == Dialect::Responses {
        assert_eq!(tracker.events.next_sequence_number(), turn.next_number);
    }
}

/// After the ending a client reads all whole events, at most one that was half written, and one error, in the dialect of
/// the stream. What was the beginning of an object is one now, and says that it is an error.
fn check_ending(stream: &[u8], tracker: &EventTracker, reading: &Reading, by_path: Option<EventDialect>) {
    let dialect = tracker.events.dialect(by_path);
    let is_complete = tracker.turn_is_complete();
    let Some(ended) = ended(stream, tracker, by_path) else {
        return assert!(dialect.is_none() && !is_complete, "it could have been ended");
    };
    let read = Reading::of(&ended);
    let whole = reading.events.len();
    assert_eq!(read.events[..whole], reading.events, "the whole events are as they were");
    let after = &read.events[whole..];
    if is_complete {
        let is_error = |event: &Event| event.json().is_some_and(|json| json.has("error"));
        let half_was_error = reading.half.as_ref().is_some_and(|half| half.windows(5).any(|bytes| bytes == b"error"));
        return assert!(half_was_error || !after.iter().any(is_error), "an error after a complete turn");
    }
    let dialect = dialect.expect("a stream without one is cut");
    assert!(read.is_between_events && read.half.is_none(), "all that was half written is ended");
    let (error, half) = after.split_last().expect("an error event");
    assert!(is_error(error, dialect), "{}", ended.escape_ascii());
    assert!(half.len() <= 1, "{}", ended.escape_ascii());
    let closes = reading.half.as_deref().is_some_and(begins_object);
    if closes {
        let half = half.first().unwrap_or(error);
        assert!(is_error(half, dialect), "{}", ended.escape_ascii());
    }
}

/// Tells whether this is the beginning of an object, and no more than that.
fn begins_object(half: &[u8]) -> bool {
    let has_begun = half.trim_ascii_start().starts_with(b"{");
    let is_text = std::str::from_utf8(half).err().is_none_or(|error| error.error_len().is_none());
    let is_open = serde_json::from_slice::<serde_json::Value>(half).is_err_and(|error| error.is_eof());
    // Of an escape that breaks off serde looks at none of the digits.
    let escape_at = half.windows(2).rposition(|bytes| bytes == b"\\u");
    let escape = escape_at.map(|at| &half[at + 2..]);
    let has_digits = escape.is_none_or(|digits| digits.iter().take(4).all(u8::is_ascii_hexdigit));
    // No digits make the second half of a pair one where the first is missing.
    let is_alone = escape_at.is_some_and(|at| is_second_half(&half[at..]) && !ends_with_first_half(&half[..at]));
    // A line like a whole object is not read, and no server goes on after one.
    let first_line = half.split(|byte| *byte == b'\n').next().unwrap_or_default();
    has_begun
        && is_text
        && is_open
        && has_digits
        && !is_alone
        && !(first_line.starts_with(b"{") && first_line.ends_with(b"}"))
}

/// Tells whether an escape that breaks off is that of a low surrogate.
fn is_second_half(escape: &[u8]) -> bool {
    matches!(escape, [b'\\', b'u', b'd' | b'D', b'c'..=b'f' | b'C'..=b'F', more @ ..] if more.len() < 2)
}

/// Tells whether the escape of a high surrogate is the last that there is.
fn ends_with_first_half(text: &[u8]) -> bool {
    matches!(text, [.., b'\\', b'u', b'd' | b'D', b'8'..=b'9' | b'a'..=b'b' | b'A'..=b'B', _, _])
}

/// Tells whether clients of that dialect take the event for an error.
fn is_error(event: &Event, dialect: EventDialect) -> bool {
    let Some(json) = event.json() else { return false };
    let text = |json: &Json, name: &str| json.get(name).and_then(|value| value.text().map(str::to_owned));
    let Some(error) = json.get("error") else { return false };
    let is = |json: &Json, name: &str, expected: &str| text(json, name).as_deref() == Some(expected);
    let is_named = event.name == b"error" && is(&json, "type", "error");
    let is_ours = match dialect {
        EventDialect::Anthropic => is_named && is(error, "type", "api_error"),
        EventDialect::Responses => {
            is_named
                && is(&json, "code", "upstream_disconnected")
                && is(&json, "message", MESSAGE)
                && json.get("param") == Some(&Json::Null)
                && json.get("sequence_number").is_some_and(|number| number.whole_number().is_some())
        }
        EventDialect::Chat => is(error, "type", "upstream_error") && is(error, "code", "upstream_disconnected"),
        EventDialect::Gemini => {
            is(error, "status", "UNAVAILABLE") && error.get("code").and_then(Json::whole_number) == Some(502)
        }
    };
    is_ours && is(error, "message", MESSAGE)
}
