//! The choice of a credential: a round robin over the whole process, in the smooth weighted order of nginx.
//!
//! Invariant: n successive calls of [`RoundRobin::next`], from any shards, take n successive turns, and the turns of a
//! credential that cools down go to the others, to each in proportion to its share. While none cools down or is
//! suspected a turn costs one atomic add and two loads; it never costs a lock, and an allocation only to record a
//! probe or to look at the rests for one model.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use super::credential::CredentialId;
use super::order::{holder, scattered};
use super::snapshot::{Credentials, ENTRIES_MAX};
use super::standing::{Availability, Claim, FaultKind, RestScope, Resting, Standing};

/// The counter that all shards share. It sits in a cache line of its own, so that incrementing it invalidates nothing
/// else.
#[derive(Debug, Default)]
pub struct RoundRobin {
    counter: CachePadded<AtomicU64>,
}

impl RoundRobin {
    /// Takes the next turn. To be called once for each exchange that is forwarded.
    pub fn next(&self, credentials: &Credentials, now: Instant) -> Choice {
        // Relaxed: only the count matters, nothing else is published through it. It wraps after 2^64 exchanges.
        let tick = self.counter.fetch_add(1, Ordering::Relaxed);
        credentials.choose(tick, now)
    }

    /// Returns the credential that most likely has the next turn, and takes no turn.
    pub fn peek(&self, credentials: &Credentials) -> CredentialId {
        credentials.turn(self.counter.load(Ordering::Relaxed))
    }
}

/// The credential of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    pub credential: CredentialId,
    /// Its probes end with [`Credentials::restore`], [`Credentials::cool`] or [`Credentials::give_up_probe`].
    pub probes: ClaimedProbes,
}

/// The probes that a turn has claimed: the request finds out whether the credential works again, and others wait for
/// its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClaimedProbes {
    /// That of the rest of the whole identity.
    pub whole: bool,
    /// That of its rest for the request's model or family of paths.
    pub scoped: bool,
}

impl Turn {
    /// Makes a turn that probes nothing.
    pub fn of(credential: CredentialId) -> Self {
        Turn { credential, probes: ClaimedProbes::default() }
    }

    pub fn is_probe(&self) -> bool {
        self.probes.whole || self.probes.scoped
    }
}

/// The outcome of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    Use(Turn),
    /// All cool down, and the probe of the one that is free soonest is in flight: the exchange waits for its outcome,
    /// and then continues this turn by [`Credentials::choose_again`].
    Wait {
        credential: CredentialId,
        tick: u64,
    },
    /// Some identity rests for a model or a family of paths, so that the choice depends on the request's; it is made by
    /// [`Credentials::choose_again`] once that is known.
    Open {
        credential: CredentialId,
        tick: u64,
    },
}

impl Choice {
    /// Returns whose name the request has until the choice is final.
    pub fn credential(&self) -> CredentialId {
        match *self {
            Choice::Use(Turn { credential, .. })
            | Choice::Wait { credential, .. }
            | Choice::Open { credential, .. } => credential,
        }
    }
}

impl Credentials {
    /// Chooses for an exchange whose turn was not final: it waited for the outcome of a probe, or the requests that it
    /// is one of were to be known, those of `scope`. It does not take another turn. With `has_waited_enough` it does
    /// not wait again.
    pub fn choose_again(&self, tick: u64, scope: Option<&RestScope>, has_waited_enough: bool, now: Instant) -> Choice {
        let credential = self.turn(tick);
        if self.standing(credential).is_clear() {
            return Choice::Use(Turn::of(credential));
        }
        self.choose_in_trouble(credential, tick, scope, has_waited_enough, now)
    }

    /// Takes the next credential after `from` in the file's order, cyclically, that is free for `scope` and of another
    /// identity than `from` and those of `tried`. Suspected ones are taken only if there is no other. A probe that is
    /// due is claimed with it.
    pub fn other(
        &self,
        from: CredentialId,
        tried: &[CredentialId],
        scope: Option<&RestScope>,
        now: Instant,
    ) -> Option<Turn> {
        let is_new = |id: &CredentialId| self.is_new(*id, from, tried);
        let following = || self.ids().cycle().skip(from.index() + 1).take(self.len() - 1).filter(is_new);
        let candidates = Candidates { credentials: self, resting: self.resting(scope, now), now };
        [false, true]
            .into_iter()
            .find_map(|may_be_suspected| following().find_map(|id| candidates.take(id, may_be_suspected)))
    }

