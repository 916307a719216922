//! The liveness of a shard: one thread asks, the shard answers between its other work.
//!
//! Invariant: a question is answered only by a shard that has read something after it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

/// The questions to one shard, counted from 1.
#[derive(Debug, Default)]
pub struct Pulse {
    numbers: CachePadded<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    asked: AtomicU64,
    answered: AtomicU64,
    has_ended: AtomicBool,
}

impl Pulse {
    /// Asks a new question; the shard has to be told that there is one. Only for the one thread that asks.
    pub fn ask(&self) -> u64 {
        self.numbers.asked.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Answers all questions so far. Only for the shard.
    pub fn answer(&self) {
        self.numbers.answered.store(self.numbers.asked.load(Ordering::Acquire), Ordering::Release);
    }

    /// Notes that the shard's thread has ended, and answers no more.
    pub fn end(&self) {
        self.numbers.has_ended.store(true, Ordering::Release);
    }

    pub fn has_ended(&self) -> bool {
        self.numbers.has_ended.load(Ordering::Acquire)
    }

    /// Returns whether the question of this number was answered, or a later one; 0 is before all.
    pub fn has_answered(&self, question: u64) -> bool {
        self.numbers.answered.load(Ordering::Acquire) >= question
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_to_all_questions_before_it_and_to_none_after() {
        let pulse = Pulse::default();
        assert!(pulse.has_answered(0));
        let (first, second) = (pulse.ask(), pulse.ask());
        assert!(!pulse.has_answered(first));
        pulse.answer();
        let third = pulse.ask();
        assert!(pulse.has_answered(first) && pulse.has_answered(second) && !pulse.has_answered(third));
    }
}
