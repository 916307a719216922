//! The accounts of keys that have limits: what each has under way, and what it used in the last minute, today and this
//! month.
//!
//! Shared by all shards, one for each name. Invariant: an account lives as long as a key of its name has limits, so a
//! reload changes no count; nothing in it is locked but where a request waits for a place (`parallel`). A running
//! answer is not cut: what it costs counts when it ends. Of several at the same time in one WebSocket the first that
//! reaches a limit ends the socket, and the others with it. Not here: the wait (`admission`), and what is seen of an
//! answer ([`usage`](crate::usage)).

mod account;
mod calendar;
mod minute;
pub mod parallel;

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

pub use self::account::{KeyAccount, LimitReached, LimitUse, Spending};
pub use self::calendar::UtcDate;
use self::parallel::ParallelPlace;
use crate::credentials::{ApiKeys, KeyLimits, KeyPolicy};

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

impl Passage {
    /// Returns the place that it has.
    pub fn into_place(self) -> Option<ParallelPlace> {
        match self {
            Passage::Admitted(place) => Some(place),
            Passage::Open | Passage::Waits => None,
        }
    }
}

/// A key that may not do everything.
#[derive(Debug, Clone)]
pub struct Governed {
    pub limits: KeyLimits,
    /// Counts its use; `None`: it has no limits.
    pub account: Option<Arc<KeyAccount>>,
    pub reads: BodyReading,
}

/// The requests of a key whose bodies are read before they go upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyReading {
    Never,
    /// Those that may ask for work that is not counted.
    ForItsUse,
    Always,
}

impl Governed {
    fn of(name: &str, policy: &KeyPolicy, accounts: &HashMap<Arc<str>, Arc<KeyAccount>>) -> Option<Self> {
        let KeyPolicy { limits, models, .. } = policy;
        let reads = if models.is_some() || limits.count_cost() {
            BodyReading::Always
        } else if limits.count_usage() {
            BodyReading::ForItsUse
        } else {
            BodyReading::Never
        };
        let account = accounts.get(name).cloned();
        (account.is_some() || reads != BodyReading::Never).then_some(Governed { limits: *limits, account, reads })
    }
}

/// The accounts of all keys with limits.
#[derive(Debug, Default)]
pub struct KeyAccounts {
    adopted: ArcSwap<Adopted>,
}

#[derive(Debug, Default)]
struct Adopted {
    by_name: HashMap<Arc<str>, Arc<KeyAccount>>,
    keys: Option<Arc<ApiKeys>>,
    /// By the numbers of the keys; empty where all may do everything.
    governed: Arc<[Option<Governed>]>,
}

impl Adopted {
    fn governed(&self, keys: Option<&Arc<ApiKeys>>) -> Arc<[Option<Governed>]> {
        let policies = keys.into_iter().flat_map(|keys| keys.policies());
        let governed: Vec<_> = policies.map(|(name, policy)| Governed::of(name, policy, &self.by_name)).collect();
        if governed.iter().any(Option::is_some) { governed.into() } else { Arc::default() }
    }
}

impl KeyAccounts {
    /// Opens an account for each name that has limits, and closes those of all others. To be called before the keys are
    /// in use; one at a time.
    pub fn adopt(&self, keys: Option<&Arc<ApiKeys>>) {
        let before = self.adopted.load_full();
        let mut adopted = Adopted { keys: keys.cloned(), ..Adopted::default() };
        for (name, policy) in keys.into_iter().flat_map(|keys| keys.policies()) {
            if policy.limits == KeyLimits::default() || adopted.by_name.contains_key(name) {
                continue;
            }
            let known = before.by_name.get_key_value(name).map(|(name, account)| (name.clone(), account.clone()));
            let (name, account) = known.unwrap_or_else(|| (name.into(), Arc::default()));
            account.set_limits(&policy.limits);
            adopted.by_name.insert(name, account);
        }
        for (name, account) in &before.by_name {
            if !adopted.by_name.contains_key(name) {
                // Those who wait come in.
                account.set_limits(&KeyLimits::default());
            }
        }
        adopted.governed = adopted.governed(keys);
        self.adopted.store(Arc::new(adopted));
    }

    /// Returns what each of these keys may not do, by their numbers; nothing where all may do everything.
    pub fn governed(&self, keys: Option<&Arc<ApiKeys>>) -> Arc<[Option<Governed>]> {
        let adopted = self.adopted.load();
        let is_same = match (keys, &adopted.keys) {
            (Some(keys), Some(adopted)) => Arc::ptr_eq(keys, adopted),
            (None, None) => true,
            _ => false,
        };
        // Others were adopted since: those have the accounts of their names.
        if is_same { adopted.governed.clone() } else { adopted.governed(keys) }
    }

    /// Tells whether any key has a limit.
    pub fn have_any(&self) -> bool {
        !self.adopted.load().by_name.is_empty()
    }

    /// Tells whether any key has a limit of a day or a month.
    pub fn have_long_limits(&self) -> bool {
        self.adopted.load().by_name.values().any(|account| account.has_long_limits())
    }

    /// Calls `take` with each account and its name.
    pub fn read(&self, mut take: impl FnMut(&str, &KeyAccount)) {
        self.adopted.load().by_name.iter().for_each(|(name, account)| take(name, account));
    }
}
