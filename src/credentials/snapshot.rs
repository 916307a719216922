//! The entries of one secrets file, and the standings of their identities.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::credential::{Credential, CredentialId, Identity};
use super::owners::OwnerKey;
use super::quota::record::QuotaRecord;
use super::standing::{CheckClaim, Cooling, CredentialFault, HeldSuspicion, RestScope, Resting, Rests, Standing};

/// Limit on the entries: a file of this many is 100 kB; more is another kind of file. It also bounds the weighted
/// order of all to 512,000 turns.
pub(super) const ENTRIES_MAX: usize = 512;

/// The entries of one secrets file, and the standings of their identities.
#[derive(Debug)]
pub struct Credentials {
    entries: Vec<Credential>,
    /// The standing of each entry's identity. Invariant: entries share one exactly when they are of the same identity.
    standings: Vec<Arc<Standing>>,
    /// The quotas that the upstream told each entry's identity; shared as the standings are.
    quotas: Vec<Arc<QuotaRecord>>,
    /// The key of each entry's identity as an owner of objects.
    owner_keys: Vec<OwnerKey>,
    identities_count: usize,
    /// For one model or one family of paths each; shared with the snapshots before and after.
    rests: Arc<Rests>,
}

impl Credentials {
    /// Makes a snapshot. Invariant for the caller (`secrets_file`): 1 to `ENTRIES_MAX` entries with weights of at
    /// least 1.
    pub(super) fn new(entries: Vec<Credential>) -> Self {
        let mut known: HashMap<Identity<'_>, (Arc<Standing>, Arc<QuotaRecord>)> = HashMap::new();
        let (standings, quotas) =
            entries.iter().map(|entry| known.entry(entry.identity()).or_default().clone()).unzip();
        let identities_count = known.len();
        let owner_keys = entries.iter().map(|entry| OwnerKey::of(entry.identity())).collect();
        Credentials { entries, standings, quotas, owner_keys, identities_count, rests: Arc::default() }
    }

    /// Takes over the standing and the quotas of every identity that `previous` has too: a reload neither ends a cooldown nor begins
    /// one. To be called before the new snapshot is shared.
    pub fn inherit(mut self, previous: &Credentials) -> Self {
        let identities = previous.entries.iter().map(Credential::identity);
        let shared = previous.standings.iter().zip(&previous.quotas);
        let known: HashMap<Identity<'_>, _> = identities.zip(shared).collect();
        for ((entry, standing), quota) in self.entries.iter().zip(&mut self.standings).zip(&mut self.quotas) {
            if let Some((inherited, inherited_quota)) = known.get(&entry.identity()) {
                (*standing, *quota) = (Arc::clone(inherited), Arc::clone(inherited_quota));
            }
        }
        self.rests = previous.rests.clone();
        self.rests.keep_identities(|identity| self.standings.iter().any(|standing| Arc::ptr_eq(standing, identity)));
        self
    }

    pub fn entry(&self, id: CredentialId) -> &Credential {
        &self.entries[id.index()]
    }

