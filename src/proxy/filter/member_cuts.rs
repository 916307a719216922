//! Finds the members to remove from a JSON object that comes in parts, without touching any other byte of it.
//!
//! Nothing is parsed into values and nothing serialized: the parts to remove are ranges of the text. Invariant: what is
//! left is an object with the other members, each as it was written, in their order. A member is removed together with
//! the comma and the white space between it and the next one; the last ones together with the text between them and the
//! member before; if none is left, the white space within the braces stays. Members of nested values are not
//! considered.

use std::ops::Range;

use crate::json::grammar::{JsonGrammar, MemberObserver};

/// The places of one text that something is removed at. Nobody repeats a member this often by mistake, and each takes
/// 16 bytes that no budget counts.
const CUTS_MAX: usize = 4096;

/// The longest spelling of one byte of a name: `\u005f`.
const ESCAPE_BYTES_MAX: usize = 6;

/// Follows a text from its first byte on, and finds the ranges to cut out of it so that its object has no member of
/// one name. Names are compared after their escapes are decoded (RFC 8259 §8.3), and all members of that name are cut.
#[derive(Debug)]
pub struct MemberCuts {
    grammar: JsonGrammar,
    members: OwnMembers,
}

/// The reason why nothing can be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCuts {
    /// The text is not one valid JSON object (RFC 8259).
    NotAnObject,
    /// More than [`CUTS_MAX`] ranges are to be cut.
    TooMany,
}

impl MemberCuts {
    /// Looks for members with the name `key`, which is ASCII.
    pub fn new(key: &'static str) -> Self {
        let members =
            OwnMembers { key, name: Vec::new(), name_place: 0, going: None, kept_end: None, end: 0, cuts: Vec::new() };
        MemberCuts { grammar: JsonGrammar::new(), members }
    }

    /// Takes the next bytes.
    pub fn read(&mut self, bytes: &[u8]) {
        self.grammar.read(bytes, &mut self.members);
    }

    /// Returns why nothing can be cut, where that is clear whatever follows.
    pub fn failure(&self) -> Option<NoCuts> {
        if self.members.cuts.len() > CUTS_MAX {
            return Some(NoCuts::TooMany);
        }
        self.grammar.is_invalid().then_some(NoCuts::NotAnObject)
    }

    /// Returns the ranges to cut out of what was read, in order; none if there is no such member.
    ///
    /// # Errors
    /// See [`NoCuts`].
    pub fn end(self) -> Result<Vec<Range<usize>>, NoCuts> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        if !self.grammar.is_whole() {
            return Err(NoCuts::NotAnObject);
        }
        let OwnMembers { going, kept_end, end, mut cuts, .. } = self.members;
        cuts.extend(going.map(|going| kept_end.unwrap_or(going)..end));
        Ok(cuts)
    }
}

/// The object's own members, as far as they have come.
#[derive(Debug)]
struct OwnMembers {
    key: &'static str,
    /// The beginning of the last name, as it is written: as much as tells it from `key`.
    name: Vec<u8>,
    name_place: usize,
    /// The start of the members to cut that no other member has followed yet.
    going: Option<usize>,
    /// The end of the last member that stays.
    kept_end: Option<usize>,
    /// The end of the last member.
    end: usize,
    cuts: Vec<Range<usize>>,
}

impl MemberObserver for OwnMembers {
    fn name_begins(&mut self, place: usize) {
        self.name_place = place;
        self.name.clear();
    }

    fn name(&mut self, text: &[u8]) {
        // One byte more tells a name that is too long.
        let room = self.key.len() * ESCAPE_BYTES_MAX + 1 - self.name.len();
        self.name.extend_from_slice(&text[..text.len().min(room)]);
    }

    fn value_ended(&mut self, place: usize) {
        self.end = place;
        if is_named(&self.name, self.key) {
            self.going.get_or_insert(self.name_place);
            return;
        }
        self.kept_end = Some(place);
        let cut = self.going.take().map(|going| going..self.name_place);
        // One more than are allowed tells that there are too many.
        self.cuts.extend(cut.filter(|_| self.cuts.len() <= CUTS_MAX));
    }
}

/// Tells whether `name`, as it is written between its quotes, decodes to `key`.
fn is_named(name: &[u8], key: &str) -> bool {
    // No spelling of it is shorter.
    if name.len() < key.len() || !name.contains(&b'\\') {
        return name == key.as_bytes();
    }
    // A name with an unpaired surrogate is valid JSON and not a string (RFC 8259 §8.2): it does not equal `key`.
    let quoted = [b"\"", name, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).is_ok_and(|name| name == key)
}

#[cfg(test)]
mod tests;
