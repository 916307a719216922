//! The pace of event streams: the time to their first content, and the tokens that they bring in a second.
//!
//! Written by one shard alone when an exchange is over, with plain loads and stores.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::observability::counters::add;
use crate::observability::distribution::histogram::Histogram;

/// The upper bound of each bucket, in tokens a second: models were seen to bring 5 to 500; those beyond the last have one
/// more.
pub const RATE_BOUNDS: [u32; 14] = [1, 5, 10, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1000];

/// The least time that tells a rate: a stream that was held up somewhere comes at once.
const RATE_TIME_MIN: Duration = Duration::from_millis(50);

/// The pace of the streams of one shard.
#[derive(Debug, Default)]
pub struct StreamPace {
    first_content: Histogram,
    rates: [AtomicU64; RATE_BOUNDS.len() + 1],
    /// In thousandths of a token a second.
    rate_sum_milli: AtomicU64,
}

impl StreamPace {
    /// Counts a stream whose content took so long to begin. Only for the shard that owns this.
    pub fn add_first_content(&self, time: Duration) {
        self.first_content.add(time);
    }

    /// Counts a stream that brought so many tokens in the time from its first content to its end. Only for the shard
    /// that owns this. What came in no time is no rate: it was made before.
    pub fn add_rate(&self, tokens: u64, time: Duration) {
        if time < RATE_TIME_MIN {
            return;
        }
        let rate = tokens as f64 / time.as_secs_f64();
        let bucket = RATE_BOUNDS.partition_point(|bound| f64::from(*bound) < rate);
        add(&self.rates[bucket], 1);
        // A conversion from a float saturates.
        add(&self.rate_sum_milli, (rate * 1000.0).round() as u64);
    }

    pub fn first_content(&self) -> &Histogram {
        &self.first_content
    }
}

/// The rates of all shards.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RateSpread {
    /// The count of each bucket, without those of the smaller ones.
    pub buckets: [u64; RATE_BOUNDS.len() + 1],
    /// In tokens a second.
    pub sum: f64,
}

impl RateSpread {
    pub fn of<'a>(paces: impl Iterator<Item = &'a StreamPace>) -> Self {
        let mut spread = RateSpread::default();
        for pace in paces {
            for (sum, bucket) in spread.buckets.iter_mut().zip(&pace.rates) {
                *sum += bucket.load(Ordering::Relaxed);
            }
            spread.sum += pace.rate_sum_milli.load(Ordering::Relaxed) as f64 / 1000.0;
        }
        spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_in_the_first_bucket_whose_bound_it_does_not_pass() {
        for (tokens, millis, bucket) in [(1, 1_000, 0), (2, 1_000, 1), (100, 2_000, 6), (1_001, 1_000, 14), (0, 50, 0)]
        {
            let pace = StreamPace::default();
            pace.add_rate(tokens, Duration::from_millis(millis));
            let spread = RateSpread::of([&pace].into_iter());
            let expected: [u64; 15] = std::array::from_fn(|index| u64::from(index == bucket));
            assert_eq!(spread.buckets, expected, "{tokens} in {millis} ms");
            assert!((spread.sum - tokens as f64 * 1000.0 / millis as f64).abs() < 0.001);
        }
    }

    #[test]
    fn no_time_is_no_rate() {
        let pace = StreamPace::default();
        pace.add_rate(100, Duration::ZERO);
        pace.add_rate(100, Duration::from_millis(49));
        assert_eq!(RateSpread::of([&pace].into_iter()), RateSpread::default());
    }
}
