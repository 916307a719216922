//! An error with a content coding, which can be judged only as a whole: a decoder needs all that came before.
//!
//! Invariant: at most [`CODED_BYTES_MAX`] are kept of it, and no copy is left of them. Not here: the decoders
//! (`decoded`), and what becomes of the answer.

use zeroize::Zeroizing;

use crate::credentials::TokenTraces;
use crate::proxy::response::coding::ContentCoding;
use crate::proxy::response::mask::decoded::{DECODED_BYTES_MAX, decode};

/// The longest error that is searched, as it came: as long as decoded.
const CODED_BYTES_MAX: usize = DECODED_BYTES_MAX;

/// The content of an error as it came.
pub struct CodedError {
    coding: ContentCoding,
    content: Zeroizing<Vec<u8>>,
    is_judged: bool,
}

/// The verdict on an error that was decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodedVerdict {
    Clean,
    /// It holds a run.
    Leaks,
    /// None was found, but not all of it could be searched: it is too long, cut, broken, or of several codings.
    Unsearched,
}

impl CodedError {
    pub fn new(coding: ContentCoding) -> Self {
        // At once: a vector that grows would leave copies that are not zeroed.
        let content = Zeroizing::new(Vec::with_capacity(CODED_BYTES_MAX + 1));
        CodedError { coding, content, is_judged: false }
    }

    /// Takes the next bytes of the content.
    pub fn observe(&mut self, data: &[u8]) {
        if self.is_judged {
            return;
        }
        // One more byte tells a longer one.
        let room = CODED_BYTES_MAX + 1 - self.content.len();
        self.content.extend_from_slice(&data[..data.len().min(room)]);
    }

    /// Returns whether more of it is searched, and none of it goes downstream yet.
    pub fn wants_more(&self) -> bool {
        !self.is_judged && self.content.len() <= CODED_BYTES_MAX
    }

    /// Judges it by what came, which is all of it if it `is_complete`; from here on nothing of it is kept.
    pub fn judge(&mut self, traces: &TokenTraces, is_complete: bool) -> CodedVerdict {
        self.is_judged = true;
        let content = std::mem::take(&mut self.content);
        let decoded = decode(self.coding, &content);
        // Some servers name a coding that they have not applied.
        let has_run = [&decoded.text, &content].iter().any(|text| !traces.runs_in(text).is_empty());
        let is_searched = content.len() <= CODED_BYTES_MAX && (decoded.is_whole || is_plain_text(&content));
        match (has_run, is_complete && is_searched) {
            (true, _) => CodedVerdict::Leaks,
            (false, true) => CodedVerdict::Clean,
            (false, false) => CodedVerdict::Unsearched,
        }
    }
}

/// Tells whether a content is text as it stands, or nothing. What an encoder makes has control bytes, or is no UTF-8,
/// within its first bytes: gzip's and zstd's magic numbers are such, and text that is stored as it is can be searched.
fn is_plain_text(content: &[u8]) -> bool {
    let is_text = |character: char| !character.is_control() || matches!(character, '\t' | '\n' | '\r');
    std::str::from_utf8(content).is_ok_and(|text| text.chars().all(is_text))
}

#[cfg(test)]
mod tests;
