//! The collection of keys, whatever form they are written in, with the rules between them.
//!
//! Invariant: the time for a key does not depend on the number of those before it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::error::Mistakes;
use super::form::KEY_BYTES_RECOMMENDED;
use super::key_digest::KeyDigest;
use super::keys::{ApiKey, ApiKeys, KEYS_MAX, LoadedKeys};
use super::policy::KeyPolicy;

/// The short keys that are warned of one by one.
const SHORT_KEYS_TOLD_MAX: usize = 10;

/// The keys so far. `P` is the place of one in the text.
pub struct CollectedKeys<P> {
    keys: Vec<ApiKey>,
    digests: HashSet<KeyDigest>,
    /// The first key of each name.
    names: HashMap<Box<str>, (P, Arc<KeyPolicy>)>,
    short_names: Vec<Box<str>>,
    pub mistakes: Mistakes,
}

impl<P: fmt::Display> CollectedKeys<P> {
    pub fn new(mistakes: Mistakes) -> Self {
        let (keys, digests, names) = (Vec::new(), HashSet::new(), HashMap::new());
        CollectedKeys { keys, digests, names, short_names: Vec::new(), mistakes }
    }

    /// Adds a key, unless it breaks a rule.
    pub fn add(&mut self, place: P, key: ApiKey) {
        if !self.digests.insert(key.digest) {
            return self
                .mistakes
                .note(|| format!("{place}: expected a key of its own, found one that is there already"));
        }
        if key.bytes.is_some_and(|bytes| bytes < KEY_BYTES_RECOMMENDED) {
            self.short_names.push(key.name.clone());
        }
        match self.names.entry(key.name.clone()) {
            Entry::Occupied(first) => {
                let (first_place, policy) = first.get();
                // Uses are counted by name, so that a key can be replaced by another one without a fresh start.
                if !Arc::ptr_eq(policy, &key.policy) && *policy != key.policy {
                    self.mistakes.note(|| {
                        format!(
                            "{place}: expected the limits, models and credentials of {first_place}, which has the same \
                             name; or another name"
                        )
                    });
                }
            }
            Entry::Vacant(vacant) => drop(vacant.insert((place, key.policy.clone()))),
        }
        self.keys.push(key);
    }

    /// Returns the keys, if there is no mistake. `form` describes how one is written.
    ///
    /// # Errors
    /// Every mistake.
    pub fn finish(mut self, form: &str) -> Result<LoadedKeys, Vec<String>> {
        let count = self.keys.len();
        if self.mistakes.is_empty() && !(1..=KEYS_MAX).contains(&count) {
            self.mistakes.note(|| format!("expected 1 to {KEYS_MAX} keys, each as {form}, found {count}"));
        }
        if !self.mistakes.is_empty() {
            return Err(self.mistakes.into_list());
        }
        let told = self.short_names.iter().take(SHORT_KEYS_TOLD_MAX);
        let mut warnings: Vec<String> = told
            .map(|name| {
                format!(
                    "the API key of {name} is short and could be guessed: use {KEY_BYTES_RECOMMENDED} characters or more"
                )
            })
            .collect();
        if self.short_names.len() > warnings.len() {
            warnings.push(format!("… and {} more API keys that are short", self.short_names.len() - warnings.len()));
        }
        Ok(LoadedKeys { keys: ApiKeys::new(self.keys), warnings })
    }
}
