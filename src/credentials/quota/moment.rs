//! Moments as the upstream writes them: ISO 8601 with or without a time, or a Unix number.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::{Date, Month, OffsetDateTime};

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Numbers from here on count milliseconds: as seconds they would be after the year 5000.
const MILLISECONDS_MIN: f64 = 1e11;

/// The end of the year 9999.
const LATEST: u64 = 253_402_300_799;

/// A second since 1970, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixSecond(pub u64);

impl UnixSecond {
    /// Returns the second of a time; 0 for a clock that stands before 1970.
    pub fn of(time: SystemTime) -> Self {
        UnixSecond(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }

    /// Returns the time from `earlier` on; zero if that is later.
    pub fn since(self, earlier: UnixSecond) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }

    /// Returns the same time of the month before, on its last day where it is shorter.
    pub fn month_before(self) -> Option<UnixSecond> {
        let time = OffsetDateTime::from_unix_timestamp(i64::try_from(self.0).ok()?).ok()?;
        let (year, month) = match time.month() {
            Month::January => (time.year() - 1, Month::December),
            month => (time.year(), month.previous()),
        };
        let date = Date::from_calendar_date(year, month, time.day().min(month.length(year))).ok()?;
        u64::try_from(time.replace_date(date).unix_timestamp()).ok().map(UnixSecond)
    }

    /// Returns the day, such as `2026-11-30`; `None` beyond the year 9999.
    pub fn day(self) -> Option<String> {
        let time = OffsetDateTime::from_unix_timestamp(i64::try_from(self.0).ok()?).ok()?;
        Some(format!("{:04}-{:02}-{:02}", time.year(), u8::from(time.month()), time.day()))
    }
}

/// Reads a number of seconds or milliseconds since 1970.
pub fn from_number(number: f64) -> Option<UnixSecond> {
    let seconds = if number >= MILLISECONDS_MIN { number / 1000.0 } else { number };
    (seconds > 0.0 && seconds <= LATEST as f64).then_some(UnixSecond(seconds as u64))
}

/// Reads a date (`2026-12-01`), a time (`2026-12-01T09:30:00.5+01:00`, whose parts after the minutes may be missing; in
/// UTC where it has no offset), or a number as text.
pub fn parse(text: &str) -> Option<UnixSecond> {
    let text = text.trim();
    if let Ok(number) = text.parse() {
        return from_number(number);
    }
    let (date, time) = text.split_at_checked(10)?;
    let seconds = parse_date(date)? + if time.is_empty() { 0 } else { parse_time(time)? };
    u64::try_from(seconds).ok().filter(|seconds| *seconds <= LATEST).map(UnixSecond)
}

/// Returns the seconds from 1970 to the begin of a day.
fn parse_date(text: &str) -> Option<i64> {
    let (year, rest) = text.split_at_checked(4)?;
    let (month, day) = rest.strip_prefix('-')?.split_once('-')?;
    let month = Month::try_from(two_digits(month, 12)? as u8).ok()?;
    let is_year = year.bytes().all(|byte| byte.is_ascii_digit());
    let date = Date::from_calendar_date(year.parse().ok().filter(|_| is_year)?, month, two_digits(day, 31)? as u8);
    Some(date.ok()?.midnight().assume_utc().unix_timestamp())
}

/// Returns the seconds of a time of day, less its offset.
fn parse_time(text: &str) -> Option<i64> {
    let rest = text.strip_prefix(['T', 't', ' '])?.trim_end();
    let clock_end = rest.find(|letter: char| !(letter.is_ascii_digit() || ":.,".contains(letter)));
    let (clock, offset) = rest.split_at(clock_end.unwrap_or(rest.len()));
    let (clock, fraction) = clock.split_once(['.', ',']).unwrap_or((clock, "0"));
    let is_fraction = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = parse_clock(clock, DAY_SECONDS)?;
    Some(seconds - parse_offset(offset.trim_start())?).filter(|_| is_fraction)
}

