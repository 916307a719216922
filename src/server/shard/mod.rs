//! One shard: a pinned thread with its own runtime, listeners, pool and token cache.
//!
//! Shards share the immutable configuration, the newest snapshot of credentials and API keys, the round-robin counter, the replay
//! budget and the count of open connections. Nothing on the path of a request waits for another shard.

pub mod accept;
mod connection;
pub mod driver;
pub mod listener;

use std::cell::Cell;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use core_affinity::CoreId;
use crossbeam_utils::CachePadded;
use monoio::io::AsyncReadRent;
use monoio::net::TcpStream;
use rustls::ServerConfig;

use self::accept::{AcceptWarnings, ConnectionPermit};
use self::connection::{Arrival, IdleConnection};
use self::driver::{Driver, Runtime};
use super::supervisor::control::Order;
use crate::config::Config;
use crate::credentials::{ApiKeys, Credentials, RoundRobin};
use crate::io::{
    Deadline, Either, HandshakeError, Lifecycle, Parking, Phase, Stream, Timer, deadline, departure, pause, race, tls,
};
use crate::observability::{Activity, Count, Ledger};
use crate::proxy::error::GatewayError;
use crate::proxy::request_copy::ReplayBudget;
use crate::proxy::retry_share::RetryShare;
use crate::proxy::{Parts, Proxy};
use crate::upstream::{Connector, Route};

/// How often a shard that may accept no more connections, or cannot, looks again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often a shard that drains looks whether its last connection has ended.
const DRAIN_PAUSE: Duration = Duration::from_millis(10);

/// What all shards share.
pub struct Shared {
    pub config: Config,
    /// The newest; each shard takes it over when it is told to.
    pub credentials: Arc<ArcSwap<Credentials>>,
    pub api_keys: Arc<ArcSwapOption<ApiKeys>>,
    pub round_robin: Arc<RoundRobin>,
    pub replay_free: Arc<AtomicUsize>,
    pub share: RetryShare,
    pub probe_waiters: Arc<AtomicUsize>,
    pub connections: CachePadded<AtomicUsize>,
    pub ledger: Arc<Ledger>,
    pub route: Route,
    /// What the listener speaks TLS with.
    pub listener_tls: Option<Arc<ArcSwap<ServerConfig>>>,
}

/// What one shard has for itself.
pub struct ShardSetup {
    pub index: usize,
    /// The CPU that it is pinned to.
    pub core: Option<CoreId>,
    /// At least one; more after a take-over from a gateway with more shards.
    pub listeners: Vec<TcpListener>,
    /// Where the main thread's orders come from.
    pub control: UnixStream,
    pub activity: Arc<Activity>,
}

/// What a shard reports when it can serve, or cannot.
pub type Started = io::Result<Driver>;

/// The body of a shard's thread. Returns when the shard has drained.
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

/// A connection that rests, with its permit among the open ones.
struct ParkedConnection {
    idle: IdleConnection,
    permit: ConnectionPermit,
}

impl AsRawFd for ParkedConnection {
    fn as_raw_fd(&self) -> RawFd {
        self.idle.as_raw_fd()
    }
}

struct Shard {
    shared: Arc<Shared>,
    proxy: Rc<Proxy>,
    lifecycle: Rc<Lifecycle>,
    /// Whether the listening sockets are a successor's once this shard accepts no more.
    keeps_sockets: Cell<bool>,
    /// Open connections of this shard.
    open: Rc<Cell<usize>>,
    parking: Parking<ParkedConnection>,
    uses_epoll: bool,
    warnings: AcceptWarnings,
}

