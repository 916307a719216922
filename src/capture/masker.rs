//! The one maker of text that may be kept: whatever is known to be secret in it becomes as many `*`.
//!
//! Searched for are the tokens and client secrets of all credentials, the API keys of all callers, and the keys that
//! the exchange itself came with. Keys are known by length and digest alone, so each piece of so many bytes of a word
//! is hashed, wherever it begins: after `\n` in JSON or `%3D` in a form nothing tells that a key does. Of keys that their
//! file has as a hash not even the length is known: they are searched for at the places where a whole key may stand
//! (`key_places`). The work for one document is bounded; what would take more is left out of it. Keys of fewer than
//! [`KEY_BYTES_MIN`] bytes are not searched for: they would be found in ordinary words.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::key_places::key_places;
use super::seen::{KEY_BYTES_MIN, SEEN_BYTES_MAX, SeenKey, is_between_words};
use crate::credentials::{API_KEY_BYTES_MAX, ApiKeys, Credentials, TextEnd, TokenTraces, mint};

/// The length of the longest key that is searched for: a text that is cut is masked with so many bytes more than are
/// kept of it, so that no part of a key is left at its end.
pub const KEY_BYTES_MAX: usize = if API_KEY_BYTES_MAX > SEEN_BYTES_MAX { API_KEY_BYTES_MAX } else { SEEN_BYTES_MAX };
/// The bytes that are hashed for one document at most, which takes some 30 ms: enough for two whole samples of one word
/// and keys of six lengths.
const WORK_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The work for each digest, beside that for its bytes.
const DIGEST_BYTES: usize = 64;
/// Stands for a text that would have taken more work.
const LEFT_OUT: &str = "[left out: the search for keys in it would have taken too long]";

/// Text in which everything that is secret was masked. Made by a [`Masker`], or read from a capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Masked(String);

impl Masked {
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Masks what is secret to one set of credentials and keys.
pub struct Masker {
    traces: Vec<TokenTraces>,
    /// The digests of keys, by their length.
    keys: HashMap<usize, HashSet<Vec<u8>>>,
    /// The digests of keys whose length is not known.
    unmeasured: HashSet<Vec<u8>>,
}

impl Masker {
    /// Makes one for these credentials and these keys of callers.
    pub fn new(credentials: &Credentials, api_keys: Option<&ApiKeys>) -> Self {
        let traces = credentials.entries().filter_map(|(_, credential)| {
            // Without a token none was sent.
            let token = mint(credential).ok()?;
            Some(TokenTraces::new(token.expose(), &credential.client_secret))
        });
        let mut masker = Masker { traces: traces.collect(), keys: HashMap::new(), unmeasured: HashSet::new() };
        for (bytes, digest) in api_keys.into_iter().flat_map(ApiKeys::digests) {
            match bytes {
                Some(bytes) => masker.add(bytes, digest.to_vec()),
                None => drop(masker.unmeasured.insert(digest.to_vec())),
            }
        }
        masker
    }

    fn add(&mut self, bytes: usize, digest: Vec<u8>) {
        if bytes >= KEY_BYTES_MIN {
            self.keys.entry(bytes).or_default().insert(digest);
        }
    }

    /// Makes the one for the document of an exchange that came with these keys.
    pub fn of_exchange<'a>(&'a self, seen: &'a [SeenKey]) -> ExchangeMasker<'a> {
        let lengths: HashSet<usize> = self.keys.keys().copied().chain(seen.iter().map(|key| key.bytes)).collect();
        ExchangeMasker { masker: self, seen, lengths, work_left: Cell::new(WORK_BYTES_MAX) }
    }
}

/// Masks what is secret in one document.
pub struct ExchangeMasker<'a> {
    masker: &'a Masker,
    seen: &'a [SeenKey],
    /// Those of all keys.
    lengths: HashSet<usize>,
    work_left: Cell<usize>,
}

/// The beginning of a body, masked.
#[derive(Debug, PartialEq, Eq)]
pub enum MaskedContent {
    Text(Masked),
    /// It is no text, and was encoded.
    Encoded(Masked),
    /// It would have taken too much work.
    LeftOut,
}

/// The beginning of something longer, or all of it.
#[derive(Clone, Copy)]
pub struct Excerpt<'a> {
    pub bytes: &'a [u8],
    /// There was more.
    pub is_cut: bool,
    /// The part that is kept.
    pub bytes_max: usize,
}