    /// Takes, where there is no [`Credentials::other`], the one that is free soonest of those that cool down and are
    /// of another identity than `from` and those of `tried`.
    pub fn last_resort(
        &self,
        from: CredentialId,
        tried: &[CredentialId],
        scope: Option<&RestScope>,
        now: Instant,
    ) -> Option<Turn> {
        let candidates = Candidates { credentials: self, resting: self.resting(scope, now), now };
        let credential = candidates.soonest_free(self.ids().filter(|id| self.is_new(*id, from, tried)))?;
        let (_, probes) = candidates.claim_probe(credential);
        Some(Turn { credential, probes })
    }

    /// Gives up the probes that a turn has claimed, those of a request of `scope`, which ended without saying anything
    /// of the credential: another request may be the probe. Those that other requests have claimed go on.
    pub fn give_up_probe(&self, turn: Turn, scope: Option<&RestScope>, now: Instant) {
        let Turn { credential, probes } = turn;
        if probes.whole {
            self.standing(credential).give_up_probe();
        }
        if probes.scoped
            && let Some(rest) = self.resting(scope, now).of(self.identity(credential))
        {
            rest.give_up_probe();
        }
    }

    /// Returns whether the credential is left alone now, as a whole or for `scope`.
    pub fn is_resting(&self, id: CredentialId, scope: Option<&RestScope>, now: Instant) -> bool {
        let candidates = Candidates { credentials: self, resting: self.resting(scope, now), now };
        matches!(candidates.availability(id), Availability::Held { until } if now < until)
    }

    /// Returns the shortest time for which an identity is limited for `scope`, if each of them has said that it is: to
    /// this request, as `told` says, to another one just now, or by its rest. `None` if one has not said so.
    pub fn shortest_limit_of_all(
        &self,
        scope: &RestScope,
        told: &[(CredentialId, Duration)],
        now: Instant,
    ) -> Option<Duration> {
        let resting = self.resting(Some(scope), now);
        let limit_of = |standing: &Standing| {
            let cooling = standing.cooling(now).filter(|cooling| cooling.kind == FaultKind::RateLimited);
            cooling.map(|cooling| cooling.until.saturating_duration_since(now))
        };
        let shortest_of = |id: CredentialId| {
            let told = told.iter().filter(|(told, _)| self.is_same_identity(*told, id)).map(|(_, time)| *time);
            let scoped = resting.of(self.identity(id)).and_then(limit_of);
            told.chain(self.recent_limit(id, scope, now)).chain(scoped).chain(limit_of(self.standing(id))).min()
        };
        self.ids().map(shortest_of).try_fold(Duration::MAX, |shortest, time| Some(shortest.min(time?)))
    }

    fn is_new(&self, id: CredentialId, from: CredentialId, tried: &[CredentialId]) -> bool {
        !self.is_same_identity(id, from) && tried.iter().all(|tried| !self.is_same_identity(id, *tried))
    }

    fn choose(&self, tick: u64, now: Instant) -> Choice {
        let credential = self.turn(tick);
        if self.standing(credential).is_clear() {
            return Choice::Use(Turn::of(credential));
        }
        if self.identities_count() > 1 && self.has_scoped_rests() {
            return Choice::Open { credential, tick };
        }
        self.choose_in_trouble(credential, tick, None, false, now)
    }

    #[cold]
    fn choose_in_trouble(
        &self,
        credential: CredentialId,
        tick: u64,
        scope: Option<&RestScope>,
        has_waited_enough: bool,
        now: Instant,
    ) -> Choice {
        if self.identities_count() == 1 {
            // There is no other to wait for.
            return Choice::Use(Turn::of(credential));
        }
        let candidates = Candidates { credentials: self, resting: self.resting(scope, now), now };
        for may_be_suspected in [false, true] {
            let own = candidates.take(credential, may_be_suspected);
            if let Some(turn) = own.or_else(|| candidates.spare(may_be_suspected)) {
                return Choice::Use(turn);
            }
        }
        let credential = candidates.soonest_free(self.ids()).unwrap_or(credential);
        match candidates.claim_probe(credential) {
            (Claim::Granted, probes) => Choice::Use(Turn { credential, probes }),
            (Claim::InFlight, _) if !has_waited_enough => Choice::Wait { credential, tick },
            (Claim::InFlight | Claim::Needless, _) => Choice::Use(Turn::of(credential)),
        }
    }
}

