//! Who listens, and when it stops: the process around the shards.
//!
//! [`run`] opens everything that can fail before anything is served, starts the shards, and becomes their `supervisor`.
//! The main thread serves nothing itself.

mod admin;
pub mod certificate;
mod error;
mod reload;
mod shard;
mod supervisor;
mod take_over;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use core_affinity::CoreId;
use crossbeam_utils::CachePadded;
use rustls::pki_types::ServerName;

use self::admin::{Admin, Opened, Stage};
use self::reload::Reload;
use self::shard::{ShardSetup, Shared, Started, listener};
use self::supervisor::{Supervisor, SupervisorEvent};
use self::take_over::hand_over::HandOver;
use self::take_over::predecessor::{self, Predecessor};
use self::take_over::rendezvous;
use crate::config::{Config, Scheme, UpstreamConfig};
use crate::credentials::{ApiKeys, Credentials, RoundRobin};
use crate::observability::{Activity, Ledger};
use crate::proxy::retry_share::RetryShare;
use crate::upstream::tls;
use crate::upstream::{Resolver, Route, Tunnel};

pub use error::RunError;
pub use reload::{FileSource, FileVersion, Sources, WatchedFile};
pub use shard::driver::Driver;

/// How long a gateway that was to take over, and found none, waits for the port: of one that was just stopped or killed
/// it is free some milliseconds later.
const RELEASE_LIMIT: Duration = Duration::from_secs(1);
const RELEASE_PAUSE: Duration = Duration::from_millis(10);

/// What is known when the shards serve.
#[derive(Debug)]
pub struct Ready {
    /// What the listeners are bound to.
    pub bound: SocketAddr,
    pub driver: Driver,
    pub admin: Option<AdminAddress>,
}

/// Where the admin pages are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminAddress {
    pub address: SocketAddr,
    /// The process that has the address still, and gives it up when it has ended what it has open.
    pub held_by: Option<i32>,
}

/// With what a gateway starts to serve.
#[derive(Debug)]
pub struct Keyring {
    pub credentials: Arc<Credentials>,
    /// `None`: callers need no key.
    pub api_keys: Option<Arc<ApiKeys>>,
}

/// Serves until a signal ends it, with what `keyring` holds until `sources` give others. `on_ready` is called once, when
/// every shard accepts connections.
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
    // What can fail comes first: a gateway that is to be taken over goes on as if nothing had been.
    let credentials = keyring.credentials.clone();
    let shared = Arc::new(share(config, keyring)?);
    let (events, incoming) = channel();
    let mut supervisor = Supervisor::on_signals(events.clone(), incoming).map_err(RunError::Signals)?;
    let reload = Reload::start(sources, shared.clone(), &events).map_err(RunError::Thread)?;
    let (predecessor, listeners) = open_listeners(&shared.config).map_err(listen_failed)?;
    let admin = open_admin(&shared.config, predecessor.as_ref())?;
    let bound = listeners[0].local_addr().map_err(listen_failed)?;
    let lent: Vec<_> =
        listeners.iter().map(TcpListener::try_clone).collect::<io::Result<_>>().map_err(listen_failed)?;
    let driver = start_shards(&shared, listeners, &mut supervisor, &events)?;
    supervisor.admin = start_admin(admin, &shared, &driver, &supervisor)?;

    listener::listen(&lent).map_err(listen_failed)?;
    supervisor.serve();
    if let Some(predecessor) = predecessor
        && let Err(error) = predecessor.retire(&lent)
    {
        supervisor.withdraw(shared.config.timeouts.drain)?;
        return Err(RunError::TakeOver(error));
    }
    let hand_over = offer_hand_over(&shared.config, bound, lent, events);
    let admin = supervisor.admin.as_ref();
    admin.into_iter().for_each(|admin| admin.note(Stage::Serving));
    let admin = admin.map(|admin| AdminAddress { address: admin.address, held_by: admin.held_by });
    on_ready(&shared.config, &credentials, &Ready { bound, driver, admin });
    supervisor.wait(reload, hand_over, shared.config.timeouts.drain)
}

/// The address of the admin pages, unless they are off. Beside a gateway that was just stopped or killed it is waited for
/// as the port is.
fn open_admin(config: &Config, predecessor: Option<&Predecessor>) -> Result<Option<Opened>, RunError> {
    let Some(address) = config.admin else { return Ok(None) };
    let patience = if config.take_over && predecessor.is_none() { RELEASE_LIMIT } else { Duration::ZERO };
    let opened = admin::open(address, predecessor.map(Predecessor::process), patience);
    opened.map(Some).map_err(|error| RunError::Admin { address, error })
}

fn start_admin(
    opened: Option<Opened>,
    shared: &Arc<Shared>,
    driver: &Driver,
    supervisor: &Supervisor,
) -> Result<Option<Admin>, RunError> {
    let start = |opened| Admin::start(opened, shared.clone(), driver.clone(), supervisor.liveness_probe());
    opened.map(start).transpose().map_err(RunError::Thread)
}

/// Starts all shards, which do not accept yet.
fn start_shards(
    shared: &Arc<Shared>,
    listeners: Vec<TcpListener>,
    supervisor: &mut Supervisor,
    events: &Sender<SupervisorEvent>,
) -> Result<Driver, RunError> {
    let shards = shared.config.shards.get();
    let (started, reports) = channel();
    let cores = cores(shards);
    for (index, listeners) in listener::share_out(listeners, shards).into_iter().enumerate() {
        let (control, shard_control) = UnixStream::pair().map_err(RunError::Thread)?;
        let activity = Arc::new(Activity::default());
        supervisor.add_shard(control, activity.clone()).map_err(RunError::Thread)?;
        let pulse_of = activity.clone();
        let setup = ShardSetup { index, core: cores.get(index).copied(), listeners, control: shard_control, activity };
        start_shard(shared.clone(), setup, started.clone(), ShardEnd { events: events.clone(), activity: pulse_of })
            .map_err(RunError::Thread)?;
    }
    drop(started);
    let mut driver: Option<Driver> = None;
    for report in reports.iter().take(shards) {
        let reported = report.map_err(RunError::Driver)?;
        driver = Some(driver.map_or(reported.clone(), |driver| driver.or_worse(reported)));
    }
    driver.ok_or(RunError::ShardDied)
}

