//! The share of the load that may be repeats, so that an upstream that is down is not asked three times as often.
//!
//! Each shard counts its own requests and repeats by the second, with plain stores on cache lines of its own; only who
//! wants to repeat reads the counts of all. Invariant: over the process, repeats stay below a fifth of the requests of
//! the last [`WINDOW_SECONDS`], or, where that is less, below [`FLOOR_PER_SECOND`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use crossbeam_utils::CachePadded;

/// The time over which requests and repeats are compared.
const WINDOW_SECONDS: u64 = 10;
/// One repeat for so many requests.
const REQUESTS_PER_REPEAT: u64 = 5;
/// Repeats that are allowed however few requests there are: a single user's requests are repeated each.
const FLOOR_PER_SECOND: u64 = 10;
/// More than the window's seconds, so that the oldest is not overwritten while it counts; a power of two.
const SECOND_COUNT: usize = 16;

/// The repeats and requests of all shards.
#[derive(Debug, Clone)]
pub struct RetryShare {
    epoch: Instant,
    shards: Arc<[CachePadded<Load>]>,
}

/// The last seconds of one shard, each at the place of its number modulo [`SECOND_COUNT`].
#[derive(Debug, Default)]
struct Load {
    seconds: [Second; SECOND_COUNT],
}

#[derive(Debug, Default)]
struct Second {
    number: AtomicU64,
    requests: AtomicU32,
    repeats: AtomicU32,
}

impl RetryShare {
    pub fn new(shards: usize) -> Self {
        RetryShare { epoch: Instant::now(), shards: (0..shards).map(|_| CachePadded::default()).collect() }
    }

    /// Counts a request of `shard`, which alone may call this.
    pub fn note_request(&self, shard: usize, now: Instant) {
        let second = self.second(shard, self.number(now));
        second.requests.store(second.requests.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Returns whether `shard`, which alone may call this, may repeat a request, and counts the repeat if so.
    pub fn take_repeat(&self, shard: usize, now: Instant) -> bool {
        let number = self.number(now);
        let (mut requests, mut repeats, mut repeats_now) = (0, 0, 0);
        for second in self.shards.iter().flat_map(|load| &load.seconds) {
            let age = number.saturating_sub(second.number.load(Ordering::Relaxed));
            if age < WINDOW_SECONDS {
                requests += u64::from(second.requests.load(Ordering::Relaxed));
                repeats += u64::from(second.repeats.load(Ordering::Relaxed));
            }
            if age == 0 {
                repeats_now += u64::from(second.repeats.load(Ordering::Relaxed));
            }
        }
        let is_allowed = (repeats + 1) * REQUESTS_PER_REPEAT <= requests || repeats_now < FLOOR_PER_SECOND;
        if is_allowed {
            let second = self.second(shard, number);
            second.repeats.store(second.repeats.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        is_allowed
    }

    /// The second's number, from 1, so that a place that was never used has none.
    fn number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_secs() + WINDOW_SECONDS
    }

    /// The place of a second, emptied of an earlier one's counts.
    fn second(&self, shard: usize, number: u64) -> &Second {
        let second = &self.shards[shard].seconds[number as usize % SECOND_COUNT];
        if second.number.load(Ordering::Relaxed) != number {
            second.requests.store(0, Ordering::Relaxed);
            second.repeats.store(0, Ordering::Relaxed);
            second.number.store(number, Ordering::Relaxed);
        }
        second
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Sends `requests` a second for `seconds` and asks for a repeat of each: how many were allowed.
    fn allowed(share: &RetryShare, start: u64, seconds: u64, requests: u64) -> u64 {
        let mut allowed = 0;
        for second in start..start + seconds {
            for request in 0..requests {
                let now = share.epoch + Duration::from_secs(second) + Duration::from_millis(request * 999 / requests);
                let shard = request as usize % share.shards.len();
                share.note_request(shard, now);
                allowed += u64::from(share.take_repeat(shard, now));
            }
        }
        allowed
    }

    #[test]
    fn repeats_stay_below_a_fifth_of_the_requests_of_all_shards() {
        let share = RetryShare::new(3);
        let repeats = allowed(&share, 0, 30, 500);
        assert!((2_900..=3_010).contains(&repeats), "{repeats}");
    }

    #[test]
    fn a_few_requests_may_all_be_repeated() {
        let share = RetryShare::new(2);
        assert_eq!(allowed(&share, 0, 5, 8), 40);
        assert_eq!(allowed(&share, 5, 5, 20), 50, "the floor is 10 a second");
    }

    #[test]
    fn what_was_longer_ago_than_the_window_does_not_count() {
        let share = RetryShare::new(1);
        let after = share.epoch + Duration::from_secs(100);
        for _ in 0..1000 {
            share.note_request(0, share.epoch);
        }
        let allowed = (0..100).filter(|_| share.take_repeat(0, after)).count();
        assert_eq!(allowed as u64, FLOOR_PER_SECOND);
    }
}
