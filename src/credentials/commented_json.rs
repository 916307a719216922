//! JSON arrays with comments, as people write them into files of secrets: their values, borrowed from the text, and the
//! places of these.
//!
//! Invariant: no copy of a value stays behind in memory that is not erased, and no error holds a part of the text. Not
//! here: the fields of the entries.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;

use json_comments::CommentSettings;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::whole_file;

/// The bytes that are freed of comments at a time.
const BLOCK_BYTES: usize = 4096;

/// The reason why a text is no JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonFault {
    /// A comment or string that never ends, or a stray `/`.
    Comment {
        line: usize,
    },
    Syntax {
        line: usize,
        column: usize,
        what: &'static str,
    },
}

impl fmt::Display for JsonFault {
    /// Writes the end of a sentence that begins with the file.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JsonFault::Comment { line } => {
                write!(formatter, "has a string or comment that does not end, or a stray `/`, on line {line}")
            }
            JsonFault::Syntax { line, column, what } => {
                write!(formatter, "is not valid JSON: {what} at line {line}, column {column}")
            }
        }
    }
}

impl From<serde_json::Error> for JsonFault {
    /// Describes a syntax error without the parser's own words, which could hold parts of the file one day.
    fn from(error: serde_json::Error) -> Self {
        let what = match error.classify() {
            serde_json::error::Category::Eof => "the text ends too early",
            _ => "a syntax error (a missing or surplus comma, quote or bracket?)",
        };
        JsonFault::Syntax { line: error.line(), column: error.column(), what }
    }
}

/// Replaces comments by spaces, so that positions stay true. `#` comments are in neither JSON5 nor JavaScript, and are
/// not accepted.
///
/// # Errors
/// [`JsonFault::Comment`].
pub fn strip_comments(text: &str) -> Result<Zeroizing<String>, JsonFault> {
    let mut bytes = Zeroizing::new(vec![0; text.len()]);
    let mut reader = CommentSettings::c_style().strip_comments(text.as_bytes());
    let (mut filled, mut nothing) = (0, [0_u8]);
    // Once more than there are blocks: the end may be a fault too.
    for _ in 0..=text.len().div_ceil(BLOCK_BYTES) {
        let end = (filled + BLOCK_BYTES).min(text.len());
        let block = if filled == text.len() { &mut nothing[..] } else { &mut bytes[filled..end] };
        match reader.read(block) {
            Ok(count) => filled += count,
            Err(_) => return Err(JsonFault::Comment { line: line_of_comment_fault(text) }),
        }
    }
    // Those of block comments too.
    for at in memchr::memchr_iter(b'\n', text.as_bytes()) {
        bytes[at] = b'\n';
    }
    // Only ASCII was replaced but for the content of comments, which was so as a whole.
    whole_file::into_text(bytes).map_err(|_| JsonFault::Comment { line: line_of_comment_fault(text) })
}

/// Finds the line of a fault that is known to be there, byte by byte.
fn line_of_comment_fault(text: &str) -> usize {
    let mut reader = CommentSettings::c_style().strip_comments(text.as_bytes());
    let mut byte = [0_u8];
    let bytes = text.as_bytes();
    let good = (0..bytes.len()).take_while(|_| reader.read(&mut byte).is_ok()).count();
    1 + memchr::memchr_iter(b'\n', &bytes[..good]).count()
}

/// Parses a text without comments. Borrowed from it, so that the values stay in memory that is erased.
///
/// # Errors
/// It is no JSON.
pub fn document(text: &str) -> Result<&RawValue, JsonFault> {
    Ok(serde_json::from_str(text)?)
}

/// Returns the elements of an array; `None` of another value.
pub fn elements(value: &RawValue) -> Option<Vec<&RawValue>> {
    // An array that was read once cannot fail.
    serde_json::from_str(value.get()).ok().filter(|_| JsonKind::of(value) == JsonKind::Array)
}

/// The name of a field, copied only if it is written with escapes, and its value.
pub type JsonField<'a> = (Cow<'a, str>, &'a RawValue);

/// Returns the fields of an object in their order, each as often as it is written. `None` of another value, and of one
/// with half a surrogate pair in the name of a field.
pub fn fields(value: &RawValue) -> Option<Vec<JsonField<'_>>> {
    serde_json::from_str::<FieldList<'_>>(value.get()).ok().map(|list| list.0)
}

struct FieldList<'a>(Vec<JsonField<'a>>);

#[derive(Deserialize)]
struct BorrowedName<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for FieldList<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = FieldList<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, value)) = map.next_entry::<BorrowedName<'de>, &'de RawValue>()? {
            fields.push((name.0, value));
        }
        Ok(FieldList(fields))
    }
}

