//! A JSON object that is read as it comes, and can be closed wherever it breaks off.
//!
//! Owns the grammar (RFC 8259) and what is missing after any beginning of an object. Invariant: memory is bounded and
//! nothing is allocated before [`JsonText::closing`]; what is there stays as it is, so a client that reads the whole
//! sees the beginning of what was meant, and the added members. Strings and numbers are not checked to the last rule:
//! what is wrong with them was so before. Not here: what a member means.

use crate::json::prefix::Prefix;
use crate::json::string::StringPlace;

/// The most brackets that may be open. SDKs' own parsers give up between 128 and 1,000, and events of models have ten.
const DEPTH_MAX: usize = 128;

/// The part of a key or value that observers get: room for `FINISH_REASON_UNSPECIFIED`, the longest that matters to
/// one, and more to tell a longer one.
const TOKEN_BYTES_MAX: usize = 32;

/// Receives the keys and values that it wants of an object. `depth` is the number of brackets that are open around one.
pub trait JsonObserver {
    /// Returns whether keys and values at this depth are wanted.
    fn wants(&self, depth: usize) -> bool;

    /// A key has ended. `name` has its first 32 bytes, escapes as they stand.
    fn key(&mut self, depth: usize, name: &[u8]);

    /// A string, number or word has ended; as for `key`.
    fn value(&mut self, depth: usize, value: JsonScalar<'_>);

    /// The next bytes of a string that is wanted and no key, escapes as they stand; `value` follows when it has ended.
    fn text(&mut self, _depth: usize, _part: &[u8]) {}

    /// An object or array begins as the last of so many open ones.
    fn open(&mut self, depth: usize, bracket: Bracket);

    /// The last of so many open ones has ended.
    fn close(&mut self, depth: usize);
}

#[derive(Debug, Clone, Copy)]
pub enum JsonScalar<'a> {
    String(&'a [u8]),
    /// A number, `true`, `false` or `null`.
    Word(&'a [u8]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bracket {
    Object,
    Array,
}

/// Reads one object from its first byte on.
pub struct JsonText {
    expected: ExpectedToken,
    depth: u8,
    /// The bit of each open bracket that is an array's; the outermost has the lowest.
    arrays: [u64; DEPTH_MAX / 64],
    token: Prefix<TOKEN_BYTES_MAX>,
}

/// The token that the grammar expects next, or the one that is under way.
#[derive(Debug, Clone, Copy, PartialEq)]
enum ExpectedToken {
    /// The brace that opens the object.
    Start,
    Value,
    /// A value or the end of the array.
    FirstValue,
    Key,
    /// A key or the end of the object.
    FirstKey,
    Colon,
    /// A comma or the end of what is open.
    Comma,
    RestOfKey(StringPlace),
    RestOfString(StringPlace),
    RestOfWord {
        last: u8,
    },
    /// White space: the object has ended.
    End,
    /// It is no object, or nested too deeply.
    Unreadable,
}

impl JsonText {
    pub const fn new() -> Self {
        JsonText { expected: ExpectedToken::Start, depth: 0, arrays: [0; DEPTH_MAX / 64], token: Prefix::new() }
    }

    pub fn clear(&mut self) {
        self.expected = ExpectedToken::Start;
        self.depth = 0;
    }

    /// Counts as unreadable from here on.
    pub fn give_up(&mut self) {
        self.expected = ExpectedToken::Unreadable;
    }

    /// Counts as a whole object from here on.
    pub fn pass(&mut self) {
        self.expected = ExpectedToken::End;
    }

    /// Returns whether all that was read is one whole object.
    pub fn is_whole(&self) -> bool {
        self.expected == ExpectedToken::End
    }

    /// The number or word at the top level that is under way.
    pub fn open_word(&self) -> Option<&[u8]> {
        (self.depth == 1 && matches!(self.expected, ExpectedToken::RestOfWord { .. })).then_some(self.token.kept())
    }

    /// Takes the next bytes.
    pub fn read(&mut self, mut rest: &[u8], observer: &mut impl JsonObserver) {
        while let Some((&byte, tail)) = rest.split_first() {
            rest = match self.expected {
                ExpectedToken::RestOfKey(place) => self.read_string(place, rest, true, observer),
                ExpectedToken::RestOfString(place) => self.read_string(place, rest, false, observer),
                ExpectedToken::RestOfWord { last } => self.read_word(last, rest, observer),
                ExpectedToken::Unreadable => return,
                _ => {
                    if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                        self.expected = self.after(byte, observer).unwrap_or(ExpectedToken::Unreadable);
                    }
                    tail
                }
            };
        }
    }

    /// Takes a byte that is not white space, between two tokens. `None` where it cannot stand there.
    fn after(&mut self, byte: u8, observer: &mut impl JsonObserver) -> Option<ExpectedToken> {
        let expected = self.expected;
        let expects_value = matches!(expected, ExpectedToken::Value | ExpectedToken::FirstValue);
        match byte {
            b'{' if expects_value || expected == ExpectedToken::Start => self.open(Bracket::Object, observer),
            b'[' if expects_value => self.open(Bracket::Array, observer),
            b'}' if matches!(expected, ExpectedToken::FirstKey | ExpectedToken::Comma) => {
                self.close(Bracket::Object, observer)
            }
            b']' if matches!(expected, ExpectedToken::FirstValue | ExpectedToken::Comma) => {
                self.close(Bracket::Array, observer)
            }
            b',' if expected == ExpectedToken::Comma => Some(match self.bracket() {
                Bracket::Object => ExpectedToken::Key,
                Bracket::Array => ExpectedToken::Value,
            }),
            b':' if expected == ExpectedToken::Colon => Some(ExpectedToken::Value),
            b'"' if matches!(expected, ExpectedToken::Key | ExpectedToken::FirstKey) => {
                self.token.clear();
                Some(ExpectedToken::RestOfKey(StringPlace::Text))
            }
            b'"' if expects_value => {
                self.token.clear();
                Some(ExpectedToken::RestOfString(StringPlace::Text))
            }
            _ if expects_value && is_word(byte) => {
                self.token.clear();
                self.token.append(&[byte]);
                Some(ExpectedToken::RestOfWord { last: byte })
            }
            _ => None,
        }
    }

    fn open(&mut self, bracket: Bracket, observer: &mut impl JsonObserver) -> Option<ExpectedToken> {
        if usize::from(self.depth) == DEPTH_MAX {
            return None;
        }
        let (word, bit) = (&mut self.arrays[usize::from(self.depth / 64)], 1 << (self.depth % 64));
        self.depth += 1;
        let expected = match bracket {
            Bracket::Object => {
                *word &= !bit;
                ExpectedToken::FirstKey
            }
            Bracket::Array => {
                *word |= bit;
                ExpectedToken::FirstValue
            }
        };
        observer.open(usize::from(self.depth), bracket);
        Some(expected)
    }

    fn close(&mut self, bracket: Bracket, observer: &mut impl JsonObserver) -> Option<ExpectedToken> {
        if self.bracket() != bracket {
            return None;
        }
        observer.close(usize::from(self.depth));
        self.depth -= 1;
        Some(if self.depth == 0 { ExpectedToken::End } else { ExpectedToken::Comma })
    }

    /// The innermost open bracket.
    fn bracket(&self) -> Bracket {
        self.bracket_at(self.depth)
    }

    fn bracket_at(&self, depth: u8) -> Bracket {
        let place = depth.saturating_sub(1);
        let is_array = self.arrays[usize::from(place / 64)] >> (place % 64) & 1 == 1;
        if is_array { Bracket::Array } else { Bracket::Object }
    }

    fn read_string<'a>(
        &mut self,
        mut place: StringPlace,
        text: &'a [u8],
        is_key: bool,
        observer: &mut impl JsonObserver,
    ) -> &'a [u8] {
        let end = place.read(text);
        let depth = usize::from(self.depth);
        let is_wanted = observer.wants(depth);
        if is_wanted {
            let part = &text[..end.unwrap_or(text.len())];
            self.token.append(part);
            if !is_key {
                observer.text(depth, part);
            }
        }
        match end {
            None => {
                self.expected =
                    if is_key { ExpectedToken::RestOfKey(place) } else { ExpectedToken::RestOfString(place) };
                &[]
            }
            Some(end) => {
                match (is_wanted, is_key) {
                    (true, true) => observer.key(depth, self.token.kept()),
                    (true, false) => observer.value(depth, JsonScalar::String(self.token.kept())),
                    (false, _) => {}
                }
                self.expected = if is_key { ExpectedToken::Colon } else { ExpectedToken::Comma };
                &text[end + 1..]
            }
        }
    }

    fn read_word<'a>(&mut self, last: u8, text: &'a [u8], observer: &mut impl JsonObserver) -> &'a [u8] {
        let length = text.iter().take_while(|&&byte| is_word(byte)).count();
        let (word, rest) = text.split_at(length);
        self.token.append(word);
        self.expected = if rest.is_empty() {
            ExpectedToken::RestOfWord { last: word.last().copied().unwrap_or(last) }
        } else {
            let depth = usize::from(self.depth);
            if observer.wants(depth) {
                observer.value(depth, JsonScalar::Word(self.token.kept()));
            }
            ExpectedToken::Comma
        };
        rest
    }

    /// Returns the bytes that make what was read an object that has `members` (written as `"name":value`, with commas)
    /// at its top level, after all that it held.
    ///
    /// `None` where it is not the beginning of a JSON object, or already a whole one. Nothing at all is a beginning.
    pub fn closing(&self, members: &str) -> Option<Vec<u8>> {
        let mut out = match self.expected {
            ExpectedToken::End | ExpectedToken::Unreadable => return None,
            ExpectedToken::Start => return Some(format!("{{{members}}}").into_bytes()),
            ExpectedToken::Value => b"null".to_vec(),
            ExpectedToken::Key => b"\"\":null".to_vec(),
            ExpectedToken::Colon => b":null".to_vec(),
            ExpectedToken::FirstValue | ExpectedToken::FirstKey | ExpectedToken::Comma => Vec::new(),
            ExpectedToken::RestOfKey(place) => [place.completion(), b":null".to_vec()].concat(),
            ExpectedToken::RestOfString(place) => place.completion(),
            ExpectedToken::RestOfWord { last } => rest_of_word(self.token.kept(), last).to_vec(),
        };
        for depth in (2..=self.depth).rev() {
            out.push(match self.bracket_at(depth) {
                Bracket::Object => b'}',
                Bracket::Array => b']',
            });
        }
        let is_empty = self.depth == 1 && self.expected == ExpectedToken::FirstKey;
        if !is_empty && !members.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(members.as_bytes());
        out.push(b'}');
        Some(out)
    }
}

/// Letters and signs of numbers, `true`, `false` and `null`.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

/// Completes `true`, `false`, `null` or a number whose last byte is `last`.
fn rest_of_word(word: &[u8], last: u8) -> &'static [u8] {
    for known in [b"true".as_slice(), b"false", b"null"] {
        if let Some(rest) = known.strip_prefix(word) {
            return rest;
        }
    }
    if last.is_ascii_digit() { b"" } else { b"0" }
}

#[cfg(test)]
mod tests;
