//! Whose name is used: the entries of `secrets.json`, their tokens, and whose turn it is.
//!
//! Invariant: [`Credentials`] is an immutable snapshot of at least one entry; a reload makes another. A
//! [`CredentialId`] is only good for the snapshot that gave it out. Nothing here does I/O except [`load`].

mod balancer;
mod order;
mod secret;
mod secrets_entry;
mod secrets_file;
mod token;

pub use balancer::RoundRobin;
pub use secret::Secret;
pub use secrets_file::{Loaded, Mistake, SecretsFault, SecretsFileError, from_json, load};
pub use token::{TokenCache, TokenError, mint};

/// One identity towards the upstream.
#[derive(Debug)]
pub struct Credential {
    /// What logs and pages call it; unique within a snapshot.
    pub name: String,
    pub client_id: String,
    pub client_secret: Secret,
    pub tenant: String,
    /// Its share of the turns, 1 to 1000.
    pub weight: u16,
}

/// Which entry of a [`Credentials`] is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CredentialId(u16);

impl CredentialId {
    /// The entry's position in the secrets file, from 0.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The entries of one secrets file and the order in which they take turns.
#[derive(Debug)]
pub struct Credentials {
    entries: Vec<Credential>,
    /// One period of the weighted order. Invariant: not empty, and every id in it is an index of `entries`.
    turns: Vec<CredentialId>,
}

impl Credentials {
    /// Invariant for the caller (`secrets_file`): 1 to `ENTRIES_MAX` entries with weights of at least 1.
    fn new(entries: Vec<Credential>) -> Self {
        let weights: Vec<u16> = entries.iter().map(|entry| entry.weight).collect();
        let turns = order::smooth_weighted_turns(&order::shares(&weights));
        Credentials { entries, turns }
    }

    pub fn entry(&self, id: CredentialId) -> &Credential {
        &self.entries[id.index()]
    }

    /// All entries in the order of the file.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (CredentialId, &Credential)> {
        // `ENTRIES_MAX` keeps every index within u16.
        self.entries.iter().enumerate().map(|(index, entry)| (CredentialId(index as u16), entry))
    }

    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// How many entries there are; never 0.
    #[expect(clippy::len_without_is_empty, reason = "a snapshot is never empty")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whose turn is the `tick`-th, counted from 0.
    fn turn(&self, tick: u64) -> CredentialId {
        self.turns[(tick % self.turns.len() as u64) as usize]
    }
}
