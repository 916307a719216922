//! What is written into an event stream here: the event that ends a broken one well, the comment that shows a silent one
//! alive, and chunked framing that stays valid around them. For that, where in a `text/event-stream` the upstream stands.
//!
//! Invariant: memory is bounded; of each event the first bytes are kept, which is where a stream says that its turn is
//! over, and of the stream the line that has no end yet. They are looked at only when the stream has ended, so
//! following it costs a search for line ends.
//! Not here: what is read, written or timed out.

use std::io::Write;

use crate::http1::body::Owed;
use crate::proxy::error::{Dialect, append_json_string};
use crate::proxy::sse::unfinished_json;

/// The most that an open chunk is filled up with; where more is missing, the answer is cut.
const FILL_BYTES_MAX: u64 = 64 * 1024;

/// The longest unfinished line that is kept; a longer one of a broken stream stays unfinished.
const UNFINISHED_BYTES_MAX: usize = 64 * 1024;

/// Room for `response.incomplete`, the longest event name that matters, and one byte to tell a longer one.
const NAME_BYTES_MAX: usize = 20;

/// Where `type` is the first or second member of an event's data, as all known servers write it, it is within this.
const DATA_BYTES_MAX: usize = 192;

/// A byte order mark and the longest field name that matters.
const FIELD_BYTES_MAX: usize = BYTE_ORDER_MARK.len() + "event".len();

/// The WHATWG's event stream grammar allows one before the first line.
pub const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Follows the decoded bytes of an event stream as the upstream sends them, however they are split. What is written
/// into the stream here is never observed: it stands where the upstream's bytes go on as if it were not there.
pub struct EventTracker {
    line: Line,
    /// The last byte was a CR: an LF that follows belongs to the same line end.
    is_after_cr: bool,
    is_first_line: bool,
    /// A line of an event has come, which is not a comment, and the blank line that ends it has not.
    is_in_event: bool,
    line_end: LineEnd,
    /// The event that is being written and the last whole one; `current` says which is which.
    events: [EventPrefix; 2],
    current: usize,
    /// The line that has no end yet, from its first byte. Most events come whole, so there is seldom anything to keep.
    unfinished: Vec<u8>,
}

/// Where in a line the stream stands.
#[derive(Clone, Copy)]
enum Line {
    Start,
    /// In the field's name.
    Name {
        bytes: [u8; FIELD_BYTES_MAX],
        length: u8,
    },
    /// Behind the colon, where one space is not part of the value.
    Colon(Field),
    Value(Field),
    /// A field that says nothing of the turn's end.
    Other,
    Comment,
}

#[derive(Clone, Copy)]
enum Field {
    Event,
    Data,
}

#[derive(Clone, Copy)]
enum LineEnd {
    Lf,
    CrLf,
}

impl LineEnd {
    const fn bytes(self) -> &'static [u8] {
        match self {
            LineEnd::Lf => b"\n",
            LineEnd::CrLf => b"\r\n",
        }
    }
}

impl EventTracker {
    pub fn new() -> Self {
        EventTracker {
            line: Line::Start,
            is_after_cr: false,
            is_first_line: true,
            is_in_event: false,
            line_end: LineEnd::Lf,
            events: [EventPrefix::new(), EventPrefix::new()],
            current: 0,
            unfinished: Vec::new(),
        }
    }

    /// Takes the stream's next bytes.
    pub fn observe(&mut self, mut data: &[u8]) {
        while let Some(&first) = data.first() {
            if std::mem::take(&mut self.is_after_cr) && first == b'\n' {
                self.line_end = LineEnd::CrLf;
                data = &data[1..];
                continue;
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', data) else {
                // One byte more than is allowed tells a line that is too long.
                let room = (UNFINISHED_BYTES_MAX + 1).saturating_sub(self.unfinished.len());
                self.unfinished.extend_from_slice(&data[..data.len().min(room)]);
                return self.continue_line(data);
            };
            self.continue_line(&data[..end]);
            self.end_line();
            self.unfinished.clear();
            match data[end] {
                b'\r' => self.is_after_cr = true,
                _ => self.line_end = LineEnd::Lf,
            }
            data = &data[end + 1..];
        }
    }

