//! The entries of one secrets file and how they stand.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::credential::{Credential, CredentialId, Identity};
use super::order;
use super::standing::{Cooling, CredentialFault, Standing};

/// A secrets file of this many entries would be 100 kB; more is another kind of file. It also bounds the weighted order
/// to 512,000 turns.
pub(super) const ENTRIES_MAX: usize = 512;

/// The entries of one secrets file, the order in which they take turns, and how their identities stand.
#[derive(Debug)]
pub struct Credentials {
    entries: Vec<Credential>,
    /// One period of the weighted order. Invariant: not empty, and every id in it is an index of `entries`.
    turns: Vec<CredentialId>,
    /// How many turns of a period each entry has.
    pub(super) shares: Vec<u16>,
    /// Invariant: entries have the same one exactly when they are of the same identity.
    standings: Vec<Arc<Standing>>,
    identities_count: usize,
    /// Who takes the turns of those that are left alone.
    pub(super) spares: order::SpareTurns,
}

impl Credentials {
    /// Invariant for the caller (`secrets_file`): 1 to `ENTRIES_MAX` entries with weights of at least 1.
    pub(super) fn new(entries: Vec<Credential>) -> Self {
        let weights: Vec<u16> = entries.iter().map(|entry| entry.weight).collect();
        let shares = order::shares(&weights);
        let turns = order::smooth_weighted_turns(&shares);
        let mut known: HashMap<Identity<'_>, Arc<Standing>> = HashMap::new();
        let standings = entries.iter().map(|entry| known.entry(entry.identity()).or_default().clone()).collect();
        let identities_count = known.len();
        Credentials { entries, turns, shares, standings, identities_count, spares: order::SpareTurns::default() }
    }

    /// Takes over the standing of every identity that `previous` has too: a reload pardons nobody and blames nobody.
    /// To be called before the new snapshot is shared.
    pub fn inherit(mut self, previous: &Credentials) -> Self {
        let identities = previous.entries.iter().map(Credential::identity);
        let known: HashMap<Identity<'_>, &Arc<Standing>> = identities.zip(&previous.standings).collect();
        for (entry, standing) in self.entries.iter().zip(&mut self.standings) {
            if let Some(inherited) = known.get(&entry.identity()) {
                *standing = Arc::clone(inherited);
            }
        }
        self
    }

    pub fn entry(&self, id: CredentialId) -> &Credential {
        &self.entries[id.index()]
    }

    /// All entries in the order of the file.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (CredentialId, &Credential)> {
        self.ids().zip(&self.entries)
    }

    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// How many entries there are; never 0.
    #[expect(clippy::len_without_is_empty, reason = "a snapshot is never empty")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many different identities there are; never 0.
    pub fn identities_count(&self) -> usize {
        self.identities_count
    }

    /// Whether two entries are the same to the upstream.
    pub fn is_same_identity(&self, a: CredentialId, b: CredentialId) -> bool {
        Arc::ptr_eq(&self.standings[a.index()], &self.standings[b.index()])
    }

    /// A 401 or 403 that is blamed on the credential, or a 429: its identity cools down. An answer to an attempt that
    /// began before the present cooldown did changes nothing, nor does a `retry_after` of zero. Returns how long it
    /// cools down from `now` on if that has changed.
    pub fn cool(
        &self,
        id: CredentialId,
        fault: CredentialFault,
        attempt_began: Instant,
        now: Instant,
    ) -> Option<Duration> {
        self.standing(id).cool(fault, attempt_began, now)
    }

    /// The credential got a good answer: whatever was held against its identity before the attempt began is forgotten.
    /// Returns whether it was in trouble and works again.
    pub fn restore(&self, id: CredentialId, attempt_began: Instant, now: Instant) -> bool {
        let standing = self.standing(id);
        standing.note_good(now);
        standing.restore(attempt_began)
    }

    /// The probe ended without saying anything of the credential: another request may be the probe.
    pub fn give_up_probe(&self, id: CredentialId) {
        self.standing(id).give_up_probe();
    }

    /// A request of the credential was refused, and it is not known yet whose fault that is: until it is acquitted or
    /// cools down, and for 1 s at most, other credentials are preferred; but not where it has just got good answers.
    pub fn suspect(&self, id: CredentialId, now: Instant) {
        self.standing(id).suspect(now);
    }

    /// The refusal was the request's fault.
    pub fn acquit(&self, id: CredentialId) {
        self.standing(id).acquit();
    }

    /// How long the credential still cools down; `None` when it does not.
    pub fn cooling_for(&self, id: CredentialId, now: Instant) -> Option<Duration> {
        self.standing(id).cooling_for(now)
    }

    /// How long it still cools down, and why; `None` when it does not.
    pub fn cooling(&self, id: CredentialId, now: Instant) -> Option<Cooling> {
        self.standing(id).cooling(now)
    }

    pub(super) fn standing(&self, id: CredentialId) -> &Standing {
        &self.standings[id.index()]
    }

    pub(super) fn ids(&self) -> impl ExactSizeIterator<Item = CredentialId> + Clone + use<> {
        // `ENTRIES_MAX` keeps every index within u16.
        (0..self.entries.len()).map(|index| CredentialId(index as u16))
    }

    /// Whose turn is the `tick`-th, counted from 0.
    pub(super) fn turn(&self, tick: u64) -> CredentialId {
        self.turns[(tick % self.turns.len() as u64) as usize]
    }
}
