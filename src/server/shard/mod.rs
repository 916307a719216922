//! One shard: a pinned thread with its own runtime, listeners, pool and token cache.
//!
//! [`run`] builds them (`driver`, `listener`), and follows the orders of the main thread until it has drained.
//! `acceptor` takes connections off the listeners (`accept`), `connections` holds those that are open, as many as there
//! are `places`, and `connection` serves one of them from its first request to its close (`keep_alive`,
//! `lingering_close`, `draining`). Shards share only what [`shared::Shared`] holds. Nothing on the path of a request
//! waits for another shard.

pub mod accept;
mod acceptor;
mod connection;
mod connections;
mod draining;
pub mod driver;
mod keep_alive;
mod lingering_close;
pub mod listener;
mod places;
pub mod shared;

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use core_affinity::CoreId;
use monoio::io::AsyncReadRent;

use self::acceptor::Acceptor;
use self::connections::Connections;
use self::driver::{Driver, Runtime};
use self::shared::Shared;
use super::supervisor::control::Order;
use crate::config::Config;
use crate::io::{Lifecycle, Phase, RemoteWaits, Timer, deadline, departure, pause};
use crate::observability::{Activity, PastExchanges, ShardView};
use crate::proxy::Proxy;
use crate::proxy::replay::budget::ReplayBudget;
use crate::proxy::request::rules::Rules;
use crate::proxy::resources::Resources;
use crate::proxy::resources::checks::ChecksUnderWay;
use crate::proxy::resources::overload::Overload;
use crate::proxy::resources::warm::WarmConnections;
use crate::upstream::{Connector, Pool};
use crate::usage::books::UsageBook;

/// The pause between two looks of a draining shard whether its last connection has ended.
const DRAIN_PAUSE: Duration = Duration::from_millis(10);

/// The parts that one shard has for itself.
pub struct ShardSetup {
    pub index: usize,
    /// The CPU that it is pinned to.
    pub core: Option<CoreId>,
    /// At least one; more after a take-over from a gateway with more shards.
    pub listeners: Vec<TcpListener>,
    /// The socket that the main thread's orders come over.
    pub control: UnixStream,
    pub activity: Arc<Activity>,
}

/// The report of a shard that has started: the driver that it runs on, or the error.
pub type Started = io::Result<Driver>;

