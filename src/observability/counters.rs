//! Counts of a shard's work since its start.
//!
//! Written by the shard alone, with plain loads and stores on cache lines of its own; read by other threads.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use super::reasons::RetryReason;

/// The things that are counted, beside retries, which have a count for each [`RetryReason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Exchanges that were forwarded.
    Requests,
    /// Their attempts.
    Attempts,
    /// Replays on a fresh connection because a pooled one had been closed; no attempts of their own.
    Stale,

    /// Attempts that were not made because there were too many.
    ShareExhausted,
    /// Requests too large to be kept for a second attempt.
    CopiesDropped,
    /// Requests within the filter's scope that could not be filtered.
    Unfiltered,
    /// Exchanges in which the upstream sent the token back.
    TokensSeen,
    /// Errors with a content coding that could not be searched for the token.
    Unsearched,
    /// Rests that began, of whole credentials or for one model or family of paths.
    Cooldowns,
    /// Background checks of refused credentials.
    Checks,
    /// Credentials that work again.
    Recoveries,

    /// Connections to the upstream that were opened for an attempt.
    UpstreamOpened,
    /// Attempts that went out on a pooled connection that had been used before.
    UpstreamReused,
    /// Connections to the upstream that were opened in advance.
    UpstreamWarmOpened,
    /// Attempts that went out on one of those.
    UpstreamWarmUsed,
    /// Answers whose rest the pump relayed.
    StreamsPumped,
    /// WebSockets that both sides have agreed on.
    Tunnels,
    /// Upgrades to WebSocket that were refused, since the upstream has said lately that it has none there.
    UpgradesRefused,
    /// Connections of clients that could not be accepted.
    AcceptErrors,
    /// Idle connections of clients that were closed to make room for new ones.
    GaveWay,
}

impl Count {
    pub const ALL: [Count; 20] = [
        Count::Requests,
        Count::Attempts,
        Count::Stale,
        Count::ShareExhausted,
        Count::CopiesDropped,
        Count::Unfiltered,
        Count::TokensSeen,
        Count::Unsearched,
        Count::Cooldowns,
        Count::Checks,
        Count::Recoveries,
        Count::UpstreamOpened,
        Count::UpstreamReused,
        Count::UpstreamWarmOpened,
        Count::UpstreamWarmUsed,
        Count::StreamsPumped,
        Count::Tunnels,
        Count::UpgradesRefused,
        Count::AcceptErrors,
        Count::GaveWay,
    ];
}

/// The counts of one shard.
#[derive(Debug, Default)]
pub struct Counters {
    cells: CachePadded<Cells>,
}

#[derive(Debug, Default)]
struct Cells {
    counts: [AtomicU64; Count::ALL.len()],
    retries: [AtomicU64; RetryReason::ALL.len()],
}

impl Counters {
    /// Only for the shard that owns this.
    pub fn add(&self, count: Count) {
        add(&self.cells.counts[count as usize], 1);
    }

    pub fn value(&self, count: Count) -> u64 {
        self.cells.counts[count as usize].load(Ordering::Relaxed)
    }

    /// Counts an attempt beyond the first. Only for the shard that owns this.
    pub fn add_retry(&self, reason: RetryReason) {
        add(&self.cells.retries[reason as usize], 1);
    }

    pub fn retries(&self, reason: RetryReason) -> u64 {
        self.cells.retries[reason as usize].load(Ordering::Relaxed)
    }
}

/// Adds without the bus lock of an atomic addition. Only for the thread that owns the cell.
pub(super) fn add(cell: &AtomicU64, amount: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

/// Logs the sums over all `counters`, at INFO.
pub fn log_totals<'a>(counters: impl Iterator<Item = &'a Counters> + Clone) {
    let total = |count| counters.clone().map(|counters| counters.value(count)).sum::<u64>();
    let retries = |reason| counters.clone().map(|counters| counters.retries(reason)).sum::<u64>();
    tracing::info!(
        requests = total(Count::Requests),
        attempts = total(Count::Attempts),
        stale = total(Count::Stale),
        unreachable = retries(RetryReason::Unreachable),
        upstream_closed = retries(RetryReason::UpstreamClosed),
        write_stalled = retries(RetryReason::WriteStalled),
        unavailable = retries(RetryReason::Unavailable),
        refused = retries(RetryReason::Refused),
        rate_limited = retries(RetryReason::RateLimited),
        quota_used_up = retries(RetryReason::QuotaUsedUp),
        not_found = retries(RetryReason::NotFound),
        share_exhausted = total(Count::ShareExhausted),
        copies_dropped = total(Count::CopiesDropped),
        unfiltered = total(Count::Unfiltered),
        tokens_seen = total(Count::TokensSeen),
        unsearched = total(Count::Unsearched),
        cooldowns = total(Count::Cooldowns),
        checks = total(Count::Checks),
        recoveries = total(Count::Recoveries),
        streams_pumped = total(Count::StreamsPumped),
        websockets = total(Count::Tunnels),
        "in all"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_and_every_reason_has_a_place_of_its_own() {
        let counters = Counters::default();
        for (place, count) in Count::ALL.into_iter().enumerate() {
            assert_eq!(count as usize, place, "{count:?}");
            counters.add(count);
        }
        for (place, reason) in RetryReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place, "{reason:?}");
            counters.add_retry(reason);
        }
        assert!(Count::ALL.into_iter().all(|count| counters.value(count) == 1));
        assert!(RetryReason::ALL.into_iter().all(|reason| counters.retries(reason) == 1));
    }
}
