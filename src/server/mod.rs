//! The process around the shards, from its start to its end.
//!
//! [`run`] opens everything that can fail before anything is served (`certificate`, `upstream_route`, `prices`,
//! `key_check`, `take_over`, `admin`), starts the shards (`shard_threads`, `shard`), and then waits as their
//! `supervisor`, which reloads files (`reload`) and drains. Totals of usage are written beside it (`usage_totals`), and
//! read where limits depend on them (`limit_history`). The main thread serves nothing itself. Each of `shard`,
//! `supervisor`, `take_over`, `reload` and `admin` has a folder, whose `mod.rs` is its map.

mod admin;
mod admin_token;
pub mod certificate;
mod error;
#[cfg(feature = "fuzz")]
mod gauges;
pub mod key_check;
mod limit_history;
mod prices;
mod reload;
mod shard;
mod shard_threads;
mod supervisor;
pub(crate) mod take_over;
mod upstream_route;
mod usage_totals;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use self::admin::stage::Stage;
use self::admin::{Admin, Opened};
use self::key_check::KeySurroundings;
use self::reload::Reload;
use self::shard::listener;
use self::shard::shared::Shared;
use self::supervisor::Supervisor;
use self::take_over::RELEASE_LIMIT;
use self::take_over::predecessor::Predecessor;
use crate::capture::directory::CaptureDirectory;
use crate::capture::recorder::{Recorder, RecorderEnd};
use crate::config::Config;
use crate::credentials::Credentials;
use crate::proxy::resources::prices::Prices;

pub use admin::stage::Audience;
pub use admin::{AdminToken, AdminTokenError};
pub use error::RunError;
#[cfg(feature = "fuzz")]
pub use gauges::{Busy, Gauges};
pub use reload::source::{FileSource, Sources};
pub use reload::watched_file::{FileVersion, WatchedFile};
pub use shard::driver::Driver;
pub use shard::shared::Keyring;
pub use upstream_route::route;

/// The facts that are known once the shards serve.
#[derive(Debug)]
pub struct Ready {
    /// The address of the listeners.
    pub bound: SocketAddr,
    pub driver: Driver,
    pub admin: Option<AdminAddress>,
    /// Those who look at the live page: nobody where there are no admin pages.
    pub audience: Audience,
    #[cfg(feature = "fuzz")]
    pub gauges: Gauges,
}

/// The address of the admin pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminAddress {
    pub address: SocketAddr,
    /// The process that still has the address, and releases it when it has drained.
    pub held_by: Option<i32>,
}

/// Serves until a signal or a successor ends it, with the credentials of `keyring` until those of `sources` change.
/// `on_ready` is called once, when every shard accepts connections.
///
/// # Errors
/// See [`RunError`].
pub fn run(
    config: Config,
    keyring: Keyring,
    sources: Sources,
    on_ready: impl FnOnce(&Config, &Credentials, &Ready),
) -> Result<(), RunError> {
    let address = config.listen;
    let listen_failed = |error| RunError::Listen { address, error };
    // Everything that can fail comes first: then a gateway that was to be taken over goes on undisturbed.
    let prices = prices::open(&sources.prices)?;
    check_keys(&config, &keyring, &prices)?;
    let (recorder, _recorder_end) = start_recorder(&config)?.unzip();
    let shared = Arc::new(Shared::new(config, keyring, prices, recorder)?);
    let (events, incoming) = channel();
    let mut supervisor = Supervisor::on_signals(events.clone(), incoming).map_err(RunError::Signals)?;
    let reload = Reload::start(sources, shared.clone(), &events).map_err(RunError::Thread)?;
    let (predecessor, listeners) = take_over::open_listeners(&shared.config).map_err(listen_failed)?;
    let admin = open_admin(&shared.config, predecessor.as_ref())?;
    let bound = listeners[0].local_addr().map_err(listen_failed)?;
    let lent: Vec<_> =
        listeners.iter().map(TcpListener::try_clone).collect::<io::Result<_>>().map_err(listen_failed)?;
    let driver = shard_threads::start(&shared, listeners, &mut supervisor, &events)?;
    supervisor.admin = start_admin(admin, &shared, bound, &driver, &supervisor)?;

    limit_history::start(&shared).map_err(RunError::Thread)?;
    let totals = usage_totals::start(&shared)?;
    listener::listen(&lent).map_err(listen_failed)?;
    supervisor.serve();
    if let Some(predecessor) = predecessor
        && let Err(error) = predecessor.retire(&lent, &shared.owners)
    {
        let drained = supervisor.withdraw(shared.config.timeouts.drain);
        usage_totals::finish(totals);
        return Err(drained.err().unwrap_or(RunError::TakeOver(error)));
    }
    listener::restore_queues(&lent);
    let hand_over = take_over::offer_hand_over(&shared.config, bound, lent, shared.owners.clone(), events);
    let admin = supervisor.admin.as_ref();
    admin.into_iter().for_each(|admin| admin.note(Stage::Serving));
    let audience = admin.map_or_else(Audience::default, |admin| admin.audience.clone());
    let admin = admin.map(|admin| AdminAddress { address: admin.address, held_by: admin.held_by });
    // Not held any longer: credentials of the start that are replaced are erased.
    let ready = Ready {
        bound,
        driver,
        admin,
        audience,
        #[cfg(feature = "fuzz")]
        gauges: Gauges::of(&shared, &supervisor),
    };
    on_ready(&shared.config, &shared.credentials.load_full(), &ready);
    let ended = supervisor.wait(reload, hand_over, shared.config.timeouts.drain);
    usage_totals::finish(totals);
    ended
}

/// Checks whether the API keys fit the credentials and what is counted.
fn check_keys(config: &Config, keyring: &Keyring, prices: &Prices) -> Result<(), RunError> {
    let Some(keys) = &keyring.api_keys else { return Ok(()) };
    let (credentials, table) = (Some(keyring.credentials.names().collect()), prices.table());
    let around = KeySurroundings { credentials, usage: &config.usage, prices: table.as_deref() };
    let problems = key_check::check_keys(keys, &around);
    if problems.is_empty() { Ok(()) } else { Err(RunError::Keys(problems)) }
}

/// Starts the thread that keeps failed exchanges, where there is a directory for them.
fn start_recorder(config: &Config) -> Result<Option<(Recorder, RecorderEnd)>, RunError> {
    let start = |path| Recorder::start(CaptureDirectory::at(path), fastrand::u32(..));
    config.capture_directory.as_ref().map(start).transpose().map_err(RunError::Thread)
}

/// Opens the address of the admin pages, unless they are off. If a gateway was just stopped or killed, this waits for
/// the address as for the port.
fn open_admin(config: &Config, predecessor: Option<&Predecessor>) -> Result<Option<Opened>, RunError> {
    let Some(address) = config.admin else { return Ok(None) };
    let patience = if config.take_over && predecessor.is_none() { RELEASE_LIMIT } else { Duration::ZERO };
    let opened = admin::open(address, predecessor.map(Predecessor::process), patience);
    opened.map(Some).map_err(|error| RunError::Admin { address, error })
}

fn start_admin(
    opened: Option<Opened>,
    shared: &Arc<Shared>,
    bound: SocketAddr,
    driver: &Driver,
    supervisor: &Supervisor,
) -> Result<Option<Admin>, RunError> {
    let start = |opened| Admin::start(opened, shared.clone(), bound, driver.clone(), supervisor.liveness_probe());
    opened.map(start).transpose().map_err(RunError::Thread)
}
