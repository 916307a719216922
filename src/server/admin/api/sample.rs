//! The counts of the shards at one moment: figures over time are differences of two of these.

use std::time::Instant;

use crate::observability::{Activity, BOUNDS, Spread, StatusClass, Tally};
use crate::server::admin::gateway_state::GatewayState;
use crate::usage::totals::UsageSums;

/// The counts of all shards since the start, and what is open.
#[derive(Debug, Clone, Copy)]
pub struct CountSample {
    pub at: Instant,
    pub requests: u64,
    pub errors: u64,
    pub first_byte: Spread,
    pub output_tokens: u64,
    /// Reported and estimated, in US dollars.
    pub cost: f64,
    pub open_streams: u64,
    pub open_exchanges: u64,
}

impl CountSample {
    pub fn of(gateway: &GatewayState, at: Instant) -> Self {
        let accounts = gateway.shared.ledger.accounts();
        let total = |classes: &[StatusClass]| {
            let of_class = |class: &StatusClass| accounts.iter().map(|account| account.total(*class)).sum::<u64>();
            classes.iter().map(of_class).sum::<u64>()
        };
        let mut spent = UsageSums::default();
        if let Some(books) = &gateway.shared.usage {
            books.read(|row| spent += row.sums());
        }
        let open = |of: fn(&Activity) -> usize| gateway.liveness_probe.activities().map(of).sum::<usize>() as u64;
        CountSample {
            at,
            requests: total(&StatusClass::ALL),
            errors: total(&[StatusClass::ClientError, StatusClass::ServerError, StatusClass::None]),
            first_byte: Spread::of(
                gateway.liveness_probe.activities().map(|activity| &activity.tally).map(Tally::first_byte),
            ),
            output_tokens: spent.tokens.output.saturating_add(spent.estimated.output),
            cost: spent.reported_cost.as_dollars() + spent.estimated_cost.as_dollars(),
            open_streams: open(Activity::open_streams),
            open_exchanges: open(Activity::open_exchanges),
        }
    }

    /// Returns the time to the first byte, in seconds, that this part of the requests since `earlier` did not exceed;
    /// `None` where there were none. Within a bucket of the histogram the times are taken for evenly spread.
    pub fn first_byte_since(&self, earlier: &CountSample, part: f64) -> Option<f64> {
        let (before, after) = (&earlier.first_byte.buckets, &self.first_byte.buckets);
        let counts: Vec<u64> = after.iter().zip(before).map(|(after, before)| after.saturating_sub(*before)).collect();
        let rank = part * counts.iter().sum::<u64>() as f64;
        let mut below = 0.0;
        for (bucket, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = *count as f64;
            if below + count >= rank {
                let bound = |bucket: usize| BOUNDS[bucket.min(BOUNDS.len() - 1)].as_secs_f64();
                let (low, high) = (if bucket == 0 { 0.0 } else { bound(bucket - 1) }, bound(bucket));
                return Some(low + (high - low) * ((rank - below) / count).clamp(0.0, 1.0));
            }
            below += count;
        }
        None
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A sample with this many requests, whose times are in these buckets.
    pub fn sample(at: Instant, requests: u64, buckets: &[(usize, u64)]) -> CountSample {
        let mut first_byte = Spread::default();
        buckets.iter().for_each(|(bucket, count)| first_byte.buckets[*bucket] = *count);
        let (errors, output_tokens, cost) = (requests / 10, requests * 100, requests as f64 / 100.0);
        CountSample { at, requests, errors, first_byte, output_tokens, cost, open_streams: 3, open_exchanges: 4 }
    }

    #[test]
    fn percentiles_are_of_what_came_since_and_within_their_bucket() {
        let now = Instant::now();
        let earlier = sample(now, 0, &[(0, 1000), (4, 7)]);
        for (buckets, part, expected) in [
            (&[(0, 1000), (4, 7)][..], 0.5, None),
            (&[(0, 1000), (4, 17)], 0.5, Some(0.175)),
            (&[(0, 1000), (4, 17)], 1.0, Some(0.25)),
            (&[(0, 1010), (4, 17)], 0.25, Some(0.0005)),
            (&[(0, 1010), (4, 17), (14, 100)], 0.95, Some(600.0)),
        ] {
            let found = sample(now, 0, buckets).first_byte_since(&earlier, part);
            let is_near = found.zip(expected).is_none_or(|(found, expected)| (found - expected).abs() < 1e-9);
            assert!(found.is_some() == expected.is_some() && is_near, "{buckets:?}: {found:?}");
        }
    }
}
