//! Affinity: the rank of identities for a session, by weighted rendezvous hashing.
//!
//! With `s` as the first 32 bits of the SHA-256 of the session's id and `i` as the first 64 of the identity's digest
//! ([`OwnerKey`]), `u` is a number between 0 and 1 made of the mixed bits of `s XOR i` (the finalizer of MurmurHash3),
//! and the identity of weight `w` has the distance `-ln(u) / w`; the nearest is the first. So each is the first of a
//! share of the sessions as its weight says, whatever the order of the file, in every process; and one that comes, goes
//! or rests moves only the sessions that it is the first of: each to the next in its own rank.

use std::cmp::Reverse;
use std::num::NonZeroU32;

use aws_lc_rs::digest::{SHA256, digest};

use crate::credentials::credential::CredentialId;
use crate::credentials::owners::OwnerKey;
use crate::credentials::snapshot::ENTRIES_MAX;

/// The digest of a session's id. 32 bits, since every request has room for one: two sessions that share one share a
/// credential, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionKey(NonZeroU32);

impl SessionKey {
    pub fn of(id: &[u8]) -> Self {
        let first = digest(&SHA256, id).as_ref().first_chunk().copied().unwrap_or_default();
        SessionKey(NonZeroU32::new(u32::from_be_bytes(first)).unwrap_or(NonZeroU32::MIN))
    }
}

/// One identity, of which entries of a file are.
#[derive(Debug)]
pub struct RankedIdentity {
    pub key: OwnerKey,
    /// Its first entry.
    pub credential: CredentialId,
    /// The sum of those of its entries.
    pub weight: u32,
}

impl RankedIdentity {
    /// Returns the 52 bits that `u` is made of.
    fn bits(&self, session: SessionKey) -> u64 {
        mixed(u64::from(session.0.get()) ^ self.key.bits()) >> 12
    }

    /// Returns the distance from a session: positive, and finite.
    fn distance(&self, session: SessionKey) -> f64 {
        // 52 bits and a half: exactly a double, and neither 0 nor 1.
        let u = (self.bits(session) as f64 + 0.5) / (1_u64 << 52) as f64;
        -u.ln() / f64::from(self.weight)
    }
}

/// Returns the first one in the rank of a session. `identities` are in the order of their keys, which decides between
/// equals.
pub fn nearest(identities: &[RankedIdentity], session: SessionKey) -> Option<CredentialId> {
    if identities.windows(2).all(|pair| pair[0].weight == pair[1].weight) {
        // The largest `u` is the nearest, and no logarithm is needed, which costs as much as all the rest.
        let nearest = identities.iter().min_by_key(|identity| Reverse(identity.bits(session)));
        return nearest.map(|identity| identity.credential);
    }
    let distances = identities.iter().map(|identity| (identity.distance(session), identity.credential));
    distances.min_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, credential)| credential)
}

/// The identities in the rank of a session.
pub struct Ranking<'a> {
    identities: &'a [RankedIdentity],
    /// Infinite for those that were taken.
    distances: [f64; ENTRIES_MAX],
}

impl<'a> Ranking<'a> {
    pub fn new(identities: &'a [RankedIdentity], session: SessionKey) -> Self {
        let mut distances = [f64::INFINITY; ENTRIES_MAX];
        distances.iter_mut().zip(identities).for_each(|(distance, identity)| *distance = identity.distance(session));
        Ranking { identities, distances }
    }
}

impl Iterator for Ranking<'_> {
    type Item = CredentialId;

    fn next(&mut self) -> Option<CredentialId> {
        let left = self.distances.iter_mut().zip(self.identities).filter(|(distance, _)| distance.is_finite());
        let (distance, identity) = left.min_by(|(one, _), (other, _)| one.total_cmp(other))?;
        *distance = f64::INFINITY;
        Some(identity.credential)
    }
}

/// The finalizer of MurmurHash3, which turns each bit that differs into a half of all.
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes an identity for each (name, weight), in the order of their keys.
    fn identities(weights: &[(&str, u32)]) -> Vec<RankedIdentity> {
        let identity = |(index, (name, weight)): (usize, &(&str, u32))| RankedIdentity {
            key: OwnerKey::of((name, "secret", "tenant")),
            credential: CredentialId(index as u16),
            weight: *weight,
        };
        let mut identities: Vec<_> = weights.iter().enumerate().map(identity).collect();
        identities.sort_by_key(|identity| identity.key.bits());
        identities
    }

    fn session(number: usize) -> SessionKey {
        SessionKey::of(format!("session-{number}").as_bytes())
    }

    /// The names in the rank of a session.
    fn names<'a>(weights: &[(&'a str, u32)], number: usize) -> Vec<&'a str> {
        Ranking::new(&identities(weights), session(number)).map(|id| weights[id.index()].0).collect()
    }

    #[test]
    fn the_rank_is_a_known_one_and_that_of_every_order_of_the_file() {
        let ranks: Vec<String> = (0..6).map(|number| names(&[("a", 1), ("b", 1), ("c", 1)], number).concat()).collect();
        // As Python computes it from the formula: another build, or another machine, agrees.
        assert_eq!(ranks, ["bca", "bca", "abc", "abc", "bca", "bac"]);
        for number in 0..300 {
            let rank = names(&[("a", 3), ("b", 1), ("c", 2)], number);
            assert_eq!(rank, names(&[("c", 2), ("a", 3), ("b", 1)], number));
            let first = nearest(&identities(&[("a", 3), ("b", 1), ("c", 2)]), session(number));
            assert_eq!(rank[0], ["a", "b", "c"][first.expect("one").index()]);
        }
    }

    #[test]
    fn the_nearest_of_equal_weights_is_the_first_of_the_rank() {
        for weight in [1, 7, 1000] {
            let names: Vec<String> = (0..40).map(|number| number.to_string()).collect();
            let weights: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), weight)).collect();
            let identities = identities(&weights);
            for number in 0..3000 {
                let first = Ranking::new(&identities, session(number)).next();
                assert_eq!(nearest(&identities, session(number)), first, "{weight} {number}");
            }
        }
    }

    #[test]
    fn each_is_the_first_of_a_share_as_its_weight_says() {
        let weights = [("a", 5), ("b", 1), ("c", 4)];
        let mut counts = [0_u32; 3];
        for number in 0..20_000 {
            counts[nearest(&identities(&weights), session(number)).expect("one").index()] += 1;
        }
        for ((_, weight), count) in weights.iter().zip(counts) {
            // The standard deviation is at most 71.
            assert!(count.abs_diff(weight * 2000) < 400, "{counts:?}");
        }
    }

    #[test]
    fn one_that_comes_or_goes_moves_only_the_sessions_that_it_is_the_first_of() {
        let three = [("a", 2), ("b", 1), ("c", 1)];
        let four = [("a", 2), ("b", 1), ("c", 1), ("d", 3)];
        let mut moved = 0;
        for number in 0..2000 {
            let (before, after) = (names(&three, number), names(&four, number));
            assert_eq!(after.iter().copied().filter(|name| *name != "d").collect::<Vec<_>>(), before);
            moved += usize::from(after[0] == "d");
        }
        // 3 of 7.
        assert!((750..960).contains(&moved), "{moved}");
    }
}
