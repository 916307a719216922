//! A look at the JSON of an answer while it goes by: the objects that it says were made, or the code of an error.
//!
//! Invariant: at most [`TAPPED_BYTES_MAX`] are looked at, and none of them is held or changed.

use std::sync::Arc;
use std::time::Instant;

use crate::credentials::{ObjectKey, OwnerKey, Owners, Shelf};
use crate::json::members::{JsonMembers, StringMember};
use crate::proxy::sse::consumer::{EventConsumer, EventField};
use crate::proxy::sse::tokenizer::Tokenizer;

/// The part of an answer that is looked at: an id stands among its first members.
const TAPPED_BYTES_MAX: usize = 64 * 1024;

/// The objects of an answer that are kept while it is not known whether it goes downstream; a batch has two.
const HELD_OBJECTS_MAX: usize = 8;

/// Looks at the content of one answer.
pub struct BodyTap {
    reading: TapTarget,
    /// Nothing more is read.
    is_over: bool,
    room_bytes: usize,
    /// An error was read whose code says that there is no such object.
    says_not_found: bool,
}

enum TapTarget {
    Made(MadeObjects, JsonMembers),
    MadeInStream(Tokenizer, FirstEvent),
    ErrorCode(JsonMembers),
}

/// The table for the objects that an answer names, and whose they are.
pub struct MadeObjects {
    pub owners: Arc<Owners>,
    pub owner: OwnerKey,
    pub shelf: Shelf,
    /// The answer's own `id` is one of them; otherwise it is of an object that was known.
    pub has_new_id: bool,
    /// Those that were named while it was not known whether the answer goes downstream; `None`: it does.
    pub held: Option<Vec<(Shelf, ObjectKey)>>,
}

impl BodyTap {
    /// Keeps the owner of what an answer says was made.
    pub fn of_made(made: MadeObjects, is_event_stream: bool) -> Box<Self> {
        let reading = if is_event_stream {
            TapTarget::MadeInStream(Tokenizer::new(), FirstEvent::of(made))
        } else {
            TapTarget::Made(made, JsonMembers::default())
        };
        BodyTap::boxed(reading)
    }

    /// Reads the code of an error.
    pub fn of_error() -> Box<Self> {
        BodyTap::boxed(TapTarget::ErrorCode(JsonMembers::default()))
    }

    fn boxed(reading: TapTarget) -> Box<Self> {
        Box::new(BodyTap { reading, is_over: false, room_bytes: TAPPED_BYTES_MAX, says_not_found: false })
    }

    /// Tells whether an error was read whose code says that there is no such object.
    pub fn says_not_found(&self) -> bool {
        self.says_not_found
    }

    /// Tells whether more of the content may tell more.
    pub fn wants_more(&self) -> bool {
        !self.is_over
    }

    /// Keeps the owner of what was named so far, and from here on at once: the answer goes downstream.
    pub fn confirm(&mut self) {
        match &mut self.reading {
            TapTarget::Made(made, _) | TapTarget::MadeInStream(_, FirstEvent { made, .. }) => made.confirm(),
            TapTarget::ErrorCode(_) => {}
        }
    }

    /// Takes the next bytes of the content.
    pub fn observe(&mut self, data: &[u8]) {
        if self.is_over {
            return;
        }
        let data = &data[..data.len().min(self.room_bytes)];
        self.room_bytes -= data.len();
        let is_over = match &mut self.reading {
            TapTarget::Made(made, members) => members.read(data, |member| made.note(member)) || members.is_over(),
            TapTarget::MadeInStream(tokenizer, event) => {
                let mut rest = Some(data);
                while let Some(data) = rest.filter(|_| !event.has_ended) {
                    rest = tokenizer.read_event(data, event);
                }
                event.has_ended
            }
            TapTarget::ErrorCode(members) => {
                self.says_not_found = members.read(data, is_not_found);
                self.says_not_found || members.is_over()
            }
        };
        self.is_over = is_over || self.room_bytes == 0;
    }
}

impl MadeObjects {
    /// Keeps the owner of the object that a member names, if it does. Returns whether no other is expected.
    fn note(&mut self, member: StringMember<'_>) -> bool {
        let shelf = match (member.within, member.name) {
            (None, b"id") if self.has_new_id => self.shelf,
            // The first event of a stream of a response.
            (Some(b"response"), b"id") if self.has_new_id && self.shelf == Shelf::Responses => self.shelf,
            // What a batch has made, an upload became, and a run began.
            (None, b"output_file_id" | b"error_file_id") | (Some(b"file"), b"id") => Shelf::Others,
            (None, b"thread_id") if self.has_new_id => Shelf::Others,
            _ => return false,
        };
        if !member.value.is_empty() {
            let object = ObjectKey::of(member.value);
            match &mut self.held {
                Some(held) if held.len() < HELD_OBJECTS_MAX => held.push((shelf, object)),
                Some(_) => {}
                None => self.owners.note(shelf, object, self.owner, Instant::now()),
            }
        }
        self.shelf == Shelf::Responses
    }

    fn confirm(&mut self) {
        for (shelf, object) in self.held.take().into_iter().flatten() {
            self.owners.note(shelf, object, self.owner, Instant::now());
        }
    }
}

/// Tells whether a member is the code of an error that says that there is no such object; a model is none.
fn is_not_found(member: StringMember<'_>) -> bool {
    const WORDS: [&[u8]; 3] = [b"not_found", b"not found", b"notfound"];
    let is_code = matches!((member.within, member.name), (None | Some(b"error"), b"code"));
    let code = member.value.to_ascii_lowercase();
    let has = |word: &[u8]| memchr::memmem::find(&code, word).is_some();
    is_code && (code == b"404" || WORDS.iter().any(|word| has(word)) && !has(b"model"))
}

/// The first event of a stream that has data.
struct FirstEvent {
    made: MadeObjects,
    members: JsonMembers,
    has_data: bool,
    has_ended: bool,
}

impl FirstEvent {
    fn of(made: MadeObjects) -> Self {
        FirstEvent { made, members: JsonMembers::default(), has_data: false, has_ended: false }
    }
}

impl EventConsumer for FirstEvent {
    fn begin_value(&mut self, field: EventField) {
        self.has_data |= field == EventField::Data;
    }

    fn append_value(&mut self, field: EventField, part: &[u8]) {
        if field == EventField::Data && !self.has_ended {
            let FirstEvent { made, members, has_ended, .. } = self;
            *has_ended = members.read(part, |member| made.note(member)) || members.is_over();
        }
    }

    fn end_value(&mut self, field: EventField, rest: &[u8]) {
        self.append_value(field, rest);
    }

    fn end_event(&mut self) {
        self.has_ended |= self.has_data;
    }
}

#[cfg(test)]
mod tests;
