//! Everything that the exchanges of a shard share: limits and rules, the way upstream, the share of the load that may
//! be repeats (`retry_share`), the `overload`, the background checks (`checks`), the connections kept ready (`warm`), the
//! `prices` of models, the times at which `quota` are asked for, and where it is counted.

pub mod checks;
pub mod overload;
pub mod prices;
pub mod quota;
pub mod retry_share;
pub mod upgrades;
pub mod warm;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::capture::recorder::Recorder;
use crate::config::{Limits, Pumping, Timeouts};
use crate::credentials::Owners;
use crate::io::{Lifecycle, RemoteWaits};
use crate::observability::{Activity, Ledger, PastExchanges};
use crate::proxy::key_accounts::KeyAccounts;
use crate::proxy::replay::budget::ReplayBudget;
use crate::proxy::request::rules::Rules;
use crate::proxy::resources::checks::ChecksUnderWay;
use crate::proxy::resources::overload::Overload;
use crate::proxy::resources::prices::Prices;
use crate::proxy::resources::quota::QuotaSchedule;
use crate::proxy::resources::retry_share::RetryShare;
use crate::proxy::resources::upgrades::TriedUpgrades;
use crate::proxy::resources::warm::WarmConnections;
use crate::upstream::{Connector, Pool};
use crate::usage::books::UsageBook;

/// Everything that the exchanges of one shard share.
pub struct Resources {
    /// The number of the shard.
    pub shard: usize,
    /// Tells the request ids that are made here from those of other shards and processes.
    pub id_seed: u64,
    pub rules: Rules,
    pub timeouts: Timeouts,
    pub limits: Limits,
    /// The answers that the pump relays.
    pub pumping: Pumping,
    /// Shared by all shards.
    pub owners: Arc<Owners>,
    /// The use of keys' limits; shared by all shards.
    pub key_accounts: Arc<KeyAccounts>,
    /// Shared with the background checks.
    pub connector: Rc<Connector>,
    pub pool: Rc<Pool>,
    pub warm: Rc<WarmConnections>,
    pub budget: ReplayBudget,
    pub share: RetryShare,
    pub overload: Rc<Overload>,
    pub checks: ChecksUnderWay,
    /// The paths that upgrades were tried on; shared by all shards.
    pub upgrades: Arc<TriedUpgrades>,
    /// Shared by all shards.
    pub prices: Arc<Prices>,
    /// Shared by all shards; `None`: the upstream is not asked for quotas.
    pub quota: Option<Arc<QuotaSchedule>>,
    /// The number of exchanges of the process that wait for the outcome of a probe.
    pub probe_waiters: Arc<AtomicUsize>,
    /// The waits that other shards end.
    pub remote_waits: Rc<RemoteWaits>,
    pub lifecycle: Rc<Lifecycle>,
    pub activity: Arc<Activity>,
    pub ledger: Arc<Ledger>,
    /// The last exchanges, for people.
    pub past: PastExchanges,
    /// `None`: usage is not counted.
    pub usage: Option<UsageBook>,
    /// Keeps exchanges that have failed; `None`: none is kept.
    pub recorder: Option<Recorder>,
}
