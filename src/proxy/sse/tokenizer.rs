//! The grammar of `text/event-stream` (WHATWG HTML Living Standard §9.2.6), for decoded bytes as they come.
//!
//! Owns line ends, the byte order mark, comments and field names. Consumers get the values of the fields that matter
//! and the ends of events, and see the same whatever the input was split into. Invariant: no value is kept, so the
//! state is some bytes long; a line that comes whole costs one search for its end.
//! Not here: what an event means. `id` and `retry` are skipped, since nothing reads them.

use memchr::memchr2;

use crate::proxy::sse::consumer::{EventConsumer, EventField};

/// The mark that may stand before the first line, and only there.
pub const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The line end that a stream uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnd {
    Lf,
    CrLf,
}

/// Reads one stream from its first byte on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokenizer {
    position: Position,
    /// A line that is not a comment has ended, and no blank line since.
    is_in_event: bool,
    line_end: LineEnd,
}

/// The place within a line where the next byte belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    StreamStart,
    /// Within the byte order mark, of which so many bytes have come.
    ByteOrderMark {
        length: u8,
    },
    LineStart,
    /// At the start of a line, after a CR: an LF that follows belongs to the line end before.
    AfterCr,
    Name(FieldName),
    /// After the colon, where one space is not part of the value.
    AfterColon(EventField),
    Value(EventField),
    /// In a field that no consumer reads.
    OtherField,
    Comment,
}

impl Tokenizer {
    pub const fn new() -> Self {
        Tokenizer { position: Position::StreamStart, is_in_event: false, line_end: LineEnd::Lf }
    }

    /// Takes the stream's next bytes.
    pub fn read(&mut self, mut data: &[u8], consumer: &mut impl EventConsumer) {
        while let Some(rest) = self.read_event(data, consumer) {
            if rest.is_empty() {
                return;
            }
            data = rest;
        }
    }

