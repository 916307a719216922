//! The events of a stream, as far as its end needs them: their dialect, the end of the turn, the last number, and the
//! one that is being written.
//!
//! Invariant: memory is bounded whatever an event's size is. An event that comes whole, and whose JSON can say nothing
//! that is not known, is not read; others are skimmed where their beginning and end suffice. Nothing depends on how the
//! stream was split, but for events of Responses whose JSON names a member twice or cannot be parsed, and no server was
//! seen to write one: skimmed, its first type counts, with the number next to that or at the end; in parts, it is read
//! as parsers read it. Not here: what is written into the stream.

use crate::json::prefix::Prefix;
use crate::json::text::JsonText;
use crate::proxy::sse::consumer::{EventConsumer, EventField};
use crate::proxy::sse::dialect::{EventDialect, KnownDialect};
use crate::proxy::sse::members::{EventMembers, EventType, GeminiCandidates, names_telling_member};

/// Room for `response.incomplete`, the longest event name that has to be told from longer ones, and one byte more.
const NAME_BYTES_MAX: usize = 20;

/// Room for the mark, and for white space around it.
const DONE_BYTES_MAX: usize = 16;

/// The data of the event that ends a stream of chat completions.
const DONE: &[u8] = b"[DONE]";

/// Follows the events of a stream.
// In this order, so that what each event needs is together.
#[repr(C)]
pub struct StreamEvents {
    dialect: KnownDialect,
    /// The last whole event, pings aside, says that the turn is over.
    has_last: bool,
    event: CurrentEvent,
    candidates: GeminiCandidates,
    sequence_number: Option<u64>,
}

/// The event whose blank line has not come.
// As above.
#[repr(C)]
struct CurrentEvent {
    /// The type by the name, once that is whole.
    named: EventType,
    data: DataRead,
    interest: Interest,
    name: Prefix<NAME_BYTES_MAX>,
    /// The beginning of its data.
    done: Prefix<DONE_BYTES_MAX>,
    last: u8,
    json: JsonText,
    members: EventMembers,
}

/// The part of an event's object that may tell what is not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interest {
    /// Neither dialect nor numbers are in it, and the end of a turn is told by its name or by what is no object.
    Nothing,
    /// The members that tell a dialect.
    Dialect,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DataRead {
    /// None has come.
    Nothing,
    /// Its first line has begun, of which nothing was read yet.
    Begun,
    /// Its first line was read, or a part of it.
    Line,
    /// Several lines were read.
    Lines,
    /// Its first line came whole, and nobody had to read it.
    Skipped,
    /// Its first line came whole, and its beginning and end told all that matters.
    Skimmed,
}

/// The part of an event that has come when the stream ends.
#[derive(Debug)]
pub enum HalfEvent {
    /// None of its data.
    Dataless { is_named: bool },
    /// The beginning of a JSON object, which `rest` makes one that has the members asked for.
    Object { rest: Vec<u8> },
    /// The beginning of `[DONE]`, which `rest` completes.
    Done { rest: &'static [u8] },
    /// Data that nothing need, or can, be added to.
    Data,
}

impl StreamEvents {
    pub const fn new() -> Self {
        StreamEvents {
            dialect: KnownDialect::NoEvent,
            has_last: false,
            candidates: GeminiCandidates::NONE,
            sequence_number: None,
            event: CurrentEvent::new(),
        }
    }

    /// Returns whether the turn is over: the last whole event but for pings says so, or all of Gemini's candidates are
    /// finished.
    pub fn turn_is_complete(&self) -> bool {
        self.has_last || self.candidates.are_finished() && !self.goes_on_with_candidates()
    }

    /// Returns whether the half event brings more of Gemini's candidates.
    fn goes_on_with_candidates(&self) -> bool {
        self.event.interest != Interest::Nothing && self.event.members.has_candidates()
    }

    /// The dialect by the whole events, else by the half one. Where no event tells it, `by_path` may decide only while
    /// there was none.
    pub fn dialect(&self, by_path: Option<EventDialect>) -> Option<EventDialect> {
        match self.dialect {
            KnownDialect::Known(dialect) => Some(dialect),
            KnownDialect::Ping => self.event.dialect().or(Some(EventDialect::Anthropic)),
            KnownDialect::Unknown { .. } => self.event.dialect(),
            KnownDialect::NoEvent if self.event.kind() == EventType::Ping => Some(EventDialect::Anthropic),
            KnownDialect::NoEvent => self.event.dialect().or(by_path),
        }
    }

    /// The number after the last one seen, which may be the half event's own.
    pub fn next_sequence_number(&self) -> u64 {
        let CurrentEvent { json, members, .. } = &self.event;
        let open = members.open_sequence_number(json.open_word());
        // One that broke off may be too small.
        let last = members.sequence_number.or(self.sequence_number.max(open));
        last.map_or(0, |last| last.saturating_add(1))
    }