/// Describes what was found in the place of a value that can be read. One of the expected kind cannot be only where
/// half a surrogate pair is in it, or in the name of a field, which stands for no character (RFC 8259 §8.2).
pub fn found(value: &RawValue, expected: JsonKind) -> String {
    let kind = JsonKind::of(value);
    if kind == expected { format!("{kind} with half a surrogate pair") } else { kind.to_string() }
}

/// Reads a JSON string into memory that is erased; `None` of another value, and of one with half a surrogate pair. The
/// parser itself would put a string with escapes together in memory of its own.
pub fn text_of(value: &RawValue) -> Option<Zeroizing<String>> {
    let mut rest = value.get().strip_prefix('"')?.strip_suffix('"')?;
    // No text is longer than it is written.
    let mut text = Zeroizing::new(String::with_capacity(rest.len()));
    while let Some(at) = rest.find('\\') {
        let (plain, escaped) = rest.split_at(at);
        text.push_str(plain);
        let (character, after) = unescape(escaped)?;
        text.push(character);
        rest = after;
    }
    text.push_str(rest);
    Some(text)
}

/// Reads the escape that the text begins with (RFC 8259 §7), and returns what follows it.
fn unescape(text: &str) -> Option<(char, &str)> {
    let unit_bytes = if text.starts_with("\\u") { 6 } else { 2 };
    [unit_bytes, 12].into_iter().find_map(|bytes| {
        let (escape, after) = text.split_at_checked(bytes)?;
        let character = serde_json::from_str(&format!("\"{escape}\"")).ok()?;
        Some((character, after))
    })
}

/// The kinds of JSON values, as messages name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonKind {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

impl JsonKind {
    pub fn of(value: &RawValue) -> Self {
        match value.get().as_bytes().first() {
            Some(b'n') => JsonKind::Null,
            Some(b't' | b'f') => JsonKind::Boolean,
            Some(b'"') => JsonKind::String,
            Some(b'[') => JsonKind::Array,
            Some(b'{') => JsonKind::Object,
            _ => JsonKind::Number,
        }
    }
}

impl fmt::Display for JsonKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            JsonKind::Null => "null",
            JsonKind::Boolean => "a boolean",
            JsonKind::Number => "a number",
            JsonKind::String => "a string",
            JsonKind::Array => "an array",
            JsonKind::Object => "an object",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_its_comments_has_every_other_byte_where_it_was() {
        for length in [0, BLOCK_BYTES - 3, BLOCK_BYTES - 2, BLOCK_BYTES - 1, BLOCK_BYTES, 3 * BLOCK_BYTES] {
            let text = format!("{}/* é\n * */[\"//\", 1] // 🦀", " ".repeat(length));
            let stripped = strip_comments(&text).expect("comments that end");
            assert_eq!(stripped.len(), text.len());
            assert_eq!(stripped.trim(), "[\"//\", 1]");
            assert_eq!((stripped.find('\n'), stripped.find('[')), (text.find('\n'), text.find('[')));
        }
    }

    #[test]
    fn a_fault_is_told_by_its_line() {
        let blank = "\n".repeat(2 * BLOCK_BYTES);
        for (text, line) in [("/* \n\n", 3), ("[\n/ 1]", 2), ("\"x", 1), ("\"\n\\", 2)] {
            assert_eq!(strip_comments(text).expect_err("a fault"), JsonFault::Comment { line }, "{text}");
            let later = JsonFault::Comment { line: line + 2 * BLOCK_BYTES };
            assert_eq!(strip_comments(&format!("{blank}{text}")).expect_err("a fault"), later, "{text}");
        }
        let text = strip_comments("/* \n */[\n1,]").expect("comments that end");
        let fault = document(&text).expect_err("a surplus comma");
        assert!(matches!(fault, JsonFault::Syntax { line: 3, column: 3, .. }), "{fault:?}");
    }

    #[test]
    fn every_field_of_an_object_is_there_as_often_as_it_is_written() {
        let names = |text: &str| {
            let fields = fields(document(text).expect("JSON"));
            fields.map(|fields| fields.iter().map(|(name, value)| format!("{name}{value}")).collect::<Vec<_>>())
        };
        assert_eq!(names(r#"{"b": 1, "\u0061": [2], "b": null}"#).expect("an object"), ["b1", "a[2]", "bnull"]);
        assert_eq!(names("[]"), None);
        assert_eq!(names(r#"{"\ud800": 1}"#), None);
        assert!(elements(document("{}").expect("JSON")).is_none());
        assert_eq!(elements(document("[1, {}]").expect("JSON")).expect("an array").len(), 2);
    }
}
