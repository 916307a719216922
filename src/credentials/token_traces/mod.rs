//! The bytes by which a token is known in what an upstream sends back, and the search for them.
//!
//! They are the token's payload and signature, of which 32 bytes in a row count, and the client secret itself, of which
//! all of it does. Invariant: what is found does not depend on how the text was split, if what follows
//! [`TokenTraces::open_suffix`] is searched together with that suffix. The search looks at one place in 25 (one gram of
//! eight bytes, in a filter of a few cache lines), since a run of 32 bytes has such a place within it wherever it
//! begins. Not here: which parts of an answer are searched.

use std::fmt;
use std::ops::Range;

use memchr::memchr_iter;
use zeroize::Zeroizing;

use super::secret::Secret;

/// The length from which a part of the payload or the signature counts. 32 of its characters are 24 bytes of the claims:
/// no chance brings them, and few of them say too little to be of use.
pub const RUN_BYTES_MIN: usize = 32;

/// The length from which a secret is looked for as it is. A shorter one would be found in ordinary words, and protects
/// nothing: it can be guessed. In the payload it is found all the same.
pub const SECRET_BYTES_MIN: usize = 8;

/// The length from which the beginning of a run of the payload or the signature is kept back in a text that may yet turn
/// out to be searched: most texts end with a letter of some token, and so many bytes are five of the claims.
const UNDECIDED_BYTES_MIN: usize = 8;

/// The same for a secret, of which each byte says more. Two letters end many a word.
const UNDECIDED_SECRET_BYTES_MIN: usize = 3;

/// The length from which the end of a text that broke off is taken for the beginning of a run of the payload or the
/// signature; of a secret half of it is.
const CUT_BYTES_MIN: usize = 16;

/// The bytes that are looked up at one place.
const GRAM_BYTES: usize = 8;

/// The words of the filter, of 64 bits: with the 250 grams of a usual token, each of which sets two bits, one gram of a
/// text in seventeen passes the first by chance, and one in three hundred both. An event of 170 bytes has eight grams
/// that are looked at.
const FILTER_WORDS: usize = 128;

/// Parts of one token and its secret, ready to be searched for.
pub struct TokenTraces {
    /// The parts, one after the other.
    bytes: Zeroizing<Vec<u8>>,
    parts: Vec<TracePart>,
    /// The place of every gram of every part in `bytes`, in the order of their numbers.
    grams: Zeroizing<Vec<u32>>,
    filter: Zeroizing<[u64; FILTER_WORDS]>,
    /// The distance of two places of a text that are looked at, so that each run has one within it.
    stride: usize,
    /// The length of the shortest run that counts.
    run_bytes_min: usize,
}

/// One part: any run of so many of its bytes counts.
struct TracePart {
    range: Range<usize>,
    run_bytes: usize,
    kind: TraceKind,
}

#[derive(Clone, Copy)]
enum TraceKind {
    /// Payload or signature.
    OfToken,
    Secret,
}

/// The circumstances in which a text ends with what may become a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextEnd {
    /// It is searched, and goes on.
    GoesOn,
    /// It goes on, and may turn out to be searched.
    Undecided,
    /// It broke off.
    Cut,
}

impl TracePart {
    /// Returns the length from which the beginning of a run counts at the end of a text.
    fn suffix_bytes_min(&self, end: TextEnd) -> usize {
        match (end, self.kind) {
            (TextEnd::GoesOn, _) => 1,
            (TextEnd::Undecided, TraceKind::OfToken) => UNDECIDED_BYTES_MIN,
            (TextEnd::Undecided, TraceKind::Secret) => UNDECIDED_SECRET_BYTES_MIN.min(self.run_bytes / 2),
            (TextEnd::Cut, TraceKind::OfToken) => CUT_BYTES_MIN,
            (TextEnd::Cut, TraceKind::Secret) => self.run_bytes / 2,
        }
    }
}

impl TokenTraces {
    /// Makes those of nothing, which is found nowhere.
    pub fn none() -> Self {
        TokenTraces::with_room(0)
    }

