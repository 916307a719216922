//! One entry of a secrets file, and its number.

use super::secret::Secret;

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

impl Credential {
    pub(super) fn identity(&self) -> Identity<'_> {
        (&self.client_id, self.client_secret.expose(), &self.tenant)
    }
}

/// Which entry of a [`Credentials`] is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CredentialId(pub(super) u16);

impl CredentialId {
    /// The entry's position in the secrets file, from 0.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What a cooldown belongs to: entries that are repeated, or differ in name and weight only, are one to the upstream.
pub(super) type Identity<'a> = (&'a str, &'a str, &'a str);
