//! Counts of tokens, as all dialects tell them.

use std::ops::AddAssign;

/// The tokens of one answer, or of many.
///
/// Invariant: `cache_read` and `cache_write` are parts of `input`, and `reasoning` is a part of `output`, whatever the
/// dialect: Anthropic's `input_tokens` leaves out what came from the cache, which is added here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenCounts {
    pub input: u64,
    pub cache_read: u64,
    pub cache_write: u64,
    pub output: u64,
    pub reasoning: u64,
}

impl AddAssign for TokenCounts {
    fn add_assign(&mut self, other: TokenCounts) {
        self.input = self.input.saturating_add(other.input);
        self.cache_read = self.cache_read.saturating_add(other.cache_read);
        self.cache_write = self.cache_write.saturating_add(other.cache_write);
        self.output = self.output.saturating_add(other.output);
        self.reasoning = self.reasoning.saturating_add(other.reasoning);
    }
}

/// Tokens that were not reported, by the length of what came and went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EstimatedTokens {
    pub input: u64,
    pub output: u64,
}

/// The bytes of audio in base64 that are taken for one byte of text, so that a token is estimated for each 512 of them:
/// not fewer than any coding of Realtime takes. PCM of 24,000 16-bit samples a second has 6,400 for each token heard,
/// and G.711 533 for each token spoken (a token is 100 ms of what is heard, 50 ms of what is spoken).
pub const AUDIO_BYTES_PER_TEXT_BYTE: u64 = 128;

impl EstimatedTokens {
    /// Estimates a token for each four bytes of text, as is usual for English text and code.
    pub fn of_bytes(input: u64, output: u64) -> Self {
        EstimatedTokens { input: input.div_ceil(4), output: output.div_ceil(4) }
    }
}

impl AddAssign for EstimatedTokens {
    fn add_assign(&mut self, other: EstimatedTokens) {
        self.input = self.input.saturating_add(other.input);
        self.output = self.output.saturating_add(other.output);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_a_quarter_of_a_token_a_byte_rounded_up() {
        assert_eq!(EstimatedTokens::of_bytes(0, 1), EstimatedTokens { input: 0, output: 1 });
        assert_eq!(EstimatedTokens::of_bytes(400, 5), EstimatedTokens { input: 100, output: 2 });
    }

    #[test]
    fn counts_are_added_kind_by_kind_and_never_overflow() {
        let mut counts = TokenCounts { input: 1, cache_read: 2, cache_write: 3, output: 4, reasoning: u64::MAX };
        counts += TokenCounts { input: 10, cache_read: 20, cache_write: 30, output: 40, reasoning: 50 };
        let expected = TokenCounts { input: 11, cache_read: 22, cache_write: 33, output: 44, reasoning: u64::MAX };
        assert_eq!(counts, expected);
    }
}
