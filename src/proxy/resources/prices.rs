//! The prices of models that the process knows, and the times at which it asks the upstream for them.
//!
//! Invariant: a shard never waits for prices and never reads an answer that may be large: that is handed to a thread.
//! At most one question is under way, and none before an answer needs one: a gateway at rest costs nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use crate::usage::prices::PriceTable;

/// The time for which the upstream's prices count.
const LIFETIME: Duration = Duration::from_secs(3600);

/// The time after a question before the next one, where it has brought no prices; longer than one can take.
const PAUSE: Duration = Duration::from_secs(300);

/// The number of answers without usage from which on they are worth the question: before, a lone request would have
/// another one behind it that nobody expects.
const ESTIMATES_MIN: u64 = 256;

/// The prices of models, as far as any are known.
pub struct Prices {
    table: ArcSwapOption<PriceTable>,
    /// `None`: the upstream is not asked.
    schedule: Option<PriceSchedule>,
}

/// The time of the next question. It is a shard that asks, whichever serves a request then: with one client, all the
/// others may never do.
struct PriceSchedule {
    epoch: Instant,
    /// Milliseconds after the epoch.
    due: AtomicU64,
    /// A question is under way, or its answer is being read.
    is_asked: AtomicBool,
    /// A refusal was told.
    was_told: AtomicBool,
    /// The answers that told no tokens.
    estimates: AtomicU64,
    /// The way of an answer to the thread that reads it.
    answers: Sender<Vec<u8>>,
}

impl Prices {
    /// Prices from elsewhere, or none.
    pub fn fixed(table: Option<Arc<PriceTable>>) -> Self {
        Prices { table: ArcSwapOption::new(table), schedule: None }
    }

    /// Prices that the upstream is asked for; its `answers` are to be read by another thread.
    pub fn asked(answers: Sender<Vec<u8>>) -> Self {
        let (due, was_told, is_asked) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
        let schedule =
            PriceSchedule { epoch: Instant::now(), due, is_asked, was_told, estimates: AtomicU64::new(0), answers };
        Prices { table: ArcSwapOption::new(None), schedule: Some(schedule) }
    }

    pub fn table(&self) -> Option<Arc<PriceTable>> {
        self.table.load_full()
    }

    /// Returns what `find` finds in the prices, if there are any.
    pub fn look_up<T>(&self, find: impl FnOnce(&PriceTable) -> Option<T>) -> Option<T> {
        self.table.load().as_deref().and_then(find)
    }

    /// Uses these prices from now on; those of the upstream for [`LIFETIME`].
    pub fn store(&self, table: PriceTable, now: Instant) {
        self.table.store(Some(Arc::new(table)));
        if let Some(schedule) = &self.schedule {
            schedule.due.store(schedule.millis(now + LIFETIME), Ordering::Relaxed);
        }
    }

    /// Counts an answer without usage, and tells whether there were many.
    pub fn are_estimates_usual(&self) -> bool {
        let Some(schedule) = &self.schedule else { return false };
        schedule.estimates.fetch_add(1, Ordering::Relaxed) + 1 >= ESTIMATES_MIN
    }

    /// Takes the question over from all other shards, if it is due.
    pub fn claim(&self, now: Instant) -> bool {
        let Some(schedule) = &self.schedule else { return false };
        let due = schedule.due.load(Ordering::Relaxed);
        let next = schedule.millis(now + PAUSE);
        let is_claimed = schedule.millis(now) >= due
            && schedule.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_claimed {
            schedule.is_asked.store(true, Ordering::Relaxed);
        }
        is_claimed
    }

    /// Tells whether a question is under way.
    pub fn are_asked_for(&self) -> bool {
        self.schedule.as_ref().is_some_and(|schedule| schedule.is_asked.load(Ordering::Acquire))
    }

    /// Notes that a question is over, with what it has brought.
    pub fn end_question(&self) {
        if let Some(schedule) = &self.schedule {
            schedule.is_asked.store(false, Ordering::Release);
        }
    }

    /// Hands the body of an answer to the thread that reads it. The channel has no bound and never blocks; there is one
    /// answer at a time.
    pub fn hand_over(&self, answer: Vec<u8>) {
        if let Some(schedule) = &self.schedule {
            // The thread ends with the process.
            let _ = schedule.answers.send(answer);
        }
    }

    /// Tells whether a refusal is the first one, which an operator should know of.
    pub fn is_first_refusal(&self) -> bool {
        self.schedule.as_ref().is_some_and(|schedule| !schedule.was_told.swap(true, Ordering::Relaxed))
    }
}

impl PriceSchedule {
    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn one_shard_asks_at_a_time_again_after_five_minutes_and_after_an_hour_with_prices() {
        let (answers, received) = channel();
        let prices = Prices::asked(answers);
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(prices.claim(start));
        assert!(!prices.claim(start) && !prices.claim(after(299)));
        assert!(prices.claim(after(300)) && !prices.claim(after(300)));
        prices.store(PriceTable::default(), after(310));
        assert!(prices.table().is_some());
        assert!(!prices.claim(after(600)) && !prices.claim(after(3909)));
        assert!(prices.claim(after(3910)));
        prices.hand_over(b"{}".to_vec());
        assert_eq!(received.try_recv().expect("an answer"), b"{}");
        assert!(prices.is_first_refusal() && !prices.is_first_refusal());
    }

    #[test]
    fn for_prices_of_a_file_nobody_is_asked() {
        let prices = Prices::fixed(Some(Arc::new(PriceTable::default())));
        assert!(!prices.claim(Instant::now() + LIFETIME) && !prices.is_first_refusal());
        assert!(Prices::fixed(None).table().is_none());
    }
}