impl ExchangeMasker<'_> {
    /// Masks a text. Bytes that are not UTF-8 are replaced.
    pub fn text(&self, text: &[u8]) -> Masked {
        self.excerpt(Excerpt { bytes: text, is_cut: false, bytes_max: text.len() })
    }

    /// As [`ExchangeMasker::text`], of a text that may be cut.
    pub fn excerpt(&self, excerpt: Excerpt<'_>) -> Masked {
        let masked = self.masked(excerpt);
        Masked(masked.map_or(LEFT_OUT.to_owned(), |text| String::from_utf8_lossy(&text).into_owned()))
    }

    /// Masks a body, and keeps it as text if it is UTF-8, else as what `encode` makes of it.
    pub fn content(&self, excerpt: Excerpt<'_>, encode: impl FnOnce(&[u8]) -> String) -> MaskedContent {
        let Some(bytes) = self.masked(excerpt) else { return MaskedContent::LeftOut };
        match str::from_utf8(&bytes) {
            Ok(text) => MaskedContent::Text(Masked(text.to_owned())),
            // Cut within its last character.
            Err(error) if error.error_len().is_none() && error.valid_up_to() + 4 > bytes.len() => {
                MaskedContent::Text(Masked(String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned()))
            }
            Err(_) => MaskedContent::Encoded(Masked(encode(&bytes))),
        }
    }

    /// Returns what may be kept of an excerpt; `None` where the search would take too much work.
    fn masked(&self, Excerpt { bytes, is_cut, bytes_max }: Excerpt<'_>) -> Option<Vec<u8>> {
        let mut text = bytes.to_vec();
        for traces in &self.masker.traces {
            for run in traces.runs_in(&text) {
                text[run].fill(b'*');
            }
            let cut = traces.suffix(&text, TextEnd::Cut);
            text[cut..].fill(b'*');
        }
        if !self.mask_unmeasured_keys(&mut text)
            || !self.lengths.iter().all(|length| self.mask_keys(&mut text, *length))
        {
            return None;
        }
        // A key that begins within the rest may have been cut.
        let whole = if is_cut { text.len().saturating_sub(KEY_BYTES_MAX) } else { text.len() };
        text.truncate(whole.min(bytes_max));
        Some(text)
    }

    /// Masks the keys of one length; false where that would take too much work.
    fn mask_keys(&self, text: &mut [u8], length: usize) -> bool {
        let of_callers = self.masker.keys.get(&length);
        let mut word = 0;
        for end in 1..=text.len() {
            word = if is_between_words(text[end - 1]) { 0 } else { word + 1 };
            // No key has a blank in it, so that little of a text of words is hashed.
            if word < length {
                continue;
            }
            if !self.may_hash(length) {
                return false;
            }
            let piece = &mut text[end - length..end];
            let digest = digest(&SHA256, piece);
            let is_key = of_callers.is_some_and(|keys| keys.contains(digest.as_ref()))
                || self.seen.iter().any(|key| key.bytes == length && key.digest == digest.as_ref());
            if is_key {
                piece.fill(b'*');
            }
        }
        true
    }

    /// Masks the keys whose length is not known; false where that would take too much work.
    fn mask_unmeasured_keys(&self, text: &mut [u8]) -> bool {
        let keys = &self.masker.unmeasured;
        if keys.is_empty() {
            return true;
        }
        for place in key_places(text) {
            if !self.may_hash(place.len()) {
                return false;
            }
            if keys.contains(digest(&SHA256, &text[place.clone()]).as_ref()) {
                text[place].fill(b'*');
            }
        }
        true
    }

    /// Takes the work for a piece of so many bytes; false where it would be too much.
    fn may_hash(&self, bytes: usize) -> bool {
        let left = self.work_left.get().checked_sub(bytes + DIGEST_BYTES);
        left.inspect(|left| self.work_left.set(*left)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::from_json;

    const KEY: &str = "key-of-alice-0123456789";
    const SECRET: &str = "correct horse battery staple";

    fn masker() -> (Masker, String) {
        let json = format!(r#"[{{"clientId":"id","clientSecret":"{SECRET}","tenant":"t"}}]"#);
        let credentials = from_json(&json).expect("valid").credentials;
        let token = mint(credentials.entries().next().expect("one").1).expect("a token").expose().to_owned();
        let keys = ApiKeys::from_list(&format!("alice:{KEY},b:short")).expect("valid").keys;
        (Masker::new(&credentials, Some(&keys)), token)
    }

    fn seen_key(key: &[u8]) -> SeenKey {
        SeenKey { bytes: key.len(), digest: digest(&SHA256, key).as_ref().to_vec() }
    }

    fn all(bytes: &[u8]) -> Excerpt<'_> {
        Excerpt { bytes, is_cut: false, bytes_max: bytes.len() }
    }

    #[test]
    fn tokens_secrets_and_keys_are_masked_wherever_they_stand() {
        let (masker, token) = masker();
        let payload = token.split('.').nth(1).expect("a payload");
        for secret in [&payload[..40], SECRET, KEY] {
            for (before, after) in [
                ("\\n", "\\n"),
                ("\\u000a", ""),
                ("a%3D", "%26"),
                ("x", "x"),
                ("", ""),
                ("{\"key\":\"", "\"}"),
                ("Bearer ", "\n"),
                ("x=", "&y"),
            ] {
                let masked = masker.of_exchange(&[]).text(format!("{before}{secret}{after}").as_bytes());
                assert_eq!(masked.text(), format!("{before}{}{after}", "*".repeat(secret.len())));
            }
        }
        assert_eq!(masker.of_exchange(&[]).text(b"a short text").text(), "a short text");
    }

    #[test]
    fn a_key_of_which_only_the_hash_is_known_is_masked_where_it_stands_as_a_whole() {
        let made = "fu-0123456789abcdefghijklmnopqrstuvwxyzABCDEF-";
        let hash = |key: &str| {
            let digest = digest(&SHA256, key.as_bytes());
            digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let entry = |key: &str| format!(r#"{{"name":"n","key_sha256":"{}"}}"#, hash(key));
        let text = format!("[{},{}]", entry(KEY), entry(made));
        let keys = ApiKeys::from_text(&text).expect("valid").keys;
        let secrets = from_json(r#"[{"clientId":"id","clientSecret":"s","tenant":"t"}]"#).expect("valid");
        let masker = Masker::new(&secrets.credentials, Some(&keys));
        for key in [KEY, made] {
            for (before, after) in
                [("", ""), ("{\"key\":\"", "\"}"), ("\\n", "\\n"), ("a%3D", "%26"), ("Bearer ", "\n")]
            {
                let masked = masker.of_exchange(&[]).text(format!("{before}{key}{after}").as_bytes());
                assert_eq!(masked.text(), format!("{before}{}{after}", "*".repeat(key.len())));
            }
        }
        let masked = masker.of_exchange(&[]).text(format!("x{made}x").as_bytes());
        assert_eq!(masked.text(), format!("x{}x", "*".repeat(made.len())));
        let word = vec![b'x'; 16 * 1024];
        let of_exchange = masker.of_exchange(&[]);
        assert!(matches!(of_exchange.content(all(&word), |_| String::new()), MaskedContent::Text(_)), "one is cheap");
    }

    #[test]
    fn the_beginning_of_a_token_at_which_a_text_is_cut_is_masked_too() {
        let (masker, token) = masker();
        let payload = token.split('.').nth(1).expect("a payload");
        let masked = masker.of_exchange(&[]).text(format!("x {}", &payload[..20]).as_bytes());
        assert_eq!(masked.text(), format!("x {}", "*".repeat(20)));
    }

    #[test]
    fn a_key_that_the_request_came_with_is_masked_too() {
        let (masker, _) = masker();
        let key = b"sk-somebody-elses";
        let seen = seen_key(key);
        let masked = masker.of_exchange(std::slice::from_ref(&seen)).text(b"no such key: sk-somebody-elses.");
        assert_eq!(masked.text(), format!("no such key: {}.", "*".repeat(key.len())));
    }

    #[test]
    fn bytes_that_are_no_text_are_encoded_unless_they_are_cut_within_a_character() {
        let (masker, _) = masker();
        let encode = |_: &[u8]| "encoded".to_owned();
        let shown = |bytes: &[u8]| match masker.of_exchange(&[]).content(all(bytes), encode) {
            MaskedContent::Text(text) => text.text().to_owned(),
            MaskedContent::Encoded(other) => format!("!{}", other.text()),
            MaskedContent::LeftOut => "left out".to_owned(),
        };
        assert_eq!(shown("é🦀".as_bytes()), "é🦀");
        assert_eq!(shown(&"é🦀".as_bytes()[..5]), "é");
        assert_eq!(shown(b"\x1f\x8b\x08"), "!encoded");
    }

    #[test]
    fn no_part_of_a_key_is_left_where_a_text_is_cut() {
        const KEPT: usize = 100;
        let (masker, _) = masker();
        let longest = "k".repeat(SEEN_BYTES_MAX);
        let seen = [seen_key(longest.as_bytes())];
        for key in [KEY, &longest] {
            for shown in 1..key.len() {
                let text = format!("{}{key}", " ".repeat(KEPT - shown.min(KEPT)));
                let text = format!("{text}{}", " ".repeat(KEPT + KEY_BYTES_MAX));
                let bytes = &text.as_bytes()[..KEPT + KEY_BYTES_MAX];
                let kept = masker.of_exchange(&seen).excerpt(Excerpt { bytes, is_cut: true, bytes_max: KEPT });
                assert_eq!((kept.text().len(), kept.text().trim_matches([' ', '*'])), (KEPT, ""), "{shown}");
            }
        }
        // As little as there is, where it was cut early.
        let cut = masker.of_exchange(&[]).excerpt(Excerpt { bytes: KEY.as_bytes(), is_cut: true, bytes_max: KEPT });
        assert_eq!(cut.text(), "");
    }

    #[test]
    fn what_would_take_too_much_work_is_left_out() {
        let (masker, _) = masker();
        let seen: Vec<SeenKey> = (1..=8).map(|length| seen_key(&vec![b'k'; SEEN_BYTES_MAX - length])).collect();
        let word = vec![b'x'; 16 * 1024];
        let words = b"some words ".repeat(1500);
        let encode = |_: &[u8]| "encoded".to_owned();
        let of_exchange = masker.of_exchange(&seen);
        assert!(matches!(of_exchange.content(all(&words), encode), MaskedContent::Text(_)), "words cost nothing");
        assert_eq!(of_exchange.content(all(&word), encode), MaskedContent::LeftOut);
        assert_eq!(of_exchange.text(&word).text(), LEFT_OUT);
        let of_exchange = masker.of_exchange(&[]);
        for _ in 0..2 {
            assert!(matches!(of_exchange.content(all(&word), encode), MaskedContent::Text(_)), "one length is cheap");
        }
    }
}
