//! The times at which the upstream is asked for quotas, and the outcome of that.
//!
//! A round is due when a request is forwarded and the last one is old enough: a gateway at rest asks nothing. Invariant:
//! one shard makes a round, and a request pays one load for it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::sync::{AtomicBool, AtomicU64, AtomicUsize};

/// The time from the begin of a round to that of the next one.
pub const INTERVAL: Duration = Duration::from_secs(300);

/// The schedule of all shards.
#[derive(Debug)]
pub struct QuotaSchedule {
    epoch: Instant,
    interval: Duration,
    /// Seconds after the epoch.
    due: AtomicU64,
    /// The place among the identities with which the next round begins.
    next: AtomicUsize,
    /// Questions that brought no answer that could be read.
    failed: AtomicU64,
    /// Identities whose last question brought no answer that could be read, or not all, at the end of the last round.
    failing: AtomicUsize,
    /// The log says that questions fail.
    is_logged: AtomicBool,
}

/// A round that one shard makes.
#[derive(Debug)]
pub struct RoundClaim {
    /// The time at which the one after it is due.
    next: u64,
}

impl QuotaSchedule {
    /// Makes one whose first round is due at once.
    pub fn new(interval: Duration) -> Self {
        QuotaSchedule {
            epoch: Instant::now(),
            interval,
            due: AtomicU64::new(0),
            next: AtomicUsize::new(0),
            failed: AtomicU64::new(0),
            failing: AtomicUsize::new(0),
            is_logged: AtomicBool::new(false),
        }
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.seconds(now) >= self.due.load(Ordering::Relaxed)
    }

    /// Takes the round over from all other shards, if it is due.
    pub fn claim(&self, now: Instant) -> Option<RoundClaim> {
        let due = self.due.load(Ordering::Relaxed);
        let next = self.seconds(now + self.interval);
        let is_taken = self.seconds(now) >= due
            && self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        is_taken.then_some(RoundClaim { next })
    }

    /// Makes a round due at once, since the one that was claimed asked with old credentials, unless another one was made
    /// due or begun meanwhile.
    pub fn give_up(&self, claim: &RoundClaim) {
        let _ = self.due.compare_exchange(claim.next, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Makes a round due at once: there are other credentials.
    pub fn hasten(&self) {
        self.due.store(0, Ordering::Relaxed);
    }

    /// Returns the place with which the round begins: after the one with which the last one ended.
    pub fn first(&self, identities_count: usize) -> usize {
        self.next.load(Ordering::Relaxed) % identities_count.max(1)
    }

    /// Notes that the identity at this place was asked.
    pub fn note_asked(&self, place: usize) {
        self.next.store(place + 1, Ordering::Relaxed);
    }

    pub fn note_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes how many identities were asked in vain when they were asked last. Returns whether the log is to say that questions fail, or
    /// that they do not any more.
    pub fn end_round(&self, failing: usize) -> bool {
        self.failing.store(failing, Ordering::Relaxed);
        let is_failing = failing > 0;
        self.is_logged.swap(is_failing, Ordering::Relaxed) != is_failing
    }

    /// Returns the number of questions that failed since the start.
    pub fn failed_count(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Returns the number of identities that were asked in vain when they were asked last.
    pub fn failing_count(&self) -> usize {
        self.failing.load(Ordering::Relaxed)
    }

    fn seconds(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shard_makes_a_round_and_the_next_one_is_due_after_the_interval() {
        let schedule = QuotaSchedule::new(INTERVAL);
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let is_claimed = |seconds| schedule.claim(after(seconds)).is_some();
        assert!(schedule.is_due(start) && is_claimed(0));
        assert!(!schedule.is_due(after(299)) && !is_claimed(299));
        assert!(schedule.is_due(after(300)) && is_claimed(300) && !is_claimed(300));
        schedule.hasten();
        assert!(is_claimed(301) && !is_claimed(302));
    }

    #[test]
    fn a_round_that_is_given_up_is_made_again_unless_another_shard_makes_it() {
        let schedule = QuotaSchedule::new(INTERVAL);
        let after = |seconds| Instant::now() + Duration::from_secs(seconds);
        let first = schedule.claim(after(0)).expect("due");
        schedule.give_up(&first);
        let second = schedule.claim(after(10)).expect("due again");
        schedule.give_up(&first);
        assert!(schedule.claim(after(11)).is_none());
        schedule.hasten();
        assert!(schedule.claim(after(20)).is_some());
        schedule.give_up(&second);
        assert!(schedule.claim(after(21)).is_none());
    }

    #[test]
    fn a_round_begins_after_the_last_one() {
        let schedule = QuotaSchedule::new(INTERVAL);
        assert_eq!(schedule.first(3), 0);
        schedule.note_asked(1);
        assert_eq!(schedule.first(3), 2);
        schedule.note_asked(2);
        assert_eq!((schedule.first(3), schedule.first(0)), (0, 0));
    }

    #[test]
    fn the_log_says_once_that_questions_fail_and_once_that_they_do_not() {
        let schedule = QuotaSchedule::new(INTERVAL);
        let told: Vec<bool> = [0, 1, 2, 0, 0, 1].map(|failing| schedule.end_round(failing)).to_vec();
        assert_eq!(told, [false, true, false, true, false, true]);
        assert_eq!(schedule.failing_count(), 1);
    }
}