    /// Takes the stream's next bytes up to the blank line that ends the event. Returns what follows it, or `None` where
    /// all is taken and the event goes on.
    pub fn read_event<'a>(&mut self, data: &'a [u8], consumer: &mut impl EventConsumer) -> Option<&'a [u8]> {
        let mut rest = self.skip_line_feed(data);
        while let Some(length) = memchr2(b'\n', b'\r', rest) {
            let is_blank = self.end_line(&rest[..length], consumer);
            let is_cr = rest[length] == b'\r';
            rest = &rest[length + 1..];
            if is_cr {
                self.position = Position::AfterCr;
                rest = self.skip_line_feed(rest);
            } else {
                self.position = Position::LineStart;
                self.line_end = LineEnd::Lf;
            }
            if is_blank {
                consumer.end_event();
                return Some(rest);
            }
        }
        let value = self.enter_line(rest, consumer);
        if let Position::Value(field) = self.position
            && !value.is_empty()
        {
            consumer.append_value(field, value);
        }
        None
    }

    /// Takes the LF of a line end whose CR came last, where `data` begins with it, and returns what follows.
    fn skip_line_feed<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        if self.position == Position::AfterCr
            && let Some((&first, rest)) = data.split_first()
        {
            self.position = Position::LineStart;
            if first == b'\n' {
                self.line_end = LineEnd::CrLf;
                return rest;
            }
        }
        data
    }

    /// The bytes after which a value of the event's data goes on, on the line that has no end yet: the rest of the
    /// field's name, the space that some clients insist on, or nothing. `None` where it is no such line.
    pub fn rest_of_data_field(&self) -> Option<&'static [u8]> {
        const FIELD: &[u8] = b"data: ";
        match self.position {
            Position::Value(EventField::Data) => Some(b""),
            Position::AfterColon(EventField::Data) => Some(b" "),
            Position::Name(name) if FIELD.starts_with(name.as_bytes()) => Some(&FIELD[name.as_bytes().len()..]),
            _ => None,
        }
    }

    /// Returns whether the last line has its end, which may be half a CRLF.
    pub fn is_at_line_start(&self) -> bool {
        matches!(self.position, Position::StreamStart | Position::LineStart | Position::AfterCr)
    }

    /// Returns whether the last byte was a CR, which may be half a CRLF.
    pub fn is_after_cr(&self) -> bool {
        self.position == Position::AfterCr
    }

    /// Returns whether neither a line nor an event has begun that is not over.
    pub fn is_between_events(&self) -> bool {
        self.is_at_line_start() && !self.is_in_event
    }

    pub fn line_end(&self) -> LineEnd {
        self.line_end
    }

    /// Takes the last bytes of a line, and tells whether it is blank. The caller sets the position that follows.
    fn end_line(&mut self, rest: &[u8], consumer: &mut impl EventConsumer) -> bool {
        let value = self.enter_line(rest, consumer);
        match self.position {
            Position::StreamStart | Position::LineStart | Position::AfterCr => {
                self.is_in_event = false;
                return true;
            }
            Position::Comment => return false,
            Position::Value(field) => consumer.end_value(field, value),
            Position::AfterColon(field) => end_empty_value(field, consumer),
            // A name without a colon is a field with an empty value.
            Position::Name(name) => {
                if let Some(field) = EventField::named(name.as_bytes()) {
                    end_empty_value(field, consumer);
                }
            }
            Position::ByteOrderMark { .. } | Position::OtherField => {}
        }
        self.is_in_event = true;
        false
    }

    /// Takes what stands before a value, and returns what follows: bytes of the value, if that is the position now.
    fn enter_line<'a>(&mut self, mut part: &'a [u8], consumer: &mut impl EventConsumer) -> &'a [u8] {
        while let Some(&first) = part.first() {
            match &mut self.position {
                Position::StreamStart if first == BYTE_ORDER_MARK[0] => {
                    self.position = Position::ByteOrderMark { length: 1 };
                    part = &part[1..];
                }
                Position::StreamStart | Position::LineStart | Position::AfterCr => {
                    (self.position, part) = begin_line(part);
                }
                Position::ByteOrderMark { length } if first == BYTE_ORDER_MARK[usize::from(*length)] => {
                    *length += 1;
                    part = &part[1..];
                    if usize::from(*length) == BYTE_ORDER_MARK.len() {
                        self.position = Position::Name(FieldName::EMPTY);
                    }
                }
                Position::ByteOrderMark { .. } => self.position = Position::OtherField,
                Position::Name(name) => match name.read(part) {
                    NameEnd::Open => return &[],
                    NameEnd::Colon(rest) => {
                        let field = EventField::named(name.as_bytes());
                        self.position = field.map_or(Position::OtherField, Position::AfterColon);
                        part = rest;
                    }
                    NameEnd::TooLong => self.position = Position::OtherField,
                },
                Position::AfterColon(field) => {
                    let field = *field;
                    part = part.strip_prefix(b" ").unwrap_or(part);
                    consumer.begin_value(field);
                    self.position = Position::Value(field);
                    return part;
                }
                Position::Value(_) | Position::OtherField | Position::Comment => return part,
            }
        }
        part
    }
}

/// Reads the beginning of a line from `part`, which is not empty. Nearly all come with the whole of a known name.
fn begin_line(part: &[u8]) -> (Position, &[u8]) {
    if let Some(rest) = part.strip_prefix(b"data:") {
        (Position::AfterColon(EventField::Data), rest)
    } else if let Some(rest) = part.strip_prefix(b"event:") {
        (Position::AfterColon(EventField::Event), rest)
    } else if part[0] == b':' {
        (Position::Comment, part)
    } else {
        (Position::Name(FieldName::EMPTY), part)
    }
}

fn end_empty_value(field: EventField, consumer: &mut impl EventConsumer) {
    consumer.begin_value(field);
    consumer.end_value(field, b"");
}

/// The beginning of a field's name, no longer than one that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FieldName {
    bytes: [u8; EventField::NAME_BYTES_MAX],
    length: u8,
}

enum NameEnd<'a> {
    /// It goes on.
    Open,
    /// It has ended, and this follows the colon.
    Colon(&'a [u8]),
    /// It is none that matters.
    TooLong,
}

impl FieldName {
    const EMPTY: FieldName = FieldName { bytes: [0; EventField::NAME_BYTES_MAX], length: 0 };

    fn read<'a>(&mut self, part: &'a [u8]) -> NameEnd<'a> {
        let room = &mut self.bytes[usize::from(self.length)..];
        let colon = part.iter().take(room.len() + 1).position(|&byte| byte == b':');
        let taken = colon.unwrap_or(part.len());
        if taken > room.len() {
            return NameEnd::TooLong;
        }
        room[..taken].copy_from_slice(&part[..taken]);
        self.length += taken as u8;
        colon.map_or(NameEnd::Open, |colon| NameEnd::Colon(&part[colon + 1..]))
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

#[cfg(test)]
mod tests;
