//! The text forms of single values, and the error that names the expected form.
//!
//! Invariant: no error here repeats the text it refuses, since that text may be a secret pasted into the wrong place.

use std::fmt;
use std::time::Duration;

/// One mebibyte, the unit of the size settings.
pub const MEBIBYTE: u64 = 1024 * 1024;

/// One megabyte, the unit of the log's size, as its variable's name says.
pub const MEGABYTE: u64 = 1_000_000;

/// The form that a setting would have to have, as the end of the sentence "expected …".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected(pub String);

impl Expected {
    pub(super) fn new(form: impl Into<String>) -> Self {
        Expected(form.into())
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "expected {}", self.0)
    }
}

impl std::error::Error for Expected {}

/// Parses seconds with decimals (`600`, `0.2`) within the two bounds.
///
/// # Errors
/// Any other form (signs, exponents, units) and values out of bounds.
pub fn parse_seconds(text: &str, min: Duration, max: Duration) -> Result<Duration, Expected> {
    let expected = || {
        Expected::new(format!(
            "seconds, decimals allowed, from {} to {} (such as 30 or 0.5)",
            min.as_secs_f64(),
            max.as_secs_f64()
        ))
    };
    // `f64` would also take "inf", "1e9" and "-0".
    let is_plain_decimal = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = if is_plain_decimal { text.parse::<f64>().ok() } else { None };
    let value = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).ok_or_else(expected)?;
    if value < min || value > max { Err(expected()) } else { Ok(value) }
}

/// Parses a whole number of mebibytes within the two bounds, and returns bytes.
///
/// # Errors
/// Any other form and values out of bounds.
pub fn parse_mebibytes(text: &str, min: u64, max: u64) -> Result<u64, Expected> {
    parse_count::<u64>(text, min, max, "a whole number of MiB").map(|count| count * MEBIBYTE)
}

/// Parses a whole number within the bounds, as the type of the setting; `what` begins the expectation ("a port").
///
/// # Errors
/// Any other form and values out of bounds.
pub fn parse_count<T: TryFrom<u64>>(text: &str, min: u64, max: u64, what: &str) -> Result<T, Expected> {
    parse_digits(text)
        .filter(|count| (min..=max).contains(count))
        .and_then(|count| T::try_from(count).ok())
        .ok_or_else(|| Expected::new(format!("{what} from {min} to {max}")))
}

/// Parses `true` or `false`, or one of their synonyms, in any case.
///
/// # Errors
/// Any other word.
pub fn parse_bool(text: &str) -> Result<bool, Expected> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(Expected::new("true or false")),
    }
}

/// Parses an unsigned number of nothing but digits: `str::parse` would also take a leading `+`.
pub(super) fn parse_digits(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(1);
    const MAX: Duration = Duration::from_secs(86_400);

    #[test]
    fn seconds_may_have_decimals_and_nothing_else() {
        for (text, millis) in [("600", 600_000), ("0.2", 200), (".5", 500), ("1.", 1000), ("86400", 86_400_000)] {
            assert_eq!(parse_seconds(text, MIN, MAX), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", ".", "-1", "+1", "1e3", "inf", "NaN", "10s", "1,5", "0", "86400.1", "1.2.3", "９"] {
            let expected = parse_seconds(text, MIN, MAX).expect_err(text);
            assert_eq!(
                expected.to_string(),
                "expected seconds, decimals allowed, from 0.001 to 86400 (such as 30 or 0.5)"
            );
        }
    }

    #[test]
    fn mebibytes_are_whole_numbers() {
        assert_eq!(parse_mebibytes("0", 0, 128), Ok(0));
        assert_eq!(parse_mebibytes("16", 0, 128), Ok(16 * 1024 * 1024));
        for text in ["", "129", "1.5", "+1", "-1", "16MiB", "99999999999999999999"] {
            let expected = parse_mebibytes(text, 0, 128).expect_err(text);
            assert_eq!(expected.to_string(), "expected a whole number of MiB from 0 to 128");
        }
    }

    #[test]
    fn counts_are_digits_within_their_bounds() {
        assert_eq!(parse_count::<u16>("0", 0, 65_535, "a port"), Ok(0));
        assert_eq!(parse_count::<u16>("65535", 0, 65_535, "a port"), Ok(65_535));
        for text in ["", "65536", "+1", "-1", "1.0", "0x1", "99999999999999999999"] {
            let expected = parse_count::<u16>(text, 0, 65_535, "a port").expect_err(text);
            assert_eq!(expected.to_string(), "expected a port from 0 to 65535");
        }
    }

    #[test]
    fn yes_and_no_have_four_words_each() {
        for (text, value) in [("true", true), ("YES", true), ("On", true), ("1", true), ("false", false), ("0", false)]
        {
            assert_eq!(parse_bool(text), Ok(value), "{text}");
        }
        for text in ["", "2", "y", "truely"] {
            assert_eq!(parse_bool(text).expect_err(text).to_string(), "expected true or false");
        }
    }
}
