//! JSON that is read from anywhere within it.
//!
//! Begun in the middle, it may be within a string or not, and takes itself to be outside; a byte that cannot stand
//! there tells that it was within one. Depths are counted from [`JsonMiddle::MIDDLE`] then, so that only their
//! differences mean anything. All keys are told, and the values that are wanted. Invariant: memory is bounded, nothing
//! is allocated, and strings that nobody wants cost one search for their end. It is no validator: of text that is not
//! JSON, it may find anything or nothing.

use memchr::{memchr_iter, memchr2};

use crate::json::prefix::Prefix;
use crate::json::text::{Bracket, JsonObserver, JsonScalar};

/// The part of a key or value that observers get at once, as of [`crate::json::text::JsonText`].
const TOKEN_BYTES_MAX: usize = 32;

/// Reads one text, or the rest of one.
pub struct JsonMiddle {
    place: MiddlePlace,
    depth: usize,
    token: Prefix<TOKEN_BYTES_MAX>,
    string: StringUse,
    /// It was begun in the middle, so that a strange byte may be one of a string.
    is_in_middle: bool,
    last_bracket: Bracket,
}

/// The place where the next byte belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MiddlePlace {
    /// Nothing has come.
    Start,
    /// Between the tokens, or within a number or word that nobody wants.
    Outside,
    /// After the colon of a member.
    Value,
    /// Within a number or word that is the value of a member.
    Word,
    String,
    AfterBackslash,
    /// After a string that may have been a key.
    AfterString,
    /// The outermost object or array has ended.
    End,
    Unreadable,
}

/// The use of the string that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StringUse {
    /// It may be a key.
    Name,
    /// A value that is wanted.
    Told,
    /// Another value.
    None,
}

/// The part of a byte outside of strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OutsideByte {
    /// Nothing: white space, commas, numbers and the letters of words.
    Skipped,
    Quote,
    Open(Bracket),
    Close(Bracket),
    Colon,
    /// It cannot stand there.
    Strange,
}

static OUTSIDE: [OutsideByte; 256] = outside_bytes();

const fn outside_bytes() -> [OutsideByte; 256] {
    let mut table = [OutsideByte::Strange; 256];
    let skipped = b" \t\r\n,+-.0123456789Etruefalsn";
    let mut at = 0;
    while at < skipped.len() {
        table[skipped[at] as usize] = OutsideByte::Skipped;
        at += 1;
    }
    table[b'"' as usize] = OutsideByte::Quote;
    table[b':' as usize] = OutsideByte::Colon;
    table[b'{' as usize] = OutsideByte::Open(Bracket::Object);
    table[b'[' as usize] = OutsideByte::Open(Bracket::Array);
    table[b'}' as usize] = OutsideByte::Close(Bracket::Object);
    table[b']' as usize] = OutsideByte::Close(Bracket::Array);
    table
}

impl JsonMiddle {
    /// The depth of a text that is begun in the middle: no text has so many brackets.
    pub const MIDDLE: usize = 1 << 31;

    /// Begins with the first byte of the text.
    pub const fn at_start() -> Self {
        JsonMiddle {
            place: MiddlePlace::Start,
            depth: 0,
            token: Prefix::new(),
            string: StringUse::None,
            is_in_middle: false,
            last_bracket: Bracket::Object,
        }
    }

    /// Begins anywhere.
    pub const fn in_middle() -> Self {
        JsonMiddle { place: MiddlePlace::Outside, depth: Self::MIDDLE, is_in_middle: true, ..Self::at_start() }
    }

    /// The depth now, outside of what has ended.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The kind of what ended last.
    pub fn last_bracket(&self) -> Bracket {
        self.last_bracket
    }

    /// Returns whether an object or array has ended, and nothing but white space has followed. Of a text that was begun
    /// at its start it is the outermost.
    pub fn has_ended(&self) -> bool {
        self.place == MiddlePlace::End
    }

    /// Takes the next bytes.
    pub fn read(&mut self, mut rest: &[u8], observer: &mut impl JsonObserver) {
        while !rest.is_empty() {
            rest = match self.place {
                MiddlePlace::String => self.read_string(rest, observer),
                MiddlePlace::AfterBackslash => {
                    self.take_text(&rest[..1], observer);
                    self.place = MiddlePlace::String;
                    &rest[1..]
                }
                MiddlePlace::Word => self.read_word(rest, observer),
                MiddlePlace::Unreadable => return,
                MiddlePlace::Outside => {
                    let skipped = rest.iter().take_while(|&&byte| is_skipped(byte)).count();
                    rest.get(skipped..).map_or(&[], |rest| self.enter(rest, observer))
                }
                MiddlePlace::Start | MiddlePlace::Value | MiddlePlace::AfterString | MiddlePlace::End => {
                    match rest.trim_ascii_start() {
                        [] => return,
                        rest => self.enter(rest, observer),
                    }
                }
            };
        }
    }

