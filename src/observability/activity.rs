//! How much a shard has under way, beside what it has done.
//!
//! Written by the shard alone, with plain loads and stores; read by the thread that stops the program.

use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

use super::Counters;

/// Open exchanges of one shard, and its counts.
#[derive(Debug, Default)]
pub struct Activity {
    pub counters: Counters,
    open_exchanges: CachePadded<AtomicUsize>,
}

impl Activity {
    pub fn open_exchanges(&self) -> usize {
        self.open_exchanges.load(Ordering::Relaxed)
    }

    /// Only for the shard that owns this.
    pub fn exchange_begins(&self) {
        self.open_exchanges.store(self.open_exchanges() + 1, Ordering::Relaxed);
    }

    /// Only for the shard that owns this.
    pub fn exchange_ends(&self) {
        self.open_exchanges.store(self.open_exchanges().saturating_sub(1), Ordering::Relaxed);
    }
}
