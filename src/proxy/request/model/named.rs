//! The model that a request names: in its JSON body, in its path or in its query.
//!
//! Owns a quick look that answers for nearly all bodies: quotes within a JSON string are escaped, so `"model"` with an
//! unescaped quote before it is a whole string, and a key with a string for its value before which one more brace was
//! opened than closed is the object's own. Where there are more of them, or braces in texts, a parser has to tell.
//! Invariant: what is found does not depend on how the body was split, and no more than a name is kept.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::json::prefix::Prefix;
use crate::proxy::request::path::split_query;

/// The longest name of a model that is kept.
pub const MODEL_BYTES_MAX: usize = 128;

const KEY: &[u8] = b"\"model\"";

/// Made once: that takes longer than a search.
static KEY_FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(KEY));

/// Returns whether a text can stand in the log and on the pages as the name of a model.
pub fn is_name(model: &str) -> bool {
    !model.is_empty() && model.len() <= MODEL_BYTES_MAX && !model.chars().any(char::is_control)
}

/// Returns the model that a path names, as Gemini's, Azure's, the old engines' and Bedrock's do, or its query.
pub fn model_of_path(path_and_query: &str) -> Option<&str> {
    let (path, query) = split_query(path_and_query);
    let mut of_segment = [None; 3];
    let mut rest = path;
    while let Some((segment, after)) = rest.split_once('/') {
        let place = match segment {
            "models" => {
                if let Some(name) = before_verb(after) {
                    return Some(name).filter(|name| !name.is_empty());
                }
                None
            }
            "deployments" => Some(0),
            "engines" => Some(1),
            "model" => Some(2),
            _ => None,
        };
        if let Some(place) = place
            && of_segment[place].is_none()
        {
            of_segment[place] = after.split_once('/').map(|(name, _)| name);
        }
        rest = after;
    }
    let of_query = || query.trim_start_matches('?').split('&').find_map(|pair| pair.strip_prefix("model="));
    of_segment.into_iter().flatten().next().or_else(of_query).filter(|name| !name.is_empty())
}

/// Returns what stands before the last colon of a path; clients may encode that.
fn before_verb(path: &str) -> Option<&str> {
    [":", "%3A", "%3a"].iter().filter_map(|colon| path.rfind(colon)).max().map(|end| &path[..end])
}

/// The values of the keys `model` in a body, as far as a quick look tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedModel<'a> {
    None,
    One(&'a str),
    /// A parser has to tell which of them is at the top.
    Unclear,
}

/// Looks for the model in a JSON body, which comes in pieces.
#[derive(Debug)]
pub struct ModelFinder {
    place: FinderPlace,
    /// The bytes before the next piece that may be the beginning of a key, and the one before those.
    tail: Prefix<{ KEY.len() }>,
    value: Prefix<{ MODEL_BYTES_MAX + 1 }>,
    found: Found,
    /// The braces that were opened and not closed, before the first value.
    depth: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FinderPlace {
    Searching,
    AfterKey,
    AfterColon,
    Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    None,
    One,
    Unclear,
}

impl ModelFinder {
    pub fn new() -> Self {
        ModelFinder {
            place: FinderPlace::Searching,
            tail: Prefix::new(),
            value: Prefix::new(),
            found: Found::None,
            depth: 0,
        }
    }

    /// Takes the next bytes of the body.
    pub fn read(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while !rest.is_empty() && self.found != Found::Unclear {
            rest = match self.place {
                FinderPlace::Searching => self.search(rest),
                FinderPlace::AfterKey => self.expect(rest, b':', FinderPlace::AfterColon),
                FinderPlace::AfterColon => self.expect(rest, b'"', FinderPlace::Value),
                FinderPlace::Value => self.read_value(rest),
            };
        }
    }

    pub fn named(&self) -> NamedModel<'_> {
        match (self.found, std::str::from_utf8(self.value.kept())) {
            (Found::None, _) => NamedModel::None,
            (Found::One, Ok(name)) if is_name(name) => NamedModel::One(name),
            (Found::One, _) => NamedModel::None,
            (Found::Unclear, _) => NamedModel::Unclear,
        }
    }