    /// Returns whether the event whose blank line has not come shows by its name, or by the first member of its data, that
    /// it is an error.
    pub fn half_is_error(&self) -> bool {
        const BEGINNINGS: [&[u8]; 3] = [b"{\"error\":", b"{\"type\":\"error\"", b"{\"type\": \"error\""];
        let (name, data) = (self.event.name.kept(), self.event.done.kept());
        matches!(name, b"error" | b"response.failed") || BEGINNINGS.iter().any(|beginning| data.starts_with(beginning))
    }

    /// Returns whether a line of data has begun whose event has not ended.
    pub fn has_open_data(&self) -> bool {
        self.event.data != DataRead::Nothing
    }

    /// The event whose blank line has not come; its object is to get `members`.
    pub fn half_written(&self, dialect: EventDialect, members: &str) -> HalfEvent {
        let event = &self.event;
        let done = event.done.kept().trim_ascii_start();
        match event.data {
            DataRead::Nothing => HalfEvent::Dataless { is_named: !event.name.kept().is_empty() },
            DataRead::Line if dialect == EventDialect::Chat && !done.is_empty() && DONE.starts_with(done) => {
                HalfEvent::Done { rest: &DONE[done.len()..] }
            }
            DataRead::Skipped | DataRead::Skimmed => HalfEvent::Data,
            DataRead::Begun | DataRead::Line | DataRead::Lines => {
                event.json.closing(members).map_or(HalfEvent::Data, |rest| HalfEvent::Object { rest })
            }
        }
    }

    /// Returns what an event that begins may tell.
    fn interest(&self) -> Interest {
        match self.dialect {
            // After the last one it matters which are pings.
            KnownDialect::Known(EventDialect::Chat) if !self.has_last => Interest::Nothing,
            KnownDialect::Known(EventDialect::Anthropic)
                if self.event.named.dialect() == Some(EventDialect::Anthropic) =>
            {
                Interest::Nothing
            }
            KnownDialect::Unknown { .. } if self.event.named == EventType::Other => {
                if self.dialect.is_expected() {
                    Interest::Dialect
                } else {
                    Interest::Nothing
                }
            }
            _ => Interest::All,
        }
    }
}

impl EventConsumer for StreamEvents {
    // Inlined: each event of a known dialect passes here, and mostly nothing more is done for it.
    #[inline]
    fn begin_value(&mut self, field: EventField) {
        match (field, self.event.data) {
            (EventField::Event, _) => self.event.name.clear(),
            (EventField::Data, DataRead::Nothing) => {
                self.event.interest = self.interest();
                self.event.data = DataRead::Begun;
            }
            (EventField::Data, _) => self.event.begin_further_line(),
        }
    }

    fn append_value(&mut self, field: EventField, part: &[u8]) {
        match field {
            EventField::Event => self.event.name.append(part),
            EventField::Data => self.event.read(part),
        }
    }

    #[inline]
    fn end_value(&mut self, field: EventField, rest: &[u8]) {
        match field {
            EventField::Event => {
                self.event.name.append(rest);
                self.event.named = self.event.name_type();
            }
            EventField::Data if self.event.data == DataRead::Begun && looks_like_object(rest.first(), rest.last()) => {
                match self.event.interest {
                    Interest::Nothing => self.event.data = DataRead::Skipped,
                    Interest::Dialect if !names_telling_member(rest) => self.event.data = DataRead::Skipped,
                    Interest::Dialect | Interest::All => self.read_object(rest),
                }
            }
            EventField::Data => self.event.end_line(rest),
        }
    }

    #[inline]
    fn end_event(&mut self) {
        match self.event.data {
            DataRead::Nothing => self.event.begin(),
            // Its name came after its data, and tells what that did not.
            DataRead::Skipped if self.event.interest == Interest::Dialect && self.event.named != EventType::Other => {
                self.take_event();
            }
            DataRead::Skipped => {
                if self.event.interest == Interest::Dialect {
                    self.dialect = self.dialect.after_unknown();
                }
                self.has_last = self.event.named.ends_turn();
                self.event.begin();
            }
            DataRead::Skimmed => {
                let ends_turn = self.event.named.ends_turn() || self.event.members.kind.ends_turn();
                self.note_turn(ends_turn);
                self.take_members();
                self.event.begin();
                self.event.members = EventMembers::NONE;
            }
            DataRead::Begun | DataRead::Line | DataRead::Lines => self.take_event(),
        }
    }
}

impl StreamEvents {
    /// Takes what a whole event tells that was read.
    #[inline(never)]
    fn take_event(&mut self) {
        let event = &mut self.event;
        let is_gemini = self.dialect == KnownDialect::Known(EventDialect::Gemini);
        event.members = match &event.members {
            // The same whether it came whole, and was skimmed, or in parts.
            members if is_gemini && members.has_candidates() => members.as_skimmed(event.json.is_whole()),
            // What cannot be parsed tells nothing, and what was read only because it came in parts does not either.
            _ if event.interest == Interest::Nothing || !event.json.is_whole() => EventMembers::NONE,
            members => *members,
        };
        let ends_turn = event.ends_turn();
        self.note_turn(ends_turn);
        let event = &self.event;
        match self.dialect {
            KnownDialect::Known(_) => {}
            before => match event.dialect() {
                Some(dialect) => self.dialect = KnownDialect::Known(dialect),
                None if event.kind() != EventType::Ping => self.dialect = self.dialect.after_unknown(),
                None if before == KnownDialect::NoEvent => self.dialect = KnownDialect::Ping,
                None => {}
            },
        }
        self.take_members();
        let event = &mut self.event;
        event.begin();
        event.done.clear();
        event.json.clear();
        event.members = EventMembers::NONE;
    }

