//! The memory that all replay buffers of the process may take together, and each shard's part of it.
//!
//! Invariant: all shards together never hold more than the total. The shared counter is an atomic that a shard in the
//! steady state does not touch: it takes and gives back in steps.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most that a shard takes from the process' budget at a time. With it, small requests rarely touch the shared
/// counter.
const BUDGET_STEP_BYTES_MAX: usize = 1024 * 1024;

/// The number of steps into which the budget is divided for each shard. A shard keeps less than two of them unused, so
/// that at least three quarters of the budget are available to any shard, however many there are.
const BUDGET_STEPS_PER_SHARD: usize = 8;

/// One shard's part of the memory for all replay buffers of the process.
#[derive(Debug)]
pub struct ReplayBudget {
    /// Bytes that no shard has taken, shared by all of them.
    process_free: Arc<AtomicUsize>,
    /// Bytes that this shard has taken and not used.
    shard_free: Cell<usize>,
    step_bytes: usize,
}

impl ReplayBudget {
    /// For one of `shards` shards that share `process_free`, which is `total_bytes` when nothing is kept.
    pub fn new(process_free: Arc<AtomicUsize>, total_bytes: usize, shards: usize) -> Self {
        let step_bytes = (total_bytes / (BUDGET_STEPS_PER_SHARD * shards)).clamp(1, BUDGET_STEP_BYTES_MAX);
        ReplayBudget { process_free, shard_free: Cell::new(0), step_bytes }
    }

    /// Takes `bytes` from the budget; returns false, and takes nothing, if they are not free.
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

    /// Returns whether [`ReplayBudget::reserve`] would succeed now.
    pub fn has(&self, bytes: usize) -> bool {
        self.shard_free.get() >= bytes || self.shard_free.get() + self.process_free.load(Ordering::Relaxed) >= bytes
    }

    /// Returns reserved `bytes` to the budget.
    pub fn give_back(&self, bytes: usize) {
        let free = self.shard_free.get() + bytes;
        // One step stays, so that a shard in the steady state does not touch the shared counter.
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
