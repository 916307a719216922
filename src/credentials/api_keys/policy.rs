//! The permissions of a caller's key: its limits, and the models and credentials that it may use.
//!
//! Without anything to say a key may do all. Not here: how the limits are kept.

/// The permissions of one key.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KeyPolicy {
    pub limits: KeyLimits,
    /// One of them must match the model of a request; `None`: any model will do.
    pub models: Option<Vec<ModelPattern>>,
    /// The names of the credentials that its requests use; `None`: all.
    pub credentials: Option<Vec<String>>,
}

/// The limits of one key; `None` stands for none.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct KeyLimits {
    /// Requests under way at a time.
    pub parallel: Option<u32>,
    pub requests_per_minute: Option<u32>,
    /// Input and output together.
    pub tokens_per_minute: Option<u64>,
    /// In a day of UTC.
    pub tokens_per_day: Option<u64>,
    /// US dollars in a day of UTC; finite and more than 0.
    pub usd_per_day: Option<f64>,
    /// US dollars in a month of UTC; finite and more than 0.
    pub usd_per_month: Option<f64>,
}

/// The name of a model, in which `*` stands for any characters, also none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPattern(String);

impl ModelPattern {
    pub fn new(text: impl Into<String>) -> Self {
        ModelPattern(text.into())
    }

    pub fn text(&self) -> &str {
        &self.0
    }

    /// Returns whether it can match several names.
    pub fn is_glob(&self) -> bool {
        self.0.contains('*')
    }

    /// Returns whether a model's name matches. Takes at most the product of both lengths in steps.
    pub fn matches(&self, model: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == model };
        let Some(mut left) = model.strip_prefix(first) else { return false };
        let Some((middle, last)) = rest.rsplit_once('*') else { return left.ends_with(rest) };
        // Each part as early as it can be leaves the most for those that follow.
        for part in middle.split('*') {
            let Some(at) = left.find(part) else { return false };
            left = &left[at + part.len()..];
        }
        left.ends_with(last)
    }
}

impl KeyLimits {
    /// Returns whether any of them needs the tokens or the cost of answers.
    pub fn count_usage(&self) -> bool {
        self.tokens_per_minute.is_some() || self.tokens_per_day.is_some() || self.count_cost()
    }

    /// Returns whether any of them needs the cost of answers.
    pub fn count_cost(&self) -> bool {
        self.usd_per_day.is_some() || self.usd_per_month.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names_and_a_star_any_characters() {
        for (pattern, model, expected) in [
            ("gpt-4o", "gpt-4o", true),
            ("gpt-4o", "gpt-4o-mini", false),
            ("claude-*", "claude-sonnet-4-5", true),
            ("claude-*", "claude-", true),
            ("claude-*", "anthropic/claude-x", false),
            ("*", "", true),
            ("*/claude-*-4*", "anthropic/claude-sonnet-4-5", true),
            ("*-mini", "gpt-4o-mini", true),
            ("*-mini", "gpt-4o-mini-x", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "abbc", true),
            ("a*bb*bc", "abbc", false),
            ("**", "x", true),
            ("a**b", "ab", true),
        ] {
            assert_eq!(ModelPattern::new(pattern).matches(model), expected, "{pattern} {model}");
        }
    }
}
