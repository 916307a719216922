//! The places in a text at which a whole key may stand whose length is not known, since only its hash is.
//!
//! A key that `flow-uring keys add` made is known by its form wherever it begins. Any other one is looked for as a
//! word: between blanks, and between the signs that end a value in JSON, URLs and headers. Invariant: the places
//! hold at most `COPIES_MAX` times the bytes of the text, whatever is in it.

use std::ops::Range;

use super::seen::{KEY_BYTES_MIN, is_between_words};
use crate::credentials::{API_KEY_BYTES_MAX, NEW_KEY_PREFIX, NEW_KEY_SUFFIX_BYTES};

/// The signs that a word may consist of, from few to all.
const ALPHABETS: [fn(u8) -> bool; 4] = [is_base64_url, is_token, is_of_value, |byte| !is_between_words(byte)];
/// The escapes that a word may seem to begin with: the `n` of `\n`, the `3D` of `%3D`.
const ESCAPES: [(u8, usize); 2] = [(b'\\', 1), (b'%', 2)];
/// A word of each alphabet, once more without an escape; and keys of the known form, whose prefixes do not overlap.
#[cfg(test)]
const COPIES_MAX: usize =
    2 * ALPHABETS.len() + (NEW_KEY_PREFIX.len() + NEW_KEY_SUFFIX_BYTES) / NEW_KEY_PREFIX.len() + 1;

/// Finds the places.
pub fn key_places(text: &[u8]) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    for start in memchr::memmem::find_iter(text, NEW_KEY_PREFIX) {
        let end = start + NEW_KEY_PREFIX.len() + NEW_KEY_SUFFIX_BYTES;
        let suffix = text.get(start + NEW_KEY_PREFIX.len()..end);
        if suffix.is_some_and(|suffix| suffix.iter().all(|byte| is_base64_url(*byte))) {
            places.push(start..end);
        }
    }
    for is_of_word in ALPHABETS {
        let mut start = 0;
        while start < text.len() {
            if !is_of_word(text[start]) {
                start += 1;
                continue;
            }
            let length = text[start..].iter().take_while(|byte| is_of_word(**byte)).count();
            let end = start + length;
            places.push(start..end);
            let before = start.checked_sub(1).map(|at| text[at]);
            let escape = ESCAPES.iter().find(|(sign, _)| before == Some(*sign));
            places.extend(escape.map(|(_, letters)| start + letters..end));
            start = end;
        }
    }
    places.retain(|place| (KEY_BYTES_MIN..=API_KEY_BYTES_MAX).contains(&place.len()));
    places
}

/// RFC 4648 §5, without padding.
fn is_base64_url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// As the scheme `Bearer` has it (RFC 6750 §2.1), but for the padding, which begins values too.
fn is_token(byte: u8) -> bool {
    is_base64_url(byte) || matches!(byte, b'.' | b'~' | b'+' | b'/')
}

/// Signs that need no quotes in a header, and no escape in JSON.
fn is_of_value(byte: u8) -> bool {
    byte.is_ascii_graphic()
        && !matches!(byte, b'"' | b'\'' | b'`' | b',' | b';' | b'&' | b'<' | b'>' | b'\\' | b'(' | b')')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stands_at_a_place(text: &str, key: &str) -> bool {
        key_places(text.as_bytes()).into_iter().any(|place| &text.as_bytes()[place] == key.as_bytes())
    }

    #[test]
    fn a_whole_key_stands_at_a_place_whatever_is_around_it() {
        let made = format!("{NEW_KEY_PREFIX}{}", "aB3_-".repeat(9).split_at(NEW_KEY_SUFFIX_BYTES).0);
        for key in [made.as_str(), "sk-abc_DEF-0123456789", "eyJh.bGci~OiJ+IUz/1", "a$key!with#signs*in:it", "b=64=="] {
            for (before, after) in [("", ""), (" ", "\n"), ("Bearer ", ", x")] {
                let is_short = key.len() < KEY_BYTES_MIN;
                assert_eq!(stands_at_a_place(&format!("{before}{key}{after}"), key), !is_short, "{before}{key}{after}");
            }
            let (before, after) = ("{\"key\":\"", "\"}");
            assert_eq!(stands_at_a_place(&format!("{before}{key}{after}"), key), key.len() >= KEY_BYTES_MIN, "{key}");
        }
        for (before, after) in
            [("key=", "&x=y"), ("\\n", "\\n"), ("a%3D", "%26"), ("(", ")"), ("'", "'"), ("\u{e9}", "!")]
        {
            for key in [made.as_str(), "sk-abc_DEF-0123456789", "eyJh.bGci~OiJ+IUz/1"] {
                assert!(stands_at_a_place(&format!("{before}{key}{after}"), key), "{before}{key}{after}");
            }
        }
        for (before, after) in [("x", "x"), ("a-", "-"), ("fu-fu-", "fu-")] {
            assert!(stands_at_a_place(&format!("{before}{made}{after}"), &made), "{before}{made}{after}");
        }
        let long = "k".repeat(API_KEY_BYTES_MAX + 1);
        assert!(!stands_at_a_place(&long, &long) && stands_at_a_place(&long[1..], &long[1..]));
    }

    #[test]
    fn the_places_of_a_text_are_bounded() {
        for text in ["fu-".repeat(5000), "\\nabcdefgh".repeat(2000), "x".repeat(16_000), "%3Dabcdefgh%".repeat(1000)] {
            let bytes: usize = key_places(text.as_bytes()).iter().map(|place| place.len()).sum();
            assert!(bytes <= COPIES_MAX * text.len(), "{bytes} of {}", text.len());
        }
    }
}
