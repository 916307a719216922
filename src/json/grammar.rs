//! The grammar of JSON (RFC 8259), followed through the text of one object that comes in parts.
//!
//! Accepts what serde_json accepts, which reads a text in one piece alone: an escape may name half of a surrogate pair,
//! and nesting has no limit but the length of the text. Invariant: what is found does not depend on how the text was
//! split; beside a letter that a part ended within, one bit is kept for each open bracket, so an eighth of the text at
//! most.

use memchr::memchr2;

use crate::json::split_letter::SplitLetter;

/// Receives the members of the outermost object. Places count the bytes of the text.
pub trait MemberObserver {
    /// A name begins: its quote stands at `place`.
    fn name_begins(&mut self, place: usize);

    /// More of the name, as it is written between its quotes.
    fn name(&mut self, text: &[u8]);

    /// The value of that name has ended; `place` is the one after it.
    fn value_ended(&mut self, place: usize);
}

/// Follows one object from its first byte on.
#[derive(Debug)]
pub struct JsonGrammar {
    awaited: Awaited,
    open: OpenBrackets,
    letter: SplitLetter,
    read_bytes: usize,
}

/// The token that may follow, or the one that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// The brace that opens the object.
    Start,
    Value,
    /// A value or the end of the array.
    FirstElement,
    Name,
    /// A name or the end of the object.
    FirstName,
    Colon,
    /// A comma or the end of what is open.
    Comma,
    RestOfString {
        is_name: bool,
        part: StringText,
    },
    RestOfNumber(NumberText),
    /// The letters that are missing of `true`, `false` or `null`.
    RestOfWord(&'static [u8]),
    /// White space: the object has ended.
    End,
    /// Nothing: it is no object.
    Invalid,
}

/// The place within a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StringText {
    Plain,
    AfterBackslash,
    /// Before so many digits of `\uXXXX`.
    Digits(u8),
}

/// The part of a number that its last byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NumberText {
    Minus,
    /// A zero at the beginning: a digit is none of the number then, and nothing that may follow one.
    Zero,
    Integer,
    Point,
    Fraction,
    ExponentMark,
    ExponentSign,
    Exponent,
}

impl JsonGrammar {
    pub fn new() -> Self {
        JsonGrammar {
            awaited: Awaited::Start,
            open: OpenBrackets::default(),
            letter: SplitLetter::default(),
            read_bytes: 0,
        }
    }

    /// Tells whether all that was read is one whole object.
    pub fn is_whole(&self) -> bool {
        self.awaited == Awaited::End
    }

    /// Tells whether no text that begins like this is an object.
    pub fn is_invalid(&self) -> bool {
        self.awaited == Awaited::Invalid
    }

    /// Takes the next bytes.
    pub fn read(&mut self, bytes: &[u8], observer: &mut impl MemberObserver) {
        let mut rest = bytes;
        while let Some((&byte, tail)) = rest.split_first() {
            let place = self.read_bytes + (bytes.len() - rest.len());
            rest = match self.awaited {
                Awaited::RestOfString { is_name, part } => self.read_string(is_name, part, rest, place, observer),
                Awaited::RestOfNumber(part) => match part.after(byte) {
                    AfterNumber::GoesOn(part) => {
                        self.awaited = Awaited::RestOfNumber(part);
                        tail
                    }
                    // The byte belongs to what follows the number.
                    AfterNumber::Ended => {
                        self.end_value(place, observer);
                        rest
                    }
                    AfterNumber::Invalid => self.give_up(),
                },
                Awaited::RestOfWord(missing) => match missing.split_first() {
                    Some((&first, missing)) if first == byte => {
                        self.awaited = Awaited::RestOfWord(missing);
                        if missing.is_empty() {
                            self.end_value(place + 1, observer);
                        }
                        tail
                    }
                    _ => self.give_up(),
                },
                Awaited::Invalid => &[],
                _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => tail,
                awaited => {
                    self.begin(awaited, byte, place, observer);
                    tail
                }
            };
        }
        self.read_bytes += bytes.len();
    }

    /// Takes a byte that is not white space, between two tokens.
    fn begin(&mut self, awaited: Awaited, byte: u8, place: usize, observer: &mut impl MemberObserver) {
        let awaits_value = matches!(awaited, Awaited::Value | Awaited::FirstElement);
        let awaits_name = matches!(awaited, Awaited::Name | Awaited::FirstName);
        self.awaited = match (byte, awaited) {
            (b'{', _) if awaits_value || awaited == Awaited::Start => {
                self.open.push(Container::Object);
                Awaited::FirstName
            }
            (b'[', _) if awaits_value => {
                self.open.push(Container::Array);
                Awaited::FirstElement
            }
            (b'}', Awaited::FirstName | Awaited::Comma) if self.open.innermost() == Some(Container::Object) => {
                return self.close(place, observer);
            }
            (b']', Awaited::FirstElement | Awaited::Comma) if self.open.innermost() == Some(Container::Array) => {
                return self.close(place, observer);
            }
            (b',', Awaited::Comma) if self.open.innermost() == Some(Container::Object) => Awaited::Name,
            (b',', Awaited::Comma) => Awaited::Value,
            (b':', Awaited::Colon) => Awaited::Value,
            (b'"', _) if awaits_name => {
                if self.open.depth == 1 {
                    observer.name_begins(place);
                }
                Awaited::RestOfString { is_name: true, part: StringText::Plain }
            }
            (b'"', _) if awaits_value => Awaited::RestOfString { is_name: false, part: StringText::Plain },
            (b'-', _) if awaits_value => Awaited::RestOfNumber(NumberText::Minus),
            (b'0', _) if awaits_value => Awaited::RestOfNumber(NumberText::Zero),
            (b'1'..=b'9', _) if awaits_value => Awaited::RestOfNumber(NumberText::Integer),
            (b't', _) if awaits_value => Awaited::RestOfWord(b"rue"),
            (b'f', _) if awaits_value => Awaited::RestOfWord(b"alse"),
            (b'n', _) if awaits_value => Awaited::RestOfWord(b"ull"),
            _ => Awaited::Invalid,
        };
    }

