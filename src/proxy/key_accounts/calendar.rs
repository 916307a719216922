//! The amounts of a day and of a month of UTC.
//!
//! Shared by all shards, without a lock. Invariant: an amount and the time that it is of change in one step, and never
//! go back, also where the clock does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// The bits of an amount: enough for 2.8e14 tokens, or for 2.8 million dollars.
const AMOUNT_BITS: u32 = 48;
const AMOUNT_MAX: u64 = (1 << AMOUNT_BITS) - 1;

/// A day of UTC and its month, by their numbers since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UtcDate {
    pub day: u64,
    pub month: u64,
    /// The seconds since the day began.
    second: u64,
}

impl UtcDate {
    pub fn now() -> Self {
        Self::of(SystemTime::now())
    }

    /// Returns the date of a moment; that of a clock that stands before 1970 is the first one.
    pub fn of(moment: SystemTime) -> Self {
        let seconds = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let day = seconds / SECONDS_PER_DAY;
        UtcDate { day, month: month_of(day), second: seconds % SECONDS_PER_DAY }
    }

    /// Returns the seconds until the next day begins.
    pub fn seconds_left_of_day(self) -> u64 {
        SECONDS_PER_DAY - self.second
    }

    /// Returns the seconds until the next month begins.
    pub fn seconds_left_of_month(self) -> u64 {
        let mut next = self.day + 1;
        while month_of(next) == self.month {
            next += 1;
        }
        (next - self.day) * SECONDS_PER_DAY - self.second
    }

    /// Returns the first day of the month.
    pub fn first_day_of_month(self) -> u64 {
        let mut first = self.day;
        while first > 0 && month_of(first - 1) == self.month {
            first -= 1;
        }
        first
    }
}

/// Returns the number of the month that a day is in, in the proleptic Gregorian calendar: the algorithm of H. Hinnant's
/// `civil_from_days`, with years that begin in March.
fn month_of(day: u64) -> u64 {
    let from_march_of_year_0 = day + 719_468;
    let (era, day_of_era) = (from_march_of_year_0 / 146_097, from_march_of_year_0 % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let months = (era * 400 + year_of_era) * 12 + month_from_march;
    // January 1970 is the eleventh month from March 1969 on.
    months - (1969 * 12 + 10)
}

/// An amount of one day or month: it is 0 again when the next one begins.
#[derive(Debug, Default)]
pub struct PeriodSum(AtomicU64);

impl PeriodSum {
    /// Returns the amount of a period, by its number.
    pub fn get(&self, period: u64) -> u64 {
        let state = self.0.load(Ordering::Relaxed);
        if is_of(state, period) || is_next(state, period) { state & AMOUNT_MAX } else { 0 }
    }

    pub fn add(&self, period: u64, amount: u64) {
        let next = |state: u64| {
            // A clock that went back a little adds to the period that has begun.
            let stays = is_of(state, period) || is_next(state, period);
            let (of, before) = if stays { (state >> AMOUNT_BITS, state & AMOUNT_MAX) } else { (period, 0) };
            Some(of << AMOUNT_BITS | before.saturating_add(amount).min(AMOUNT_MAX))
        };
        // It never refuses.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Makes it at least this amount, unless the next period has begun meanwhile.
    pub fn raise_to(&self, period: u64, amount: u64) {
        let next = |state: u64| {
            let before = if is_of(state, period) { state & AMOUNT_MAX } else { 0 };
            (!is_next(state, period)).then(|| period << AMOUNT_BITS | before.max(amount).min(AMOUNT_MAX))
        };
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }
}

fn is_of(state: u64, period: u64) -> bool {
    (state >> AMOUNT_BITS) as u16 == period as u16
}

/// Tells whether the state is of the period after this one: the clock went back. Where it went back by more, it had been
/// wrong.
fn is_next(state: u64, period: u64) -> bool {
    state != 0 && (state >> AMOUNT_BITS) as u16 == (period as u16).wrapping_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UtcDate {
        UtcDate::of(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn days_and_months_are_those_of_utc() {
        // Each as `date -u -d DATE +%s` tells.
        for (seconds, day, month, left_of_month) in [
            (0, 0, 0, 31 * SECONDS_PER_DAY),
            // 2024-02-29 23:59:59, of a leap year.
            (1_709_251_199, 19_782, 54 * 12 + 1, 1),
            (1_709_251_200, 19_783, 54 * 12 + 2, 31 * SECONDS_PER_DAY),
            // 2026-11-30 12:00:00 and 2026-12-31 23:59:59.
            (1_796_040_000, 20_787, 56 * 12 + 10, SECONDS_PER_DAY / 2),
            (1_798_761_599, 20_818, 56 * 12 + 11, 1),
            (1_798_761_600, 20_819, 57 * 12, 31 * SECONDS_PER_DAY),
            // 2100-02-28, of no leap year.
            (4_107_456_000, 47_540, 130 * 12 + 1, SECONDS_PER_DAY),
        ] {
            let date = at(seconds);
            assert_eq!((date.day, date.month, date.seconds_left_of_month()), (day, month, left_of_month), "{seconds}");
        }
        assert_eq!(at(1_796_040_000).seconds_left_of_day(), SECONDS_PER_DAY / 2);
        assert_eq!(at(1_796_040_000).first_day_of_month(), 20_787 - 29);
        assert_eq!(UtcDate::of(SystemTime::UNIX_EPOCH - Duration::from_secs(1)).day, 0);
    }

    #[test]
    fn an_amount_begins_anew_with_its_period_and_stays_when_the_clock_goes_back() {
        let sum = PeriodSum::default();
        assert_eq!(sum.get(20_787), 0);
        sum.add(20_787, 5);
        sum.add(20_787, 7);
        assert_eq!((sum.get(20_787), sum.get(20_788)), (12, 0));
        sum.add(20_788, 1);
        sum.add(20_787, 2);
        assert_eq!((sum.get(20_788), sum.get(20_787)), (3, 3));
        sum.raise_to(20_788, 2);
        assert_eq!(sum.get(20_788), 3);
        sum.raise_to(20_788, 100);
        sum.add(20_788, u64::MAX);
        assert_eq!(sum.get(20_788), AMOUNT_MAX);
        sum.add(20_789, 1);
        assert_eq!(sum.get(20_789), 1);
        // What was read before midnight is not of the new day.
        sum.raise_to(20_788, 500);
        assert_eq!(sum.get(20_789), 1);
        // A clock that was years ahead.
        sum.add(30_000, 9);
        sum.add(20_790, 2);
        assert_eq!((sum.get(20_790), sum.get(20_791)), (2, 0));
    }

    #[test]
    fn the_number_of_a_period_may_be_larger_than_what_is_kept_of_it() {
        let sum = PeriodSum::default();
        sum.add(65_535, 5);
        sum.add(65_536, 7);
        assert_eq!((sum.get(65_536), sum.get(65_537)), (7, 0));
    }
}
