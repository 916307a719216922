//! The state that all shards share: the immutable configuration, the newest credentials, API keys and prices, and
//! counts of the process.
//!
//! Invariant: no lock, and nothing that a shard waits for.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::ServerConfig;

use super::places::Places;
use crate::capture::recorder::Recorder;
use crate::config::Config;
use crate::credentials::{ApiKeys, Credentials, Owners, Rotations};
use crate::observability::Ledger;
use crate::proxy::key_accounts::KeyAccounts;
use crate::proxy::resources::prices::Prices;
use crate::proxy::resources::quota::{self, QuotaSchedule};
use crate::proxy::resources::retry_share::RetryShare;
use crate::proxy::resources::upgrades::TriedUpgrades;
use crate::server::admin::AdminToken;
use crate::server::admin_token;
use crate::server::certificate;
use crate::server::error::RunError;
use crate::server::upstream_route;
use crate::upstream::Route;
use crate::usage::books::UsageBooks;
use crate::usage::keeper::UnwrittenCell;
use crate::whole_file::FileKinds;

/// The credentials and API keys that a gateway starts with.
#[derive(Debug)]
pub struct Keyring {
    pub credentials: Arc<Credentials>,
    /// `None`: callers need no key.
    pub api_keys: Option<Arc<ApiKeys>>,
}

/// The state that all shards share.
pub struct Shared {
    pub config: Config,
    /// The newest credentials.
    pub credentials: Arc<ArcSwap<Credentials>>,
    pub api_keys: Arc<ArcSwapOption<ApiKeys>>,
    /// Those of both; each shard loads them on [`Order::Reload`](crate::server::supervisor::control::Order).
    pub rotations: Arc<ArcSwap<Rotations>>,
    pub owners: Arc<Owners>,
    /// The use of keys' limits.
    pub key_accounts: Arc<KeyAccounts>,
    pub replay_free: Arc<AtomicUsize>,
    pub share: RetryShare,
    pub probe_waiters: Arc<AtomicUsize>,
    /// The paths that upgrades to WebSocket were tried on.
    pub upgrades: Arc<TriedUpgrades>,
    pub places: Places,
    pub ledger: Arc<Ledger>,
    /// The token of the admin pages; `None`: there is none.
    pub admin_token: Arc<ArcSwapOption<AdminToken>>,
    /// `None`: usage is not counted.
    pub usage: Option<Arc<UsageBooks>>,
    /// The usage that is not in the file of totals yet.
    pub unwritten: UnwrittenCell,
    pub prices: Arc<Prices>,
    /// `None`: the upstream is not asked for quotas.
    pub quota: Option<Arc<QuotaSchedule>>,
    /// Keeps exchanges that have failed; `None`: none is kept.
    pub recorder: Option<Recorder>,
    pub route: Route,
    /// The TLS configuration of the listener; `None`: it speaks plain HTTP.
    pub listener_tls: Option<Arc<ArcSwap<ServerConfig>>>,
}

impl Shared {
    /// Loads the listener's certificate, and sets up the route to the upstream.
    ///
    /// # Errors
    /// Those of [`certificate::load`], [`admin_token::load`], [`upstream_route::route`] and [`Places::new`].
    pub fn new(
        config: Config,
        keyring: Keyring,
        prices: Arc<Prices>,
        recorder: Option<Recorder>,
    ) -> Result<Self, RunError> {
        let listener_tls = config
            .listener_tls
            .as_ref()
            .map(|files| certificate::load(files, FileKinds::RegularOrPipe))
            .transpose()
            .map_err(RunError::ListenerTls)?;
        for warning in listener_tls.iter().filter_map(|loaded| loaded.warning.as_ref()) {
            tracing::warn!("{warning}");
        }
        let admin_token =
            admin_token::load(&config, FileKinds::RegularOrPipe).map_err(RunError::AdminToken)?.map(Arc::new);
        let key_accounts = KeyAccounts::default();
        key_accounts.adopt(keyring.api_keys.as_ref());
        let ledger = Arc::new(Ledger::new(config.shards.get()));
        let Keyring { credentials, api_keys } = keyring;
        ledger.open(credentials.names());
        Ok(Shared {
            route: upstream_route::route(&config.upstream)?,
            listener_tls: listener_tls.map(|loaded| Arc::new(ArcSwap::new(loaded.config))),
            rotations: Arc::new(ArcSwap::from_pointee(Rotations::new(credentials.clone(), api_keys.clone()))),
            credentials: Arc::new(ArcSwap::new(credentials)),
            api_keys: Arc::new(ArcSwapOption::new(api_keys)),
            admin_token: Arc::new(ArcSwapOption::new(admin_token)),
            owners: Arc::default(),
            key_accounts: Arc::new(key_accounts),
            share: RetryShare::new(config.shards.get()),
            probe_waiters: Arc::default(),
            upgrades: Arc::default(),
            replay_free: Arc::new(AtomicUsize::new(config.limits.replay_total_bytes_max)),
            places: Places::new(config.limits.connections_max, config.shards.get()).map_err(RunError::Thread)?,
            ledger,
            usage: config.usage.is_counted.then(|| UsageBooks::new(config.shards.get(), config.usage.has_otel_names)),
            unwritten: UnwrittenCell::default(),
            prices,
            quota: config.quota.is_asked().then(|| Arc::new(QuotaSchedule::new(quota::INTERVAL))),
            recorder,
            config,
        })
    }
    /// Makes the rotations of the newest credentials and keys; to be called by the main thread when either has changed.
    pub fn renew_rotations(&self) {
        let renewed = self.rotations.load().replaced_by(self.credentials.load_full(), self.api_keys.load_full());
        self.rotations.store(Arc::new(renewed));
    }
}
