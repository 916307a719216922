//! Sums of usage, and what they are the sums of: the hour, the caller's key, the credential and the model.
//!
//! Invariant: sums never overflow, and what was estimated stays beside what was reported. Not here: how they are kept
//! (`keeper`, `store`).

use std::ops::AddAssign;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::cost::Usd;
use super::tokens::{EstimatedTokens, TokenCounts};

const SECONDS_PER_HOUR: u64 = 60 * 60;

/// An hour of UTC, by its number since 1970. Leap seconds do not count, as in all Unix time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixHour(pub u64);

impl UnixHour {
    /// Returns the hour of a moment; that of a clock that stands before 1970 is the first one.
    pub fn of(moment: SystemTime) -> Self {
        let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        UnixHour(since.as_secs() / SECONDS_PER_HOUR)
    }

    /// Returns the seconds from 1970 to its begin.
    pub fn begin_seconds(self) -> u64 {
        self.0.saturating_mul(SECONDS_PER_HOUR)
    }

    /// Returns the hour so many days before.
    pub fn days_before(self, days: u64) -> Self {
        UnixHour(self.0.saturating_sub(24 * days))
    }
}

/// The key of a caller, the credential and the model that usage belongs to. An empty name stands for none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsageKey {
    pub key: Arc<str>,
    pub credential: Arc<str>,
    pub model: Arc<str>,
}

impl UsageKey {
    /// Stands for all that has no names.
    pub fn none() -> Self {
        UsageKey { key: Arc::from(""), credential: Arc::from(""), model: Arc::from("") }
    }
}

/// The usage of many answers together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UsageSums {
    pub requests: u64,
    /// Those of the requests whose answers told no usage.
    pub without_usage: u64,
    pub tokens: TokenCounts,
    pub estimated: EstimatedTokens,
    pub reported_cost: Usd,
    pub estimated_cost: Usd,
}

/// The number of counts that sums consist of.
pub const COUNTS: usize = 11;

impl UsageSums {
    /// Returns all counts in a fixed order, costs in units of [`Usd`]. The store has its columns in this order.
    pub fn counts(&self) -> [u64; COUNTS] {
        let TokenCounts { input, cache_read, cache_write, output, reasoning } = self.tokens;
        [
            self.requests,
            self.without_usage,
            input,
            cache_read,
            cache_write,
            output,
            reasoning,
            self.estimated.input,
            self.estimated.output,
            self.reported_cost.units(),
            self.estimated_cost.units(),
        ]
    }

    /// The reverse of [`Self::counts`].
    pub fn of_counts(counts: [u64; COUNTS]) -> Self {
        let [
            requests,
            without_usage,
            input,
            cache_read,
            cache_write,
            output,
            reasoning,
            estimated_input,
            estimated_output,
            reported,
            estimated,
        ] = counts;
        UsageSums {
            requests,
            without_usage,
            tokens: TokenCounts { input, cache_read, cache_write, output, reasoning },
            estimated: EstimatedTokens { input: estimated_input, output: estimated_output },
            reported_cost: Usd::from_units(reported),
            estimated_cost: Usd::from_units(estimated),
        }
    }

    /// Returns what was added since `earlier`; `None` where a count is less than it was.
    pub fn since(&self, earlier: &UsageSums) -> Option<UsageSums> {
        let mut counts = self.counts();
        for (count, before) in counts.iter_mut().zip(earlier.counts()) {
            *count = count.checked_sub(before)?;
        }
        Some(Self::of_counts(counts))
    }

    pub fn is_zero(&self) -> bool {
        *self == UsageSums::default()
    }
}

impl AddAssign for UsageSums {
    fn add_assign(&mut self, other: UsageSums) {
        self.requests = self.requests.saturating_add(other.requests);
        self.without_usage = self.without_usage.saturating_add(other.without_usage);
        self.tokens += other.tokens;
        self.estimated += other.estimated;
        self.reported_cost += other.reported_cost;
        self.estimated_cost += other.estimated_cost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each_different() -> [u64; COUNTS] {
        std::array::from_fn(|index| 10 + index as u64)
    }

    #[test]
    fn counts_go_there_and_back_and_are_added_one_by_one() {
        let mut sums = UsageSums::of_counts(each_different());
        assert_eq!(sums.counts(), each_different());
        assert_eq!((sums.requests, sums.tokens.input, sums.estimated_cost.units()), (10, 12, 20));
        sums += UsageSums::of_counts(each_different());
        assert_eq!(sums.counts(), each_different().map(|count| 2 * count));
        sums += UsageSums::of_counts([u64::MAX; COUNTS]);
        assert_eq!(sums.counts(), [u64::MAX; COUNTS]);
    }

    #[test]
    fn a_difference_is_of_each_count_and_none_where_one_went_back() {
        let earlier = UsageSums::of_counts(each_different());
        let later = UsageSums::of_counts(each_different().map(|count| count + 7));
        assert_eq!(later.since(&earlier).map(|sums| sums.counts()), Some([7; COUNTS]));
        assert!(later.since(&later).expect("the same").is_zero());
        for index in 0..COUNTS {
            let mut counts = later.counts();
            counts[index] = 0;
            assert_eq!(UsageSums::of_counts(counts).since(&earlier), None, "{index}");
        }
    }

    #[test]
    fn an_hour_is_that_of_utc_whatever_the_clock_says() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!([at(0), at(3599), at(3600)].map(UnixHour::of), [UnixHour(0), UnixHour(0), UnixHour(1)]);
        assert_eq!(UnixHour::of(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), UnixHour(0));
        assert_eq!((UnixHour(2).begin_seconds(), UnixHour(49).days_before(2)), (7200, UnixHour(1)));
        assert_eq!(UnixHour(5).days_before(1), UnixHour(0));
    }
}
