//! The present work of a shard, beside the counts of its past work.
//!
//! Written by the shard alone, with plain loads and stores; read by the thread that stops the program, and by the admin
//! thread.

use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

use super::counters::Counters;
use super::distribution::pace::StreamPace;
use super::pulse::Pulse;
use super::shown::view::ShardViewCell;
use super::tally::Tally;

/// Open exchanges of one shard, its counts, and whether it is alive.
#[derive(Debug, Default)]
pub struct Activity {
    pub counters: Counters,
    pub tally: Tally,
    pub pace: StreamPace,
    pub pulse: Pulse,
    pub view: ShardViewCell,
    open_exchanges: CachePadded<AtomicUsize>,
    open_streams: CachePadded<AtomicUsize>,
    open_tunnels: CachePadded<AtomicUsize>,
    idle_upstream: CachePadded<AtomicUsize>,
}

impl Activity {
    pub fn open_exchanges(&self) -> usize {
        self.open_exchanges.load(Ordering::Relaxed)
    }

    /// Returns the number of answers that the pump relays.
    pub fn open_streams(&self) -> usize {
        self.open_streams.load(Ordering::Relaxed)
    }

    /// Only for the shard that owns this, when that number changes.
    pub fn note_open_streams(&self, count: usize) {
        self.open_streams.store(count, Ordering::Relaxed);
    }

    /// Returns the number of WebSockets that are open.
    pub fn open_tunnels(&self) -> usize {
        self.open_tunnels.load(Ordering::Relaxed)
    }

    /// Only for the shard that owns this.
    pub fn tunnel_begins(&self) {
        self.open_tunnels.store(self.open_tunnels() + 1, Ordering::Relaxed);
    }

    /// Only for the shard that owns this.
    pub fn tunnel_ends(&self) {
        self.open_tunnels.store(self.open_tunnels() - 1, Ordering::Relaxed);
    }

    /// Returns the number of idle connections to the upstream, as the shard last reported it.
    pub fn idle_upstream(&self) -> usize {
        self.idle_upstream.load(Ordering::Relaxed)
    }

    /// Reports the number of idle connections. Only for the shard that owns this, when it is asked, so that nothing is
    /// counted where a connection is used.
    pub fn note_idle_upstream(&self, count: usize) {
        self.idle_upstream.store(count, Ordering::Relaxed);
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
