//! Moments as people write them, and hours as they are printed: all in UTC.

use std::time::{Duration, SystemTime};

use time::{Date, Month, OffsetDateTime};

use crate::usage::totals::UnixHour;

const HOUR_SECONDS: u64 = 60 * 60;

/// Parses a span before `now` (`24h`, `7d`, `12w`), a date (`2026-11-01`), or a time as in RFC 3339
/// (`2026-11-01T09:00:00+01:00`), and returns the hour that it is in.
pub fn parse(text: &str, now: SystemTime) -> Option<UnixHour> {
    if let Some(span) = parse_span(text) {
        return Some(UnixHour::of(now.checked_sub(span).unwrap_or(SystemTime::UNIX_EPOCH)));
    }
    let (date, time) = match text.split_at_checked(10)? {
        (date, "") => (date, None),
        (date, time) => (date, Some(time)),
    };
    let seconds = parse_date(date)? + time.map_or(Some(0), parse_time)?;
    Some(UnixHour(u64::try_from(seconds).unwrap_or(0) / HOUR_SECONDS))
}

fn parse_span(text: &str) -> Option<Duration> {
    let hours = match text.chars().next_back()? {
        'h' => 1,
        'd' => 24,
        'w' => 7 * 24,
        _ => return None,
    };
    let count = number(&text[..text.len() - 1])?;
    Some(Duration::from_secs(u64::from(count) * hours * HOUR_SECONDS))
}

/// Returns the seconds from 1970 to the begin of a day.
fn parse_date(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if (year.len(), month.len(), day.len(), parts.next()) != (4, 2, 2, None) {
        return None;
    }
    let month = Month::try_from(u8::try_from(number(month)?).ok()?).ok()?;
    let date = Date::from_calendar_date(i32::try_from(number(year)?).ok()?, month, u8::try_from(number(day)?).ok()?);
    Some(date.ok()?.midnight().assume_utc().unix_timestamp())
}

/// Returns the seconds of a time of day with its offset, less that (RFC 3339 §5.6).
fn parse_time(text: &str) -> Option<i64> {
    let rest = text.strip_prefix(['T', 't', ' '])?;
    let (time, offset) = if let Some(time) = rest.strip_suffix(['Z', 'z']) {
        (time, 0)
    } else {
        let (time, offset) = rest.split_at_checked(rest.len().checked_sub(6)?)?;
        let (sign, offset) = offset.split_at_checked(1)?;
        let seconds = parse_clock(offset, "")?;
        match sign {
            "+" => (time, seconds),
            "-" => (time, -seconds),
            _ => return None,
        }
    };
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let is_fraction = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let (minutes, seconds) = time.split_at_checked(5)?;
    is_fraction.then_some(parse_clock(minutes, seconds.strip_prefix(':')?)? - offset)
}

/// Returns the seconds of `hh:mm` and of the seconds beside them, where there are any.
fn parse_clock(minutes: &str, seconds: &str) -> Option<i64> {
    let (hours, minutes) = minutes.split_once(':')?;
    let part = |text: &str, max: u32| number(text).filter(|number| *number <= max && text.len() == 2);
    // A leap second has the number 60.
    let seconds = if seconds.is_empty() { 0 } else { part(seconds, 60)? };
    Some(i64::from(part(hours, 23)? * 3600 + part(minutes, 59)? * 60 + seconds))
}

/// Parses digits alone, up to a million less one.
fn number(text: &str) -> Option<u32> {
    let is_number = (1..=6).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

/// Returns the month, such as `2026-11`.
pub fn month(hour: UnixHour) -> String {
    printed(hour, |time| format!("{:04}-{:02}", time.year(), u8::from(time.month())))
}

/// Returns the day, such as `2026-11-30`.
pub fn day(hour: UnixHour) -> String {
    printed(hour, |time| format!("{:04}-{:02}-{:02}", time.year(), u8::from(time.month()), time.day()))
}

/// Returns the begin of the hour as in RFC 3339, such as `2026-11-30T07:00:00Z`.
pub fn hour(hour: UnixHour) -> String {
    printed(hour, |time| {
        format!("{:04}-{:02}-{:02}T{:02}:00:00Z", time.year(), u8::from(time.month()), time.day(), time.hour())
    })
}

/// An hour beyond the year 9999 is of a clock that was wrong, or of a damaged file.
fn printed(hour: UnixHour, form: impl Fn(OffsetDateTime) -> String) -> String {
    let seconds = i64::try_from(hour.begin_seconds()).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).map_or_else(|_| "after 9999".into(), form)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-30T07:20:00Z.
    const NOW: u64 = 1_796_023_200;

    fn parsed(text: &str) -> Option<String> {
        parse(text, SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)).map(hour)
    }

    #[test]
    fn spans_dates_and_times_are_read() {
        for (text, expected) in [
            ("0h", "2026-11-30T07:00:00Z"),
            ("24h", "2026-11-29T07:00:00Z"),
            ("7d", "2026-11-23T07:00:00Z"),
            ("2w", "2026-11-16T07:00:00Z"),
            ("999999w", "1970-01-01T00:00:00Z"),
            ("2026-11-01", "2026-11-01T00:00:00Z"),
            ("2024-02-29", "2024-02-29T00:00:00Z"),
            ("1969-12-31", "1970-01-01T00:00:00Z"),
            ("2026-11-01T09:30:00Z", "2026-11-01T09:00:00Z"),
            ("2026-11-01 09:59:60.123z", "2026-11-01T10:00:00Z"),
            ("2026-11-01t00:30:00+01:00", "2026-10-31T23:00:00Z"),
            ("2026-11-01T23:30:00-03:30", "2026-11-02T03:00:00Z"),
        ] {
            assert_eq!(parsed(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "d",
            "7",
            "7 d",
            "-7d",
            "7m",
            "1.5d",
            "1000000d",
            "7é",
            "2026-11",
            "2026-13-01",
            "2026-02-29",
            "26-11-01",
            "2026-11-1",
            "2026-11-01T",
            "2026-11-01T09:00",
            "2026-11-01T09:00:00",
            "2026-11-01T24:00:00Z",
            "2026-11-01T09:00:00+1:00",
            "2026-11-01T09:00:00.Z",
            "2026-11-01T9:00:00Z",
            "2026-11-01X09:00:00Z",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn an_hour_that_no_calendar_has_is_printed_all_the_same() {
        assert_eq!(hour(UnixHour(u64::MAX)), "after 9999");
        assert_eq!((month(UnixHour(0)), day(UnixHour(24 * 365))), ("1970-01".into(), "1971-01-01".into()));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,40}") {
            let _ = parsed(&text);
        }

        #[test]
        fn a_printed_hour_is_read_as_itself(number in 0..70_000_000_u64) {
            let text = hour(UnixHour(number));
            prop_assert_eq!(parsed(&text), Some(text));
        }
    }
}
