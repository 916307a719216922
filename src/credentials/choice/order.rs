//! The order in which the members of a rotation take turns: the smooth weighted round robin of nginx.
//!
//! Invariant: computed once for a rotation, and each member is in a period exactly as often as its share says. Members
//! are known by their places, from 0.

/// Returns the number of turns that each member gets in a period: the weights, divided by their greatest common
/// divisor.
pub fn shares(weights: &[u16]) -> Vec<u16> {
    let divisor = weights.iter().copied().map(u64::from).fold(0, greatest_common_divisor).max(1);
    // Not larger than the weight, so nothing is cut off.
    weights.iter().map(|weight| (u64::from(*weight) / divisor) as u16).collect()
}

/// Computes one period of nginx's smooth weighted round robin: each place as often as its share says, spread as evenly
/// as the algorithm does.
///
/// At each turn every member gains its share, the one that then has most (the first of equals) takes the turn, and pays
/// the sum of all shares for it.
pub fn smooth_weighted_turns(shares: &[u16]) -> Vec<u16> {
    let period: i64 = shares.iter().copied().map(i64::from).sum();
    let mut credit = vec![0_i64; shares.len()];
    let mut turns = Vec::with_capacity(period as usize);
    for _ in 0..period {
        let mut best = 0;
        for index in 0..shares.len() {
            credit[index] += i64::from(shares[index]);
            if credit[index] > credit[best] {
                best = index;
            }
        }
        credit[best] -= period;
        turns.push(best as u16);
    }
    turns
}

pub fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Returns the member with the `place`-th turn when all turns of the first member come first, then those of the second,
/// and so on.
pub fn holder(place: u64, shares: &[u16]) -> usize {
    let mut end = 0;
    let ends_after = |share: &u16| {
        end += u64::from(*share);
        end > place
    };
    // There is one: `place` is less than the sum of all shares.
    shares.iter().position(ends_after).unwrap_or(0)
}

/// Returns the position after `count` steps that visit each of `0..total` once in `total` steps, with neighbours far
/// apart: the step is the golden section of `total`, or the next number that has no divisor in common with it.
pub fn scattered(count: u64, total: u64) -> u64 {
    let golden_section = (total * 618 / 1000).max(1);
    let step = (golden_section..total).find(|step| greatest_common_divisor(*step, total) == 1).unwrap_or(1);
    count % total * step % total
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn turns(weights: &[u16]) -> Vec<usize> {
        smooth_weighted_turns(&shares(weights)).into_iter().map(usize::from).collect()
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn each_entry_gets_its_weight_in_every_period_in_nginx_order(weights in prop::collection::vec(1_u16..=40, 1..9)) {
            let order = turns(&weights);
            let divisor = weights.iter().copied().map(u64::from).fold(0, greatest_common_divisor);
            for (index, weight) in weights.iter().enumerate() {
                let count = order.iter().filter(|turn| **turn == index).count();
                prop_assert_eq!(count as u64, u64::from(*weight) / divisor);
            }
            // Two periods, so that the seam between them is compared too.
            let twice = [order.as_slice(), order.as_slice()].concat();
            prop_assert_eq!(nginx(&weights, twice.len()), twice);
        }

        #[test]
        fn every_place_is_visited_once(total in 1_u64..600_000) {
            let step = scattered(1, total);
            prop_assert!(total == 1 || greatest_common_divisor(step, total) == 1);
        }

        /// Blocks (a, a, a, b) would be three turns ahead. nginx's order does give an entry of half the turns two in a
        /// row now and then: 23, 17, 6.
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
