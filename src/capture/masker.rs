//! The one maker of text that may be kept: whatever is known to be secret in it becomes as many `*`.
//!
//! Searched for are the tokens and client secrets of all credentials, the API keys of all callers, and the keys that the
//! exchange itself came with. Keys are known by length and digest alone, so a key is looked for where a word may begin.
//! Those of fewer than [`KEY_BYTES_MIN`] bytes are not: they would be found in ordinary words.

use std::collections::{HashMap, HashSet};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::seen::{KEY_BYTES_MIN, SeenKey};
use crate::credentials::{ApiKeys, Credentials, TextEnd, TokenTraces, mint};

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
}

impl Masker {
    /// Makes one for these credentials and these keys of callers.
    pub fn new(credentials: &Credentials, api_keys: Option<&ApiKeys>) -> Self {
        let traces = credentials.entries().filter_map(|(_, credential)| {
            // Without a token none was sent.
            let token = mint(credential).ok()?;
            Some(TokenTraces::new(token.expose(), &credential.client_secret))
        });
        let mut masker = Masker { traces: traces.collect(), keys: HashMap::new() };
        for (bytes, digest) in api_keys.into_iter().flat_map(ApiKeys::digests) {
            masker.add(bytes, digest.to_vec());
        }
        masker
    }

    fn add(&mut self, bytes: usize, digest: Vec<u8>) {
        if bytes >= KEY_BYTES_MIN {
            self.keys.entry(bytes).or_default().insert(digest);
        }
    }

    /// Masks a text that may be cut at its end; `seen` are the keys of its exchange. Bytes that are not UTF-8 are
    /// replaced.
    pub fn text(&self, text: &[u8], seen: &[SeenKey]) -> Masked {
        let mut text = text.to_vec();
        self.mask(&mut text, seen);
        Masked(String::from_utf8_lossy(&text).into_owned())
    }

    /// Masks bytes, and returns them as text if they are UTF-8, else what `encode` makes of them.
    pub fn text_or(
        &self,
        bytes: &[u8],
        seen: &[SeenKey],
        encode: impl FnOnce(&[u8]) -> String,
    ) -> Result<Masked, Masked> {
        let mut bytes = bytes.to_vec();
        self.mask(&mut bytes, seen);
        match str::from_utf8(&bytes) {
            Ok(text) => Ok(Masked(text.to_owned())),
            // Cut within its last character.
            Err(error) if error.error_len().is_none() && error.valid_up_to() + 4 > bytes.len() => {
                Ok(Masked(String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned()))
            }
            Err(_) => Err(Masked(encode(&bytes))),
        }
    }

    fn mask(&self, text: &mut [u8], seen: &[SeenKey]) {
        for traces in &self.traces {
            for run in traces.runs_in(text) {
                text[run].fill(b'*');
            }
            let cut = traces.suffix(text, TextEnd::Cut);
            text[cut..].fill(b'*');
        }
        let lengths = self.keys.keys().copied().chain(seen.iter().map(|key| key.bytes));
        let lengths: HashSet<usize> = lengths.filter(|bytes| *bytes >= KEY_BYTES_MIN).collect();
        for length in lengths {
            self.mask_keys(text, length, seen);
        }
    }

    /// Masks the keys of one length.
    fn mask_keys(&self, text: &mut [u8], length: usize, seen: &[SeenKey]) {
        let of_callers = self.keys.get(&length);
        let mut at = 0;
        while at + length <= text.len() {
            let may_begin = at == 0 || !text[at - 1].is_ascii_alphanumeric();
            if may_begin {
                let digest = digest(&SHA256, &text[at..at + length]);
                let is_key = of_callers.is_some_and(|keys| keys.contains(digest.as_ref()))
                    || seen.iter().any(|key| key.bytes == length && key.digest == digest.as_ref());
                if is_key {
                    text[at..at + length].fill(b'*');
                }
            }
            at += 1;
        }
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

    #[test]
    fn tokens_secrets_and_keys_are_masked_wherever_they_stand() {
        let (masker, token) = masker();
        let payload = token.split('.').nth(1).expect("a payload");
        for secret in [&payload[..40], SECRET, KEY] {
            for (before, after) in [("", ""), ("{\"key\":\"", "\"}"), ("Bearer ", "\n"), ("x=", "&y")] {
                let masked = masker.text(format!("{before}{secret}{after}").as_bytes(), &[]);
                assert_eq!(masked.text(), format!("{before}{}{after}", "*".repeat(secret.len())));
            }
        }
        assert_eq!(masker.text(b"a short text", &[]).text(), "a short text");
    }

    #[test]
    fn the_beginning_of_a_token_at_which_a_text_is_cut_is_masked_too() {
        let (masker, token) = masker();
        let payload = token.split('.').nth(1).expect("a payload");
        let masked = masker.text(format!("x {}", &payload[..20]).as_bytes(), &[]);
        assert_eq!(masked.text(), format!("x {}", "*".repeat(20)));
    }

    #[test]
    fn a_key_that_the_request_came_with_is_masked_too() {
        let (masker, _) = masker();
        let key = b"sk-somebody-elses";
        let seen = SeenKey { bytes: key.len(), digest: digest(&SHA256, key).as_ref().to_vec() };
        let masked = masker.text(b"no such key: sk-somebody-elses.", std::slice::from_ref(&seen));
        assert_eq!(masked.text(), format!("no such key: {}.", "*".repeat(key.len())));
    }

    #[test]
    fn bytes_that_are_no_text_are_encoded_unless_they_are_cut_within_a_character() {
        let (masker, _) = masker();
        let encode = |_: &[u8]| "encoded".to_owned();
        let shown = |bytes: &[u8]| match masker.text_or(bytes, &[], encode) {
            Ok(text) => text.text().to_owned(),
            Err(other) => format!("!{}", other.text()),
        };
        assert_eq!(shown("é🦀".as_bytes()), "é🦀");
        assert_eq!(shown(&"é🦀".as_bytes()[..5]), "é");
        assert_eq!(shown(b"\x1f\x8b\x08"), "!encoded");
    }
}