/// Runs a shard on this thread. Returns when the shard has drained.
pub fn run(shared: &Arc<Shared>, setup: ShardSetup, started: &Sender<Started>) {
    if let Some(core) = setup.core {
        core_affinity::set_for_current(core);
    }
    let (mut runtime, driver) = match Runtime::build(shared.config.io_driver) {
        Ok(built) => built,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let uses_epoll = !matches!(driver, Driver::Uring(_));
    runtime.block_on(async {
        match Shard::start(shared.clone(), setup, uses_epoll) {
            Ok((shard, listeners)) => {
                let _ = started.send(Ok(driver));
                shard.serve(listeners).await;
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        }
    });
}

struct Shard {
    shared: Arc<Shared>,
    proxy: Rc<Proxy>,
    connections: Rc<Connections>,
    acceptor: Rc<Acceptor>,
}

impl Shard {
    fn start(shared: Arc<Shared>, setup: ShardSetup, uses_epoll: bool) -> io::Result<(Rc<Self>, Vec<TcpListener>)> {
        let port = setup.listeners[0].local_addr()?.port();
        let proxy = Rc::new(new_proxy(&shared, port, setup.index, setup.activity)?);
        watch_deadlines_and_departures()?;
        let remote_waits = &proxy.resources.remote_waits;
        monoio::spawn(remote_waits.clone().follow(remote_waits.wakeups()?));
        let connections = Connections::start(shared.clone(), proxy.clone())?;
        setup.control.set_nonblocking(uses_epoll)?;
        let control = monoio::net::UnixStream::from_std(setup.control)?;
        let acceptor = Rc::new(Acceptor::new(connections.clone(), proxy.clone(), uses_epoll));
        let shard = Rc::new(Shard { shared, proxy, connections, acceptor });
        monoio::spawn(shard.clone().follow_orders(control));
        Ok((shard, setup.listeners))
    }

    /// Accepts from the order to serve until the drain begins, and returns when the last connection has ended.
    async fn serve(self: Rc<Self>, listeners: Vec<TcpListener>) {
        self.proxy.resources.lifecycle.reached(Phase::Serving).await;
        // Not earlier: epoll reports a socket that does not listen yet as hung up.
        let listeners: Vec<_> = match listeners.into_iter().map(accept::listening).collect::<io::Result<_>>() {
            Ok(listeners) => listeners,
            Err(error) => return tracing::error!(%error, "cannot wait for connections"),
        };
        let accepting: Vec<_> =
            listeners.into_iter().map(|listener| monoio::spawn(self.acceptor.clone().accept_all(listener))).collect();
        for accepting in accepting {
            accepting.await;
        }
        self.proxy.resources.pool.clear();
        while self.connections.open_count() > 0 {
            pause(DRAIN_PAUSE).await;
            if draining::is_wait_over(&self.proxy.resources.lifecycle) {
                self.connections.close_parked().await;
                self.connections.end_handshakes().await;
            }
        }
        // Sockets that were dropped last are closed on the ring's next turns.
        pause(DRAIN_PAUSE).await;
    }

    /// Follows the orders that the main thread sends over `control`.
    async fn follow_orders(self: Rc<Self>, mut control: monoio::net::UnixStream) {
        let lifecycle = &self.proxy.resources.lifecycle;
        let mut byte = vec![0; 1];
        loop {
            let result;
            (result, byte) = control.read(byte).await;
            let Ok(1) = result else {
                // The main thread is gone, so the shard ends. Another gateway may still have the sockets.
                self.acceptor.keep_sockets();
                return lifecycle.advance(Phase::Expired);
            };
            match Order::of_byte(byte[0]) {
                Some(Order::Serve) => lifecycle.advance(Phase::Serving),
                Some(Order::Reload) => {
                    self.proxy.replace_credentials(self.shared.rotations.load_full());
                }
                Some(Order::Drain) => lifecycle.advance(Phase::Draining),
                Some(Order::DrainKeepingSockets) => {
                    self.acceptor.keep_sockets();
                    lifecycle.advance(Phase::Draining);
                }
                Some(Order::Expire) => lifecycle.advance(Phase::Expired),
                Some(Order::Answer) => self.answer(),
                None => {}
            }
        }
    }
}

impl Shard {
    /// Answers the admin thread.
    fn answer(&self) {
        let Resources { activity, pool, past, .. } = &self.proxy.resources;
        activity.note_idle_upstream(pool.idle_count());
        activity.view.answer(|| ShardView { past: past.newest(), streams: self.connections.open_streams() });
        // Last: whoever sees it sees the rest too.
        activity.pulse.answer();
    }
}

fn new_proxy(shared: &Shared, listener_port: u16, index: usize, activity: Arc<Activity>) -> io::Result<Proxy> {
    let Config { timeouts, limits, pumping, shards, .. } = &shared.config;
    let lifecycle = Rc::new(Lifecycle::default());
    let connector = Rc::new(Connector::new(shared.route.clone(), limits.pending_connects_max));
    let pool = Rc::new(Pool::new(timeouts.upstream_idle, limits.idle_upstream_max));
    let warm = WarmConnections::new(timeouts, limits, &connector, &pool, &lifecycle, &activity);
    let resources = Resources {
        shard: index,
        id_seed: request_id_seed(),
        rules: Rules::new(&shared.config, listener_port),
        timeouts: *timeouts,
        limits: *limits,
        pumping: *pumping,
        owners: shared.owners.clone(),
        key_accounts: shared.key_accounts.clone(),
        connector,
        pool,
        warm: Rc::new(warm),
        budget: ReplayBudget::new(shared.replay_free.clone(), limits.replay_total_bytes_max, shards.get()),
        share: shared.share.clone(),
        overload: Rc::new(Overload::new(index)),
        checks: ChecksUnderWay::default(),
        probe_waiters: shared.probe_waiters.clone(),
        remote_waits: RemoteWaits::open()?,
        lifecycle,
        activity,
        ledger: shared.ledger.clone(),
        past: PastExchanges::new(),
        usage: shared.usage.clone().map(|books| UsageBook::new(books, index)),
        upgrades: shared.upgrades.clone(),
        prices: shared.prices.clone(),
        quota: shared.quota.clone(),
        recorder: shared.recorder.clone(),
    };
    Ok(Proxy::new(resources, shared.rotations.load_full()))
}

/// Returns a number that no other process is likely to have.
fn request_id_seed() -> u64 {
    let mut seed = [0; 8];
    // Without the system's random numbers there would be no TLS either.
    if aws_lc_rs::rand::fill(&mut seed).is_err() {
        return fastrand::u64(..);
    }
    u64::from_ne_bytes(seed)
}

/// Starts the tasks that wake waits whose time limit has passed or whose client has left.
fn watch_deadlines_and_departures() -> io::Result<()> {
    let timer = Timer::open()?;
    monoio::spawn(async move {
        if let Err(error) = deadline::sweep(timer).await {
            tracing::error!(%error, "time limits are no longer noticed");
        }
    });
    let departures = departure::open()?;
    monoio::spawn(async move {
        if let Err(error) = departure::watch(departures).await {
            tracing::error!(%error, "clients that leave are no longer noticed");
        }
    });
    Ok(())
}
