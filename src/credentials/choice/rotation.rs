//! A rotation: a set of credentials that requests may use, their turns, and their ranks for sessions.
//!
//! Invariant: n turns that are taken, from any shards, are n successive ones. Taking one costs an atomic add. Not here:
//! those that cool down (`balancer`).

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use super::affinity::{RankedIdentity, Ranking, SessionKey, nearest};
use super::order::{self, holder, scattered};
use crate::credentials::credential::CredentialId;
use crate::credentials::owners::OwnerKey;
use crate::credentials::snapshot::Credentials;

/// A set of credentials that requests may use, with a counter of its turns that all shards share.
#[derive(Debug)]
pub struct Rotation {
    /// In a cache line of its own, so that incrementing it invalidates nothing else.
    turns_taken: CachePadded<AtomicU64>,
    /// Counts the turns of those that cool down, which others take.
    spares_taken: CachePadded<AtomicU64>,
    /// In the order of the file. Invariant: not empty.
    members: Vec<CredentialId>,
    /// The number of turns of a period for each member.
    shares: Vec<u16>,
    order: TurnOrder,
    /// In the order of their keys.
    identities: Vec<RankedIdentity>,
}

/// One period of the order of turns.
#[derive(Debug)]
enum TurnOrder {
    /// Nginx's, a credential for each turn.
    Smooth(Vec<CredentialId>),
    /// Places that are far apart, of so many, by the shares: needs no table.
    Scattered { period: u64 },
}

impl Rotation {
    /// Makes the rotation of `members`, which are in the order of the file, and at least one. The first turn is number
    /// `begin`. Where a period has more turns than `smooth_turns_max`, they are scattered and not in nginx's order.
    pub fn new(credentials: &Credentials, members: Vec<CredentialId>, smooth_turns_max: u64, begin: u64) -> Self {
        let weights: Vec<u16> = members.iter().map(|id| credentials.entry(*id).weight).collect();
        let shares = order::shares(&weights);
        let period = shares.iter().copied().map(u64::from).sum();
        let order = if period <= smooth_turns_max {
            let turns = order::smooth_weighted_turns(&shares);
            TurnOrder::Smooth(turns.into_iter().map(|place| members[usize::from(place)]).collect())
        } else {
            TurnOrder::Scattered { period }
        };
        let identities = identities(credentials, &members);
        let turns_taken = CachePadded::new(AtomicU64::new(begin));
        Rotation { turns_taken, spares_taken: CachePadded::default(), members, shares, order, identities }
    }

    /// Takes the next turn.
    pub fn take_turn(&self) -> CredentialId {
        // Relaxed: only the count matters, nothing else is published through it. It wraps after 2^64 exchanges.
        self.turn(self.turns_taken.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns whose turn it most likely is next, and takes none.
    pub fn next_turn(&self) -> CredentialId {
        self.turn(self.turns_taken())
    }

    pub fn turns_taken(&self) -> u64 {
        self.turns_taken.load(Ordering::Relaxed)
    }

    /// Returns the credential with turn number `number`.
    fn turn(&self, number: u64) -> CredentialId {
        match &self.order {
            TurnOrder::Smooth(turns) => turns[(number % turns.len() as u64) as usize],
            TurnOrder::Scattered { period } => self.members[holder(scattered(number, *period), &self.shares)],
        }
    }

    /// Returns the members with the number of their turns in a period, in the order of the file.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (CredentialId, u16)> {
        self.members.iter().copied().zip(self.shares.iter().copied())
    }

    /// Returns the member at a place, counted from 0.
    pub fn member(&self, place: usize) -> CredentialId {
        self.members[place]
    }

    /// Returns the members after `from` in the file's order, cyclically; not `from` itself.
    pub fn following(&self, from: CredentialId) -> impl Iterator<Item = CredentialId> {
        let end = self.members.partition_point(|id| id.index() <= from.index());
        let (before, after) = self.members.split_at(end);
        after.iter().chain(before).copied().filter(move |id| *id != from)
    }

    /// Returns the number of different identities; never 0.
    pub fn identities_count(&self) -> usize {
        self.identities.len()
    }

    /// Returns the first member of the identity with that key.
    pub fn of_owner(&self, owner: OwnerKey) -> Option<CredentialId> {
        let at = self.identities.binary_search_by_key(&owner.bits(), |identity| identity.key.bits()).ok()?;
        Some(self.identities[at].credential)
    }

    /// Returns the first one in the rank of a session.
    pub fn first_for(&self, session: SessionKey) -> CredentialId {
        nearest(&self.identities, session).unwrap_or(self.members[0])
    }

    /// Returns one member of each identity, in the rank of a session.
    pub fn ranking(&self, session: SessionKey) -> Ranking<'_> {
        Ranking::new(&self.identities, session)
    }