    /// The data of an event that broke off in its data. Data of several lines, which no known server writes, is not
    /// put together.
    fn unfinished_data(&self) -> Option<&[u8]> {
        let is_data = matches!(self.line, Line::Value(Field::Data) | Line::Colon(Field::Data));
        if !is_data || self.unfinished.len() > UNFINISHED_BYTES_MAX {
            return None;
        }
        let line = self.unfinished.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&self.unfinished);
        line.strip_prefix(b"data:")
    }

    /// Whether the last whole event says that the turn is over.
    pub fn turn_is_complete(&self) -> bool {
        self.events[1 - self.current].ends_turn()
    }

    /// Whether a line of ours may stand here: at a line's start, with no event begun, and not behind a CR whose LF may
    /// still come.
    fn is_between_events(&self) -> bool {
        matches!(self.line, Line::Start) && !self.is_in_event && !self.is_after_cr
    }

    fn continue_line(&mut self, mut part: &[u8]) {
        while !part.is_empty() {
            match &mut self.line {
                Line::Start if part[0] == b':' => self.line = Line::Comment,
                Line::Start => self.line = Line::Name { bytes: [0; FIELD_BYTES_MAX], length: 0 },
                Line::Name { bytes, length } => {
                    let room = &mut bytes[usize::from(*length)..];
                    let colon = part.iter().take(room.len() + 1).position(|&byte| byte == b':');
                    let taken = colon.unwrap_or(part.len());
                    if taken > room.len() {
                        self.line = Line::Other;
                        continue;
                    }
                    room[..taken].copy_from_slice(&part[..taken]);
                    *length += taken as u8;
                    part = &part[taken..];
                    if colon.is_some() {
                        part = &part[1..];
                        self.line = self.named_field().map_or(Line::Other, Line::Colon);
                    }
                }
                Line::Colon(field) => {
                    let field = *field;
                    part = part.strip_prefix(b" ").unwrap_or(part);
                    self.begin_value(field);
                }
                Line::Value(field) => {
                    let event = &mut self.events[self.current];
                    return match field {
                        Field::Event => event.name.append(part),
                        Field::Data => event.data.append(part),
                    };
                }
                Line::Other | Line::Comment => return,
            }
        }
    }

    /// The field that the name read so far stands for, where it is one that matters.
    fn named_field(&self) -> Option<Field> {
        let Line::Name { bytes, length } = &self.line else { return None };
        let name = &bytes[..usize::from(*length)];
        let name = if self.is_first_line { name.strip_prefix(BYTE_ORDER_MARK).unwrap_or(name) } else { name };
        match name {
            b"data" => Some(Field::Data),
            b"event" => Some(Field::Event),
            _ => None,
        }
    }

    fn begin_value(&mut self, field: Field) {
        let event = &mut self.events[self.current];
        match field {
            Field::Event => event.name.clear(),
            Field::Data if event.has_data => event.data.append(b"\n"),
            Field::Data => event.has_data = true,
        }
        self.line = Line::Value(field);
    }

    fn end_line(&mut self) {
        self.is_in_event = match self.line {
            Line::Start => false,
            Line::Comment => self.is_in_event,
            Line::Name { .. } | Line::Colon(_) | Line::Value(_) | Line::Other => true,
        };
        match self.line {
            Line::Start => self.end_event(),
            // A name without a colon is a field with an empty value.
            Line::Name { .. } => {
                if let Some(field) = self.named_field() {
                    self.begin_value(field);
                }
            }
            Line::Colon(field) => self.begin_value(field),
            Line::Value(_) | Line::Other | Line::Comment => {}
        }
        self.line = Line::Start;
        self.is_first_line = false;
    }

    /// A blank line. Without data there was no event: the grammar drops it, and so do clients.
    fn end_event(&mut self) {
        if self.events[self.current].has_data {
            self.current = 1 - self.current;
        }
        self.events[self.current].clear();
    }
}

/// The first bytes of an event.
struct EventPrefix {
    name: Prefix<NAME_BYTES_MAX>,
    data: Prefix<DATA_BYTES_MAX>,
    has_data: bool,
}