    /// Returns all entries in the order of the file.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (CredentialId, &Credential)> {
        self.ids().zip(&self.entries)
    }

    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// Returns the number of entries; never 0.
    #[expect(clippy::len_without_is_empty, reason = "a snapshot is never empty")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the number of different identities; never 0.
    pub fn identities_count(&self) -> usize {
        self.identities_count
    }

    /// Returns whether two entries are the same to the upstream.
    pub fn is_same_identity(&self, a: CredentialId, b: CredentialId) -> bool {
        Arc::ptr_eq(&self.standings[a.index()], &self.standings[b.index()])
    }

    /// Returns the key by which the credential's identity is known as an owner of objects.
    pub fn owner_key(&self, id: CredentialId) -> OwnerKey {
        self.owner_keys[id.index()]
    }

    /// Returns whether an entry is of the identity with that key.
    pub(super) fn has_owner(&self, owner: OwnerKey) -> bool {
        self.owner_keys.contains(&owner)
    }

    /// Begins a cooldown of the credential's identity for a fault that is blamed on it. An answer to an attempt that
    /// began before the present cooldown did changes nothing, nor does a `retry_after` of zero. One for a used-up quota
    /// lasts until its renewal, where that is known. Returns the remaining time from `now` on if that has changed.
    pub fn cool(
        &self,
        id: CredentialId,
        fault: CredentialFault,
        attempt_began: Instant,
        now: Instant,
    ) -> Option<Duration> {
        let time = self.standing(id).cool(fault, attempt_began, now)?;
        let renewal = if fault == CredentialFault::QuotaUsedUp { self.quota(id).renewal() } else { None };
        renewal.and_then(|renewal| self.standing(id).cool_until_renewal(renewal, now)).or(Some(time))
    }

    /// Begins a rest of the credential's identity for one model or family of paths; as [`Credentials::cool`].
    pub fn cool_for(
        &self,
        id: CredentialId,
        scope: &RestScope,
        fault: CredentialFault,
        attempt_began: Instant,
        now: Instant,
    ) -> Option<Duration> {
        self.rests.cool(self.identity(id), scope, fault, attempt_began, now)
    }

    /// Returns whether the rests of the credential's identity for single models, of the kind of `fault`, tell that it
    /// is at fault as a whole.
    pub fn is_at_fault_as_a_whole(&self, id: CredentialId, fault: CredentialFault, now: Instant) -> bool {
        match fault {
            CredentialFault::RateLimited { .. } => self.rests.limits_add_up(self.identity(id), now),
            CredentialFault::QuotaUsedUp => self.rests.quotas_add_up(self.identity(id), now),
            CredentialFault::Refused | CredentialFault::Forbidden => false,
        }
    }

    /// Ends the rests of the credential's identity for models that it may not use, since it may use none.
    pub fn forget_forbidden(&self, id: CredentialId) {
        self.rests.forget_forbidden(self.identity(id));
    }

    /// Clears what was held against the credential's identity before the attempt began, since it got a good answer.
    /// Returns whether it had cooled down and works again.
    pub fn restore(&self, id: CredentialId, attempt_began: Instant, now: Instant) -> bool {
        let standing = self.standing(id);
        standing.note_good(now);
        standing.restore(attempt_began)
    }

    /// Clears a rest for one model or family of paths; as [`Credentials::restore`].
    pub fn restore_for(&self, id: CredentialId, scope: &RestScope, attempt_began: Instant) -> bool {
        self.rests.restore(self.identity(id), scope, attempt_began)
    }

    /// Ends all rests of the credential's identity, as a whole and for single models and families of paths, whatever it was
    /// blamed for. Returns whether it had any.
    pub fn wake(&self, id: CredentialId, now: Instant) -> bool {
        let had_scoped = !self.scoped_rests(id, now).is_empty();
        self.rests.forget(self.identity(id));
        self.standing(id).wake(now) || had_scoped
    }

    /// Claims the check of this minute, by which it is found out whether the upstream still knows the identity.
    pub fn claim_check(&self, id: CredentialId, now: Instant) -> CheckClaim {
        self.standing(id).claim_check(now)
    }

    /// Ends the check that was claimed.
    pub fn end_check(&self, id: CredentialId) {
        self.standing(id).end_check();
    }

    /// Notes that requests of `scope` are limited whoever makes them, for `time` from `now` on.
    pub fn limit_for_all(&self, scope: &RestScope, time: Duration, now: Instant) {
        self.rests.limit(scope, now + time, now);
    }

    pub fn is_limited_for_all(&self, scope: &RestScope, now: Instant) -> bool {
        self.rests.is_limited(scope, now)
    }

    /// Notes that requests of `scope` are limited by this credential now; no evidence, but others that are under way
    /// need not ask it.
    pub fn note_recent_limit(&self, id: CredentialId, scope: &RestScope, time: Duration, now: Instant) {
        self.rests.note_recent(self.identity(id), scope, time, now);
    }

    /// Returns the credentials that were limited for `scope` just now.
    pub fn recently_limited(&self, scope: &RestScope, now: Instant) -> Vec<CredentialId> {
        self.ids().filter(|id| self.recent_limit(*id, scope, now).is_some()).collect()
    }

    pub(super) fn recent_limit(&self, id: CredentialId, scope: &RestScope, now: Instant) -> Option<Duration> {
        self.rests.recent_limit(self.identity(id), scope, now)
    }

    /// Ends the limit of `scope` for everybody, since an attempt that began after it did got a good answer. Returns
    /// whether there was one.
    pub fn end_limit_for_all(&self, scope: &RestScope, attempt_began: Instant, now: Instant) -> bool {
        self.rests.end_limit(scope, attempt_began, now)
    }

    /// Returns whether anything is limited for everybody.
    pub fn has_limits_for_all(&self, now: Instant) -> bool {
        self.rests.has_limits(now)
    }

    /// Returns the limits that have not ended.
    pub fn limits_for_all(&self, now: Instant) -> Vec<(RestScope, Cooling)> {
        self.rests.limits(now)
    }

    /// Returns whether an identity may rest for a model or a family of paths.
    pub fn has_scoped_rests(&self) -> bool {
        !self.rests.is_empty()
    }

    /// Returns whether this credential's identity may rest for a model or a family of paths.
    pub fn may_rest_for_some(&self, id: CredentialId) -> bool {
        self.standing(id).has_scoped()
    }

    /// Suspects the credential, of which a request was refused while it is not known yet whether the credential or the
    /// request is to blame: until the result is dropped or it cools down, and for 1 s at most, other credentials are
    /// preferred; but not if it has just got good answers.
    #[must_use = "the suspicion ends when this is dropped"]
    pub fn suspect(&self, id: CredentialId, now: Instant) -> Option<HeldSuspicion> {
        self.identity(id).suspect(now)
    }

    /// Returns how long the credential still cools down; `None` when it does not.
    pub fn cooling_for(&self, id: CredentialId, now: Instant) -> Option<Duration> {
        self.standing(id).cooling_for(now)
    }

    /// Returns for how long and why it cools down as a whole; `None` when it does not.
    pub fn cooling(&self, id: CredentialId, now: Instant) -> Option<Cooling> {
        self.standing(id).cooling(now)
    }

    /// Returns the models and families of paths for which it rests.
    pub fn scoped_rests(&self, id: CredentialId, now: Instant) -> Vec<(RestScope, Cooling)> {
        self.rests.of_identity(self.identity(id), now)
    }

    /// Returns the rests for `scope`: none of `None`, and none while no identity has any.
    pub(super) fn resting(&self, scope: Option<&RestScope>, now: Instant) -> Resting {
        scope.filter(|_| !self.rests.is_empty()).map_or_else(Resting::default, |scope| self.rests.resting(scope, now))
    }

    pub(super) fn quota(&self, id: CredentialId) -> &QuotaRecord {
        &self.quotas[id.index()]
    }

    pub(super) fn identity(&self, id: CredentialId) -> &Arc<Standing> {
        &self.standings[id.index()]
    }

    pub(super) fn standing(&self, id: CredentialId) -> &Standing {
        &self.standings[id.index()]
    }

    pub(super) fn ids(&self) -> impl ExactSizeIterator<Item = CredentialId> + Clone + use<> {
        // `ENTRIES_MAX` keeps every index within u16.
        (0..self.entries.len()).map(|index| CredentialId(index as u16))
    }
}