fn parse_offset(text: &str) -> Option<i64> {
    let sign = match text {
        "" | "Z" | "z" => return Some(0),
        _ if text.starts_with('+') => 1,
        _ if text.starts_with('-') => -1,
        _ => return None,
    };
    let digits = &text[1..];
    let (hours, minutes) = match digits.len() {
        2 => (digits, "00"),
        4 => digits.split_at_checked(2)?,
        _ => digits.split_once(':')?,
    };
    Some(sign * (two_digits(hours, 23)? * 3600 + two_digits(minutes, 59)? * 60))
}

/// Returns the seconds of `hh:mm` or `hh:mm:ss`, at most `max`.
fn parse_clock(text: &str, max: i64) -> Option<i64> {
    let mut parts = text.split(':');
    let hours = two_digits(parts.next()?, 24)?;
    let minutes = two_digits(parts.next()?, 59)?;
    // A leap second has the number 60.
    let seconds = parts.next().map_or(Some(0), |seconds| two_digits(seconds, 60))?;
    Some(hours * 3600 + minutes * 60 + seconds).filter(|seconds| parts.next().is_none() && *seconds <= max)
}

fn two_digits(text: &str, max: i64) -> Option<i64> {
    let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?.filter(|number| *number <= max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_moment_is_read_in_each_of_its_forms() {
        // 2026-12-01T00:00:00Z.
        const DAY: u64 = 1_796_083_200;
        for (text, seconds) in [
            ("2026-12-01", Some(DAY)),
            (" 2026-12-01 ", Some(DAY)),
            ("2026-12-01T00:00:00Z", Some(DAY)),
            ("2026-12-01T00:00:00", Some(DAY)),
            ("2026-12-01T00:00", Some(DAY)),
            ("2026-12-01 09:30:05", Some(DAY + 9 * 3600 + 30 * 60 + 5)),
            ("2026-12-01T01:00:00.123456+01:00", Some(DAY)),
            ("2026-12-01T01:00:00,5 +0100", Some(DAY)),
            ("2026-11-30t21:00:00.000z", Some(DAY - 3 * 3600)),
            ("2026-11-30T21:00:00-03", Some(DAY)),
            ("2026-11-30T24:00:00Z", Some(DAY)),
            ("1796083200", Some(DAY)),
            ("1796083200.75", Some(DAY)),
            ("1796083200000", Some(DAY)),
            ("2028-02-29", Some(1_835_395_200)),
            ("2026-02-29", None),
            ("2026-13-01", None),
            ("2026-12-01T25:00:00Z", None),
            ("2026-12-01T10:60Z", None),
            ("2026-12-01T10:00:00.Z", None),
            ("2026-12-01T10:00:00+1", None),
            ("2026-12-01X", None),
            ("+026-12-01", None),
            ("01.12.2026", None),
            ("1969-12-31", None),
            ("0", None),
            ("-5", None),
            ("nan", None),
            ("inf", None),
            ("1e300", None),
            ("tomorrow", None),
            ("", None),
        ] {
            assert_eq!(parse(text), seconds.map(UnixSecond), "{text}");
        }
    }

    #[test]
    fn the_month_before_ends_where_it_is_shorter() {
        for (text, before) in [
            ("2026-12-01T09:30:00Z", "2026-11-01T09:30:00Z"),
            ("2026-01-15", "2025-12-15"),
            ("2026-03-31", "2026-02-28"),
            ("2028-03-30", "2028-02-29"),
        ] {
            assert_eq!(parse(text).and_then(UnixSecond::month_before), parse(before), "{text}");
        }
        assert_eq!(UnixSecond(0).month_before(), None);
        assert_eq!(UnixSecond(u64::MAX).month_before(), None);
        assert_eq!(parse("2026-12-01T23:59:59Z").and_then(UnixSecond::day).as_deref(), Some("2026-12-01"));
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[0-9TZtz:+., é-]{0,40}") {
            let _ = parse(&text);
        }
    }
}
