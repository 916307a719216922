//! The objects that the JSON body of a request names, found while it comes into its copy.
//!
//! A body that names none of them, however long, is only searched for the names of the members. Where one of these
//! stands, it is read whether that is a member of the outermost object, which alone counts: from the name to the end of
//! the body, where that is the shorter part, else from its beginning. Invariant: what is found does not depend on how
//! the body came, and at most [`SEARCHED_BYTES_MAX`] are looked at. Not here: what is waited for.

use std::sync::LazyLock;

use memchr::memmem::{self, Finder};

use crate::credentials::{ObjectKey, Shelf};
use crate::http1::body::{BodyReader, Piece};
use crate::http1::framing::BodyLength;
use crate::proxy::json::members::{JsonMembers, StringMember};
use crate::proxy::replay::buffer::ReplayBuffer;

/// The part of a body that is searched: clients write these members first, or after a prompt that is shorter.
pub const SEARCHED_BYTES_MAX: usize = 1024 * 1024;

/// The objects of one body that are asked for; a request names one or two.
const REFERENCES_MAX: usize = 16;

/// The names of members in the body of a response; a name within a string does not match, since its quotes are escaped
/// there. Files are named at the top of other bodies alone, which are short and read from their beginning.
const NAMES: [&str; 2] = ["\"previous_response_id\"", "\"conversation\""];
/// The bytes that are kept of each piece, in which the beginning of a name may stand.
const NAME_BYTES_MAX: usize = NAMES[0].len();

