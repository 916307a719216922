//! The credentials as one request finds them: each as free as its identity is, as a whole and for the request's model
//! or family of paths.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::turn::{ClaimedProbes, Turn};
use crate::credentials::credential::CredentialId;
use crate::credentials::snapshot::Credentials;
use crate::credentials::standing::{Availability, Claim, FaultKind, RestScope, Resting, Standing};

/// All credentials as one request finds them.
pub struct Candidates<'a> {
    credentials: &'a Credentials,
    resting: Resting,
    now: Instant,
}

impl<'a> Candidates<'a> {
    /// Looks at `credentials` for a request of `scope`, as far as that is known.
    pub fn new(credentials: &'a Credentials, scope: Option<&RestScope>, now: Instant) -> Self {
        Candidates { credentials, resting: credentials.resting(scope, now), now }
    }

    fn availability(&self, id: CredentialId) -> Availability {
        let whole = self.credentials.standing(id).availability(self.now);
        let scoped = self.resting.of(self.credentials.identity(id));
        scoped.map_or(whole, |rest| whole.and(rest.availability(self.now)))
    }

    /// Claims the probes of the identity and of its rest for the request, those that are due; `None` while another
    /// request is one of them.
    pub fn claim_probes(&self, id: CredentialId) -> Option<ClaimedProbes> {
        let identity = self.credentials.identity(id);
        let whole = match identity.claim_probe(self.now) {
            Claim::InFlight => return None,
            Claim::Granted(probe) => Some(probe),
            Claim::Needless => None,
        };
        let scoped = match self.resting.of(identity).map(|rest| rest.claim_probe(self.now)) {
            // That of the whole is given up again.
            Some(Claim::InFlight) => return None,
            Some(Claim::Granted(probe)) => Some(probe),
            Some(Claim::Needless) | None => None,
        };
        Some(ClaimedProbes::new(whole, scoped))
    }

    /// Takes the credential if it can be used now, as its probe if that is due and nobody else has claimed it.
    pub fn take(&self, credential: CredentialId, may_be_suspected: bool) -> Option<Turn> {
        if !self.is_available(credential, may_be_suspected) {
            return None;
        }
        if self.availability(credential) == Availability::Free {
            return Some(Turn::of(credential));
        }
        let probes = self.claim_probes(credential)?;
        Some(Turn { credential, probes })
    }

    pub fn is_available(&self, credential: CredentialId, may_be_suspected: bool) -> bool {
        let standing = self.credentials.standing(credential);
        standing.is_clear()
            || (!matches!(self.availability(credential), Availability::Held { .. })
                && (may_be_suspected || !standing.is_suspected(self.now)))
    }

    /// Returns the credential of `ids` whose cooldown ends first, for when none can be used.
    pub fn soonest_free(&self, ids: impl Iterator<Item = CredentialId>) -> Option<CredentialId> {
        let until = |id: &CredentialId| match self.availability(*id) {
            Availability::Held { until } => Some(until),
            // Another thread has freed it meanwhile.
            Availability::Free | Availability::AwaitsProbe => None,
        };
        ids.min_by_key(until)
    }
}

impl Credentials {
    /// Returns whether the credential is left alone now, as a whole or for `scope`.
    pub fn is_resting(&self, id: CredentialId, scope: Option<&RestScope>, now: Instant) -> bool {
        let candidates = Candidates::new(self, scope, now);
        matches!(candidates.availability(id), Availability::Held { until } if now < until)
    }

    /// Returns the shortest time for which an identity is limited for `scope`, if each of them has said that it is, also
    /// those that this request may not use: to this request, as `told` says, to another one just now, or by its rest.
    /// `None` if one has not said so. Those whose users are blocked are left out; `None` too if all are.
    pub fn shortest_limit_of_all(
        &self,
        scope: &RestScope,
        told: &[(CredentialId, Duration)],
        now: Instant,
    ) -> Option<Duration> {
        let resting = self.resting(Some(scope), now);
        let limit_of = |standing: &Arc<Standing>| {
            let cooldown = standing.last_cooldown().filter(|cooldown| cooldown.kind == FaultKind::RateLimited)?;
            (now < cooldown.until).then(|| cooldown.until.saturating_duration_since(now))
        };
        let shortest_of = |id: CredentialId| {
            let told = told.iter().filter(|(told, _)| self.is_same_identity(*told, id)).map(|(_, time)| *time);
            let scoped = resting.of(self.identity(id)).and_then(limit_of);
            told.chain(self.recent_limit(id, scope, now)).chain(scoped).chain(limit_of(self.identity(id))).min()
        };
        let mut asked = self.ids().filter(|id| !self.standing(*id).is_blocked(now)).map(shortest_of);
        let first = asked.next()??;
        asked.try_fold(first, |shortest, time| Some(shortest.min(time?)))
    }
}
