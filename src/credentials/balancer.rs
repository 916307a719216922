//! Whose turn it is: a round robin over the whole process, in the smooth weighted order of nginx.
//!
//! Invariant: n successive calls of [`RoundRobin::next`], from whichever shards, get n successive turns. The order is
//! worked out once for a snapshot, so a turn costs one atomic add and one load.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use super::{CredentialId, Credentials};

/// The counter that all shards share. It sits in a cache line of its own, so that ticking it disturbs nothing else.
#[derive(Debug, Default)]
pub struct RoundRobin {
    counter: CachePadded<AtomicU64>,
}

impl RoundRobin {
    /// Takes the next turn. To be called once for each exchange that is forwarded.
    pub fn next(&self, credentials: &Credentials) -> CredentialId {
        // Relaxed: only the count matters, nothing else is published through it. It wraps after 2^64 exchanges.
        credentials.turn(self.counter.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::credentials::from_json;

    fn credentials(weights: &[u16]) -> Credentials {
        let entry = |weight| format!(r#"{{"clientId":"i","clientSecret":"s","tenant":"t","weight":{weight}}}"#);
        let entries: Vec<String> = weights.iter().map(entry).collect();
        from_json(&format!("[{}]", entries.join(","))).expect("valid").credentials
    }

    #[test]
    fn requests_get_a_b_c_a_and_the_period_joins_without_a_jump() {
        let credentials = credentials(&[1, 1, 1]);
        let round_robin = RoundRobin::default();
        let order: Vec<usize> = (0..7).map(|_| round_robin.next(&credentials).index()).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn threads_share_one_order() {
        const THREADS: usize = 4;
        const TURNS_EACH: usize = 3000;
        let credentials = Arc::new(credentials(&[1, 1, 1]));
        let round_robin = Arc::new(RoundRobin::default());
        let take = |credentials: &Credentials, round_robin: &RoundRobin| {
            let mut counts = [0_usize; 3];
            (0..TURNS_EACH).for_each(|_| counts[round_robin.next(credentials).index()] += 1);
            counts
        };
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (credentials, round_robin) = (Arc::clone(&credentials), Arc::clone(&round_robin));
                thread::spawn(move || take(&credentials, &round_robin))
            })
            .collect();
        let mut total = [0; 3];
        for thread in threads {
            let counts = thread.join().expect("finished");
            total.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
        }
        assert_eq!(total, [THREADS * TURNS_EACH / 3; 3]);
    }

    #[test]
    fn the_counter_has_a_cache_line_of_its_own() {
        assert!(align_of::<RoundRobin>() >= 64);
    }
}
