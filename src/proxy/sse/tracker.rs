//! The place in a `text/event-stream` at which the upstream stands, for what is written into the stream here.
//!
//! Invariant: memory is bounded; of each event the first bytes are kept, which is where a stream says that its turn is
//! over, and of the stream the line that has no end yet. They are looked at only when the stream has ended, so
//! following it costs a search for line ends.
//! Not here: what is read, written or timed out.

use crate::proxy::sse::turn_end::EventPrefix;

/// The longest unfinished line that is kept; a longer one of a broken stream stays unfinished.
pub const UNFINISHED_BYTES_MAX: usize = 64 * 1024;

/// A byte order mark and the longest field name that matters.
const FIELD_BYTES_MAX: usize = BYTE_ORDER_MARK.len() + "event".len();

/// The WHATWG's event stream grammar allows one before the first line.
pub const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Follows the decoded bytes of an event stream as the upstream sends them, however they are split. What is written
/// into the stream here is never observed: it stands where the upstream's bytes go on as if it were not there.
pub struct EventTracker {
    pub line: Line,
    /// The last byte was a CR: an LF that follows belongs to the same line end.
    pub is_after_cr: bool,
    is_first_line: bool,
    /// A line of an event has come, which is not a comment, and the blank line that ends it has not.
    is_in_event: bool,
    pub line_end: LineEnd,
    /// The event that is being written and the last whole one; `current` says which is which.
    pub events: [EventPrefix; 2],
    pub current: usize,
    /// The line that has no end yet, from its first byte. Most events come whole, so there is seldom anything to keep.
    unfinished: Vec<u8>,
}

/// Where in a line the stream stands.
#[derive(Clone, Copy)]
pub enum Line {
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
pub enum Field {
    Event,
    Data,
}

#[derive(Clone, Copy)]
pub enum LineEnd {
    Lf,
    CrLf,
}

impl LineEnd {
    pub const fn bytes(self) -> &'static [u8] {
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
    pub fn unfinished_data(&self) -> Option<&[u8]> {
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
    pub fn is_between_events(&self) -> bool {
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