    /// Looks for the next key, and returns what follows it.
    fn search<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let end = self.end_of_split_key(bytes).or_else(|| self.end_of_key(bytes));
        let before = &bytes[..end.unwrap_or(bytes.len())];
        self.keep_tail(before);
        if self.found == Found::None {
            self.note_braces(before);
        }
        match end {
            Some(end) => {
                self.place = FinderPlace::AfterKey;
                &bytes[end..]
            }
            None => &[],
        }
    }

    /// Returns the end of a key that began in the piece before.
    fn end_of_split_key(&self, bytes: &[u8]) -> Option<usize> {
        let tail = self.tail.kept();
        if tail.is_empty() {
            return None;
        }
        let mut border = [0; 2 * KEY.len()];
        let length = tail.len() + bytes.len().min(KEY.len() - 1);
        border[..tail.len()].copy_from_slice(tail);
        border[tail.len()..length].copy_from_slice(&bytes[..length - tail.len()]);
        let start = KEY_FINDER.find(&border[..length])?;
        let end = (start + KEY.len()).checked_sub(tail.len()).filter(|end| *end > 0)?;
        (start == 0 || border[start - 1] != b'\\').then_some(end)
    }

    fn end_of_key(&self, bytes: &[u8]) -> Option<usize> {
        let is_escaped = |start: usize| match start.checked_sub(1) {
            Some(before) => bytes[before] == b'\\',
            None => self.tail.kept().last() == Some(&b'\\'),
        };
        KEY_FINDER.find_iter(bytes).find(|start| !is_escaped(*start)).map(|start| start + KEY.len())
    }

    fn note_braces(&mut self, bytes: &[u8]) {
        self.depth +=
            memchr::memchr2_iter(b'{', b'}', bytes).map(|at| if bytes[at] == b'{' { 1 } else { -1 }).sum::<i64>();
    }

    fn keep_tail(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(KEY.len());
        let mut tail = Prefix::new();
        let before = self.tail.kept();
        tail.append(&before[before.len().saturating_sub(KEY.len() - kept)..]);
        tail.append(&bytes[bytes.len() - kept..]);
        self.tail = tail;
    }

    /// Takes white space, and `byte` if it follows. Anything else says that this was no member, or none with a string.
    fn expect<'a>(&mut self, bytes: &'a [u8], byte: u8, next: FinderPlace) -> &'a [u8] {
        let rest = bytes.trim_ascii_start();
        self.tail.clear();
        match rest.split_first() {
            Some((&first, after)) if first == byte => {
                self.place = next;
                if next == FinderPlace::Value {
                    self.begin_value();
                }
                after
            }
            Some(_) => {
                self.place = FinderPlace::Searching;
                rest
            }
            None => &[],
        }
    }

    fn begin_value(&mut self) {
        if self.found == Found::None && self.depth == 1 {
            self.value.clear();
        } else {
            self.found = Found::Unclear;
        }
    }

    fn read_value<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let end = memchr::memchr2(b'"', b'\\', bytes);
        self.value.append(&bytes[..end.unwrap_or(bytes.len())]);
        match end.map(|end| (bytes[end], &bytes[end + 1..])) {
            Some((b'"', rest)) => {
                self.place = FinderPlace::Searching;
                self.found = Found::One;
                rest
            }
            // With an escape: a parser has to read it.
            Some(_) => {
                self.found = Found::Unclear;
                &[]
            }
            None => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
        let mut finder = ModelFinder::new();
        pieces.into_iter().for_each(|piece| finder.read(piece));
        match finder.named() {
            NamedModel::None => "-".to_owned(),
            NamedModel::One(name) => name.to_owned(),
            NamedModel::Unclear => "?".to_owned(),
        }
    }

    const BODIES: [(&str, &str); 20] = [
        (r#"{"prompt":{"id":"p"},"tools":[{"type":"image_generation","model":"gpt-image-1"}],"input":"x"}"#, "?"),
        (r#"{"messages":[{"content":"{"}],"model":"m"}"#, "?"),
        (r#"{"messages":[{"content":"{}"}],"model":"m"}"#, "m"),
        (r#"{"model":"gpt-4o"}"#, "gpt-4o"),
        (r#"{"messages":[{"role":"user","content":"\"model\":\"x\""}],"model" : "a/b:c"}"#, "a/b:c"),
        (r#"{"a":"model","model":"m"}"#, "m"),
        (r#"{"a":["model","b"],"model":"m"}"#, "m"),
        (r#"{"tools":[{"parameters":{"properties":{"model":{"type":"string"}}}}],"model":"m"}"#, "m"),
        (r#"{"input":{"model":"x"},"model":"m"}"#, "?"),
        (r#"{"model":"m","model":"m"}"#, "?"),
        (r#"{"model":"a\u0062"}"#, "?"),
        (r#"{"model":null}"#, "-"),
        (r#"{"model":17,"x":"y"}"#, "-"),
        (r#"{"model":""}"#, "-"),
        (r#"{"model":"#, "-"),
        (r#"{"model":"half"#, "-"),
        (r#"{"models":"x","my_model":"y"}"#, "-"),
        (r#"{"\"model\"":"x"}"#, "-"),
        ("{\"model\"\r\n\t :\n \"m\"}", "m"),
        ("", "-"),
    ];

    #[test]
    fn the_only_model_is_found_wherever_it_stands_and_however_the_body_is_split() {
        for (body, expected) in BODIES {
            let bytes = body.as_bytes();
            assert_eq!(named([bytes]), expected, "{body}");
            for size in 1..=bytes.len() {
                assert_eq!(named(bytes.chunks(size)), expected, "{body} by {size}");
            }
        }
    }

    #[test]
    fn a_name_that_is_too_long_or_not_printable_is_none() {
        for name in ["x".repeat(MODEL_BYTES_MAX + 1), "\u{7}".to_owned()] {
            assert_eq!(named([format!(r#"{{"model":"{name}"}}"#).as_bytes()]), "-");
        }
        let longest = "x".repeat(MODEL_BYTES_MAX);
        assert_eq!(named([format!(r#"{{"model":"{longest}"}}"#).as_bytes()]), longest);
    }

    proptest! {
        #[test]
        fn what_is_found_does_not_depend_on_the_split(
            parts in proptest::collection::vec(prop_oneof![
                Just("\"model\""), Just("\\"), Just(":"), Just("\"m\""), Just("\""), Just("mod"), Just("el\""), Just(" "),
            ], 0..12),
            size in 1..5usize,
        ) {
            let body = parts.concat();
            prop_assert_eq!(named(body.as_bytes().chunks(size)), named([body.as_bytes()]));
        }
    }
}
