//! Counts of a shard's work since its start.
//!
//! Written by the shard alone, with plain loads and stores on cache lines of its own; read by other threads.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

/// The things that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Exchanges that were forwarded.
    Requests,
    /// Their attempts.
    Attempts,
    /// Replays on a fresh connection because a pooled one had been closed; no attempts of their own.
    Stale,

    // Further attempts, by their reason.
    Unreachable,
    UpstreamClosed,
    WriteStalled,
    Unavailable,
    Refused,
    RateLimited,

    /// Attempts that were not made because there were too many.
    ShareExhausted,
    /// Requests too large to be kept for a second attempt.
    CopiesDropped,
    /// Requests within the filter's scope that could not be filtered.
    Unfiltered,
    /// Cooldowns that began.
    Cooldowns,
    /// Credentials that work again.
    Recoveries,

    /// Connections to the upstream that were opened for an attempt.
    UpstreamOpened,
    /// Attempts that went out on a pooled connection.
    UpstreamReused,
    /// Connections of clients that could not be accepted.
    AcceptErrors,
}

impl Count {
    pub const ALL: [Count; 17] = [
        Count::Requests,
        Count::Attempts,
        Count::Stale,
        Count::Unreachable,
        Count::UpstreamClosed,
        Count::WriteStalled,
        Count::Unavailable,
        Count::Refused,
        Count::RateLimited,
        Count::ShareExhausted,
        Count::CopiesDropped,
        Count::Unfiltered,
        Count::Cooldowns,
        Count::Recoveries,
        Count::UpstreamOpened,
        Count::UpstreamReused,
        Count::AcceptErrors,
    ];

    /// Returns the name in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Count::Requests => "requests",
            Count::Attempts => "attempts",
            Count::Stale => "stale",
            Count::Unreachable => "unreachable",
            Count::UpstreamClosed => "upstream_closed",
            Count::WriteStalled => "write_stalled",
            Count::Unavailable => "unavailable",
            Count::Refused => "refused",
            Count::RateLimited => "rate_limited",
            Count::ShareExhausted => "share_exhausted",
            Count::CopiesDropped => "copies_dropped",
            Count::Unfiltered => "unfiltered",
            Count::Cooldowns => "cooldowns",
            Count::Recoveries => "recoveries",
            Count::UpstreamOpened => "upstream_opened",
            Count::UpstreamReused => "upstream_reused",
            Count::AcceptErrors => "accept_errors",
        }
    }
}

/// The counts of one shard.
#[derive(Debug, Default)]
pub struct Counters {
    counts: CachePadded<[AtomicU64; Count::ALL.len()]>,
}

impl Counters {
    /// Only for the shard that owns this.
    pub fn add(&self, count: Count) {
        add(&self.counts[count as usize], 1);
    }

    pub fn value(&self, count: Count) -> u64 {
        self.counts[count as usize].load(Ordering::Relaxed)
    }
}

/// Adds without the bus lock of an atomic addition. Only for the thread that owns the cell.
pub(super) fn add(cell: &AtomicU64, amount: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

/// Logs the sums over all `counters`, at INFO.
pub fn log_totals<'a>(counters: impl Iterator<Item = &'a Counters> + Clone) {
    let total = |count| counters.clone().map(|counters| counters.value(count)).sum::<u64>();
    tracing::info!(
        requests = total(Count::Requests),
        attempts = total(Count::Attempts),
        stale = total(Count::Stale),
        unreachable = total(Count::Unreachable),
        upstream_closed = total(Count::UpstreamClosed),
        write_stalled = total(Count::WriteStalled),
        unavailable = total(Count::Unavailable),
        refused = total(Count::Refused),
        rate_limited = total(Count::RateLimited),
        share_exhausted = total(Count::ShareExhausted),
        copies_dropped = total(Count::CopiesDropped),
        unfiltered = total(Count::Unfiltered),
        cooldowns = total(Count::Cooldowns),
        recoveries = total(Count::Recoveries),
        "in all"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_has_a_place_of_its_own() {
        let counters = Counters::default();
        for (place, count) in Count::ALL.into_iter().enumerate() {
            assert_eq!(count as usize, place, "{}", count.as_str());
            counters.add(count);
            counters.add(count);
        }
        assert!(Count::ALL.into_iter().all(|count| counters.value(count) == 2));
    }
}