    /// Notes whether an event ends the turn. A ping, which keeps the connection alive, does not take it up again.
    fn note_turn(&mut self, ends_turn: bool) {
        if ends_turn || self.event.kind() != EventType::Ping {
            self.has_last = ends_turn;
        }
    }

    fn take_members(&mut self) {
        let EventMembers { sequence_number, candidates, .. } = self.event.members;
        self.sequence_number = sequence_number.or(self.sequence_number);
        // Those of another dialect are not always read.
        if self.dialect == KnownDialect::Known(EventDialect::Gemini) {
            self.candidates.join(candidates);
        }
    }

    /// Reads data that came as one line, which looks like a whole object.
    #[inline(never)]
    fn read_object(&mut self, line: &[u8]) {
        match self.dialect {
            KnownDialect::Known(dialect) if let Some(members) = EventMembers::skim(dialect, line) => {
                self.event.members = members;
                self.event.data = DataRead::Skimmed;
            }
            _ => self.event.read(line),
        }
    }
}

impl CurrentEvent {
    const fn new() -> Self {
        CurrentEvent {
            name: Prefix::new(),
            named: EventType::Other,
            data: DataRead::Nothing,
            interest: Interest::All,
            done: Prefix::new(),
            last: 0,
            json: JsonText::new(),
            members: EventMembers::NONE,
        }
    }

    /// Begins the next event, where nothing of the last one's data was read.
    fn begin(&mut self) {
        self.name.clear();
        self.named = EventType::Other;
        self.data = DataRead::Nothing;
    }

    #[inline(never)]
    fn read(&mut self, part: &[u8]) {
        if self.data == DataRead::Begun {
            self.data = DataRead::Line;
        }
        if let Some(&last) = part.last() {
            self.last = last;
        }
        self.done.append(part);
        self.json.read(part, &mut self.members);
    }

    /// Reads the end of a line that came in parts. One that would have been skipped as a whole is as if it had been.
    #[inline(never)]
    fn end_line(&mut self, rest: &[u8]) {
        self.read(rest);
        let is_first = self.data == DataRead::Line;
        if is_first && self.interest == Interest::Nothing && self.looks_like_object() {
            self.done.clear();
            self.json.clear();
            self.members = EventMembers::NONE;
            self.data = DataRead::Skipped;
        }
    }

    /// Tells the same of the data that was read as [`looks_like_object`] of one that came whole.
    fn looks_like_object(&self) -> bool {
        looks_like_object(self.done.kept().first(), Some(&self.last))
    }

    #[inline(never)]
    fn begin_further_line(&mut self) {
        let was_skipped = self.data == DataRead::Skipped;
        // The same whether it came whole or in parts. No server was seen to break a line after such a bracket.
        let is_like_skipped = self.data == DataRead::Line && self.interest != Interest::All && self.looks_like_object();
        if was_skipped || is_like_skipped {
            self.json.give_up();
        } else if self.data == DataRead::Skimmed {
            self.json.pass();
        }
        self.data = DataRead::Lines;
        self.read(b"\n");
    }

    fn name_type(&self) -> EventType {
        EventType::of(self.name.kept())
    }

    /// The kind by the name, and where that says nothing by the data.
    fn kind(&self) -> EventType {
        match self.name_type() {
            EventType::Other => self.members.kind,
            kind => kind,
        }
    }

    fn dialect(&self) -> Option<EventDialect> {
        self.name_type().dialect().or(self.members.dialect())
    }

    fn ends_turn(&self) -> bool {
        self.name_type().ends_turn() || self.done.kept().trim_ascii() == DONE || self.members.kind.ends_turn()
    }
}

/// Returns whether a line that begins and ends like this is a JSON object, or nothing else that matters.
fn looks_like_object(first: Option<&u8>, last: Option<&u8>) -> bool {
    first == Some(&b'{') && last == Some(&b'}')
}

#[cfg(test)]
mod tests;