    /// Takes a byte between two tokens, which is the first of `rest` if there is one, and returns what follows.
    fn enter<'a>(&mut self, rest: &'a [u8], observer: &mut impl JsonObserver) -> &'a [u8] {
        let Some((&byte, tail)) = rest.split_first() else { return rest };
        let before = std::mem::replace(&mut self.place, MiddlePlace::Outside);
        match OUTSIDE[usize::from(byte)] {
            OutsideByte::Strange => return self.enter_strange(before, rest),
            _ if before == MiddlePlace::AfterString && !matches!(byte, b':' | b',' | b'}' | b']') => {
                return self.enter_strange(before, rest);
            }
            OutsideByte::Skipped if before == MiddlePlace::Value && observer.wants(self.depth) => {
                self.token.clear();
                self.place = MiddlePlace::Word;
                return rest;
            }
            OutsideByte::Skipped => {}
            OutsideByte::Quote => {
                self.token.clear();
                self.string = match before {
                    MiddlePlace::Value if observer.wants(self.depth) => StringUse::Told,
                    MiddlePlace::Value => StringUse::None,
                    _ => StringUse::Name,
                };
                self.place = MiddlePlace::String;
            }
            OutsideByte::Colon if before == MiddlePlace::AfterString => {
                observer.key(self.depth, self.token.kept());
                self.place = MiddlePlace::Value;
            }
            OutsideByte::Colon => {}
            OutsideByte::Open(bracket) => {
                self.depth += 1;
                observer.open(self.depth, bracket);
            }
            OutsideByte::Close(bracket) => self.close(bracket, observer),
        }
        tail
    }

    fn close(&mut self, bracket: Bracket, observer: &mut impl JsonObserver) {
        let Some(depth) = self.depth.checked_sub(1) else {
            self.place = MiddlePlace::Unreadable;
            return;
        };
        observer.close(self.depth);
        self.depth = depth;
        self.last_bracket = bracket;
        // In the middle it may be the end.
        if depth == 0 || depth >= Self::MIDDLE / 2 {
            self.place = MiddlePlace::End;
        }
    }

    /// Takes a byte that cannot stand here outside of a string: in the middle it is within one, which began with what was
    /// taken for the end of another, or before all that was read.
    fn enter_strange<'a>(&mut self, before: MiddlePlace, rest: &'a [u8]) -> &'a [u8] {
        self.place = if self.is_in_middle { MiddlePlace::String } else { MiddlePlace::Unreadable };
        self.string = StringUse::Name;
        self.token.clear();
        if before != MiddlePlace::AfterString {
            // Of the end of a string no name is known, and none has a backslash.
            self.token.append(b"\\");
        }
        rest
    }

    fn read_string<'a>(&mut self, text: &'a [u8], observer: &mut impl JsonObserver) -> &'a [u8] {
        if !self.is_kept() {
            return self.skip_string(text);
        }
        let end = memchr2(b'"', b'\\', text);
        self.take_text(&text[..end.unwrap_or(text.len())], observer);
        let Some(end) = end else { return &[] };
        if text[end] == b'\\' {
            self.take_text(b"\\", observer);
            self.place = MiddlePlace::AfterBackslash;
        } else {
            if self.string == StringUse::Told {
                observer.value(self.depth, JsonScalar::String(self.token.kept()));
            }
            self.end_string();
        }
        &text[end + 1..]
    }

    /// Returns whether more of the string may be told.
    fn is_kept(&self) -> bool {
        match self.string {
            StringUse::Told => true,
            StringUse::Name => self.token.kept().len() < TOKEN_BYTES_MAX,
            StringUse::None => false,
        }
    }

    fn end_string(&mut self) {
        self.place = if self.string == StringUse::Name { MiddlePlace::AfterString } else { MiddlePlace::Outside };
    }

    /// Takes bytes of a string of which no more is told, and returns what follows it. Most of a long body is such
    /// strings, so their escapes are not looked at one by one.
    fn skip_string<'a>(&mut self, text: &'a [u8]) -> &'a [u8] {
        let is_escaped = |end: usize| text[..end].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1;
        match memchr_iter(b'"', text).find(|quote| !is_escaped(*quote)) {
            Some(quote) => {
                self.end_string();
                &text[quote + 1..]
            }
            None => {
                if is_escaped(text.len()) {
                    self.place = MiddlePlace::AfterBackslash;
                }
                &[]
            }
        }
    }

    fn take_text(&mut self, part: &[u8], observer: &mut impl JsonObserver) {
        match self.string {
            StringUse::None => return,
            StringUse::Told => observer.text(self.depth, part),
            StringUse::Name => {}
        }
        self.token.append(part);
    }

    fn read_word<'a>(&mut self, text: &'a [u8], observer: &mut impl JsonObserver) -> &'a [u8] {
        let is_word = |byte: &&u8| is_skipped(**byte) && !matches!(**byte, b' ' | b'\t' | b'\r' | b'\n' | b',');
        let (word, rest) = text.split_at(text.iter().take_while(is_word).count());
        self.token.append(word);
        if !rest.is_empty() {
            observer.value(self.depth, JsonScalar::Word(self.token.kept()));
            self.place = MiddlePlace::Outside;
        }
        rest
    }
}

fn is_skipped(byte: u8) -> bool {
    matches!(OUTSIDE[usize::from(byte)], OutsideByte::Skipped)
}

#[cfg(test)]
mod tests;