/// The credentials as one request finds them: each as free as its identity is, as a whole and for the request.
struct Candidates<'a> {
    credentials: &'a Credentials,
    resting: Resting,
    now: Instant,
}

impl Candidates<'_> {
    fn availability(&self, id: CredentialId) -> Availability {
        let whole = self.credentials.standing(id).availability(self.now);
        let scoped = self.resting.of(self.credentials.identity(id));
        scoped.map_or(whole, |rest| whole.and(rest.availability(self.now)))
    }

    /// Claims the probes of the identity and of its rest for the request, those that are due: all of them, or none
    /// while another request is one of them.
    fn claim_probe(&self, id: CredentialId) -> (Claim, ClaimedProbes) {
        let standing = self.credentials.standing(id);
        let whole = standing.claim_probe(self.now);
        if whole == Claim::InFlight {
            return (whole, ClaimedProbes::default());
        }
        let rest = self.resting.of(self.credentials.identity(id));
        let scoped = rest.map_or(Claim::Needless, |rest| rest.claim_probe(self.now));
        let probes = ClaimedProbes { whole: whole == Claim::Granted, scoped: scoped == Claim::Granted };
        if scoped == Claim::InFlight {
            if probes.whole {
                standing.give_up_probe();
            }
            return (scoped, ClaimedProbes::default());
        }
        (if probes.whole { whole } else { scoped }, probes)
    }

    /// Takes the credential if it can be used now, as its probe if that is due and nobody else has claimed it.
    fn take(&self, credential: CredentialId, may_be_suspected: bool) -> Option<Turn> {
        if !self.is_available(credential, may_be_suspected) {
            return None;
        }
        if self.availability(credential) == Availability::Free {
            return Some(Turn::of(credential));
        }
        match self.claim_probe(credential) {
            (Claim::InFlight, _) => None,
            (Claim::Granted | Claim::Needless, probes) => Some(Turn { credential, probes }),
        }
    }

    fn is_available(&self, credential: CredentialId, may_be_suspected: bool) -> bool {
        let standing = self.credentials.standing(credential);
        standing.is_clear()
            || (!matches!(self.availability(credential), Availability::Held { .. })
                && (may_be_suspected || !standing.is_suspected(self.now)))
    }

    /// Finds a substitute for a credential that cools down. The turns of a period of those that are available are
    /// counted through, one a call: if it were the next available one in the order, one neighbour would get all these
    /// turns.
    fn spare(&self, may_be_suspected: bool) -> Option<Turn> {
        let mut shares = [0_u16; ENTRIES_MAX];
        for (id, share) in self.credentials.ids().zip(&self.credentials.shares) {
            if self.is_available(id, may_be_suspected) {
                shares[id.index()] = *share;
            }
        }
        // At most once for each entry: one whose probe another thread claims at this moment is left out.
        loop {
            let total = shares.iter().copied().map(u64::from).sum();
            if total == 0 {
                return None;
            }
            let count = self.credentials.spares.counter.fetch_add(1, Ordering::Relaxed);
            let id = holder(scattered(count, total), &shares);
            if let Some(turn) = self.take(id, may_be_suspected) {
                return Some(turn);
            }
            shares[id.index()] = 0;
        }
    }

    /// Returns the credential of `ids` whose cooldown ends first, for when none can be used.
    fn soonest_free(&self, ids: impl Iterator<Item = CredentialId>) -> Option<CredentialId> {
        let until = |id: &CredentialId| match self.availability(*id) {
            Availability::Held { until } => Some(until),
            // Another thread has freed it meanwhile.
            Availability::Free | Availability::AwaitsProbe => None,
        };
        ids.min_by_key(until)
    }
}

#[cfg(test)]
mod tests;