    /// Takes one of the turns that others do not take, and returns the place of the member that it falls to. The turns
    /// of a period of those that have `shares` are counted through, one a call: if it were the next of them in the
    /// order, one neighbour would get all these turns. `None` where nobody has a share.
    pub fn take_spare(&self, shares: &[u16]) -> Option<usize> {
        let total = shares.iter().copied().map(u64::from).sum();
        (total > 0).then(|| holder(scattered(self.spares_taken.fetch_add(1, Ordering::Relaxed), total), shares))
    }
}

/// Lists the identities of the members.
fn identities(credentials: &Credentials, members: &[CredentialId]) -> Vec<RankedIdentity> {
    let identity = |id: &CredentialId| RankedIdentity {
        key: credentials.owner_key(*id),
        credential: *id,
        weight: credentials.entry(*id).weight.into(),
    };
    let mut identities: Vec<_> = members.iter().map(identity).collect();
    // Stable: the first entry of each is the first of the file.
    identities.sort_by_key(|identity| identity.key.bits());
    identities.dedup_by(|later, first| {
        let is_same = later.key == first.key;
        if is_same {
            first.weight += later.weight;
        }
        is_same
    });
    identities
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::from_json;

    /// Makes the rotation of the entries in `members`, of entries with these identities and weights.
    fn rotation(entries: &[(&str, u16)], members: &[u16], smooth_turns_max: u64) -> Rotation {
        let entry = |(identity, weight): &(&str, u16)| {
            format!(r#"{{"clientId":"{identity}","clientSecret":"s","tenant":"t","weight":{weight}}}"#)
        };
        let text = entries.iter().map(entry).collect::<Vec<_>>().join(",");
        let credentials = from_json(&format!("[{text}]")).expect("valid").credentials;
        Rotation::new(&credentials, members.iter().map(|index| CredentialId(*index)).collect(), smooth_turns_max, 0)
    }

    fn turns(rotation: &Rotation, count: usize) -> Vec<usize> {
        (0..count).map(|_| rotation.take_turn().index()).collect()
    }

    const FOUR: [(&str, u16); 4] = [("a", 1), ("b", 2), ("c", 4), ("d", 2)];

    #[test]
    fn only_members_take_turns_each_as_often_as_its_share_says() {
        assert_eq!(turns(&rotation(&FOUR, &[1, 2, 3], 100), 8), [2, 1, 3, 2, 2, 1, 3, 2]);
        // Without a table too.
        let scattered = turns(&rotation(&FOUR, &[1, 2, 3], 0), 400);
        for four in scattered.chunks(4) {
            let count = |index| four.iter().filter(|turn| **turn == index).count();
            assert_eq!([count(0), count(1), count(2), count(3)], [0, 1, 2, 1]);
        }
    }

    #[test]
    fn those_that_follow_are_the_other_members_from_there_on() {
        let rotation = rotation(&FOUR, &[0, 2, 3], 100);
        let following = |from| rotation.following(CredentialId(from)).map(CredentialId::index).collect::<Vec<_>>();
        assert_eq!([following(0), following(2), following(3)], [[2, 3], [3, 0], [0, 2]]);
        assert_eq!(following(1), [2, 3, 0], "from one that is no member");
    }

    #[test]
    fn repeated_identities_count_once_and_their_weights_add_up() {
        let rotation = rotation(&[("a", 1), ("b", 1), ("a", 3), ("b", 1)], &[0, 1, 2], 100);
        assert_eq!(rotation.identities_count(), 2);
        let mut weights: Vec<_> = rotation.identities.iter().map(|of| (of.credential.index(), of.weight)).collect();
        weights.sort_unstable();
        assert_eq!(weights, [(0, 4), (1, 1)]);
    }

    #[test]
    fn the_counters_have_cache_lines_of_their_own() {
        assert!(align_of::<Rotation>() >= 64 && size_of::<CachePadded<AtomicU64>>() >= 64);
    }
}
