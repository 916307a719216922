//! Who listens, and when it stops: the process around the shards.
//!
//! [`run`] opens everything that can fail before anything is served, starts the shards, and becomes their `supervisor`.
//! The main thread serves nothing itself.

mod connection;
mod control;
mod driver;
mod listener;
mod reload;
mod shard;
mod shutdown;
mod supervisor;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use arc_swap::ArcSwap;
use core_affinity::CoreId;
use crossbeam_utils::CachePadded;
use rustls::pki_types::ServerName;

use self::reload::Reload;
use self::shard::{Seat, Shared, Started};
use self::supervisor::{Event, Supervisor};
use crate::config::{Config, Scheme, UpstreamConfig};
use crate::credentials::{Credentials, RoundRobin};
use crate::observability::Activity;
use crate::proxy::retry_share::RetryShare;
use crate::upstream::tls::{self, TrustError};
use crate::upstream::{Resolver, TlsPeer};

pub use driver::Driver;
pub use reload::{CredentialsSource, Version};

/// Why the program could not start, or could not end in peace.
#[derive(Debug)]
pub enum RunError {
    Listen {
        address: SocketAddr,
        error: io::Error,
    },
    Trust(TrustError),
    UpstreamName(String),
    Driver(io::Error),
    Thread(io::Error),
    Signals(io::Error),
    /// A shard ended by itself. Its connections are lost and the others would take twice the load.
    ShardDied,
    /// A second signal came before the drain was over.
    Interrupted {
        open_exchanges: usize,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Listen { address, error } if error.kind() == io::ErrorKind::AddrInUse => write!(
                formatter,
                "cannot listen on {address}: the port is in use; stop the other program or choose another --port"
            ),
            RunError::Listen { address, error } => {
                write!(formatter, "cannot listen on {address}: {error}; check --host and --port")
            }
            RunError::Trust(error) => error.fmt(formatter),
            RunError::UpstreamName(name) => {
                write!(
                    formatter,
                    "the upstream's host {name} is not a name that a certificate can hold; check --upstream"
                )
            }
            RunError::Driver(error) => {
                write!(formatter, "cannot set up the I/O driver: {error}; try --io-driver epoll")
            }
            RunError::Thread(error) => write!(formatter, "cannot start a thread: {error}"),
            RunError::Signals(error) => write!(formatter, "cannot handle signals: {error}"),
            RunError::ShardDied => formatter.write_str("a shard ended unexpectedly; the log says why"),
            RunError::Interrupted { open_exchanges } => {
                write!(formatter, "stopped at once by a second signal; exchanges cut off: {open_exchanges}")
            }
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunError::Listen { error, .. }
            | RunError::Driver(error)
            | RunError::Thread(error)
            | RunError::Signals(error) => Some(error),
            RunError::Trust(error) => Some(error),
            RunError::UpstreamName(_) | RunError::ShardDied | RunError::Interrupted { .. } => None,
        }
    }
}

/// What is known when the shards serve.
#[derive(Debug)]
pub struct Ready {
    /// What the listeners are bound to.
    pub bound: SocketAddr,
    pub driver: Driver,
}

/// Serves until a signal ends it, with `credentials` until `source` gives others. `on_ready` is called once, when every
/// shard accepts connections.
///
/// # Errors
/// See [`RunError`].
pub fn run(
    config: Config,
    credentials: Arc<Credentials>,
    source: CredentialsSource,
    on_ready: impl FnOnce(&Config, &Credentials, &Ready),
) -> Result<(), RunError> {
    let listen_failed = |error| RunError::Listen { address: config.listen, error };
    let shards = config.shards.get();
    let listeners = listener::open(config.listen, shards).map_err(listen_failed)?;
    let bound = listeners[0].local_addr().map_err(listen_failed)?;
    let shared = Arc::new(share(config, credentials.clone())?);
    let (events, incoming) = channel();
    let mut supervisor = Supervisor::on_signals(events.clone(), incoming).map_err(RunError::Signals)?;

    let (started, reports) = channel();
    let cores = cores(shards);
    for (index, listener) in listeners.into_iter().enumerate() {
        let (control, shard_control) = UnixStream::pair().map_err(RunError::Thread)?;
        let activity = Arc::new(Activity::default());
        supervisor.add_shard(control, activity.clone()).map_err(RunError::Thread)?;
        let seat = Seat { index, core: cores.get(index).copied(), listener, control: shard_control, activity };
        start_shard(shared.clone(), seat, started.clone(), events.clone()).map_err(RunError::Thread)?;
    }
    drop(started);
    let mut driver = None;
    for report in reports.iter().take(shards) {
        driver = Some(report.map_err(RunError::Driver)?);
    }
    let driver = driver.ok_or(RunError::ShardDied)?;
    let reload = Reload::start(source, shared.credentials.clone(), events).map_err(RunError::Thread)?;
    on_ready(&shared.config, &credentials, &Ready { bound, driver });
    supervisor.wait(reload, shared.config.timeouts.drain)
}

fn share(config: Config, credentials: Arc<Credentials>) -> Result<Shared, RunError> {
    let (resolver, tls) = reach(&config.upstream)?;
    Ok(Shared {
        resolver,
        tls,
        credentials: Arc::new(ArcSwap::new(credentials)),
        round_robin: Arc::new(RoundRobin::default()),
        share: RetryShare::new(config.shards.get()),
        probe_waiters: Arc::default(),
        replay_free: Arc::new(AtomicUsize::new(config.limits.replay_total_bytes_max)),
        connections: CachePadded::new(AtomicUsize::new(0)),
        config,
    })
}

/// What connectors to this upstream are made of.
///
/// # Errors
/// When its certificates cannot be checked, or the resolver's thread cannot be started.
pub fn reach(upstream: &UpstreamConfig) -> Result<(Resolver, Option<TlsPeer>), RunError> {
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
    let (host, port) = upstream.connect_to.clone().unwrap_or_else(|| (upstream.host.clone(), upstream.port));
    Ok((Resolver::start(host, port).map_err(RunError::Thread)?, tls))
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

fn start_shard(shared: Arc<Shared>, seat: Seat, started: Sender<Started>, events: Sender<Event>) -> io::Result<()> {
    let name = format!("flow-shard-{}", seat.index);
    thread::Builder::new().name(name).spawn(move || {
        let end = ShardEnd { events };
        shard::run(&shared, seat, &started);
        drop(end);
    })?;
    Ok(())
}

/// Tells the main thread that a shard's thread has ended, be it by a panic.
struct ShardEnd {
    events: Sender<Event>,
}

impl Drop for ShardEnd {
    fn drop(&mut self) {
        let _ = self.events.send(Event::ShardEnded { has_panicked: thread::panicking() });
    }
}
