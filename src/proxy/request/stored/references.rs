//! The objects that the JSON body of a request names, found while it comes into its copy.
//!
//! A body that names none of them, however long, is only searched for the names of the members. Where one of these
//! stands, it is read whether that is a member of the outermost object, which alone counts: from the name to the end of
//! the body, where that is the shorter part, else from its beginning. Invariant: what is found does not depend on how
//! the body came; at most [`SEARCHED_BYTES_MAX`] in [`PIECES_MAX`] are looked at, and no more than one part of the copy
//! in one step. Not here: what is waited for.

use std::cell::RefCell;
use std::sync::LazyLock;

use memchr::memmem::{self, Finder};

use crate::credentials::{ObjectKey, Shelf};
use crate::http1::framing::BodyLength;
use crate::io::turns::spend;
use crate::json::members::{JsonMembers, StringMember};
use crate::proxy::replay::buffer::ReplayBuffer;
use crate::proxy::replay::content::ContentCursor;

/// The part of a body that is searched: clients write these members first, or after a prompt that is shorter.
pub const SEARCHED_BYTES_MAX: usize = 1024 * 1024;

/// Pieces of the content of one body that are looked at, so that one in tiny chunks costs no more than any other.
const PIECES_MAX: usize = 16 * 1024;

/// Pieces that are searched for a name without a look at the budget of the turn, which would cost as much as the search
/// itself: it takes a microsecond for a read in one piece, and 200 µs for so many pieces.
const SHORT_PIECES_MAX: usize = 1024;

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
    head_bytes: usize,
    length: BodyLength,
    cursor: ContentCursor,
    stage: SearchStage,
    searched_bytes: usize,
    pieces: usize,
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
    /// The members are to be read from the beginning.
    Anew,
    /// From the beginning.
    Members(JsonMembers),
    Over,
}

/// The members from a name on, and the first [`REFERENCES_MAX`] objects that they name.
struct AfterName {
    members: JsonMembers,
    found: Vec<(Shelf, ObjectKey)>,
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
        let head_bytes = replay.part(0).and_then(|first| Some(memmem::find(first, b"\r\n\r\n")? + 4));
        let count = if has_conversations { NAMES.len() } else { 1 };
        let stage = match (head_bytes, shelf) {
            (None, _) => SearchStage::Over,
            (Some(_), Shelf::Responses) => SearchStage::Names { count, tail: Vec::new() },
            (Some(_), Shelf::Others) => SearchStage::Members(JsonMembers::default()),
        };
        let head_bytes = head_bytes.unwrap_or_default();
        let cursor = ContentCursor::new(head_bytes, length);
        ReferenceSearch { head_bytes, length, cursor, stage, searched_bytes: 0, pieces: 0, references: 0 }
    }

    /// Searches what has come since the last call, and calls `is_enough` for each object that is named, until it
    /// returns true. All of the copy must be there, with nothing but bytes appended to it in between. A shard does only
    /// so much of that in one turn.
    ///
    /// # Cancel safety
    /// Goes on where it was with the next call.
    pub async fn advance(
        &mut self,
        replay: &RefCell<ReplayBuffer>,
        mut is_enough: impl FnMut(Shelf, ObjectKey) -> bool,
    ) -> Searched {
        loop {
            let is_short = self.next_step_is_short();
            let mut step = || self.step(&replay.borrow(), &mut is_enough);
            let searched = if is_short { step() } else { spend(step).await };
            if let Some(searched) = searched {
                return searched;
            }
        }
    }

    fn next_step_is_short(&self) -> bool {
        match self.stage {
            SearchStage::Names { .. } => self.pieces < SHORT_PIECES_MAX,
            SearchStage::Over => true,
            SearchStage::AfterName(_) | SearchStage::Anew | SearchStage::Members(_) => false,
        }
    }

    /// Searches the rest of one part of the copy. `None`: there is more in it.
    pub fn step(
        &mut self,
        replay: &ReplayBuffer,
        is_enough: &mut impl FnMut(Shelf, ObjectKey) -> bool,
    ) -> Option<Searched> {
        if matches!(self.stage, SearchStage::Anew) {
            self.begin_anew();
        }
        let ReferenceSearch { length, cursor, stage, searched_bytes, pieces, references, .. } = self;
        let mut has_enough = false;
        let mut is_wanted = |member: StringMember<'_>| {
            let Some((shelf, object)) = reference(member) else { return false };
            *references += 1;
            has_enough = is_enough(shelf, object);
            has_enough || *references >= REFERENCES_MAX
        };
        let mut has_ended = matches!(stage, SearchStage::Over);
        cursor.read_part(replay, |content| {
            has_ended = has_ended || *pieces >= PIECES_MAX || *searched_bytes >= SEARCHED_BYTES_MAX;
            if !has_ended {
                let content = &content[..content.len().min(SEARCHED_BYTES_MAX - *searched_bytes)];
                has_ended = stage.read(content, *searched_bytes, *length, &mut is_wanted);
                *searched_bytes += content.len();
                *pieces += 1;
            }
        });
        if matches!(stage, SearchStage::Anew) {
            return None;
        }
        has_ended |= *pieces >= PIECES_MAX || *searched_bytes >= SEARCHED_BYTES_MAX;
        if cursor.is_complete()
            && !has_enough
            && let SearchStage::AfterName(after_name) = stage
        {
            if !after_name.members.ends_here() {
                *stage = SearchStage::Anew;
                return None;
            }
            has_enough = after_name.found.iter().any(|(shelf, object)| is_enough(*shelf, *object));
        }
        let searched = if has_enough {
            Searched::Enough
        } else if has_ended || cursor.is_complete() {
            Searched::Over
        } else if cursor.has_more(replay) {
            return None;
        } else {
            return Some(Searched::GoesOn);
        };
        self.stage = SearchStage::Over;
        Some(searched)
    }

    fn begin_anew(&mut self) {
        self.cursor = ContentCursor::new(self.head_bytes, self.length);
        self.stage = SearchStage::Members(JsonMembers::default());
        (self.searched_bytes, self.pieces) = (0, 0);
    }
}

impl SearchStage {
    /// Reads a piece of the content of a body of this length, after so many bytes of it. Returns whether nothing more
    /// is looked for.
    fn read(
        &mut self,
        content: &[u8],
        before: usize,
        length: BodyLength,
        is_wanted: &mut impl FnMut(StringMember<'_>) -> bool,
    ) -> bool {
        match self {
            SearchStage::Names { count, tail } => {
                if let Some((index, end)) = find_name(&FINDERS[..*count], tail, content) {
                    *self = if is_nearer_to_end(length, before + end) {
                        let mut after_name = AfterName::of(NAMES[index]);
                        after_name.read(&content[end..]);
                        SearchStage::AfterName(after_name)
                    } else {
                        SearchStage::Anew
                    };
                }
            }
            SearchStage::AfterName(after_name) => after_name.read(content),
            SearchStage::Members(members) => return members.read(content, is_wanted) || members.is_over(),
            SearchStage::Anew | SearchStage::Over => {}
        }
        false
    }
}

impl AfterName {
    /// Follows a name, which is given with its quotes.
    fn of(name: &str) -> Self {
        AfterName { members: JsonMembers::after_name(name.trim_matches('"').as_bytes()), found: Vec::new() }
    }

    fn read(&mut self, content: &[u8]) {
        let AfterName { members, found } = self;
        members.read(content, |member| {
            found.extend(reference(member).filter(|_| found.len() < REFERENCES_MAX));
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

#[cfg(test)]
mod tests;
