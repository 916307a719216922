//! The number of requests that each credential served, by the class of their answers, in accounts that survive a
//! reload.
//!
//! An account belongs to a name. It has a block for each shard, which that shard alone writes, with plain loads and
//! stores on cache lines of its own. The main thread opens accounts when credentials are loaded, so that nothing is
//! allocated on the path of a request. Invariant: sums never fall while the process runs, and the number of accounts
//! is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;

use super::counters::add;

/// Limit on the accounts: twice as many names as a secrets file can hold, since those of a file that was replaced keep
/// their accounts.
const ACCOUNTS_MAX: usize = 1024;

/// The name under which the requests of names that are no longer in use are summed up, when there are too many.
const OTHERS: &str = "(removed)";

/// The class of the answer that a client got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusClass {
    Success,
    Redirection,
    ClientError,
    ServerError,
    /// No answer was begun.
    None,
}

impl StatusClass {
    pub const ALL: [StatusClass; 5] = [
        StatusClass::Success,
        StatusClass::Redirection,
        StatusClass::ClientError,
        StatusClass::ServerError,
        StatusClass::None,
    ];

    /// Returns the class of a final status. RFC 9110 §15: an unknown one counts as the first of its class; those from
    /// 600 on are taken for errors of the server.
    pub fn of(status: Option<u16>) -> Self {
        match status {
            None => StatusClass::None,
            Some(..=299) => StatusClass::Success,
            Some(300..=399) => StatusClass::Redirection,
            Some(400..=499) => StatusClass::ClientError,
            Some(500..) => StatusClass::ServerError,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            StatusClass::Success => "2xx",
            StatusClass::Redirection => "3xx",
            StatusClass::ClientError => "4xx",
            StatusClass::ServerError => "5xx",
            StatusClass::None => "none",
        }
    }
}

type Block = [AtomicU64; StatusClass::ALL.len()];

/// The requests under one name.
#[derive(Debug)]
pub struct Account {
    name: String,
    blocks: Box<[CachePadded<Block>]>,
    /// The requests of accounts that were closed.
    taken_over: Block,
}

impl Account {
    fn new(name: &str, shards: usize) -> Arc<Self> {
        let blocks = (0..shards).map(|_| CachePadded::default()).collect();
        Arc::new(Account { name: name.to_owned(), blocks, taken_over: Block::default() })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Only for the shard of that number.
    pub fn add(&self, shard: usize, class: StatusClass) {
        add(&self.blocks[shard][class as usize], 1);
    }

    /// Returns the sum over all shards.
    pub fn total(&self, class: StatusClass) -> u64 {
        let place = class as usize;
        let blocks = self.blocks.iter().map(|block| block[place].load(Ordering::Relaxed));
        blocks.sum::<u64>() + self.taken_over[place].load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        StatusClass::ALL.into_iter().all(|class| self.total(class) == 0)
    }

    fn take_over(&self, other: &Account) {
        for class in StatusClass::ALL {
            self.taken_over[class as usize].fetch_add(other.total(class), Ordering::Relaxed);
        }
    }
}

/// All accounts of the process.
#[derive(Debug)]
pub struct Ledger {
    shards: usize,
    /// The account of the answers that were made here without any credential.
    local: Arc<Account>,
    others: Arc<Account>,
    named: ArcSwap<BTreeMap<String, Arc<Account>>>,
}

impl Ledger {
    pub fn new(shards: usize) -> Self {
        Ledger {
            shards,
            local: Account::new("", shards),
            others: Account::new(OTHERS, shards),
            named: ArcSwap::default(),
        }
    }

    /// Makes sure that each of `names` has its account, before the credentials of these names are shared. Only for the
    /// main thread.
    pub fn open<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let names: BTreeSet<&str> = names.collect();
        let mut named = BTreeMap::clone(&self.named.load());
        for name in &names {
            named.entry((*name).to_owned()).or_insert_with(|| Account::new(name, self.shards));
        }
        if named.len() > ACCOUNTS_MAX {
            named.retain(|name, account| {
                let is_in_use = names.contains(name.as_str());
                if !is_in_use {
                    self.others.take_over(account);
                }
                is_in_use
            });
        }
        self.named.store(Arc::new(named));
    }

    /// Returns the account of a name; that of the others if it was never opened, or was closed meanwhile.
    pub fn account(&self, name: &str) -> Arc<Account> {
        self.named.load().get(name).unwrap_or(&self.others).clone()
    }

    pub fn local(&self) -> &Account {
        &self.local
    }

    pub fn accounts(&self) -> Vec<Arc<Account>> {
        let mut accounts = vec![self.local.clone(), self.others.clone()];
        accounts.extend(self.named.load().values().cloned());
        accounts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(ledger: &Ledger) -> u64 {
        let of_account =
            |account: &Arc<Account>| StatusClass::ALL.into_iter().map(|class| account.total(class)).sum::<u64>();
        ledger.accounts().iter().map(of_account).sum()
    }

    #[test]
    fn classes_are_those_of_the_status() {
        for (status, class) in [
            (None, "none"),
            (Some(200), "2xx"),
            (Some(299), "2xx"),
            (Some(304), "3xx"),
            (Some(400), "4xx"),
            (Some(499), "4xx"),
            (Some(500), "5xx"),
            (Some(999), "5xx"),
        ] {
            assert_eq!(StatusClass::of(status).as_str(), class, "{status:?}");
        }
        assert!(StatusClass::ALL.into_iter().enumerate().all(|(place, class)| class as usize == place));
    }

    #[test]
    fn an_account_survives_reloads_with_and_without_its_name() {
        let ledger = Ledger::new(2);
        ledger.open(["a", "b"].into_iter());
        let before = ledger.account("a");
        before.add(0, StatusClass::Success);
        before.add(1, StatusClass::Success);
        ledger.open(["b"].into_iter());
        before.add(1, StatusClass::Success);
        ledger.open(["a"].into_iter());
        assert_eq!(ledger.account("a").total(StatusClass::Success), 3);
        assert!(ledger.account("b").is_empty() && ledger.local().is_empty());
    }

    #[test]
    fn accounts_are_bounded_and_the_sums_of_closed_ones_are_kept() {
        let ledger = Ledger::new(1);
        for round in 0..10 {
            let names: Vec<String> = (0..500).map(|number| format!("{round}-{number}")).collect();
            ledger.open(names.iter().map(String::as_str));
            names.iter().for_each(|name| ledger.account(name).add(0, StatusClass::ServerError));
            assert!(ledger.accounts().len() <= ACCOUNTS_MAX + 2);
            assert_eq!(total(&ledger), 500 * (round + 1));
        }
        ledger.account("never opened").add(0, StatusClass::None);
        assert_eq!(ledger.account("gone").name(), OTHERS);
        assert_eq!(total(&ledger), 5001);
    }

    #[test]
    fn shards_share_no_cache_line() {
        let ledger = Ledger::new(2);
        ledger.open(["a"].into_iter());
        let account = ledger.account("a");
        let places: Vec<usize> = account.blocks.iter().map(|block| std::ptr::from_ref(block) as usize).collect();
        assert!(places[1] - places[0] >= 64 && places[0].is_multiple_of(64));
    }
}