impl Shard {
    fn start(shared: Arc<Shared>, setup: ShardSetup, uses_epoll: bool) -> io::Result<(Rc<Self>, Vec<TcpListener>)> {
        let port = setup.listeners[0].local_addr()?.port();
        let lifecycle = Rc::new(Lifecycle::default());
        let proxy = Proxy::new(
            &shared.config,
            port,
            Parts {
                shard: setup.index,
                credentials: shared.credentials.load_full(),
                keys: shared.api_keys.load_full(),
                round_robin: shared.round_robin.clone(),
                connector: Connector::new(shared.route.clone(), shared.config.limits.pending_connects_max),
                budget: ReplayBudget::new(
                    shared.replay_free.clone(),
                    shared.config.limits.replay_total_bytes_max,
                    shared.config.shards.get(),
                ),
                share: shared.share.clone(),
                probe_waiters: shared.probe_waiters.clone(),
                lifecycle: lifecycle.clone(),
                activity: setup.activity,
                ledger: shared.ledger.clone(),
            },
        );
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
        let (parking, arrivals) = Parking::open()?;
        setup.control.set_nonblocking(uses_epoll)?;
        let control = monoio::net::UnixStream::from_std(setup.control)?;
        let shard = Rc::new(Shard {
            shared,
            proxy: Rc::new(proxy),
            lifecycle,
            keeps_sockets: Cell::new(false),
            open: Rc::default(),
            parking,
            uses_epoll,
            warnings: AcceptWarnings::default(),
        });
        monoio::spawn(shard.clone().follow_orders(control));
        monoio::spawn(shard.clone().resume_parked(arrivals));
        Ok((shard, setup.listeners))
    }

    /// Accepts from the order to serve until the drain begins, and returns when the last connection has ended.
    async fn serve(self: Rc<Self>, listeners: Vec<TcpListener>) {
        self.lifecycle.reached(Phase::Serving).await;
        // Not earlier: a socket that does not listen yet looks hung up to epoll.
        let listeners: Vec<_> = match listeners.into_iter().map(accept::listening).collect::<io::Result<_>>() {
            Ok(listeners) => listeners,
            Err(error) => return tracing::error!(%error, "cannot wait for connections"),
        };
        let accepting: Vec<_> =
            listeners.into_iter().map(|listener| monoio::spawn(self.clone().accept_all(listener))).collect();
        for accepting in accepting {
            accepting.await;
        }
        self.close_parked();
        self.proxy.pool.clear();
        while self.open.get() > 0 {
            pause(DRAIN_PAUSE).await;
        }
        // Sockets that were dropped last are closed on the ring's next turns.
        pause(DRAIN_PAUSE).await;
    }

    /// Accepts from one listener until the drain begins, and ends it.
    async fn accept_all(self: Rc<Self>, listener: monoio::net::TcpListener) {
        loop {
            // The drain comes first: without a main thread the sockets are not this shard's any more.
            let draining = self.lifecycle.reached(Phase::Draining);
            if let Either::First(()) = race(draining, self.accept_ready(&listener)).await {
                break;
            }
        }
        if self.keeps_sockets.get() {
            // What waits in the queue is the successor's. To shut the socket down would end its listening too: it is one
            // socket, and only this hold on it is given up.
            return;
        }
        // Connections that the kernel has taken already are served; a listener that closes resets those in its queue.
        while self.accept_one(&listener).is_ok_and(|accepted| accepted) {}
        accept::shut_down(&listener);
    }

    /// Closes all connections that rest. One on which a request has come meanwhile is served first.
    fn close_parked(self: &Rc<Self>) {
        for ParkedConnection { idle, permit } in self.parking.take_all() {
            if !idle.is_quiet() {
                self.spawn(permit, Arrival::Resumed(idle));
            }
        }
    }

    /// Goes on with connections on which something has come.
    async fn resume_parked(self: Rc<Self>, arrivals: TcpStream) {
        let go_on = |ParkedConnection { idle, permit }: ParkedConnection| self.spawn(permit, Arrival::Resumed(idle));
        if let Err(error) = self.parking.attend(arrivals, go_on).await {
            tracing::error!(%error, "idle connections are no longer served");
        }
    }

    /// Does what the main thread orders over `control`.
    async fn follow_orders(self: Rc<Self>, mut control: monoio::net::UnixStream) {
        let mut byte = vec![0; 1];
        loop {
            let result;
            (result, byte) = control.read(byte).await;
            let Ok(1) = result else {
                // The main thread is gone, and so everything ends here. The sockets may be another gateway's still.
                self.keeps_sockets.set(true);
                return self.lifecycle.advance(Phase::Expired);
            };
            match Order::of_byte(byte[0]) {
                Some(Order::Serve) => self.lifecycle.advance(Phase::Serving),
                Some(Order::Reload) => {
                    let Shared { credentials, api_keys, .. } = &*self.shared;
                    self.proxy.replace_credentials(credentials.load_full(), api_keys.load_full());
                }
                Some(Order::Drain) => self.lifecycle.advance(Phase::Draining),
                Some(Order::DrainKeepingSockets) => {
                    self.keeps_sockets.set(true);
                    self.lifecycle.advance(Phase::Draining);
                }
                Some(Order::Expire) => self.lifecycle.advance(Phase::Expired),
                Some(Order::Answer) => {
                    self.proxy.activity.note_idle_upstream(self.proxy.pool.idle_count());
                    self.proxy.activity.pulse.answer();
                }
                None => {}
            }
        }
    }

