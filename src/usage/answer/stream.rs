//! The usage in an event stream of any dialect, read as it passes.
//!
//! Invariant: nothing is allocated, memory is bounded, and nothing depends on how the stream was split where its events
//! are JSON. Events that tell nothing but text, which are nearly all, are searched (`deltas`) and not parsed. Not here:
//! the grammar of streams.

use crate::json::text::JsonText;
use crate::usage::answer::deltas::{self, SearchedEvent};
use crate::usage::answer::event::EventUsage;
use crate::usage::answer::fields::UsageFields;
use crate::usage::answer::shape::EventShape;
use crate::usage::answer::told::AnswerUsage;

/// The number of events in which the model's name is looked for. All dialects have it in the first one, but that some
/// servers send one of their own before, and Azure one with an empty name.
const NAMING_EVENTS: u8 = 8;

/// Follows the data of a stream's events.
// In this order, so that what each event needs is together.
#[repr(C)]
pub struct StreamUsage {
    data: DataLines,
    /// The number of events that may still name the model.
    naming_events: u8,
    /// The first byte of the data's first line is that of an object, and the last byte so far ends one.
    looks_like_object: [bool; 2],
    shape: EventShape,
    event: EventUsage,
    json: JsonText,
    /// Of the whole events so far.
    fields: UsageFields,
}

/// The lines of data that the present event has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DataLines {
    None,
    /// The first has begun, of which nothing was read yet.
    Begun,
    /// The first was parsed, or a part of it.
    First,
    Several,
    /// The first came whole, and was searched.
    Searched,
    /// It also had a usage.
    SearchedUsage,
}

impl Default for StreamUsage {
    fn default() -> Self {
        StreamUsage::new()
    }
}

impl StreamUsage {
    pub const fn new() -> Self {
        StreamUsage {
            data: DataLines::None,
            naming_events: NAMING_EVENTS,
            looks_like_object: [false; 2],
            shape: EventShape::new(),
            event: EventUsage::new(),
            json: JsonText::new(),
            fields: UsageFields::NONE,
        }
    }

    /// For a stream whose model is known.
    pub const fn without_name() -> Self {
        let mut stream = StreamUsage::new();
        stream.naming_events = 0;
        stream.event.wants_name = false;
        stream
    }

    /// A line of the event's data begins.
    #[inline]
    pub fn begin_data(&mut self) {
        if self.data == DataLines::None {
            self.data = DataLines::Begun;
        } else {
            self.begin_further_line();
        }
    }

    /// Takes the next bytes of the line; more are to come.
    pub fn data_part(&mut self, part: &[u8]) {
        self.read(part);
    }

    /// Takes the last bytes of the line.
    #[inline]
    pub fn end_data(&mut self, rest: &[u8]) {
        let is_whole = self.data == DataLines::Begun && rest.first() == Some(&b'{') && rest.last() == Some(&b'}');
        if !is_whole || self.naming_events > 0 {
            return self.read(rest);
        }
        match deltas::add_texts(rest, &mut self.event.texts, &mut self.shape) {
            SearchedEvent::Texts => self.data = DataLines::Searched,
            SearchedEvent::Usage(fields) => {
                self.event.fields = fields;
                self.data = DataLines::SearchedUsage;
            }
            SearchedEvent::Unclear => self.read(rest),
        }
    }

    /// The event has ended.
    #[inline]
    pub fn end_event(&mut self) {
        match self.data {
            DataLines::None | DataLines::Searched => {}
            DataLines::SearchedUsage => {
                self.fields.join(&self.event.fields);
                self.event.fields = UsageFields::NONE;
            }
            DataLines::Begun | DataLines::First | DataLines::Several => self.take_event(),
        }
        self.data = DataLines::None;
    }

    /// Returns the bytes of text that have come.
    pub fn text_bytes(&self) -> u64 {
        self.event.texts.total()
    }

    /// Returns what the whole events told, and of texts all that came.
    pub fn usage(&self) -> AnswerUsage {
        AnswerUsage {
            tokens: self.fields.tokens(),
            cost: self.fields.cost(),
            text_bytes: self.event.texts.total(),
            name: self.event.name,
        }
    }

    #[inline(never)]
    fn read(&mut self, part: &[u8]) {
        if let [first, ..] = part
            && self.data == DataLines::Begun
        {
            self.looks_like_object[0] = *first == b'{';
            self.data = DataLines::First;
        }
        if let [.., last] = part {
            self.looks_like_object[1] = *last == b'}';
        }
        self.json.read(part, &mut self.event);
    }

    /// No server was seen to break a line after the bracket that ends an object; one that is searched cannot go on.
    #[inline(never)]
    fn begin_further_line(&mut self) {
        let is_object = self.data == DataLines::First && self.looks_like_object == [true; 2];
        if is_object || matches!(self.data, DataLines::Searched | DataLines::SearchedUsage) {
            self.json.give_up();
        }
        self.data = DataLines::Several;
        self.json.read(b"\n", &mut self.event);
    }

    /// Takes what a whole event tells that was parsed.
    #[inline(never)]
    fn take_event(&mut self) {
        if self.json.is_whole() {
            self.fields.join(&self.event.fields);
        }
        self.json.clear();
        self.event.begin();
        self.looks_like_object = [false; 2];
        self.naming_events = if self.event.name.is_known() { 0 } else { self.naming_events.saturating_sub(1) };
        self.event.wants_name = self.naming_events > 0;
    }
}

#[cfg(test)]
mod tests;
