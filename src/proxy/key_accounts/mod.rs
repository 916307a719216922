//! The accounts of keys that have limits: what each has under way, and what it used in the last minute, today and this
//! month.
//!
//! Shared by all shards, one for each name. Invariant: an account lives as long as a key of its name has limits, so a
//! reload changes no count; nothing in it is locked but where a request waits for a place (`parallel`). A running
//! answer is never cut: what it costs counts when it ends. Not here: the wait (`admission`), and what is seen of an
//! answer ([`usage`](crate::usage)).

mod account;
mod calendar;
mod minute;
pub mod parallel;

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

pub use self::account::{KeyAccount, LimitKind, LimitReached, LimitUse, Spending};
pub use self::calendar::UtcDate;
use self::parallel::ParallelPlace;
use crate::credentials::{ApiKeys, KeyLimits};

/// The way of a request past its key's limits.
#[derive(Debug)]
pub enum Passage {
    /// The key does not limit the requests under way.
    Open,
    /// It is one of them.
    Admitted(ParallelPlace),
    /// It has to wait until it may be one.
    Waits,
}

/// The accounts of all keys with limits, by their names.
#[derive(Debug, Default)]
pub struct KeyAccounts {
    by_name: ArcSwap<HashMap<Arc<str>, Arc<KeyAccount>>>,
}

impl KeyAccounts {
    /// Opens an account for each name that has limits, and closes those of all others. To be called before the keys are
    /// in use; one at a time.
    pub fn adopt(&self, keys: Option<&ApiKeys>) {
        let before = self.by_name.load_full();
        let mut accounts = HashMap::new();
        for (name, policy) in keys.into_iter().flat_map(ApiKeys::policies) {
            if policy.limits == KeyLimits::default() {
                continue;
            }
            let known = before.get_key_value(name).map(|(name, account)| (name.clone(), account.clone()));
            let (name, account) = known.unwrap_or_else(|| (name.into(), Arc::default()));
            account.set_limits(&policy.limits);
            accounts.insert(name, account);
        }
        self.by_name.store(Arc::new(accounts));
    }

    /// Returns the account of a name, if that has limits.
    pub fn of(&self, name: &str) -> Option<Arc<KeyAccount>> {
        self.by_name.load().get(name).cloned()
    }

    /// Tells whether any key has a limit.
    pub fn have_any(&self) -> bool {
        !self.by_name.load().is_empty()
    }

    /// Tells whether any key has a limit of a day or a month.
    pub fn have_long_limits(&self) -> bool {
        self.by_name.load().values().any(|account| account.has_long_limits())
    }

    /// Calls `take` with each account and its name.
    pub fn read(&self, mut take: impl FnMut(&str, &KeyAccount)) {
        self.by_name.load().iter().for_each(|(name, account)| take(name, account));
    }
}
