//! What is kept of a failed exchange: no token, secret or key is in it, whole or cut, wherever it stood, and nothing
//! else is changed.

#![no_main]

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use flow_uring::credentials::{ApiKeys, from_json};
use flow_uring::fuzz::capture::{Excerpt, MaskedContent, Masker, SeenKey};
use flow_uring_fuzz::input::Random;
use flow_uring_fuzz::token::{Token, marked};
use libfuzzer_sys::fuzz_target;

/// The longest key that is looked for, and so what a cut text loses at its end.
const KEY_BYTES_MAX: usize = 1024;
/// The most bytes that a text gets.
const BYTES_MAX: usize = 3000;

/// Of a caller, with its length.
const KEY: &[u8] = b"key-of-alice-0123456789";
/// One that is known by its hash alone, and one that a request came with.
const HASHED: &[u8] = b"key-of-bob-abcdefghijkl";
const SEEN: &[u8] = b"sk-somebody-elses";

/// Bytes of the input that are no text.
const PIECE: u8 = 1;
const WHOLE_KEY: u8 = 2;
const HASHED_KEY: u8 = 3;
const SEEN_KEY: u8 = 4;

static KEYS: LazyLock<ApiKeys> = LazyLock::new(|| {
    let hash: String = digest(&SHA256, HASHED).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let key = std::str::from_utf8(KEY).expect("ASCII");
    let text = format!(r#"[{{"name":"alice","key":"{key}"}},{{"name":"bob","key_sha256":"{hash}"}}]"#);
    ApiKeys::from_text(&text).expect("valid").keys
});

fuzz_target!(|data: &[u8]| {
    let Some((&[id, id_length, secret, secret_length, tenant, tenant_length], rest)) = data.split_first_chunk() else {
        return;
    };
    let token = Token::of([[id, id_length], [secret, secret_length], [tenant, tenant_length]]);
    let Ok(secrets) = from_json(&token.secrets_file()) else { return };
    let masker = Masker::new(&secrets.credentials, Some(&KEYS));
    let text = text(rest, &token);
    let known = Known::of(&token, &text);
    let seen = [SeenKey { bytes: SEEN.len(), digest: digest(&SHA256, SEEN).as_ref().to_vec() }];
    let masker = masker.of_exchange(&seen);
    let all = Excerpt { bytes: &text, is_cut: false, bytes_max: text.len() };
    let whole = bytes(masker.content(all, |bytes| String::from_utf8_lossy(bytes).into_owned()));
    known.check(&text, &whole);
    let shown = masker.text(&text);
    assert_eq!(shown.text().as_bytes(), whole, "as a text too");
    let mut random = Random::of(data);
    for _ in 0..3 {
        let kept = random.below(text.len() + 1);
        let cut = Excerpt { bytes: &text, is_cut: true, bytes_max: kept };
        let excerpt = masker.excerpt(cut);
        assert_eq!(excerpt.text().len(), kept.min(text.len().saturating_sub(KEY_BYTES_MAX)));
        assert!(whole.starts_with(excerpt.text().as_bytes()), "a cut shows more");
    }
});

/// Makes a text of ASCII, with pieces of what must not be kept.
fn text(input: &[u8], token: &Token) -> Vec<u8> {
    let (mut text, mut bytes) = (Vec::new(), input.iter().copied());
    while let Some(byte) = bytes.next().filter(|_| text.len() < BYTES_MAX) {
        let mut operand = || bytes.next().unwrap_or(0);
        match byte {
            PIECE => text.extend_from_slice(token.piece([operand(), operand(), operand()])),
            WHOLE_KEY => text.extend_from_slice(KEY),
            HASHED_KEY => text.extend_from_slice(HASHED),
            SEEN_KEY => text.extend_from_slice(SEEN),
            _ => text.push(byte & 0x7F),
        }
    }
    // Pieces of a token may hold letters of several bytes.
    text.iter_mut().for_each(|byte| *byte &= 0x7F);
    text
}

fn bytes(content: MaskedContent) -> Vec<u8> {
    match content {
        MaskedContent::Text(text) | MaskedContent::Encoded(text) => text.text().as_bytes().to_vec(),
        MaskedContent::LeftOut => panic!("a short text takes too much work"),
    }
}

/// The bytes of a text that must not be kept, and those that need not be.
struct Known {
    must: Vec<bool>,
    may: Vec<bool>,
}

impl Known {
    fn of(token: &Token, text: &[u8]) -> Self {
        let runs = token.runs(text);
        let is_run = marked(text.len(), &runs);
        let mut may = is_run.clone();
        may[token.open_suffix(text)..].fill(true);
        let mut must = is_run.clone();
        for key in [KEY, SEEN, HASHED] {
            for start in 0..text.len().saturating_sub(key.len() - 1) {
                let place = start..start + key.len();
                if text[place.clone()] != *key {
                    continue;
                }
                may[place.clone()].fill(true);
                // Of a key of which a part is masked already, the rest is no key any more. Of one whose length is not
                // known it is known where it stands as a word.
                let is_whole = !is_run[place.clone()].contains(&true);
                let stands_alone = start == 0 || text[start - 1] == b' ';
                let stands_alone = stands_alone && text.get(place.end).is_none_or(|byte| *byte == b' ');
                if is_whole && (key != HASHED || stands_alone) {
                    must[place].fill(true);
                }
            }
        }
        // A beginning at the end that is masked may be that of a key, too.
        let end = token.open_suffix(text);
        must[end..].iter_mut().zip(&is_run[end..]).for_each(|(must, is_run)| *must = *is_run);
        Known { must, may }
    }

    fn check(&self, text: &[u8], masked: &[u8]) {
        assert_eq!(masked.len(), text.len());
        for (at, (kept, came)) in masked.iter().zip(text).enumerate() {
            assert!(
                *kept == *came || *kept == b'*' && self.may[at],
                "the byte at {at} is changed: {}",
                text.escape_ascii()
            );
            assert!(*kept == b'*' || !self.must[at], "the byte at {at} is kept: {}", text.escape_ascii());
        }
    }
}