static FINDERS: LazyLock<[Finder<'static>; 2]> = LazyLock::new(|| NAMES.map(Finder::new));

/// Searches the body in one copy.
pub struct ReferenceSearch {
    length: BodyLength,
    beginning: BodyCursor,
    cursor: BodyCursor,
    stage: SearchStage,
    searched_bytes: usize,
    /// The objects that were asked for.
    references: usize,
}

enum SearchStage {
    /// For the first of so many names.
    Names {
        count: usize,
        tail: Vec<u8>,
    },
    /// From a name on, which counts if the outermost object ends with the body.
    AfterName(AfterName),
    /// From the beginning.
    Members(JsonMembers),
    Over,
}

/// The members from a name on, and the first object that they name.
struct AfterName {
    members: JsonMembers,
    found: Option<(Shelf, ObjectKey)>,
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
    /// Begins at the end of the head that stands first in the copy. `shelf` is that of the request's path;
    /// conversations are looked for in the body of a response only if `has_conversations`.
    pub fn new(replay: &ReplayBuffer, length: BodyLength, shelf: Shelf, has_conversations: bool) -> Self {
        let beginning = BodyCursor::after_head(replay, length);
        let count = if has_conversations { NAMES.len() } else { 1 };
        ReferenceSearch {
            length,
            cursor: beginning.clone(),
            beginning,
            stage: match shelf {
                Shelf::Responses => SearchStage::Names { count, tail: Vec::new() },
                Shelf::Others => SearchStage::Members(JsonMembers::default()),
            },
            searched_bytes: 0,
            references: 0,
        }
    }

    /// Searches what has come since the last call, and calls `is_enough` for each object that is named, until it
    /// returns true. All of the copy must be there, with nothing but bytes appended to it in between.
    pub fn advance(&mut self, replay: &ReplayBuffer, mut is_enough: impl FnMut(Shelf, ObjectKey) -> bool) -> Searched {
        self.find_name(replay);
        let searched = self.read_after_name(replay, &mut is_enough);
        let searched = searched.unwrap_or_else(|| self.read_members(replay, &mut is_enough));
        if searched != Searched::GoesOn {
            self.stage = SearchStage::Over;
        }
        searched
    }

    /// Looks for the first name, and goes on to the stage that follows it.
    fn find_name(&mut self, replay: &ReplayBuffer) {
        let ReferenceSearch { length, cursor, stage, searched_bytes, .. } = self;
        let SearchStage::Names { count, tail } = stage else { return };
        let finders = &FINDERS[..*count];
        let mut next = None;
        cursor.any(replay, |content| {
            if let Some((index, end)) = find_name(finders, tail, content) {
                next = Some(if is_nearer_to_end(*length, *searched_bytes + end) {
                    let mut after_name = AfterName::of(NAMES[index]);
                    after_name.read(&content[end..]);
                    SearchStage::AfterName(after_name)
                } else {
                    SearchStage::Members(JsonMembers::default())
                });
            }
            *searched_bytes += content.len();
            next.is_some()
        });
        if let Some(next) = next {
            if matches!(next, SearchStage::Members(_)) {
                self.begin_anew();
            }
            self.stage = next;
        }
    }

    /// Reads from the name to the end of the body. `None`: the members are to be read from the beginning.
    fn read_after_name(
        &mut self,
        replay: &ReplayBuffer,
        is_enough: &mut impl FnMut(Shelf, ObjectKey) -> bool,
    ) -> Option<Searched> {
        let SearchStage::AfterName(after_name) = &mut self.stage else { return None };
        self.cursor.any(replay, |content| {
            after_name.read(content);
            false
        });
        if !self.cursor.is_over() {
            return Some(Searched::GoesOn);
        }
        if !after_name.members.ends_here() {
            self.begin_anew();
            self.stage = SearchStage::Members(JsonMembers::default());
            return None;
        }
        let has_enough = after_name.found.is_some_and(|(shelf, object)| is_enough(shelf, object));
        Some(if has_enough { Searched::Enough } else { Searched::Over })
    }

    fn read_members(
        &mut self,
        replay: &ReplayBuffer,
        is_enough: &mut impl FnMut(Shelf, ObjectKey) -> bool,
    ) -> Searched {
        let ReferenceSearch { cursor, stage, searched_bytes, references, .. } = self;
        let members = match stage {
            SearchStage::Members(members) => members,
            SearchStage::Over => return Searched::Over,
            SearchStage::Names { .. } | SearchStage::AfterName(_)
                if cursor.is_over() || *searched_bytes >= SEARCHED_BYTES_MAX =>
            {
                return Searched::Over;
            }
            SearchStage::Names { .. } | SearchStage::AfterName(_) => return Searched::GoesOn,
        };
        let mut has_enough = false;
        let has_ended = cursor.any(replay, |content| {
            let room = SEARCHED_BYTES_MAX.saturating_sub(*searched_bytes);
            *searched_bytes += content.len();
            members.read(&content[..content.len().min(room)], |member| {
                let Some((shelf, object)) = reference(member) else { return false };
                *references += 1;
                has_enough = is_enough(shelf, object);
                has_enough || *references >= REFERENCES_MAX
            })
        });
        if has_enough {
            Searched::Enough
        } else if has_ended || members.is_over() || *searched_bytes >= SEARCHED_BYTES_MAX || cursor.is_over() {
            Searched::Over
        } else {
            Searched::GoesOn
        }
    }

    fn begin_anew(&mut self) {
        self.cursor = self.beginning.clone();
        self.searched_bytes = 0;
    }
}

impl AfterName {
    /// Follows a name, which is given with its quotes.
    fn of(name: &str) -> Self {
        AfterName { members: JsonMembers::after_name(name.trim_matches('"').as_bytes()), found: None }
    }

    fn read(&mut self, content: &[u8]) {
        let AfterName { members, found } = self;
        members.read(content, |member| {
            *found = found.or_else(|| reference(member));
            false
        });
    }
}

/// Tells whether the place after `read_bytes` of a body is nearer to its end than to its beginning, and that end near
/// enough to be read.
fn is_nearer_to_end(length: BodyLength, read_bytes: usize) -> bool {
    matches!(length, BodyLength::Known(length) if length <= SEARCHED_BYTES_MAX as u64 && length < 2 * read_bytes as u64)
}

/// Returns the object that a member of a body names.
pub fn reference(member: StringMember<'_>) -> Option<(Shelf, ObjectKey)> {
    let shelf = match (member.within, member.name) {
        (None, b"previous_response_id") => Shelf::Responses,
        (None, b"conversation" | b"input_file_id" | b"file_id") | (Some(b"conversation"), b"id") => Shelf::Others,
        _ => return None,
    };
    Some((shelf, ObjectKey::of(member.value)))
}

/// Finds the first name that stands in `content` or began in the bytes before it, which are in `tail`. Returns which it
/// is, and where in `content` it ends.
fn find_name(finders: &[Finder<'static>], tail: &mut Vec<u8>, content: &[u8]) -> Option<(usize, usize)> {
    let first = |bytes: &[u8]| {
        let ends = finders.iter().enumerate();
        let ends = ends.filter_map(|(index, finder)| Some((index, finder.find(bytes)? + finder.needle().len())));
        ends.min_by_key(|(_, end)| *end)
    };
    let border = content.len().min(NAME_BYTES_MAX);
    let before = tail.len();
    tail.extend_from_slice(&content[..border]);
    // None ends before `content`: it would have been found with the piece before.
    let across = first(tail).map(|(index, end)| (index, end.saturating_sub(before)));
    let found = across.or_else(|| first(content));
    if content.len() > border {
        tail.clear();
        tail.extend_from_slice(&content[content.len() - NAME_BYTES_MAX..]);
    } else {
        tail.drain(..tail.len().saturating_sub(NAME_BYTES_MAX));
    }
    found
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
    fn after_head(replay: &ReplayBuffer, length: BodyLength) -> Self {
        const END: &[u8] = b"\r\n\r\n";
        let head = replay.parts().next().and_then(|first| memmem::find(first, END));
        let offset = head.map_or(0, |length| length + END.len());
        BodyCursor { reader: BodyReader::new(length), segment: 0, offset, has_failed: head.is_none() }
    }

    /// Gives `is_enough` the content that follows, piece by piece, until it returns true; the rest of that segment is
    /// skipped. Returns whether it did.
    fn any(&mut self, replay: &ReplayBuffer, mut is_enough: impl FnMut(&[u8]) -> bool) -> bool {
        let mut has_enough = false;
        for (index, part) in replay.parts().enumerate().skip(self.segment) {
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
