//! The keys of the tables: digests of ids and identities.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256, digest};

use crate::credentials::credential::Identity;

/// The table that an object's owner is kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shelf {
    Responses,
    /// Files, batches, uploads, vector stores and all the rest.
    Others,
}

/// The digest of an object's id. 64 bits: with tables this small, two ids that share one are not to be expected, and
/// would cost one request in the wrong name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectKey(pub(super) u64);

/// The digest of an identity.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OwnerKey(pub(super) u64);

impl ObjectKey {
    pub fn of(id: &[u8]) -> Self {
        ObjectKey(beginning(digest(&SHA256, id).as_ref()))
    }
}

impl OwnerKey {
    pub(in crate::credentials) fn of((client_id, client_secret, tenant): Identity<'_>) -> Self {
        let mut context = Context::new(&SHA256);
        for part in [client_id, client_secret, tenant] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        OwnerKey(beginning(context.finish().as_ref()))
    }

    pub(in crate::credentials) fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for OwnerKey {
    /// Shows nothing of it: it is made of a secret too.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("OwnerKey")
    }
}

/// Returns the first 64 bits of a digest; not 0 or the largest number, which mean something else in a table.
fn beginning(digest: &[u8]) -> u64 {
    let first = digest.first_chunk().copied().unwrap_or_default();
    u64::from_be_bytes(first).clamp(1, u64::MAX - 1)
}
