//! The usage that an answer tells of.

use std::fmt;

use crate::json::prefix::Prefix;
use crate::usage::cost::Usd;
use crate::usage::tokens::TokenCounts;

/// The longest name of a model that is told.
const MODEL_BYTES_MAX: usize = 96;

/// The usage of an answer, as far as it told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerUsage {
    /// `None` where it told of none.
    pub tokens: Option<TokenCounts>,
    /// The cost that it reported.
    pub cost: Option<Usd>,
    /// The bytes of what estimates are made of: of the text in a stream, else of the whole body.
    pub text_bytes: u64,
    pub(super) name: ModelName,
}

impl AnswerUsage {
    /// The model that the answer names, which may be another than was asked for.
    pub fn model(&self) -> Option<&str> {
        self.name.as_str()
    }
}

/// The name of a model, without allocation.
///
/// Invariant: what is told is a name of 1 to [`MODEL_BYTES_MAX`] bytes, as it stands in the JSON, without control
/// characters or escapes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct ModelName {
    /// A byte more than may be told shows that it is too long.
    text: Prefix<{ MODEL_BYTES_MAX + 1 }>,
    is_known: bool,
}

impl ModelName {
    pub const fn new() -> Self {
        ModelName { text: Prefix::new(), is_known: false }
    }

    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// Forgets the name; another may follow.
    pub fn begin(&mut self) {
        self.text.clear();
        self.is_known = false;
    }

    pub fn append(&mut self, part: &[u8]) {
        self.text.append(part);
    }

    /// Ends the name, which is forgotten where it cannot be told.
    pub fn end(&mut self) {
        let name = std::str::from_utf8(self.text.kept()).unwrap_or_default();
        let is_text = !name.contains(|letter: char| letter.is_control() || letter == '\\');
        self.is_known = !name.is_empty() && name.len() <= MODEL_BYTES_MAX && is_text;
        if !self.is_known {
            self.text.clear();
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        if self.is_known { std::str::from_utf8(self.text.kept()).ok() } else { None }
    }
}

impl fmt::Debug for ModelName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_told_that_is_short_text_without_escapes() {
        let (long, too_long) = ("m".repeat(96), "m".repeat(97));
        let cases = [
            ("gpt-4o", true),
            ("bedrock/eu.anthropic.claude:0", true),
            ("模型", true),
            (&*long, true),
            (&*too_long, false),
            ("", false),
            ("a\nb", false),
            ("a\u{85}", false),
            ("a\\nb", false),
        ];
        for (text, is_told) in cases {
            let mut name = ModelName::new();
            text.as_bytes().chunks(1).for_each(|part| name.append(part));
            assert_eq!(name.as_str(), None, "it has not ended");
            name.end();
            assert_eq!(name.as_str(), is_told.then_some(text), "{text}");
        }
        let mut name = ModelName::new();
        name.append(b"\xFF");
        name.end();
        assert_eq!(name.as_str(), None);
    }
}
