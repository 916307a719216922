//! The memory that all replay buffers of the process may take together, and each shard's part of it.
//!
//! Invariant: the shards never hold more than the total between them. The shared counter is an atomic that a shard in the
//! steady state leaves alone: it takes and gives back whole steps.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a shard takes from the process' budget at a time, at most, so that small requests never touch the shared counter.
const BUDGET_STEP_BYTES_MAX: usize = 1024 * 1024;

/// Into how many steps the budget is divided for each shard. A shard keeps less than two of them for itself, so that at
/// least three quarters of the budget are there for whoever needs them, however many shards there are.
const BUDGET_STEPS_PER_SHARD: usize = 8;

/// A shard's part of the memory that all kept copies of the process may take together.
#[derive(Debug)]
pub struct ReplayBudget {
    /// Bytes that no shard has taken, shared by all of them.
    process_free: Arc<AtomicUsize>,
    /// Bytes that this shard has taken and not used.
    shard_free: Cell<usize>,
    step_bytes: usize,
}

impl ReplayBudget {
    /// One of so many `shards` that share `process_free`, which is `total_bytes` when nothing is kept.
    pub fn new(process_free: Arc<AtomicUsize>, total_bytes: usize, shards: usize) -> Self {
        let step_bytes = (total_bytes / (BUDGET_STEPS_PER_SHARD * shards)).clamp(1, BUDGET_STEP_BYTES_MAX);
        ReplayBudget { process_free, shard_free: Cell::new(0), step_bytes }
    }

    pub fn reserve(&self, bytes: usize) -> bool {
        let missing = bytes.saturating_sub(self.shard_free.get());
        if missing > 0 {
            let wanted = missing.next_multiple_of(self.step_bytes);
            let taken = self.process_free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
                (free >= missing).then(|| free - free.min(wanted))
            });
            match taken {
                Ok(free) => self.shard_free.set(self.shard_free.get() + free.min(wanted)),
                Err(_) => return false,
            }
        }
        self.shard_free.set(self.shard_free.get() - bytes);
        true
    }

    /// Whether so much could be reserved now.
    pub fn has(&self, bytes: usize) -> bool {
        self.shard_free.get() >= bytes || self.shard_free.get() + self.process_free.load(Ordering::Relaxed) >= bytes
    }

    pub fn give_back(&self, bytes: usize) {
        let free = self.shard_free.get() + bytes;
        // One step stays, so that a shard in the steady state leaves the shared counter alone.
        let surplus = free.saturating_sub(self.step_bytes) / self.step_bytes * self.step_bytes;
        self.shard_free.set(free - surplus);
        if surplus > 0 {
            self.process_free.fetch_add(surplus, Ordering::Relaxed);
        }
    }
}

impl Drop for ReplayBudget {
    fn drop(&mut self) {
        self.process_free.fetch_add(self.shard_free.get(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shard_of_many_may_keep_most_of_the_budget() {
        const TOTAL: usize = 128 << 20;
        for shards in [1, 2, 64, 128, 1024] {
            let process_free = Arc::new(AtomicUsize::new(TOTAL));
            let budgets: Vec<_> = (0..shards).map(|_| ReplayBudget::new(process_free.clone(), TOTAL, shards)).collect();
            // Each has kept a little, and has let go of it.
            for budget in &budgets {
                assert!(budget.reserve(1000), "{shards} shards");
                budget.give_back(1000);
            }
            let kept = (0..).take_while(|_| budgets[0].reserve(TOTAL / 1024)).count();
            assert!(kept >= 768, "one of {shards} shards keeps {kept}/1024 of the budget");
            budgets[0].give_back(kept * (TOTAL / 1024));
            drop(budgets);
            assert_eq!(process_free.load(Ordering::Relaxed), TOTAL, "{shards} shards");
        }
    }
}
