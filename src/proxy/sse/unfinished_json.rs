//! Closing a JSON object that broke off somewhere, so that it parses and says why it ends.
//!
//! Owns what is missing after any prefix of a JSON object. Invariant: what is there stays as it is, so a client that
//! reads the whole sees the beginning of what was meant, and the added member. Not here: when that is done.

/// Returns the bytes that make `fragment` an object that has `members` (written as `"name":value`, with commas) at its
/// top level, after all that it held.
///
/// `None` where it is not the beginning of a JSON object, or already a whole one. Nothing at all is a beginning.
pub fn closing(fragment: &[u8], members: &str) -> Option<Vec<u8>> {
    if fragment.trim_ascii().is_empty() {
        return Some(format!("{{{members}}}").into_bytes());
    }
    let mut parser = FragmentParser { open: Vec::new(), expected: ExpectedToken::Value };
    let mut out = parser.read(fragment)?;
    out.extend_from_slice(parser.expected.completion());
    let top = parser.open.first().copied()?;
    if top != b'{' {
        return None;
    }
    for &open in parser.open[1..].iter().rev() {
        out.push(if open == b'{' { b'}' } else { b']' });
    }
    let is_empty = parser.open.len() == 1 && matches!(parser.expected, ExpectedToken::FirstKey);
    if !is_empty {
        out.push(b',');
    }
    out.extend_from_slice(members.as_bytes());
    out.push(b'}');
    Some(out)
}

/// The token that the grammar expects next (RFC 8259).
#[derive(Clone, Copy, PartialEq)]
enum ExpectedToken {
    Value,
    /// A value or the end of the array.
    FirstValue,
    Key,
    /// A key or the end of the object.
    FirstKey,
    Colon,
    /// A comma or the end of what is open.
    Comma,
}

impl ExpectedToken {
    /// The bytes after which the innermost bracket may close.
    fn completion(self) -> &'static [u8] {
        match self {
            ExpectedToken::Value => b"null",
            ExpectedToken::Key => b"\"\":null",
            ExpectedToken::Colon => b":null",
            ExpectedToken::FirstValue | ExpectedToken::FirstKey | ExpectedToken::Comma => b"",
        }
    }
}

/// Reads the beginning of a JSON text.
struct FragmentParser {
    /// The brackets that are open, outermost first.
    open: Vec<u8>,
    expected: ExpectedToken,
}

impl FragmentParser {
    /// Reads to the end of the fragment and returns what completes the string, number or word that is open there.
    fn read(&mut self, fragment: &[u8]) -> Option<Vec<u8>> {
        let mut rest = fragment;
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            match byte {
                b' ' | b'\t' => continue,
                b'{' | b'[' if self.expects_value() => {
                    self.open.push(byte);
                    self.expected = if byte == b'{' { ExpectedToken::FirstKey } else { ExpectedToken::FirstValue };
                }
                b'}' if matches!(self.expected, ExpectedToken::FirstKey | ExpectedToken::Comma) => self.close(b'{')?,
                b']' if matches!(self.expected, ExpectedToken::FirstValue | ExpectedToken::Comma) => {
                    self.close(b'[')?
                }
                b',' if self.expected == ExpectedToken::Comma => {
                    self.expected = if self.open.last()? == &b'{' { ExpectedToken::Key } else { ExpectedToken::Value };
                }
                b':' if self.expected == ExpectedToken::Colon => self.expected = ExpectedToken::Value,
                b'"' => {
                    self.begin_string()?;
                    match end_of_string(rest) {
                        Some(end) => rest = &rest[end..],
                        None => return Some(rest_of_string(rest)),
                    }
                }
                _ if self.expects_value() => {
                    let word = &fragment[fragment.len() - rest.len() - 1..];
                    let length = word.iter().take_while(|&byte| is_word(*byte)).count();
                    if length == 0 {
                        return None;
                    }
                    self.expected = ExpectedToken::Comma;
                    rest = &word[length..];
                    if rest.is_empty() {
                        return Some(rest_of_word(word));
                    }
                }
                _ => return None,
            }
            if self.open.is_empty() {
                return None;
            }
        }
        Some(Vec::new())
    }

    fn expects_value(&self) -> bool {
        matches!(self.expected, ExpectedToken::Value | ExpectedToken::FirstValue)
    }

    fn begin_string(&mut self) -> Option<()> {
        self.expected = match self.expected {
            ExpectedToken::Key | ExpectedToken::FirstKey => ExpectedToken::Colon,
            ExpectedToken::Value | ExpectedToken::FirstValue => ExpectedToken::Comma,
            ExpectedToken::Colon | ExpectedToken::Comma => return None,
        };
        Some(())
    }

    fn close(&mut self, open: u8) -> Option<()> {
        self.expected = ExpectedToken::Comma;
        (self.open.pop()? == open).then_some(())
    }
}

