//! The parts of a token that must not come back, and their runs in a text by the definition: quadratic and certain.

use std::ops::Range;

use flow_uring::credentials::{Credential, Secret, TokenTraces, mint};

/// Of the payload and the signature so many bytes in a row count.
const RUN_BYTES: usize = 32;

/// A shorter secret is not looked for as it is.
const SECRET_BYTES_MIN: usize = 8;

/// Of the beginning of a run in an event that does not show yet that it is an error at most so many bytes go out; of a
/// secret fewer.
const GONE_BYTES_MAX: usize = 7;
const GONE_SECRET_BYTES_MAX: usize = 2;

/// The beginning of a run that an answer broke off in is masked from that length on; of a secret from half of it.
const CUT_BYTES_MIN: usize = 16;

/// The texts of which claims are made: ordinary ones, repetitive ones, and such as JSON escapes or framing is made of.
const CLAIM_TEXTS: [&str; 10] = [
    "s3cr3t-of-any-length~abcdefghijklmnopqrstuvwxyz_0123456789.",
    "a",
    "ab",
    "a\"b\\",
    "x: y\r\n",
    "é",
    "*",
    ";a=\"5\"",
    "\n\ndata: ",
    "abcdef01",
];
const CLAIM_CHARACTERS_MAX: usize = 80;

/// A part of a token that is looked for.
struct TokenPart {
    bytes: Vec<u8>,
    /// Any run of so many bytes counts.
    run_bytes: usize,
    /// The most bytes of a run that go out before it is known that it is one to mask.
    gone_bytes_max: usize,
    /// The length from which its beginning is masked where an answer breaks off.
    cut_bytes_min: usize,
}

/// The beginning of a run in which an answer breaks off.
pub struct CutSuffix {
    pub start: usize,
    /// The most of its bytes that went out, in an event that had not shown that it is an error.
    pub gone_bytes_max: usize,
}

/// A token as it is minted, and its secret.
pub struct Token {
    whole: String,
    secret: String,
    escaped_secret: String,
    client_id: String,
    tenant: String,
    parts: Vec<TokenPart>,
}

impl Token {
    /// Makes one: two bytes choose the text and the length of each of its claims.
    pub fn of([client_id, secret, tenant]: [[u8; 2]; 3]) -> Self {
        let [client_id, secret, tenant] = [client_id, secret, tenant].map(claim);
        let credential = Credential {
            name: String::new(),
            client_id: client_id.clone(),
            client_secret: Secret::new(secret.clone()),
            tenant: tenant.clone(),
            weight: 1,
        };
        let whole = mint(&credential).expect("a token").expose().to_owned();
        let quoted = serde_json::to_string(&secret).expect("a string");
        let escaped_secret = quoted[1..quoted.len() - 1].to_owned();
        let mut parts: Vec<_> = whole.split('.').skip(1).map(TokenPart::of_token).collect();
        if secret.len() >= SECRET_BYTES_MIN {
            parts.extend([&secret, &escaped_secret].map(|text| TokenPart::of_secret(text)));
        }
        Token { whole, secret, escaped_secret, client_id, tenant, parts }
    }

    pub fn traces(&self) -> TokenTraces {
        TokenTraces::new(&self.whole, &Secret::new(self.secret.clone()))
    }

    /// The file of secrets with the credential that it is minted for.
    pub fn secrets_file(&self) -> String {
        let Token { client_id, secret, tenant, .. } = self;
        serde_json::json!([{ "clientId": client_id, "clientSecret": secret, "tenant": tenant }]).to_string()
    }

    /// Returns a piece: payload, signature, secret, the secret as JSON has it, or the whole token; from a byte on, so many
    /// bytes, or to its end for 0.
    pub fn piece(&self, [part, from, length]: [u8; 3]) -> &[u8] {
        let part = match part % 5 {
            0 => self.whole.split('.').nth(1).expect("a payload"),
            1 => self.whole.split('.').nth(2).expect("a signature"),
            2 => &self.secret,
            3 => &self.escaped_secret,
            _ => &self.whole,
        };
        let rest = &part.as_bytes()[usize::from(from) % part.len()..];
        &rest[..if length == 0 { rest.len() } else { rest.len().min(length.into()) }]
    }

