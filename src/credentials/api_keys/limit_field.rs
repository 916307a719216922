//! The limits of a key by the names that they are written under.

use super::policy::KeyLimits;

/// More requests than a machine has sockets.
const PARALLEL_MAX: u32 = 1_000_000;
const REQUESTS_MAX: u32 = 1_000_000_000;
/// Whole numbers up to here are the same in every JSON parser (RFC 8259 §6), less three digits for sums.
const TOKENS_MAX: u64 = 1_000_000_000_000;
/// The count of a month ends at 2.8 million dollars.
const USD_MAX: f64 = 2_000_000.0;

/// One limit of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitField {
    Parallel,
    RequestsPerMinute,
    TokensPerMinute,
    TokensPerDay,
    UsdPerDay,
    UsdPerMonth,
}

impl LimitField {
    pub const ALL: [LimitField; 6] = [
        LimitField::Parallel,
        LimitField::RequestsPerMinute,
        LimitField::TokensPerMinute,
        LimitField::TokensPerDay,
        LimitField::UsdPerDay,
        LimitField::UsdPerMonth,
    ];

    /// Returns its name in the file of keys, in errors and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            LimitField::Parallel => "parallel",
            LimitField::RequestsPerMinute => "requests_per_minute",
            LimitField::TokensPerMinute => "tokens_per_minute",
            LimitField::TokensPerDay => "tokens_per_day",
            LimitField::UsdPerDay => "usd_per_day",
            LimitField::UsdPerMonth => "usd_per_month",
        }
    }

    /// Tells whether it lasts so long, once reached, that nobody should try again meanwhile.
    pub fn is_long(self) -> bool {
        matches!(self, LimitField::TokensPerDay | LimitField::UsdPerDay | LimitField::UsdPerMonth)
    }

    /// Describes the values that it can have.
    pub fn form(self) -> String {
        let whole = |most: u64| format!("a whole number from 1 to {most}");
        match self {
            LimitField::Parallel => whole(PARALLEL_MAX.into()),
            LimitField::RequestsPerMinute => whole(REQUESTS_MAX.into()),
            LimitField::TokensPerMinute | LimitField::TokensPerDay => whole(TOKENS_MAX),
            LimitField::UsdPerDay | LimitField::UsdPerMonth => {
                format!("a number of US dollars above 0 and up to {USD_MAX}")
            }
        }
    }

    /// Reads a JSON number into its field; returns false for a value that it cannot have.
    pub fn read(self, text: &str, limits: &mut KeyLimits) -> bool {
        match self {
            LimitField::Parallel => set(&mut limits.parallel, whole(text, PARALLEL_MAX)),
            LimitField::RequestsPerMinute => set(&mut limits.requests_per_minute, whole(text, REQUESTS_MAX)),
            LimitField::TokensPerMinute => set(&mut limits.tokens_per_minute, whole(text, TOKENS_MAX)),
            LimitField::TokensPerDay => set(&mut limits.tokens_per_day, whole(text, TOKENS_MAX)),
            LimitField::UsdPerDay => set(&mut limits.usd_per_day, dollars(text)),
            LimitField::UsdPerMonth => set(&mut limits.usd_per_month, dollars(text)),
        }
    }

    /// Gives `to` the limit that `from` has.
    pub fn copy(self, from: &KeyLimits, to: &mut KeyLimits) {
        match self {
            LimitField::Parallel => to.parallel = from.parallel,
            LimitField::RequestsPerMinute => to.requests_per_minute = from.requests_per_minute,
            LimitField::TokensPerMinute => to.tokens_per_minute = from.tokens_per_minute,
            LimitField::TokensPerDay => to.tokens_per_day = from.tokens_per_day,
            LimitField::UsdPerDay => to.usd_per_day = from.usd_per_day,
            LimitField::UsdPerMonth => to.usd_per_month = from.usd_per_month,
        }
    }

    /// Returns the limit as a JSON number; `None` where there is none.
    pub fn written(self, limits: &KeyLimits) -> Option<String> {
        match self {
            LimitField::Parallel => limits.parallel.map(|limit| limit.to_string()),
            LimitField::RequestsPerMinute => limits.requests_per_minute.map(|limit| limit.to_string()),
            LimitField::TokensPerMinute => limits.tokens_per_minute.map(|limit| limit.to_string()),
            LimitField::TokensPerDay => limits.tokens_per_day.map(|limit| limit.to_string()),
            LimitField::UsdPerDay => limits.usd_per_day.map(|limit| limit.to_string()),
            LimitField::UsdPerMonth => limits.usd_per_month.map(|limit| limit.to_string()),
        }
    }
}

fn set<T>(field: &mut Option<T>, value: Option<T>) -> bool {
    let is_set = value.is_some();
    *field = value;
    is_set
}

fn whole<T: TryFrom<u64> + Into<u64>>(text: &str, most: T) -> Option<T> {
    // Not the sign that Rust's parser takes too.
    let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    let number: u64 = digits.parse().ok()?;
    (1..=most.into()).contains(&number).then(|| T::try_from(number).ok())?
}

fn dollars(text: &str) -> Option<f64> {
    // Not the words for what is no number that Rust's parser takes too.
    let is_of_number = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E');
    let number: f64 = text.parse().ok().filter(|_| text.bytes().all(is_of_number))?;
    (number > 0.0 && number <= USD_MAX).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_what_it_was_written_as_and_never_nothing() {
        for field in LimitField::ALL {
            let is_cost = field.name().starts_with("usd");
            for (text, is_good) in [
                ("1", true),
                ("1000000", true),
                ("0", false),
                ("-1", false),
                ("1.5", is_cost),
                ("0.001", is_cost),
                ("-0.0", false),
                ("1e999", false),
                ("1e-999", false),
                ("1e10", false),
                ("nan", false),
                ("inf", false),
                ("+1", is_cost),
                ("", false),
                ("99999999999999999999", false),
            ] {
                let mut limits = KeyLimits::default();
                assert_eq!(field.read(text, &mut limits), is_good, "{field:?} {text}");
                let expected = is_good.then(|| text.trim_start_matches('+').to_owned());
                assert_eq!(field.written(&limits), expected, "{field:?} {text}");
                let mut copied = KeyLimits::default();
                LimitField::ALL.into_iter().filter(|other| *other != field).for_each(|f| f.copy(&limits, &mut copied));
                assert_eq!(copied, KeyLimits::default());
                field.copy(&limits, &mut copied);
                assert_eq!(copied, limits);
            }
        }
    }
}
