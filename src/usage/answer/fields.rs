//! The members of a usage object, as the dialects name them, and the counts that they mean.
//!
//! Invariant: of what cannot be a count (negative, no whole number, beyond 32 bits, no number at all) nothing is taken.
//! Sources: the types of the SDKs of OpenAI (`CompletionUsage`, `ResponseUsage`, `ImagesResponse`), Anthropic (`Usage`,
//! `MessageDeltaUsage`) and Google (`GenerateContentResponseUsageMetadata`), and LiteLLM's `Usage`. Not here: the place
//! of the object in an answer.

use crate::json::text::JsonScalar;
use crate::usage::cost::Usd;
use crate::usage::tokens::TokenCounts;

/// The bytes of a number that are read. Observers get its first 32, so that a longer one may have lost its exponent.
const NUMBER_BYTES_MAX: usize = 31;

/// A count in a usage object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// The input with what came from the cache: of chat, and Gemini's.
    Prompt,
    /// The input of Responses and images, which holds what came from the cache, and Anthropic's, which does not.
    Input,
    CacheRead,
    CacheWrite,
    /// Without the reasoning it is Gemini's, else with it.
    Output,
    Reasoning,
    /// The input of Gemini's tools, beside that of the prompt.
    ToolInput,
    Total,
}

/// The number of kinds.
const KINDS: usize = TokenKind::Total as usize + 1;

/// A member of a usage object, or of an object in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageMember {
    Tokens(TokenKind),
    Gemini(TokenKind),
    Cost,
    /// An object with parts of the input, which shows that the input holds them.
    InputDetails,
    OutputDetails,
    Other,
}

impl UsageMember {
    /// The member of this name of a usage object.
    pub fn of(name: &[u8]) -> Self {
        use TokenKind::{CacheRead, CacheWrite, Input, Output, Prompt, Reasoning, ToolInput, Total};
        match name {
            b"prompt_tokens" => UsageMember::Tokens(Prompt),
            b"input_tokens" => UsageMember::Tokens(Input),
            b"completion_tokens" | b"output_tokens" => UsageMember::Tokens(Output),
            b"total_tokens" => UsageMember::Tokens(Total),
            // The last is DeepSeek's.
            b"cache_read_input_tokens" | b"prompt_cache_hit_tokens" => UsageMember::Tokens(CacheRead),
            b"cache_creation_input_tokens" => UsageMember::Tokens(CacheWrite),
            // The last one is Realtime's.
            b"prompt_tokens_details" | b"input_tokens_details" | b"input_token_details" => UsageMember::InputDetails,
            b"completion_tokens_details" | b"output_tokens_details" | b"output_token_details" => {
                UsageMember::OutputDetails
            }
            b"cost" => UsageMember::Cost,
            b"promptTokenCount" => UsageMember::Gemini(Prompt),
            b"toolUsePromptTokenCount" => UsageMember::Gemini(ToolInput),
            b"cachedContentTokenCount" => UsageMember::Gemini(CacheRead),
            b"candidatesTokenCount" => UsageMember::Gemini(Output),
            b"thoughtsTokenCount" => UsageMember::Gemini(Reasoning),
            _ => UsageMember::Other,
        }
    }

    /// The member of this name of the object that is the value of this one.
    pub fn within(self, name: &[u8]) -> Self {
        match (self, name) {
            (UsageMember::InputDetails, b"cached_tokens") => UsageMember::Tokens(TokenKind::CacheRead),
            (UsageMember::InputDetails, b"cache_write_tokens" | b"cache_creation_tokens") => {
                UsageMember::Tokens(TokenKind::CacheWrite)
            }
            (UsageMember::OutputDetails, b"reasoning_tokens" | b"thinking_tokens") => {
                UsageMember::Tokens(TokenKind::Reasoning)
            }
            // Perplexity's, by parts.
            (UsageMember::Cost, b"total_cost") => UsageMember::Cost,
            _ => UsageMember::Other,
        }
    }
}