    /// The length of the longest run that is asked for.
    pub fn run_bytes_max(&self) -> usize {
        self.parts.iter().map(|part| part.run_bytes).max().unwrap_or(0)
    }

    /// Returns every range of `text` that is a run of just the length that counts.
    pub fn runs(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut runs = Vec::new();
        for TokenPart { bytes: part, run_bytes, .. } in &self.parts {
            // How many bytes before a place of the text are those before a place of the part.
            let mut before = vec![0; part.len() + 1];
            for (at, byte) in text.iter().enumerate() {
                for place in (0..part.len()).rev() {
                    before[place + 1] = if part[place] == *byte { before[place] + 1 } else { 0 };
                }
                if before.iter().any(|length| length >= run_bytes) {
                    runs.push(at + 1 - run_bytes..at + 1);
                }
            }
        }
        runs
    }

    /// Returns how many bytes of a run at most go out in an event that shows late that it is an error.
    pub fn gone_bytes_max(&self, run: &[u8]) -> usize {
        let parts = self.parts.iter().filter(|part| part.bytes.windows(part.run_bytes).any(|window| window == run));
        parts.map(|part| part.gone_bytes_max).min().unwrap_or(0)
    }

    /// Returns where the longest suffix of `text` begins that more bytes could make a run.
    pub fn open_suffix(&self, text: &[u8]) -> usize {
        let is_open = |start: &usize| self.parts.iter().any(|part| part.begins_run(&text[*start..]));
        (text.len().saturating_sub(self.run_bytes_max())..text.len()).find(is_open).unwrap_or(text.len())
    }

    /// Returns the longest of those suffixes that is masked where nothing follows.
    pub fn cut_suffix(&self, text: &[u8]) -> CutSuffix {
        for start in text.len().saturating_sub(self.run_bytes_max())..text.len() {
            let suffix = &text[start..];
            let is_cut = |part: &&TokenPart| suffix.len() >= part.cut_bytes_min && part.begins_run(suffix);
            if let Some(gone_bytes_max) = self.parts.iter().filter(is_cut).map(|part| part.gone_bytes_max).min() {
                return CutSuffix { start, gone_bytes_max };
            }
        }
        CutSuffix { start: text.len(), gone_bytes_max: 0 }
    }
}

impl TokenPart {
    fn of_token(text: &str) -> Self {
        TokenPart {
            bytes: text.as_bytes().to_vec(),
            run_bytes: RUN_BYTES,
            gone_bytes_max: GONE_BYTES_MAX,
            cut_bytes_min: CUT_BYTES_MIN,
        }
    }

    fn of_secret(text: &str) -> Self {
        TokenPart {
            bytes: text.as_bytes().to_vec(),
            run_bytes: text.len(),
            gone_bytes_max: GONE_SECRET_BYTES_MAX,
            cut_bytes_min: text.len() / 2,
        }
    }

    /// Tells whether more bytes could make a run of `suffix`.
    fn begins_run(&self, suffix: &[u8]) -> bool {
        suffix.len() < self.run_bytes && self.bytes.windows(self.run_bytes).any(|run| run.starts_with(suffix))
    }
}

fn claim([text, length]: [u8; 2]) -> String {
    let text = CLAIM_TEXTS[usize::from(text) % CLAIM_TEXTS.len()];
    text.chars().cycle().take(1 + usize::from(length) % CLAIM_CHARACTERS_MAX).collect()
}

/// Tells of each of so many bytes whether it is in one of the ranges.
pub fn marked(bytes: usize, ranges: &[Range<usize>]) -> Vec<bool> {
    let mut marked = vec![false; bytes];
    ranges.iter().for_each(|range| marked[range.clone()].fill(true));
    marked
}