    fn close(&mut self, place: usize, observer: &mut impl MemberObserver) {
        self.open.pop();
        self.end_value(place + 1, observer);
    }

    /// Goes on after a value, which ended before `place`.
    fn end_value(&mut self, place: usize, observer: &mut impl MemberObserver) {
        self.awaited = if self.open.depth == 0 { Awaited::End } else { Awaited::Comma };
        if self.open.depth == 1 {
            observer.value_ended(place);
        }
    }

    /// Takes bytes of a string, of which the first stands at `place`, up to its end; returns what follows.
    fn read_string<'a>(
        &mut self,
        is_name: bool,
        mut part: StringText,
        bytes: &'a [u8],
        place: usize,
        observer: &mut impl MemberObserver,
    ) -> &'a [u8] {
        let mut at = 0;
        let is_over = loop {
            let Some(&byte) = bytes.get(at) else { break false };
            part = match part {
                // The part before ended within a letter.
                StringText::Plain if matches!(byte, b'"' | b'\\') && !self.letter.is_whole() => return self.give_up(),
                StringText::Plain if byte == b'"' => break true,
                StringText::Plain if byte == b'\\' => StringText::AfterBackslash,
                StringText::Plain => match self.plain_text(&bytes[at..]) {
                    Some(length) => {
                        at += length;
                        continue;
                    }
                    None => return self.give_up(),
                },
                StringText::AfterBackslash => match byte {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => StringText::Plain,
                    b'u' => StringText::Digits(4),
                    _ => return self.give_up(),
                },
                StringText::Digits(_) if !byte.is_ascii_hexdigit() => return self.give_up(),
                StringText::Digits(0..=1) => StringText::Plain,
                StringText::Digits(missing) => StringText::Digits(missing - 1),
            };
            at += 1;
        };
        if is_name && self.open.depth == 1 {
            observer.name(&bytes[..at]);
        }
        if !is_over {
            self.awaited = Awaited::RestOfString { is_name, part };
            return &[];
        }
        if is_name {
            self.awaited = Awaited::Colon;
        } else {
            self.end_value(place + at + 1, observer);
        }
        &bytes[at + 1..]
    }

    /// Returns the length of the text before a quote or a backslash, or of all of it; `None`: it cannot stand in a
    /// string (RFC 8259 §7, RFC 3629). A letter may go on in `bytes` that the last part ended within.
    fn plain_text(&mut self, bytes: &[u8]) -> Option<usize> {
        let end = memchr2(b'"', b'\\', bytes);
        let text = &bytes[..end.unwrap_or(bytes.len())];
        let has_control = text.iter().fold(false, |has, byte| has | (*byte < b' '));
        let is_text = !has_control && self.letter.read(text) && (end.is_none() || self.letter.is_whole());
        is_text.then_some(text.len())
    }

    fn give_up(&mut self) -> &'static [u8] {
        self.awaited = Awaited::Invalid;
        &[]
    }
}

/// The state of a number after one more byte.
enum AfterNumber {
    GoesOn(NumberText),
    /// The byte is none of it.
    Ended,
    Invalid,
}

impl NumberText {
    fn after(self, byte: u8) -> AfterNumber {
        use NumberText::{Exponent, ExponentMark, ExponentSign, Fraction, Integer, Minus, Point, Zero};
        AfterNumber::GoesOn(match (self, byte) {
            (Minus, b'0') => Zero,
            (Minus, b'1'..=b'9') | (Integer, b'0'..=b'9') => Integer,
            (Zero | Integer, b'.') => Point,
            (Point | Fraction, b'0'..=b'9') => Fraction,
            (Zero | Integer | Fraction, b'e' | b'E') => ExponentMark,
            (ExponentMark, b'+' | b'-') => ExponentSign,
            (ExponentMark | ExponentSign | Exponent, b'0'..=b'9') => Exponent,
            (Zero | Integer | Fraction | Exponent, _) => return AfterNumber::Ended,
            (Minus | Point | ExponentMark | ExponentSign, _) => return AfterNumber::Invalid,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

/// The brackets that are open: a bit for each, set for that of an array.
#[derive(Debug, Default)]
struct OpenBrackets {
    arrays: Vec<u64>,
    depth: usize,
}

impl OpenBrackets {
    fn push(&mut self, container: Container) {
        let (word, bit) = Self::place(self.depth);
        if word == self.arrays.len() {
            self.arrays.push(0);
        }
        match container {
            Container::Object => self.arrays[word] &= !bit,
            Container::Array => self.arrays[word] |= bit,
        }
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    fn innermost(&self) -> Option<Container> {
        let (word, bit) = Self::place(self.depth.checked_sub(1)?);
        Some(if self.arrays.get(word)? & bit == 0 { Container::Object } else { Container::Array })
    }

    /// Returns the word and the bit in it of the bracket that so many others are open around.
    fn place(depth: usize) -> (usize, u64) {
        (depth / 64, 1 << (depth % 64))
    }
}