    /// Waits for connections and takes all that are there.
    async fn accept_ready(self: &Rc<Self>, listener: &monoio::net::TcpListener) {
        if self.shared.connections.load(Ordering::Relaxed) >= self.shared.config.limits.connections_max {
            return pause(ACCEPT_PAUSE).await;
        }
        if let Err(error) = listener.readable(false).await {
            tracing::error!(%error, "cannot wait for connections");
            return pause(ACCEPT_PAUSE).await;
        }
        loop {
            match self.accept_one(listener) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    self.proxy.activity.counters.add(Count::AcceptErrors);
                    self.warnings.warn(&error);
                    return pause(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Takes one connection off the queue; false when there is none or no more may be open.
    fn accept_one(self: &Rc<Self>, listener: &monoio::net::TcpListener) -> io::Result<bool> {
        let connections = &self.shared.connections;
        if connections.fetch_add(1, Ordering::Relaxed) >= self.shared.config.limits.connections_max {
            connections.fetch_sub(1, Ordering::Relaxed);
            return Ok(false);
        }
        let permit = ConnectionPermit::take(self.shared.clone(), self.open.clone());
        let Some(socket) = accept::accept(listener, self.uses_epoll)? else { return Ok(false) };
        let stream = Stream::new(TcpStream::from_std(socket.into())?);
        match &self.shared.listener_tls {
            Some(config) => drop(monoio::spawn(self.clone().secure(permit, stream, config.load_full()))),
            None => self.spawn(permit, Arrival::Accepted(stream)),
        }
        Ok(true)
    }

    fn spawn(self: &Rc<Self>, permit: ConnectionPermit, arrival: Arrival) {
        monoio::spawn(self.clone().run(permit, arrival));
    }

    /// Runs a connection until it ends or rests.
    async fn run(self: Rc<Self>, permit: ConnectionPermit, arrival: Arrival) {
        if let Some(idle) = connection::serve(arrival, self.proxy.clone()).await {
            self.park(permit, idle);
        }
    }

    /// Shakes hands with a client that has just connected, in a task of its own: the one that serves it is no larger for
    /// it. A client that speaks plain HTTP is told so.
    async fn secure(self: Rc<Self>, permit: ConnectionPermit, stream: Stream, config: Arc<ServerConfig>) {
        let handshake = tls::accept(stream, config, self.proxy.timeouts.handshake);
        match race(handshake, connection::drained(&self.proxy, &Deadline::default())).await {
            Either::First(Ok(stream)) => self.spawn(permit, Arrival::Accepted(stream)),
            Either::First(Err(HandshakeError::NotTls(stream))) => {
                connection::refuse(stream, GatewayError::TlsRequired, &self.proxy).await;
            }
            Either::First(Err(HandshakeError::Failed(fault))) => tracing::debug!(%fault, "a TLS handshake failed"),
            Either::Second(()) => {}
        }
    }

    fn park(&self, permit: ConnectionPermit, idle: IdleConnection) {
        let (visit, due) = (idle.visit, idle.due(&self.proxy));
        if let Err((parked, error)) = self.parking.park(ParkedConnection { idle, permit }, visit, due) {
            tracing::warn!(%error, "cannot wait for the next request of an idle connection; it is closed");
            drop(parked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every open connection costs it. An `async fn` or block that is given a future or a large value holds it twice:
    /// that is what usually breaks this.
    #[test]
    fn the_task_of_a_connection_stays_small() {
        fn size_of_future<F>(_run: fn(Rc<Shard>, ConnectionPermit, Arrival) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size_of_future(Shard::run);
        println!("{bytes} bytes");
        assert!(bytes <= 5_200, "{bytes} bytes");
    }
}