/// Letters and signs of numbers, `true`, `false` and `null`.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

/// Returns the index after the closing quote of the string that `text` goes on with; `None` where it has none.
pub fn end_of_string(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Completes an open string: an escape, a letter of several bytes, and the quote.
fn rest_of_string(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|text| memchr::memchr(b'\\', text)) {
        at += found;
        let escape = &text[at..];
        match escape.get(1) {
            None => out.push(b'\\'),
            Some(b'u') if escape.len() < 6 => out.resize(6 - escape.len(), b'0'),
            Some(_) => {}
        }
        at += 2;
    }
    if let Err(error) = std::str::from_utf8(text)
        && error.error_len().is_none()
    {
        let letter = &text[error.valid_up_to()..];
        let length = match letter[0] {
            0xF0.. => 4,
            0xE0.. => 3,
            _ => 2,
        };
        // The byte after E0 or F0 may not be the least that continues a letter (RFC 3629 §4).
        if letter.len() == 1 {
            out.push(match letter[0] {
                0xE0 => 0xA0,
                0xF0 => 0x90,
                _ => 0x80,
            });
        }
        out.resize(length - letter.len(), 0x80);
    }
    out.push(b'"');
    out
}

/// Completes `true`, `false`, `null` or a number.
fn rest_of_word(word: &[u8]) -> Vec<u8> {
    for known in [b"true".as_slice(), b"false", b"null"] {
        if let Some(rest) = known.strip_prefix(word) {
            return rest.to_vec();
        }
    }
    if word.last().is_some_and(u8::is_ascii_digit) { Vec::new() } else { b"0".to_vec() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const MEMBER: &str = r#""error":{"code":"x"}"#;

    fn closed(fragment: &[u8]) -> Option<Value> {
        let whole = [fragment, &closing(fragment, MEMBER)?].concat();
        Some(serde_json::from_slice(&whole).unwrap_or_else(|error| panic!("{error}: {}", whole.escape_ascii())))
    }

    #[test]
    fn an_object_cut_anywhere_parses_and_has_the_member() {
        let text =
            r#" { "a":[1,-2.5e+3,[],{},[true,false , null]], "b\"\\\u00e9":"é€😀\n","c":{"d":{"e":"f"}} ,"g":0}"#;
        for cut in 2..text.len() {
            let fragment = &text.as_bytes()[..cut];
            let closed = closed(fragment).unwrap_or_else(|| panic!("left alone: {}", fragment.escape_ascii()));
            assert_eq!(closed["error"]["code"], "x", "{}", fragment.escape_ascii());
        }
    }

    #[test]
    fn what_was_there_stays() {
        for (fragment, expected) in [
            ("", json!({"error": {"code": "x"}})),
            (" ", json!({"error": {"code": "x"}})),
            ("{", json!({"error": {"code": "x"}})),
            ("{\"a\":\"b", json!({"a": "b", "error": {"code": "x"}})),
            ("{\"a", json!({"a": null, "error": {"code": "x"}})),
            ("{\"a\":[1,", json!({"a": [1, null], "error": {"code": "x"}})),
            ("{\"error\":1,", json!({"": null, "error": {"code": "x"}})),
            ("{\"a\":tr", json!({"a": true, "error": {"code": "x"}})),
            ("{\"a\":1.", json!({"a": 1.0, "error": {"code": "x"}})),
        ] {
            assert_eq!(closed(fragment.as_bytes()).expect("closed"), expected, "{fragment}");
        }
    }

    #[test]
    fn what_is_no_open_object_is_left_alone() {
        for fragment in
            ["[", "[1", "\"a", "12", "{}", "{\"a\":1} ", "{\"a\":1}x", "{]", "{1", "{\"a\":}", "[DONE]", "{\"a\"\"b"]
        {
            assert_eq!(closing(fragment.as_bytes(), MEMBER), None, "{fragment}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(fragment in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = closing(&fragment, MEMBER);
            let _ = closing(&[b"{\"a\":\"".as_slice(), &fragment].concat(), MEMBER);
        }
    }
}
