//! One entry of a secrets file, and its number.

use super::secret::Secret;

/// An identity with the upstream, as one entry of the secrets file names it.
#[derive(Debug)]
pub struct Credential {
    /// The name in logs and pages; unique within a snapshot.
    pub name: String,
    pub client_id: String,
    pub client_secret: Secret,
    pub tenant: String,
    /// Its share of the turns, 1 to 1000.
    pub weight: u16,
}

impl Credential {
    pub(super) fn identity(&self) -> Identity<'_> {
        (&self.client_id, self.client_secret.expose(), &self.tenant)
    }
}

/// The number of an entry in a [`Credentials`](super::Credentials).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CredentialId(pub(super) u16);

impl CredentialId {
    /// Returns the entry's position in the secrets file, from 0.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The key of a cooldown: entries that are repeated, or differ in name and weight only, are one to the upstream.
pub(super) type Identity<'a> = (&'a str, &'a str, &'a str);