    /// Makes them with room for everything at once: a vector that grows would leave copies that are not zeroed.
    fn with_room(bytes_max: usize) -> Self {
        TokenTraces {
            bytes: Zeroizing::new(Vec::with_capacity(bytes_max)),
            parts: Vec::new(),
            grams: Zeroizing::new(Vec::with_capacity(bytes_max)),
            filter: Zeroizing::new([0; FILTER_WORDS]),
            stride: RUN_BYTES_MIN + 1 - GRAM_BYTES,
            run_bytes_min: RUN_BYTES_MIN,
        }
    }

    /// Makes those of a token, `header.payload.signature`, and of the secret that signed it.
    pub fn new(token: &str, client_secret: &Secret) -> Self {
        let secret = client_secret.expose();
        // As it stands in the claims, where an upstream shows them decoded.
        let quoted = Zeroizing::new(serde_json::to_string(secret).unwrap_or_default());
        let escaped = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default();
        let mut traces = TokenTraces::with_room(token.len() + secret.len() + escaped.len());
        for part in token.split('.').skip(1) {
            traces.add(part.as_bytes(), TraceKind::OfToken);
        }
        if secret.len() >= SECRET_BYTES_MIN {
            traces.add(secret.as_bytes(), TraceKind::Secret);
            if escaped.len() > secret.len() {
                traces.add(escaped.as_bytes(), TraceKind::Secret);
            }
        }
        traces.sort_grams();
        traces
    }

    /// Makes those of all tokens that two others are of.
    pub fn joined(one: &TokenTraces, other: &TokenTraces) -> Self {
        let mut traces = TokenTraces::with_room(one.bytes.len() + other.bytes.len());
        for (TracePart { range, kind, .. }, bytes) in
            [one, other].into_iter().flat_map(|traces| traces.parts.iter().map(|part| (part, &traces.bytes)))
        {
            let text = &bytes[range.clone()];
            if !traces.parts.iter().any(|part| &traces.bytes[part.range.clone()] == text) {
                traces.add(text, *kind);
            }
        }
        traces.sort_grams();
        traces
    }

    fn add(&mut self, part: &[u8], kind: TraceKind) {
        let run_bytes = match kind {
            TraceKind::OfToken => RUN_BYTES_MIN,
            TraceKind::Secret => part.len(),
        };
        let start = self.bytes.len();
        self.bytes.extend_from_slice(part);
        let range = start..self.bytes.len();
        if range.len() < run_bytes || u32::try_from(range.end).is_err() {
            return;
        }
        self.stride = self.stride.min(run_bytes + 1 - GRAM_BYTES);
        self.run_bytes_min = self.run_bytes_min.min(run_bytes);
        for (offset, gram) in part.windows(GRAM_BYTES).filter_map(<[u8]>::first_chunk).enumerate() {
            self.grams.push((start + offset) as u32);
            for place in FilterPlace::both_of(gram) {
                self.filter[place.word] |= place.bit();
            }
        }
        self.parts.push(TracePart { range, run_bytes, kind });
    }

    fn sort_grams(&mut self) {
        let TokenTraces { bytes, grams, .. } = self;
        grams.sort_unstable_by_key(|&place| number_at(bytes, place));
    }

    /// The length of the shortest run that counts: no shorter text need be searched.
    pub fn run_bytes_min(&self) -> usize {
        self.run_bytes_min
    }

    /// Tells whether a run may be in `text`. Where none can be, it takes about one instruction for two bytes.
    pub fn may_be_in(&self, text: &[u8]) -> bool {
        let mut rest = text;
        while let Some(gram) = rest.first_chunk() {
            if self.may_be_gram(gram) && !self.look_up(gram).is_empty() {
                return true;
            }
            let Some(next) = rest.get(self.stride..) else { return false };
            rest = next;
        }
        false
    }

    /// Returns the ranges of `text` that are runs; they may overlap.
    pub fn runs_in(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for at in (0..text.len()).step_by(self.stride) {
            let Some(gram) = text[at..].first_chunk() else { break };
            if !self.may_be_gram(gram) {
                continue;
            }
            for &place in self.look_up(gram) {
                let Some(run) = self.run_around(text, at, place as usize) else { continue };
                match runs.last_mut() {
                    // Mostly it is the same, found at its next gram.
                    Some(last) if run.start <= last.end && last.start <= run.end => {
                        *last = last.start.min(run.start)..last.end.max(run.end);
                    }
                    _ => runs.push(run),
                }
            }
        }
        runs
    }