/// The counts of one usage object, or the last ones of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageFields {
    counts: [u32; KINDS],
    /// The bit of each kind that was told.
    told: u8,
    /// Parts of the input were told by an object of their own.
    has_input_details: bool,
    is_gemini: bool,
    cost: Option<Usd>,
}

impl UsageFields {
    pub const NONE: UsageFields =
        UsageFields { counts: [0; KINDS], told: 0, has_input_details: false, is_gemini: false, cost: None };

    /// Takes the value of a member. Of several that mean the same the greatest counts: LiteLLM tells what it has not
    /// seen as 0.
    pub fn set(&mut self, member: UsageMember, value: JsonScalar<'_>) {
        let JsonScalar::Word(word) = value else { return };
        let kind = match member {
            UsageMember::Cost => return self.set_cost(word),
            UsageMember::Tokens(kind) | UsageMember::Gemini(kind) => kind,
            UsageMember::InputDetails | UsageMember::OutputDetails | UsageMember::Other => return,
        };
        let Some(count) = count(word) else { return };
        let place = &mut self.counts[kind as usize];
        *place = (*place).max(count);
        self.told |= 1 << kind as u8;
        self.is_gemini |= matches!(member, UsageMember::Gemini(_));
    }

    /// Notes that an object begins as the value of a member.
    pub fn open(&mut self, member: UsageMember) {
        self.has_input_details |= member == UsageMember::InputDetails;
    }

    /// Takes the counts of a later object: the last value of each, and of Gemini's the last object.
    pub fn join(&mut self, later: &UsageFields) {
        if later.is_gemini {
            *self = UsageFields { cost: later.cost.or(self.cost), ..*later };
            return;
        }
        for (kind, count) in later.counts.iter().enumerate() {
            if later.told & 1 << kind != 0 {
                self.counts[kind] = *count;
            }
        }
        self.told |= later.told;
        self.has_input_details |= later.has_input_details;
        self.cost = later.cost.or(self.cost);
    }

    pub fn cost(&self) -> Option<Usd> {
        self.cost
    }

    /// Returns what was told in the terms of all dialects; `None` where there was no count.
    pub fn tokens(&self) -> Option<TokenCounts> {
        if self.told == 0 {
            return None;
        }
        let count = |kind: TokenKind| u64::from(self.counts[kind as usize]);
        let (cache_read, cache_write) = (count(TokenKind::CacheRead), count(TokenKind::CacheWrite));
        let (output, reasoning) = (count(TokenKind::Output), count(TokenKind::Reasoning));
        let input = if self.has(TokenKind::Prompt) {
            count(TokenKind::Prompt) + count(TokenKind::ToolInput)
        } else if self.has(TokenKind::Total) && !self.has(TokenKind::Input) && !self.has(TokenKind::Output) {
            // Nothing but a total is told by some servers of embeddings, which put out no tokens.
            count(TokenKind::Total)
        } else if self.has(TokenKind::Total) || self.has_input_details {
            count(TokenKind::Input)
        } else {
            count(TokenKind::Input) + cache_read + cache_write
        };
        // Parts are no more than the whole, whatever was told.
        let cache_read = cache_read.min(input);
        let output = if self.is_gemini { output + reasoning } else { output };
        let cache_write = cache_write.min(input - cache_read);
        Some(TokenCounts { input, cache_read, cache_write, output, reasoning: reasoning.min(output) })
    }

    fn has(&self, kind: TokenKind) -> bool {
        self.told & 1 << kind as u8 != 0
    }

    fn set_cost(&mut self, word: &[u8]) {
        if let Some(dollars) = number(word).and_then(|text| text.parse().ok()) {
            self.cost = Usd::from_dollars(dollars).or(self.cost);
        }
    }
}

/// The value of a whole number without a sign. 32 bits hold a thousand times the largest context of any model.
fn count(word: &[u8]) -> Option<u32> {
    let digits = number(word).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

fn number(word: &[u8]) -> Option<&str> {
    std::str::from_utf8(word).ok().filter(|text| text.len() <= NUMBER_BYTES_MAX)
}

#[cfg(test)]
mod tests;
