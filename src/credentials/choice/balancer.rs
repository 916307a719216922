//! The choice itself: whose name an attempt gets.
//!
//! Invariant: the turns of a credential that cools down go to the others of its rotation, to each in proportion to its
//! share; the sessions of one go to the next in their own ranks. Nothing here costs a lock, and an allocation only to
//! record a probe or to look at the rests for one model.

use std::time::Instant;

use super::affinity::SessionKey;
use super::candidates::Candidates;
use super::rotation::Rotation;
use super::turn::{Choice, Owner, Turn};
use crate::credentials::credential::CredentialId;
use crate::credentials::owners::OwnerKey;
use crate::credentials::snapshot::{Credentials, ENTRIES_MAX};
use crate::credentials::standing::RestScope;

/// The credentials that a request may use, and the order in which it prefers them.
#[derive(Debug, Clone, Copy)]
pub struct Selector<'a> {
    pub(super) credentials: &'a Credentials,
    pub(super) rotation: &'a Rotation,
    /// `None`: it prefers the one whose turn it is.
    pub(super) session: Option<SessionKey>,
}

/// A request names an object of a credential that it may not use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnedByOthers;

impl Selector<'_> {
    /// Chooses the credential of a request's first attempt. To be called once for each exchange that is forwarded. In
    /// this order:
    ///
    /// 1. **The key's credentials.** Where the caller's key names some, the request uses one of these, whatever else is
    ///    said of it; else any. Nothing below leads out of that set.
    /// 2. **The owner** of an object that the request names, where it is known: it alone can find the object, so it is
    ///    used even while it rests. One outside the set of 1 is an error.
    /// 3. **Affinity.** A request of a session (with `--affinity session`) uses the first one in the session's rank.
    /// 4. **The turn**: else the next one in the order of the round robin.
    ///
    /// Rests come last: they change nothing of 1 and 2. Where the one of 3 rests, or is suspected, the request uses the
    /// next in the session's rank that does not; where the one of 4 does, one of the others, each as often as its
    /// share says. Where all do, it probes the one that is free soonest.
    ///
    /// # Errors
    /// The owner is known, and none that the request may use.
    pub fn first(&self, owner: Owner, now: Instant) -> Result<Choice, OwnedByOthers> {
        match owner {
            Owner::Outside => Err(OwnedByOthers),
            Owner::Within(credential) => Ok(Choice::Use(Turn::of(credential))),
            Owner::Unknown => Ok(self.preferred_or_spare(now)),
        }
    }

    /// Returns the credential that [`Selector::first`] most likely chooses for a request without a known owner, and
    /// takes no turn.
    pub fn likely(&self) -> CredentialId {
        self.session.map_or_else(|| self.rotation.next_turn(), |session| self.rotation.first_for(session))
    }

    /// Returns the credential of an object's owner, as far as the request may use it.
    pub fn owner(&self, owner: OwnerKey) -> Owner {
        match self.rotation.of_owner(owner) {
            Some(credential) => Owner::Within(credential),
            None if self.credentials.has_owner(owner) => Owner::Outside,
            // It has gone from the secrets.
            None => Owner::Unknown,
        }
    }

    /// Returns whether there are credentials that the request may not use.
    pub fn is_restricted(&self) -> bool {
        self.rotation.members().len() < self.credentials.len()
    }

    /// Returns the number of different identities that the request may use; never 0.
    pub fn identities_count(&self) -> usize {
        self.rotation.identities_count()
    }

    fn preferred_or_spare(&self, now: Instant) -> Choice {
        let preferred = match self.session {
            None => self.rotation.take_turn(),
            Some(session) => self.rotation.first_for(session),
        };
        if self.credentials.standing(preferred).is_clear() {
            return Choice::Use(Turn::of(preferred));
        }
        if self.identities_count() > 1 && self.credentials.has_scoped_rests() {
            return Choice::Open { preferred };
        }
        self.choose_in_trouble(preferred, None, false, now)
    }

    /// Chooses for an exchange whose turn, that of `preferred`, was not final: it waited for the outcome of a probe, or
    /// the requests that it is one of were to be known, those of `scope`. It does not take another turn. With
    /// `has_waited_enough` it does not wait again.
    pub fn choose_again(
        &self,
        preferred: CredentialId,
        scope: Option<&RestScope>,
        has_waited_enough: bool,
        now: Instant,
    ) -> Choice {
        if self.credentials.standing(preferred).is_clear() {
            return Choice::Use(Turn::of(preferred));
        }
        self.choose_in_trouble(preferred, scope, has_waited_enough, now)
    }

    /// Takes another credential, free for `scope` and of another identity than `from` and those of `tried`: the next in
    /// the session's rank, else the next after `from` in the file's order, cyclically. Suspected ones are taken only if
    /// there is no other. A probe that is due is claimed with it.
    pub fn other(
        &self,
        from: CredentialId,
        tried: &[CredentialId],
        scope: Option<&RestScope>,
        now: Instant,
    ) -> Option<Turn> {
        let candidates = Candidates::new(self.credentials, scope, now);
        [false, true].into_iter().find_map(|may_be_suspected| {
            let take = |id: CredentialId| candidates.take(id, may_be_suspected);
            let is_new = |id: &CredentialId| self.is_new(*id, from, tried);
            match self.session {
                Some(session) => self.rotation.ranking(session).filter(is_new).find_map(take),
                None => self.rotation.following(from).filter(is_new).find_map(take),
            }
        })
    }

    /// Takes, where there is no [`Selector::other`], the one that is free soonest of those that cool down and are of
    /// another identity than `from` and those of `tried`; one whose user is blocked only with `may_be_blocked`.
    pub fn last_resort(
        &self,
        from: CredentialId,
        tried: &[CredentialId],
        scope: Option<&RestScope>,
        may_be_blocked: bool,
        now: Instant,
    ) -> Option<Turn> {
        let candidates = Candidates::new(self.credentials, scope, now);
        let may_be_asked = |id: &CredentialId| {
            self.is_new(*id, from, tried) && (may_be_blocked || !self.credentials.standing(*id).is_blocked(now))
        };
        let credential = candidates.soonest_free(self.ids().filter(may_be_asked))?;
        let probes = candidates.claim_probes(credential).unwrap_or_default();
        Some(Turn { credential, probes })
    }

    fn is_new(&self, id: CredentialId, from: CredentialId, tried: &[CredentialId]) -> bool {
        let is_another = |other: CredentialId| !self.credentials.is_same_identity(id, other);
        is_another(from) && tried.iter().all(|tried| is_another(*tried))
    }

    fn ids(&self) -> impl Iterator<Item = CredentialId> {
        self.rotation.members().map(|(id, _)| id)
    }

    #[cold]
    fn choose_in_trouble(
        &self,
        preferred: CredentialId,
        scope: Option<&RestScope>,
        has_waited_enough: bool,
        now: Instant,
    ) -> Choice {
        if self.identities_count() == 1 {
            // There is no other to wait for.
            return Choice::Use(Turn::of(preferred));
        }
        let candidates = Candidates::new(self.credentials, scope, now);
        for may_be_suspected in [false, true] {
            let take = |id: CredentialId| candidates.take(id, may_be_suspected);
            let taken = match self.session {
                Some(session) => self.rotation.ranking(session).find_map(take),
                None => take(preferred).or_else(|| self.spare(&candidates, may_be_suspected)),
            };
            if let Some(turn) = taken {
                return Choice::Use(turn);
            }
        }
        let credential = candidates.soonest_free(self.ids()).unwrap_or(preferred);
        match candidates.claim_probes(credential) {
            Some(probes) => Choice::Use(Turn { credential, probes }),
            None if !has_waited_enough => Choice::Wait { credential, preferred },
            None => Choice::Use(Turn::of(credential)),
        }
    }

    /// Finds a substitute for a credential that cools down.
    fn spare(&self, candidates: &Candidates<'_>, may_be_suspected: bool) -> Option<Turn> {
        let mut shares = [0_u16; ENTRIES_MAX];
        for (place, (id, share)) in shares.iter_mut().zip(self.rotation.members()) {
            if candidates.is_available(id, may_be_suspected) {
                *place = share;
            }
        }
        // At most once for each member: one whose probe another thread claims at this moment is left out.
        loop {
            let place = self.rotation.take_spare(&shares)?;
            if let Some(turn) = candidates.take(self.rotation.member(place), may_be_suspected) {
                return Some(turn);
            }
            shares[place] = 0;
        }
    }
}

#[cfg(test)]
mod precedence;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod tests;
