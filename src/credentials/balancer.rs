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

/// One period of nginx's smooth weighted round robin: each index as often as its weight says (all divided by their
/// greatest common divisor), spread as evenly as the algorithm does.
///
/// At each turn every entry gains its weight, the one that then has most (the first of equals) takes the turn, and pays
/// the sum of all weights for it.
pub(super) fn smooth_weighted_turns(weights: &[u16]) -> Vec<CredentialId> {
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    let weights: Vec<i64> = weights.iter().map(|weight| i64::from(weight / divisor)).collect();
    let period: i64 = weights.iter().sum();
    let mut standing = vec![0_i64; weights.len()];
    let mut turns = Vec::with_capacity(period as usize);
    for _ in 0..period {
        let mut best = 0;
        for index in 0..weights.len() {
            standing[index] += weights[index];
            if standing[index] > standing[best] {
                best = index;
            }
        }
        standing[best] -= period;
        turns.push(CredentialId(best as u16));
    }
    turns
}

fn greatest_common_divisor(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use proptest::prelude::*;

    use super::*;
    use crate::credentials::from_json;

    fn turns(weights: &[u16]) -> Vec<usize> {
        smooth_weighted_turns(weights).into_iter().map(CredentialId::index).collect()
    }

    fn credentials(weights: &[u16]) -> Credentials {
        let entry = |weight| format!(r#"{{"clientId":"i","clientSecret":"s","tenant":"t","weight":{weight}}}"#);
        let entries: Vec<String> = weights.iter().map(entry).collect();
        from_json(&format!("[{}]", entries.join(","))).expect("valid").credentials
    }

    /// The algorithm as nginx's ngx_http_upstream_round_robin.c describes it, with the weights as they are.
    fn nginx(weights: &[u16], count: usize) -> Vec<usize> {
        let total: i64 = weights.iter().map(|weight| i64::from(*weight)).sum();
        let mut current = vec![0_i64; weights.len()];
        let mut chosen = Vec::new();
        while chosen.len() < count {
            current.iter_mut().zip(weights).for_each(|(current, weight)| *current += i64::from(*weight));
            let most = *current.iter().max().expect("an entry");
            let best = current.iter().position(|current| *current == most).expect("the maximum");
            current[best] -= total;
            chosen.push(best);
        }
        chosen
    }

    #[test]
    fn equal_weights_take_turns_and_unequal_ones_are_spread() {
        assert_eq!(turns(&[1]), [0]);
        assert_eq!(turns(&[7, 7, 7]), [0, 1, 2]);
        // The example of nginx's own commit message.
        assert_eq!(turns(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(turns(&[500, 250, 250]), [0, 1, 2, 0]);
        assert_eq!(turns(&[1000, 999]).len(), 1999);
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn each_entry_gets_its_weight_in_every_period_in_nginx_order(weights in prop::collection::vec(1_u16..=40, 1..9)) {
            let order = turns(&weights);
            let divisor = weights.iter().copied().fold(0, greatest_common_divisor);
            for (index, weight) in weights.iter().enumerate() {
                let count = order.iter().filter(|turn| **turn == index).count();
                prop_assert_eq!(count, usize::from(weight / divisor));
            }
            // Two periods, so that the seam between them is compared too.
            let twice = [order.as_slice(), order.as_slice()].concat();
            prop_assert_eq!(nginx(&weights, twice.len()), twice);
        }

        /// Where blocks (a, a, a, b) would be three turns ahead. nginx's order does let an entry of half the turns have
        /// two in a row now and then: 23, 17, 6.
        #[test]
        fn nobody_is_ever_a_whole_turn_ahead_of_its_share(weights in prop::collection::vec(1_u16..=40, 1..9)) {
            let total: usize = weights.iter().copied().map(usize::from).sum();
            let mut counts = vec![0_usize; weights.len()];
            for (position, turn) in turns(&weights).into_iter().enumerate() {
                counts[turn] += 1;
                let share = (position + 1) * usize::from(weights[turn]);
                prop_assert!(counts[turn] * total < share + total, "{:?} at {}", weights, position);
            }
        }
    }
}