    /// Returns the start of the longest suffix of `text` that bytes to come may make a run, or a longer one; the length
    /// of `text` where there is none. It is shorter than the longest run that is asked for.
    pub fn open_suffix(&self, text: &[u8]) -> usize {
        self.suffix(text, TextEnd::GoesOn)
    }

    /// Returns the start of the longest of those suffixes that is kept back of a text that ends so.
    pub fn suffix(&self, text: &[u8], text_end: TextEnd) -> usize {
        let Some(&last) = text.last() else { return 0 };
        let mut longest = 0;
        for traced in &self.parts {
            let TracePart { range, run_bytes, .. } = traced;
            let bytes_min = traced.suffix_bytes_min(text_end);
            let part = &self.bytes[range.clone()];
            for at in memchr_iter(last, part) {
                let end = at + 1;
                let length = common_suffix(text, &part[..end]).min(run_bytes - 1);
                // A run that begins where this does has to end within the part.
                if length >= bytes_min && end - length + run_bytes <= part.len() {
                    longest = longest.max(length);
                }
            }
        }
        text.len() - longest
    }

    #[inline]
    fn may_be_gram(&self, gram: &[u8; GRAM_BYTES]) -> bool {
        let place = FilterPlace::first_of(gram);
        self.filter[place.word] & place.bit() != 0
    }

    /// Returns the places of a gram in the parts.
    #[inline(never)]
    fn look_up(&self, gram: &[u8; GRAM_BYTES]) -> &[u32] {
        if FilterPlace::both_of(gram).iter().any(|place| self.filter[place.word] & place.bit() == 0) {
            return &[];
        }
        let number = u64::from_le_bytes(*gram);
        let is_it = |&place: &u32| number_at(&self.bytes, place) == number;
        let first = self.grams.partition_point(|&place| number_at(&self.bytes, place) < number);
        let rest = &self.grams[first..];
        &rest[..rest.iter().take_while(|place| is_it(place)).count()]
    }

    /// Returns the run of which the gram at `at` in `text` and at `place` in the parts is a piece, if it is long enough.
    fn run_around(&self, text: &[u8], at: usize, place: usize) -> Option<Range<usize>> {
        let TracePart { range, run_bytes, .. } = self.parts.iter().find(|part| part.range.contains(&place))?;
        let before = common_suffix(&text[..at], &self.bytes[range.start..place]);
        let after = common_prefix(&text[at..], &self.bytes[place..range.end]);
        (before + after >= *run_bytes).then(|| at - before..at + after)
    }
}

/// Returns the gram at a place of the parts as a number, which is quick to compare.
#[inline]
fn number_at(bytes: &[u8], place: u32) -> u64 {
    bytes[place as usize..].first_chunk().map_or(0, |gram| u64::from_le_bytes(*gram))
}

/// One of the two bits of a gram in the filter.
struct FilterPlace {
    word: usize,
    bit: u32,
}

impl FilterPlace {
    /// The place that rules most out.
    #[inline]
    fn first_of(gram: &[u8; GRAM_BYTES]) -> Self {
        FilterPlace::at(hash_of(gram) >> 51)
    }

    fn both_of(gram: &[u8; GRAM_BYTES]) -> [Self; 2] {
        [FilterPlace::first_of(gram), FilterPlace::at(hash_of(gram) >> 38)]
    }

    #[inline]
    fn at(number: u64) -> Self {
        FilterPlace { word: (number / 64) as usize % FILTER_WORDS, bit: (number % 64) as u32 }
    }

    #[inline]
    fn bit(&self) -> u64 {
        1 << self.bit
    }
}

/// Multiplies by the odd number next to the golden ratio of 2^64 (Knuth, TAOCP 6.4), which spreads all bits to the upper
/// ones.
#[inline]
fn hash_of(gram: &[u8; GRAM_BYTES]) -> u64 {
    u64::from_le_bytes(*gram).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

fn common_suffix(one: &[u8], other: &[u8]) -> usize {
    one.iter().rev().zip(other.iter().rev()).take_while(|(one, other)| one == other).count()
}

// The parts are secret, and so is what is made of them.
impl fmt::Debug for TokenTraces {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[REDACTED]")
    }
}

#[cfg(test)]
mod tests;