impl EventPrefix {
    const fn new() -> Self {
        EventPrefix { name: Prefix::new(), data: Prefix::new(), has_data: false }
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

/// The first `N` bytes of something longer.
struct Prefix<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Prefix<N> {
    const fn new() -> Self {
        Prefix { bytes: [0; N], length: 0 }
    }

    fn clear(&mut self) {
        self.length = 0;
    }

    fn append(&mut self, part: &[u8]) {
        let room = &mut self.bytes[self.length..];
        let taken = part.len().min(room.len());
        room[..taken].copy_from_slice(&part[..taken]);
        self.length += taken;
    }

    fn kept(&self) -> &[u8] {
        &self.bytes[..self.length]
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
                let (text, after) = string_end(rest)?;
                if depth == 0 && is_value_of_type {
                    return Some(text);
                }
                previous = Some(text);
                rest = after;
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

/// Splits what follows an opening quote into the string, as written, and what is behind its closing quote.
fn string_end(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', &text[at.min(text.len())..])?;
        if text[at] == b'"' {
            return Some((&text[..at], &text[at + 1..]));
        }
        at += 2;
    }
}

/// Appends the bytes that end the broken stream well: what is half written is ended, then comes the event. After a
/// complete turn there is no event, and nothing that would finish another one.
///
/// SDKs parse each event as JSON before they look for an error, also an empty one that has a name: half an event would
/// fail there. So an event without data takes the error's, and one that broke off in a JSON object is closed with the
/// error as a member.
pub fn error_event(out: &mut Vec<u8>, tracker: &EventTracker, dialect: Dialect, message: &str) {
    let line_end = tracker.line_end.bytes();
    if tracker.is_after_cr {
        // The CR may be the first half of a CRLF. An LF completes it, and is no line of its own in any case.
        out.push(b'\n');
    }
    if tracker.turn_is_complete() {
        return;
    }
    let members = error_members(dialect, message);
    let half = &tracker.events[tracker.current];
    let closing = tracker.unfinished_data().and_then(|data| unfinished_json::closing(data, &members));
    let ends_half = closing.is_some() || half.has_data;
    // The last name of an event counts.
    let (half_name, name): (&[u8], &[u8]) = match dialect {
        Dialect::Anthropic => (b"event: error", b"event: error"),
        Dialect::OpenAi if !ends_half && !half.name.kept().is_empty() => (b"", b"event:"),
        Dialect::OpenAi => (b"", b""),
    };
    let mut push_line = |line: &[u8]| {
        out.extend_from_slice(line);
        out.extend_from_slice(line_end);
    };
    if let Some(closing) = &closing {
        push_line(closing);
        if !half_name.is_empty() {
            push_line(half_name);
        }
    } else if !matches!(tracker.line, Line::Start) {
        push_line(b"");
    }
    if ends_half {
        push_line(b"");
    }
    if !name.is_empty() {
        push_line(name);
    }
    push_line(format!("data: {{{members}}}").as_bytes());
    push_line(b"");
}

/// The comment that shows a silent stream alive; `None` where it cannot stand, and where the turn is over.
///
/// No blank line follows it: at one, clients that keep the last `id` were seen to make an event of nothing. Where a byte
/// order mark comes as late as behind the comment, it is not the stream's first any more; no known server sends one.
pub fn heartbeat(tracker: &EventTracker) -> Option<&'static [u8]> {
    if !tracker.is_between_events() || tracker.turn_is_complete() {
        return None;
    }
    Some(match tracker.line_end {
        LineEnd::Lf => b": ping\n",
        LineEnd::CrLf => b": ping\r\n",
    })
}

/// The members of the error's JSON object.
fn error_members(dialect: Dialect, message: &str) -> String {
    let mut text = Vec::new();
    append_json_string(&mut text, message);
    let text = String::from_utf8_lossy(&text);
    match dialect {
        Dialect::Anthropic => format!(r#""type":"error","error":{{"type":"api_error","message":{text}}}"#),
        Dialect::OpenAi => {
            format!(r#""error":{{"message":{text},"type":"upstream_error","code":"upstream_disconnected"}}"#)
        }
    }
}

/// Appends `content` and the end of the body, so that a chunked answer which owes `owed` stays valid. An open chunk is
/// filled with the content, then with line ends, which say nothing in an event stream; what does not fit into it goes
/// into a chunk of its own.
///
/// `None`, with nothing appended, where more than 64 KiB are missing: the caller cuts the answer.
pub fn end_chunked(out: &mut Vec<u8>, owed: Owed, content: &[u8]) -> Option<()> {
    let mut rest = content;
    match owed {
        Owed::Nothing => {}
        Owed::ChunkData { remaining } => {
            if remaining > FILL_BYTES_MAX {
                return None;
            }
            let remaining = usize::try_from(remaining).ok()?;
            let (within, behind) = content.split_at(content.len().min(remaining));
            out.extend_from_slice(within);
            out.resize(out.len() + remaining - within.len(), b'\n');
            out.extend_from_slice(b"\r\n");
            rest = behind;
        }
        Owed::ChunkEnd => out.extend_from_slice(b"\r\n"),
    }
    if !rest.is_empty() {
        append_chunk(out, rest);
    }
    out.extend_from_slice(b"0\r\n\r\n");
    Some(())
}

/// Appends `content`, which is not empty, as a chunk of its own (RFC 9112 §7.1).
pub fn append_chunk(out: &mut Vec<u8>, content: &[u8]) {
    write!(out, "{:x}\r\n", content.len()).expect("a Vec takes every byte");
    out.extend_from_slice(content);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
pub mod tests;
