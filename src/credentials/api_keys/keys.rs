//! The keys that callers must present, and the search among them.
//!
//! Invariant: a key is kept as its SHA-256 digest alone. A presented key is looked up by its digest in a map whose
//! hashes are keyed (SipHash) and whose comparisons take constant time, so the time of a search depends neither on the
//! number of keys nor on how much of one was guessed; nothing that is reported holds a key or a part of one.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::key_digest::KeyDigest;
use super::policy::KeyPolicy;

/// Limit on the keys: a number of one takes two bytes, and a file of this many some 10 MB.
pub const KEYS_MAX: usize = 50_000;
/// The names that `Debug` shows.
const NAMES_SHOWN_MAX: usize = 8;

/// The keys of one file or variable; at least one.
pub struct ApiKeys {
    keys: Vec<ApiKey>,
    by_digest: HashMap<KeyDigest, ApiKeyId>,
}

pub struct ApiKey {
    pub name: Box<str>,
    /// The length of the key; `None` where only its digest is known.
    pub bytes: Option<usize>,
    pub digest: KeyDigest,
    /// Shared by those that say nothing of their own.
    pub policy: Arc<KeyPolicy>,
}

/// The number of a key in an [`ApiKeys`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApiKeyId(u16);

impl ApiKeyId {
    /// Returns the key's position among all, from 0.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Keys, and warnings for the operator.
#[derive(Debug)]
pub struct LoadedKeys {
    pub keys: ApiKeys,
    pub warnings: Vec<String>,
}

impl ApiKeys {
    /// Collects keys. Invariant for the caller: 1 to [`KEYS_MAX`], each with a digest of its own.
    pub(super) fn new(keys: Vec<ApiKey>) -> Self {
        // `KEYS_MAX` keeps every index within u16.
        let by_digest = keys.iter().enumerate().map(|(index, key)| (key.digest, ApiKeyId(index as u16))).collect();
        ApiKeys { keys, by_digest }
    }

    /// Finds the key that was presented.
    pub fn find(&self, shown: &[u8]) -> Option<ApiKeyId> {
        self.by_digest.get(&KeyDigest::of(shown)).copied()
    }

    /// Returns the digest of each key, by which it is known in a text, and its length where that is known.
    pub fn digests(&self) -> impl Iterator<Item = (Option<usize>, &[u8])> {
        self.keys.iter().map(|key| (key.bytes, key.digest.as_bytes()))
    }

    pub fn name(&self, id: ApiKeyId) -> &str {
        &self.keys[usize::from(id.0)].name
    }

    /// Returns what the key may do.
    pub fn policy(&self, id: ApiKeyId) -> &KeyPolicy {
        &self.keys[usize::from(id.0)].policy
    }

    /// Returns the names in the order of the keys; one that has two keys comes twice.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.keys.iter().map(|key| &*key.name)
    }

    /// Returns the name of each key with what it may do.
    pub fn policies(&self) -> impl ExactSizeIterator<Item = (&str, &KeyPolicy)> {
        self.keys.iter().map(|key| (&*key.name, &*key.policy))
    }

    /// Returns the number of keys; never 0.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.keys.len()
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = formatter.debug_list();
        list.entries(self.names().take(NAMES_SHOWN_MAX));
        if self.len() > NAMES_SHOWN_MAX { list.finish_non_exhaustive() } else { list.finish() }
    }
}
