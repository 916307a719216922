//! The distribution of durations: counts in buckets that suit answers of language models, from a cached list of models
//! to an agent's ten minutes.
//!
//! Written by one shard alone, with plain loads and stores; the buckets are summed over the shards when they are read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::observability::counters::add;

/// The upper bound of each bucket; durations beyond the last have one more.
pub const BOUNDS: [Duration; 14] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
    // Flow's front was seen cutting answers at about this age.
    Duration::from_secs(180),
    Duration::from_secs(600),
];

/// Durations of one kind on one shard.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum_micros: AtomicU64,
}

impl Histogram {
    /// Only for the shard that owns this.
    pub fn add(&self, duration: Duration) {
        let bucket = BOUNDS.partition_point(|bound| *bound < duration);
        add(&self.buckets[bucket], 1);
        add(&self.sum_micros, u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }
}

/// Durations of one kind on all shards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spread {
    /// The count of each bucket, without those of the smaller ones.
    pub buckets: [u64; BOUNDS.len() + 1],
    pub sum_micros: u64,
}

impl Spread {
    pub fn of<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> Self {
        let mut spread = Spread::default();
        for histogram in histograms {
            for (sum, bucket) in spread.buckets.iter_mut().zip(&histogram.buckets) {
                *sum += bucket.load(Ordering::Relaxed);
            }
            spread.sum_micros = spread.sum_micros.wrapping_add(histogram.sum_micros.load(Ordering::Relaxed));
        }
        spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_whose_bound_it_does_not_pass() {
        let bounds_rise = BOUNDS.is_sorted_by(|one, next| one < next);
        assert!(bounds_rise);
        for (duration, bucket) in [
            (Duration::ZERO, 0),
            (Duration::from_millis(1), 0),
            (Duration::from_micros(1001), 1),
            (Duration::from_secs(1), 6),
            (Duration::from_secs(600), 13),
            (Duration::from_secs(601), 14),
        ] {
            let histogram = Histogram::default();
            histogram.add(duration);
            let spread = Spread::of([&histogram].into_iter());
            let expected: [u64; 15] = std::array::from_fn(|index| u64::from(index == bucket));
            assert_eq!(spread.buckets, expected, "{duration:?}");
            assert_eq!(u128::from(spread.sum_micros), duration.as_micros());
        }
    }

    #[test]
    fn the_shards_are_summed() {
        let (one, other) = (Histogram::default(), Histogram::default());
        one.add(Duration::from_millis(3));
        other.add(Duration::from_millis(4));
        other.add(Duration::from_secs(7));
        let spread = Spread::of([&one, &other].into_iter());
        assert_eq!((spread.buckets[1], spread.buckets[9], spread.sum_micros), (2, 1, 7_007_000));
    }
}
