//! The amount of the last minute: of requests, or of tokens.
//!
//! Shared by all shards, without a lock. Invariant: what was admitted within any 60 seconds, counted in whole ones, is
//! never more than the limit; an amount that is added afterwards may exceed it, and then counts against what follows.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};

/// The seconds that an amount counts for after its own.
const SECONDS: u64 = 60;
const BUCKETS: usize = SECONDS as usize + 1;

/// The bits of a bucket's amount; the others tell its second, as far as 8 years.
const AMOUNT_BITS: u32 = 36;
const AMOUNT_MAX: u64 = (1 << AMOUNT_BITS) - 1;
const SECOND_MASK: u64 = u64::MAX >> AMOUNT_BITS;

/// The amount of each of the last seconds, and their sum.
#[derive(Debug)]
pub struct SlidingMinute {
    sum: AtomicU64,
    /// The second up to which the sum was brought: what is older than a minute before it is out of it.
    second: AtomicU64,
    /// The amount of each second with its number, at the place of that modulo their count. An amount that a bucket does
    /// not hold any more is taken out of the sum by who replaced it: so none is lost or taken out twice.
    buckets: [AtomicU64; BUCKETS],
}

impl Default for SlidingMinute {
    fn default() -> Self {
        SlidingMinute {
            sum: AtomicU64::new(0),
            second: AtomicU64::new(0),
            buckets: array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl SlidingMinute {
    /// Returns the amount of the minute up to `second`, counted from any moment that stays the same.
    pub fn sum(&self, second: u64) -> u64 {
        self.advance(second);
        self.sum.load(Ordering::Relaxed)
    }

    /// Adds one if that keeps the sum within `limit`. Returns whether it did.
    pub fn take_one(&self, second: u64, limit: u64) -> bool {
        self.advance(second);
        let one_more = |sum| (sum < limit).then_some(sum + 1);
        let is_taken = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok();
        if is_taken {
            self.add_to_bucket(second, 1);
        }
        is_taken
    }

    /// Adds an amount, whatever the sum is.
    pub fn add(&self, second: u64, amount: u64) {
        self.advance(second);
        // Far more than an answer has.
        let amount = amount.min(u64::from(u32::MAX));
        self.sum.fetch_add(amount, Ordering::Relaxed);
        self.add_to_bucket(second, amount);
    }

    /// Returns in how many seconds from `second` on the sum is less than `limit`, as far as is known now.
    pub fn seconds_until_below(&self, second: u64, limit: u64) -> u64 {
        let mut left = self.sum(second);
        for ago in (0..=SECONDS.min(second)).rev() {
            if left < limit {
                return SECONDS - ago;
            }
            let state = self.bucket(second - ago).load(Ordering::Relaxed);
            if second_of(state) == (second - ago) & SECOND_MASK {
                left = left.saturating_sub(amount_of(state));
            }
        }
        SECONDS + 1
    }

    /// Takes what is older than a minute out of the sum. Of those who come at the same time one does.
    fn advance(&self, second: u64) {
        let before = self.second.load(Ordering::Relaxed);
        if second <= before
            || self.second.compare_exchange(before, second, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        // The places of the seconds that have just begun are those of as many a minute before.
        for age in 0..(second - before).min(BUCKETS as u64) {
            self.add_to_bucket(second - age, 0);
        }
    }

    fn add_to_bucket(&self, second: u64, amount: u64) {
        let bucket = self.bucket(second);
        let next = |state: u64| {
            let is_older = (second.wrapping_sub(second_of(state)) & SECOND_MASK) <= SECOND_MASK / 2;
            // What another one that is late adds counts for the second that has begun.
            let (of, before) = if second_of(state) == second & SECOND_MASK || !is_older {
                (second_of(state), amount_of(state))
            } else {
                (second & SECOND_MASK, 0)
            };
            Some(of << AMOUNT_BITS | (before + amount).min(AMOUNT_MAX))
        };
        let (Ok(before) | Err(before)) = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let after = next(before).unwrap_or(before);
        if second_of(after) != second_of(before) {
            self.sum.fetch_sub(amount_of(before), Ordering::Relaxed);
        }
    }

    fn bucket(&self, second: u64) -> &AtomicU64 {
        &self.buckets[(second % BUCKETS as u64) as usize]
    }
}

fn amount_of(state: u64) -> u64 {
    state & AMOUNT_MAX
}

fn second_of(state: u64) -> u64 {
    state >> AMOUNT_BITS
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_limit_holds_for_every_minute_and_is_free_again_when_the_first_are_over() {
        let minute = SlidingMinute::default();
        for second in [100, 100, 130] {
            assert!(minute.take_one(second, 3));
        }
        assert!(!minute.take_one(131, 3) && !minute.take_one(160, 3));
        assert_eq!((minute.seconds_until_below(131, 3), minute.seconds_until_below(160, 3)), (30, 1));
        assert_eq!(minute.sum(161), 1);
        assert!(minute.take_one(161, 3) && minute.take_one(161, 3) && !minute.take_one(161, 3));
        assert_eq!(minute.seconds_until_below(161, 3), 30);
        assert_eq!(minute.sum(100_000), 0);
    }

    #[test]
    fn what_is_added_afterwards_may_exceed_the_limit_and_counts_for_a_minute() {
        let minute = SlidingMinute::default();
        minute.add(5, 1_000);
        assert_eq!((minute.sum(65), minute.seconds_until_below(5, 10)), (1_000, 61));
        assert_eq!(minute.sum(66), 0);
    }

    #[test]
    fn threads_together_are_admitted_exactly_as_often_as_the_limit_says() {
        let minute = SlidingMinute::default();
        let admitted: usize = thread::scope(|scope| {
            let work = || (0..1_000).filter(|_| minute.take_one(7, 1_234)).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!((admitted, minute.sum(7)), (1_234, 1_234));
    }

    proptest! {
        #[test]
        fn it_is_the_sum_of_what_came_within_the_minute(
            steps in prop::collection::vec((0_u64..40, 0_u64..5), 1..80),
        ) {
            let minute = SlidingMinute::default();
            let (mut second, mut known) = (1_000, VecDeque::new());
            for (later, amount) in steps {
                second += later;
                minute.add(second, amount);
                known.push_back((second, amount));
                known.retain(|(at, _)| at + SECONDS >= second);
                prop_assert_eq!(minute.sum(second), known.iter().map(|(_, amount)| amount).sum::<u64>());
            }
            let limit = 1;
            let free = second + minute.seconds_until_below(second, limit);
            let left = |at: u64| known.iter().filter(|(of, _)| of + SECONDS >= at).map(|(_, amount)| amount).sum::<u64>();
            prop_assert!(left(free) < limit);
            prop_assert!(free == second || left(free - 1) >= limit);
        }
    }
}
