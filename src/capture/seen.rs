//! The keys that a request came with, by which they are known where they stand elsewhere.
//!
//! Invariant: at most [`SEEN_MAX`] of at most [`SEEN_BYTES_MAX`] bytes, each as its length and digest alone, and none
//! has a byte that ends a word. The places of the others are masked all the same (`head`): they are only not looked for
//! in bodies and other fields.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

/// The keys that are looked for: a request of a known client has one or two.
pub const SEEN_MAX: usize = 8;
/// The longest of them: what is longer is no key that somebody wrote somewhere else.
pub const SEEN_BYTES_MAX: usize = 512;
/// The shortest key that is looked for in text: a shorter one would be found in ordinary words.
pub const KEY_BYTES_MIN: usize = 8;

/// The words of a request that are hashed at most, those that were seen before included.
const TRIES_MAX: usize = 64;

/// Stands before the key among the subprotocols of a WebSocket that a browser opens.
const SUBPROTOCOL_OF_KEY: &[u8] = b"openai-insecure-api-key.";

/// A key that came with a request: its length, and its SHA-256 digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenKey {
    pub bytes: usize,
    pub digest: Vec<u8>,
}

/// The keys of one request.
#[derive(Debug, Default)]
pub struct SeenKeys {
    keys: Vec<SeenKey>,
    tries: usize,
}

impl SeenKeys {
    pub fn as_slice(&self) -> &[SeenKey] {
        &self.keys
    }

    /// Notes the keys in the value of a field of keys, by the name of the field.
    pub fn note_field(&mut self, name: &str, value: &[u8]) {
        let is = |end: &[u8]| ends_with(name.as_bytes(), end);
        if is(b"protocol") {
            // The others are names of protocols, which stand in many a text.
            for protocol in value.split(|byte| *byte == b',' || is_between_words(*byte)) {
                if let Some(key) = protocol.strip_prefix(SUBPROTOCOL_OF_KEY) {
                    self.note(key);
                }
            }
        } else if is(b"cookie") {
            // RFC 6265 §4.2.1.
            for cookie in value.split(|byte| *byte == b';' || is_between_words(*byte)) {
                self.note(memchr::memchr(b'=', cookie).map_or(cookie, |at| &cookie[at + 1..]));
            }
        } else {
            self.note_value(value);
        }
    }

    /// Notes the words of a value, and what they are made of where it is a list of parameters or of the `Basic` scheme.
    pub fn note_value(&mut self, value: &[u8]) {
        let mut words = value.split(|byte| is_between_words(*byte)).filter(|word| !word.is_empty());
        let is_basic = words.clone().next().is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic"));
        for word in words.clone() {
            self.note(word);
        }
        for piece in words.clone().flat_map(|word| word.split(|byte| matches!(byte, b',' | b';' | b'"'))) {
            self.note(piece);
            if let Some(at) = memchr::memchr(b'=', piece) {
                self.note(&piece[at + 1..]);
            }
        }
        // RFC 7617 §2.
        if is_basic && let Some(credentials) = words.nth(1).filter(|word| word.len() <= 2 * SEEN_BYTES_MAX) {
            let decoded = BASE64_STANDARD.decode(credentials).map(Zeroizing::new).unwrap_or_default();
            self.note_user_info(&decoded);
        }
    }

    /// Notes a user's name and password.
    pub fn note_user_info(&mut self, user_info: &[u8]) {
        let mut parts = user_info.splitn(2, |byte| *byte == b':');
        for part in [parts.next(), parts.next()].into_iter().flatten() {
            self.note(part);
        }
    }

    /// Notes a key, or its words.
    fn note(&mut self, key: &[u8]) {
        for word in key.split(|byte| is_between_words(*byte)) {
            let is_full = self.keys.len() == SEEN_MAX || self.tries == TRIES_MAX;
            if is_full || !(KEY_BYTES_MIN..=SEEN_BYTES_MAX).contains(&word.len()) {
                continue;
            }
            self.tries += 1;
            let seen = SeenKey { bytes: word.len(), digest: digest(&SHA256, word).as_ref().to_vec() };
            if !self.keys.contains(&seen) {
                self.keys.push(seen);
            }
        }
    }
}

/// Tells whether a byte is in no key: blanks and controls.
pub fn is_between_words(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f
}

/// As the method of slices, whatever case the letters are in.
pub fn ends_with(text: &[u8], end: &[u8]) -> bool {
    text.len() >= end.len() && text[text.len() - end.len()..].eq_ignore_ascii_case(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(note: impl FnOnce(&mut SeenKeys)) -> SeenKeys {
        let mut seen = SeenKeys::default();
        note(&mut seen);
        seen
    }

    fn has(seen: &SeenKeys, key: &str) -> bool {
        let key = SeenKey { bytes: key.len(), digest: digest(&SHA256, key.as_bytes()).as_ref().to_vec() };
        seen.as_slice().contains(&key)
    }

    #[test]
    fn every_key_in_a_value_is_noted() {
        for (name, value, keys) in [
            ("Authorization", "Bearer sk-abcdefgh", &["sk-abcdefgh"][..]),
            ("authorization", "sk-abcdefgh", &["sk-abcdefgh"]),
            ("x-api-key", "sk,abc;defgh=", &["sk,abc;defgh="]),
            ("Authorization", "Digest username=\"somebody-1\", response=\"6629fae4\"", &["somebody-1", "6629fae4"]),
            ("Proxy-Authorization", "basic c29tZWJvZHk6cGFzczp3b3Jk", &["somebody", "pass:word"]),
            ("Cookie", "a=b; session=0123456789==; other=abcdefgh", &["0123456789==", "abcdefgh"]),
            ("Sec-WebSocket-Protocol", "realtime,openai-insecure-api-key.sk-abc.def, x", &["sk-abc.def"]),
        ] {
            let seen = seen(|seen| seen.note_field(name, value.as_bytes()));
            assert!(keys.iter().all(|key| has(&seen, key)), "{name}: {value}");
        }
        let seen = seen(|seen| seen.note_field("sec-websocket-protocol", b"realtime, openai-beta.realtime-v1"));
        assert!(seen.as_slice().is_empty(), "names of protocols are no keys");
    }

    #[test]
    fn keys_are_bounded_in_number_and_length() {
        let many: String = (0..1000).map(|index| format!("cookie-{index}=value-{index:09}; ")).collect();
        assert_eq!(seen(|seen| seen.note_field("cookie", many.as_bytes())).as_slice().len(), SEEN_MAX);
        for (bytes, count) in [(7, 0), (8, 1), (512, 1), (513, 0), (100_000, 0)] {
            assert_eq!(seen(|seen| seen.note_value(&vec![b'k'; bytes])).as_slice().len(), count, "{bytes}");
        }
        let same = seen(|seen| seen.note_value("the-same-again ".repeat(1000).as_bytes()));
        assert_eq!((same.as_slice().len(), same.tries), (1, TRIES_MAX));
    }
}
