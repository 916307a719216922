//! The objects that the JSON body of a request names, found while it comes into its copy.
//!
//! A body that names none of them, however long, is only searched for the names of the members. Where one of these
//! stands, the body is read from its beginning, since only a member of the outermost object counts. Invariant: each byte
//! is looked at once for each of the two, and at most [`SEARCHED_BYTES_MAX`] of them. Not here: what is waited for.

use std::sync::LazyLock;

use memchr::memmem::{self, Finder};

use crate::credentials::{ObjectKey, Shelf};
use crate::http1::body::{BodyReader, Piece};
use crate::http1::framing::BodyLength;
use crate::proxy::replay::buffer::ReplayBuffer;
use crate::proxy::request::json_members::{JsonMembers, StringMember};

/// The part of a body that is searched: clients write these members first, or after a prompt that is shorter.
pub const SEARCHED_BYTES_MAX: usize = 1024 * 1024;

/// The names of members, with the quote that a name within a string does not end with: there it is escaped. File ids
/// stand deeper in the body of a response too, and at its top in those of others alone, which are short.
const NAMES: [&str; 2] = ["previous_response_id\"", "conversation\""];
/// The bytes that are kept of each piece, in which the beginning of a name may stand.
const NAME_BYTES_MAX: usize = NAMES[0].len();

static FINDERS: LazyLock<[Finder<'static>; 2]> = LazyLock::new(|| NAMES.map(Finder::new));

/// Searches the body in one copy.
pub struct ReferenceSearch {
    beginning: BodyCursor,
    cursor: BodyCursor,
    /// The last bytes that were searched for a name.
    tail: Vec<u8>,
    /// Set from the first name on.
    members: Option<JsonMembers>,
    searched_bytes: usize,
}

/// The state of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Searched {
    /// The caller has what it wants.
    Enough,
    /// More of the body may name an object.
    GoesOn,
    /// Nothing more is looked for.
    Over,
}

impl ReferenceSearch {
    /// Begins at the end of the head that stands first in the copy. `shelf` is that of the request's path.
    pub fn new(copy: &ReplayBuffer, length: BodyLength, shelf: Shelf) -> Self {
        let beginning = BodyCursor::after_head(copy, length);
        ReferenceSearch {
            cursor: beginning.clone(),
            beginning,
            tail: Vec::new(),
            members: (shelf == Shelf::Others).then(JsonMembers::default),
            searched_bytes: 0,
        }
    }

    /// Searches what has come since the last call, and calls `is_enough` for each object that is named. The copy must be
    /// whole, with nothing but bytes appended to it in between.
    pub fn advance(&mut self, copy: &ReplayBuffer, mut is_enough: impl FnMut(Shelf, ObjectKey) -> bool) -> Searched {
        if self.members.is_none() {
            let ReferenceSearch { cursor, tail, searched_bytes, .. } = self;
            let has_name = cursor.any(copy, |content| {
                *searched_bytes += content.len();
                finds_name(tail, content) || *searched_bytes >= SEARCHED_BYTES_MAX
            });
            if !has_name {
                return if self.cursor.is_over() { Searched::Over } else { Searched::GoesOn };
            }
            self.members = Some(JsonMembers::default());
            self.cursor = self.beginning.clone();
            self.searched_bytes = 0;
        }
        let ReferenceSearch { cursor, members, searched_bytes, .. } = self;
        let Some(members) = members else { return Searched::Over };
        let is_found = cursor.any(copy, |content| {
            let room = SEARCHED_BYTES_MAX.saturating_sub(*searched_bytes);
            *searched_bytes += content.len();
            members.read(&content[..content.len().min(room)], |member| {
                reference(member).is_some_and(|(shelf, object)| is_enough(shelf, object))
            })
        });
        if is_found {
            Searched::Enough
        } else if members.is_over() || *searched_bytes >= SEARCHED_BYTES_MAX || cursor.is_over() {
            Searched::Over
        } else {
            Searched::GoesOn
        }
    }
}

/// Returns the object that a member names.
fn reference(member: StringMember<'_>) -> Option<(Shelf, ObjectKey)> {
    let shelf = match (member.within, member.name) {
        (None, b"previous_response_id") => Shelf::Responses,
        (None, b"conversation" | b"input_file_id" | b"file_id") | (Some(b"conversation"), b"id") => Shelf::Others,
        _ => return None,
    };
    Some((shelf, ObjectKey::of(member.value)))
}

/// Tells whether the end of a name stands in `content`, or begins in the bytes before it, which are in `tail`.
fn finds_name(tail: &mut Vec<u8>, content: &[u8]) -> bool {
    let has_name = |bytes: &[u8]| FINDERS.iter().any(|name| name.find(bytes).is_some());
    let border = content.len().min(NAME_BYTES_MAX);
    tail.extend_from_slice(&content[..border]);
    let is_found = has_name(tail) || has_name(content);
    if content.len() > border {
        tail.clear();
        tail.extend_from_slice(&content[content.len() - NAME_BYTES_MAX..]);
    } else {
        tail.drain(..tail.len().saturating_sub(NAME_BYTES_MAX));
    }
    is_found
}

/// A place in the body of a copy, of which more may come.
#[derive(Clone)]
struct BodyCursor {
    reader: BodyReader,
    segment: usize,
    offset: usize,
    has_failed: bool,
}

impl BodyCursor {
    fn after_head(copy: &ReplayBuffer, length: BodyLength) -> Self {
        const END: &[u8] = b"\r\n\r\n";
        let head = copy.parts().next().and_then(|first| memmem::find(first, END));
        let offset = head.map_or(0, |length| length + END.len());
        BodyCursor { reader: BodyReader::new(length), segment: 0, offset, has_failed: head.is_none() }
    }

    /// Gives `is_enough` the content that follows, piece by piece, until it returns true; the rest of that segment is
    /// skipped. Returns whether it did.
    fn any(&mut self, copy: &ReplayBuffer, mut is_enough: impl FnMut(&[u8]) -> bool) -> bool {
        let mut has_enough = false;
        for (index, part) in copy.parts().enumerate().skip(self.segment) {
            if index > self.segment {
                (self.segment, self.offset) = (index, 0);
            }
            let new = part.get(self.offset..).unwrap_or_default();
            self.offset += new.len();
            let read = self.reader.read(new, |piece| {
                if let Piece::Data(content) = piece {
                    has_enough = has_enough || is_enough(content);
                }
            });
            self.has_failed |= read.is_err();
            if has_enough || self.has_failed {
                break;
            }
        }
        has_enough
    }

    /// Tells whether nothing more will come.
    fn is_over(&self) -> bool {
        self.has_failed || self.reader.is_complete()
    }
}

#[cfg(test)]
mod tests;