/// The listening sockets: those of the gateway that is to be taken over, if there is one, else new ones.
#[expect(clippy::disallowed_methods, reason = "runs on the main thread before there are shards")]
fn open_listeners(config: &Config) -> io::Result<(Option<Predecessor>, Vec<TcpListener>)> {
    let shards = config.shards.get();
    if config.take_over {
        match rendezvous::path(config.runtime_directory.as_deref(), config.listen) {
            Ok(path) => {
                if let Some((predecessor, sockets)) = predecessor::take(&path, config.listen) {
                    return Ok((Some(predecessor), listener::complete(sockets, shards)?));
                }
            }
            Err(error) => tracing::warn!(%error, "cannot take over; starting as usual"),
        }
    }
    let due = Instant::now() + if config.take_over { RELEASE_LIMIT } else { Duration::ZERO };
    loop {
        match listener::open(config.listen, shards) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < due => {
                thread::sleep(RELEASE_PAUSE);
            }
            opened => return Ok((None, opened?)),
        }
    }
}

/// Lets a later gateway take over from this one. Without that, this one serves all the same.
fn offer_hand_over(
    config: &Config,
    bound: SocketAddr,
    sockets: Vec<TcpListener>,
    events: Sender<SupervisorEvent>,
) -> Option<HandOver> {
    let offered = rendezvous::path(config.runtime_directory.as_deref(), bound)
        .and_then(|path| HandOver::offer(&path, sockets, events));
    offered.inspect_err(|error| tracing::warn!(%error, "no later gateway will be able to take over from this one")).ok()
}

fn share(config: Config, keyring: Keyring) -> Result<Shared, RunError> {
    let listener_tls =
        config.listener_tls.as_ref().map(certificate::load).transpose().map_err(RunError::ListenerTls)?;
    for warning in listener_tls.iter().filter_map(|loaded| loaded.warning.as_ref()) {
        tracing::warn!("{warning}");
    }
    let ledger = Arc::new(Ledger::new(config.shards.get()));
    ledger.open(keyring.credentials.names());
    Ok(Shared {
        route: route(&config.upstream)?,
        listener_tls: listener_tls.map(|loaded| Arc::new(ArcSwap::new(loaded.config))),
        credentials: Arc::new(ArcSwap::new(keyring.credentials)),
        api_keys: Arc::new(ArcSwapOption::new(keyring.api_keys)),
        round_robin: Arc::new(RoundRobin::default()),
        share: RetryShare::new(config.shards.get()),
        probe_waiters: Arc::default(),
        replay_free: Arc::new(AtomicUsize::new(config.limits.replay_total_bytes_max)),
        connections: CachePadded::new(AtomicUsize::new(0)),
        ledger,
        config,
    })
}

/// The way to this upstream.
///
/// # Errors
/// When its certificates cannot be checked, or the resolver's thread cannot be started.
pub fn route(upstream: &UpstreamConfig) -> Result<Route, RunError> {
    let tls = match upstream.scheme {
        Scheme::Http => None,
        Scheme::Https => {
            let (client_config, source) = tls::client_config(&upstream.trust).map_err(RunError::Trust)?;
            tracing::debug!(?source, "trust anchors are loaded");
            let name = ServerName::try_from(upstream.host.clone())
                .map_err(|_| RunError::UpstreamName(upstream.host.clone()))?;
            Some((client_config, name))
        }
    };
    let (host, port) = upstream.address();
    let (tunnel, (host, port)) = match &upstream.proxy {
        Some(proxy) => (Some(Tunnel::to(host, port, proxy.authorization.as_ref())), (&*proxy.host, proxy.port)),
        None => (None, (host, port)),
    };
    let resolver = Resolver::start(host.to_owned(), port).map_err(RunError::Thread)?;
    Ok(Route { resolver, tunnel, tls })
}

/// The CPU of each shard. More shards than CPUs share them in turn.
fn cores(shards: usize) -> Vec<CoreId> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if cores.is_empty() {
        tracing::warn!("the CPUs of this process are not known; shards are not pinned");
    } else if shards > cores.len() {
        tracing::warn!(shards, cpus = cores.len(), "there are more shards than CPUs; they share them in turn");
    }
    cores.iter().copied().cycle().take(if cores.is_empty() { 0 } else { shards }).collect()
}

fn start_shard(shared: Arc<Shared>, setup: ShardSetup, started: Sender<Started>, end: ShardEnd) -> io::Result<()> {
    let name = format!("flow-shard-{}", setup.index);
    thread::Builder::new().name(name).spawn(move || {
        shard::run(&shared, setup, &started);
        drop(end);
    })?;
    Ok(())
}

/// Tells that a shard's thread has ended, be it by a panic.
struct ShardEnd {
    events: Sender<SupervisorEvent>,
    activity: Arc<Activity>,
}

impl Drop for ShardEnd {
    fn drop(&mut self) {
        self.activity.pulse.end();
        let _ = self.events.send(SupervisorEvent::ShardEnded { has_panicked: thread::panicking() });
    }
}
