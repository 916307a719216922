//! Reads the members of a JSON object that comes in pieces, as far as their values are strings.
//!
//! Only the outermost object and the objects that are its members are read; everything deeper is skipped. Invariant:
//! what is found does not depend on how the text was split, no more is kept than two names and one string of bounded
//! length, and the work is bounded: a text that is nested or fragmented beyond measure, or is no object, tells less and
//! costs no more. It is no validator: of text that is not JSON, it may find anything or nothing.

use std::borrow::Cow;

use memchr::{memchr_iter, memchr2};

use crate::json::prefix::Prefix;

/// The longest name that is told; all that are asked for are shorter.
const NAME_BYTES_MAX: usize = 32;

/// The longest value that is told, as it stands between its quotes: ids of LiteLLM, which wrap a provider's and the name
/// of a deployment, have some hundred bytes.
pub const VALUE_BYTES_MAX: usize = 1024;

/// The work that one text may cost, in steps of up to 10 ns: 1 to 3 ms in all. A long string is one step for each
/// [`STRING_BYTES_A_STEP`], and for each quote in it, so most bodies of 16 MiB are within it.
const STEPS_MAX: usize = 250_000;
const STRING_BYTES_A_STEP: usize = 512;
/// The steps to decode a string with escapes, beside one for each of its bytes: a parser is called, and allocates.
const DECODING_STEPS: usize = 10;

/// A member whose value is a string. A name or value that is too long or is no text is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StringMember<'a> {
    /// The name of the member that the object is, unless it is the outermost.
    pub within: Option<&'a [u8]>,
    pub name: &'a [u8],
    pub value: &'a [u8],
}

/// Reads one JSON text from its first byte on.
#[derive(Debug, Default)]
pub struct JsonMembers {
    outermost: Outermost,
    /// The number of objects and arrays that are open.
    depth: u32,
    /// Set for each of the two outermost of them that is an object.
    is_object: [bool; 2],
    /// The string that is read.
    string: Option<StringPart>,
    /// The last string that may be told, as it stands between its quotes; it is too long with one byte more than
    /// [`VALUE_BYTES_MAX`].
    text: Vec<u8>,
    /// The last names of the two outermost; `None`: it is not told.
    names: [Option<Prefix<NAME_BYTES_MAX>>; 2],
    is_value: bool,
    steps: usize,
    /// The outermost object has ended, or there is none, or it costs too much.
    is_over: bool,
    /// Something stands after its end, or it ends as an array, or it was not read to its end.
    has_surplus: bool,
}

/// The text that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Outermost {
    #[default]
    Object,
    /// An object, or an array of which the first is read.
    ObjectOrArray,
}

/// The place within a string.
#[derive(Debug, Clone, Copy)]
enum StringPart {
    Plain,
    AfterBackslash,
}

impl JsonMembers {
    /// Begins after a name that is taken for one of the outermost object, where its colon is to follow. Whether it was
    /// one is known at the end: see [`JsonMembers::ends_here`].
    pub fn after_name(name: &[u8]) -> Self {
        JsonMembers { depth: 1, is_object: [true, false], text: name.to_vec(), ..JsonMembers::default() }
    }

    /// Reads an object, or the first one of an array.
    pub fn also_in_array() -> Self {
        JsonMembers { outermost: Outermost::ObjectOrArray, ..JsonMembers::default() }
    }

    /// Tells whether the outermost object has just ended, and nothing but white space has followed.
    pub fn ends_here(&self) -> bool {
        self.is_over && self.depth == 0 && !self.has_surplus
    }

    /// Takes the next bytes and calls `found` for each member that ends in them, until that returns true.
    /// Returns whether it did.
    pub fn read(&mut self, mut bytes: &[u8], mut found: impl FnMut(StringMember<'_>) -> bool) -> bool {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.is_over {
                self.has_surplus |= !bytes.trim_ascii_start().is_empty();
                return false;
            }
            self.steps += 1;
            if self.steps > STEPS_MAX {
                (self.is_over, self.has_surplus) = (true, true);
                return false;
            }
            match self.string {
                None => {
                    bytes = rest;
                    self.enter(first);
                }
                Some(part) => {
                    bytes = self.read_string(part, bytes);
                    if self.string.is_none() && self.end_string(&mut found) {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Tells whether nothing more can be found.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Takes a byte outside of strings.
    fn enter(&mut self, byte: u8) {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            // A byte order mark, which parsers may ignore (RFC 8259 §8.1).
            0xEF | 0xBB | 0xBF if self.depth == 0 => {}
            b'"' if self.depth > 0 => {
                self.text.clear();
                self.string = Some(StringPart::Plain);
            }
            b'{' | b'[' => self.open(byte == b'{'),
            // After the outermost object nothing follows.
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.is_over = self.depth == 0;
                self.has_surplus |= self.is_over && byte == b']';
                self.is_value = true;
            }
            _ if self.depth == 0 => self.is_over = true,
            b':' => {
                if let Some(level) = self.level() {
                    self.end_name(level);
                }
            }
            b',' => self.is_value = false,
            _ => {}
        }
    }

    fn open(&mut self, is_object: bool) {
        if self.depth == 0 && !is_object && self.outermost == Outermost::ObjectOrArray {
            return;
        }
        // Text that does not begin with an object has no members; nor have the elements of an array.
        self.is_over = self.depth == 0 && !is_object;
        let is_read = is_object && (self.depth == 0 || self.depth == 1 && self.is_value && self.is_object[0]);
        if let Some(place) = self.is_object.get_mut(self.depth as usize) {
            *place = is_read;
        }
        self.depth = self.depth.saturating_add(1);
        self.is_value = false;
    }

    /// Returns which of the two outermost is the innermost that is open, where its members are read.
    fn level(&self) -> Option<usize> {
        let level = (self.depth as usize).checked_sub(1)?;
        self.is_object.get(level).copied().unwrap_or_default().then_some(level)
    }

    /// Takes bytes of a string, at least one, and returns what follows.
    fn read_string<'a>(&mut self, part: StringPart, bytes: &'a [u8]) -> &'a [u8] {
        match part {
            StringPart::Plain if !self.is_kept() => self.skip_string(bytes),
            StringPart::Plain => {
                let end = memchr2(b'"', b'\\', bytes);
                let plain = &bytes[..end.unwrap_or(bytes.len())];
                self.steps += plain.len() / STRING_BYTES_A_STEP;
                self.push(plain);
                let Some(end) = end else { return &[] };
                self.string = (bytes[end] == b'\\').then_some(StringPart::AfterBackslash);
                if self.string.is_some() {
                    self.push(b"\\");
                }
                &bytes[end + 1..]
            }
            StringPart::AfterBackslash => {
                self.push(&bytes[..1]);
                self.string = Some(StringPart::Plain);
                &bytes[1..]
            }
        }
    }

    /// Tells whether more of the string is kept: it may be a name or a value of interest, and is not too long for one.
    fn is_kept(&self) -> bool {
        self.level().is_some() && self.text.len() <= VALUE_BYTES_MAX
    }

    /// Takes bytes of a string of which no more is kept, and returns what follows it. Most of a long body is such
    /// strings, so their escapes are not looked at one by one.
    fn skip_string<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let is_escaped = |end: usize| bytes[..end].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1;
        let mut quotes = memchr_iter(b'"', bytes).inspect(|_| self.steps += 1);
        let end = quotes.find(|quote| !is_escaped(*quote));
        self.steps += end.unwrap_or(bytes.len()) / STRING_BYTES_A_STEP;
        match end {
            Some(quote) => {
                self.string = None;
                &bytes[quote + 1..]
            }
            None => {
                if is_escaped(bytes.len()) {
                    self.string = Some(StringPart::AfterBackslash);
                }
                &[]
            }
        }
    }

    /// Keeps bytes of a string that may be a name or a value of interest; one byte more than is allowed tells one that
    /// is too long.
    fn push(&mut self, bytes: &[u8]) {
        if self.is_kept() {
            let room = (VALUE_BYTES_MAX + 1).saturating_sub(self.text.len());
            self.text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    fn end_string(&mut self, found: &mut impl FnMut(StringMember<'_>) -> bool) -> bool {
        let Some(level) = self.level().filter(|_| self.is_value) else { return false };
        let [outer, inner] = &self.names;
        let (within, name) = match (level, outer, inner) {
            (0, Some(name), _) => (None, name.kept()),
            (1, Some(outer), Some(name)) => (Some(outer.kept()), name.kept()),
            _ => return false,
        };
        let Some(value) = decoded(&self.text, &mut self.steps) else { return false };
        found(StringMember { within, name, value: &value })
    }

    /// Takes the last string for a name.
    fn end_name(&mut self, level: usize) {
        let name = decoded(&self.text, &mut self.steps).filter(|name| name.len() <= NAME_BYTES_MAX);
        self.names[level] = name.map(|name| Prefix::of(&name));
        self.is_value = true;
    }
}

/// Returns a string without its escapes; `None` of one that is too long or no text.
fn decoded<'a>(text: &'a [u8], steps: &mut usize) -> Option<Cow<'a, [u8]>> {
    if text.len() > VALUE_BYTES_MAX {
        return None;
    }
    if memchr::memchr(b'\\', text).is_none() {
        return Some(Cow::Borrowed(text));
    }
    *steps += DECODING_STEPS + text.len();
    let quoted = [b"\"", text, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).ok().map(|decoded| Cow::Owned(decoded.into_bytes()))
}

#[cfg(test)]
mod tests;
