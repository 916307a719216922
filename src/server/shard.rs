//! One shard: a pinned thread with its own runtime, listener, pool and token cache.
//!
//! Shards share the immutable configuration, the snapshot of credentials, the round-robin counter, the replay budget and the count
//! of open connections. Nothing on the path of a request waits for another shard.

use std::cell::Cell;
use std::io;
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use core_affinity::CoreId;
use crossbeam_utils::CachePadded;
use monoio::io::AsyncReadRent;
use monoio::net::TcpStream;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::SockRef;

use super::connection;
use super::control::Order;
use super::driver::{Driver, Runtime};
use crate::config::Config;
use crate::credentials::{Credentials, RoundRobin};
use crate::io::{Either, Lifecycle, Phase, Stream, deadline, departure, race};
use crate::observability::Activity;
use crate::proxy::request_copy::ReplayBudget;
use crate::proxy::retry_share::RetryShare;
use crate::proxy::{Parts, Proxy};
use crate::upstream::{Connector, Resolver};

/// How often a shard that may accept no more connections, or cannot, looks again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often a shard that drains looks whether its last connection has ended.
const DRAIN_PAUSE: Duration = Duration::from_millis(10);

/// What all shards share.
pub struct Shared {
    pub config: Config,
    /// The newest; each shard takes it over when it is told to.
    pub credentials: Arc<ArcSwap<Credentials>>,
    pub round_robin: Arc<RoundRobin>,
    pub replay_free: Arc<AtomicUsize>,
    pub share: RetryShare,
    pub probe_waiters: Arc<AtomicUsize>,
    pub connections: CachePadded<AtomicUsize>,
    pub resolver: Resolver,
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// What one shard has for itself.
pub struct Seat {
    pub index: usize,
    /// The CPU that it is pinned to.
    pub core: Option<CoreId>,
    pub listener: TcpListener,
    /// Where the main thread's orders come from.
    pub control: UnixStream,
    pub activity: Arc<Activity>,
}

/// What a shard reports when it serves, or cannot.
pub type Started = io::Result<Driver>;

/// The body of a shard's thread. Returns when the shard has drained.
pub fn run(shared: &Arc<Shared>, seat: Seat, started: &Sender<Started>) {
    if let Some(core) = seat.core {
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
        match Shard::start(shared.clone(), seat, uses_epoll) {
            Ok(shard) => {
                let _ = started.send(Ok(driver));
                shard.serve().await;
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
    lifecycle: Rc<Lifecycle>,
    listener: monoio::net::TcpListener,
    /// Open connections of this shard.
    open: Rc<Cell<usize>>,
    uses_epoll: bool,
    last_warning: Cell<Option<Instant>>,
}

impl Shard {
    fn start(shared: Arc<Shared>, seat: Seat, uses_epoll: bool) -> io::Result<Self> {
        let port = seat.listener.local_addr()?.port();
        seat.listener.set_nonblocking(true)?;
        let lifecycle = Rc::new(Lifecycle::default());
        let proxy = Proxy::new(
            &shared.config,
            port,
            Parts {
                shard: seat.index,
                credentials: shared.credentials.load_full(),
                round_robin: shared.round_robin.clone(),
                connector: Connector::new(
                    shared.resolver.clone(),
                    shared.tls.clone(),
                    shared.config.limits.pending_connects_max,
                ),
                budget: ReplayBudget::new(shared.replay_free.clone()),
                share: shared.share.clone(),
                probe_waiters: shared.probe_waiters.clone(),
                lifecycle: lifecycle.clone(),
                activity: seat.activity,
            },
        );
        monoio::spawn(deadline::sweep());
        let departures = departure::open()?;
        monoio::spawn(async move {
            if let Err(error) = departure::watch(departures).await {
                tracing::error!(%error, "clients that leave are no longer noticed");
            }
        });
        seat.control.set_nonblocking(uses_epoll)?;
        let control = monoio::net::UnixStream::from_std(seat.control)?;
        let proxy = Rc::new(proxy);
        monoio::spawn(follow(control, shared.clone(), proxy.clone()));
        let listener = monoio::net::TcpListener::from_std(seat.listener)?;
        Ok(Shard { shared, proxy, lifecycle, listener, open: Rc::default(), uses_epoll, last_warning: Cell::new(None) })
    }

    /// Accepts until the drain begins, and returns when the last connection has ended.
    async fn serve(self) {
        loop {
            let draining = self.lifecycle.reached(Phase::Draining);
            if let Either::Second(()) = race(self.accept_ready(), draining).await {
                break;
            }
        }
        // Connections that the kernel has taken already are served; a listener that closes resets those in its queue.
        while self.accept_one().is_ok_and(|accepted| accepted) {}
        let Shard { listener, proxy, open, .. } = self;
        // The ring holds the socket until a wait that was given up is off it. The port is free from here on all the
        // same, so that a successor can start at once.
        // SAFETY: the descriptor is open as long as `listener` is.
        let socket = unsafe { BorrowedFd::borrow_raw(listener.as_raw_fd()) };
        let _ = SockRef::from(&socket).shutdown(Shutdown::Both);
        drop(listener);
        proxy.pool.clear();
        while open.get() > 0 {
            monoio::time::sleep(DRAIN_PAUSE).await;
        }
        // Sockets that were dropped last are closed on the ring's next turns.
        monoio::time::sleep(DRAIN_PAUSE).await;
    }

    /// Waits for connections and takes all that are there.
    async fn accept_ready(&self) {
        if self.shared.connections.load(Ordering::Relaxed) >= self.shared.config.limits.connections_max {
            return monoio::time::sleep(ACCEPT_PAUSE).await;
        }
        if let Err(error) = self.listener.readable(false).await {
            tracing::error!(%error, "cannot wait for connections");
            return monoio::time::sleep(ACCEPT_PAUSE).await;
        }
        loop {
            match self.accept_one() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    self.warn_of_accept(&error);
                    return monoio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// A lack of descriptors lasts: one line a second says enough.
    fn warn_of_accept(&self, error: &io::Error) {
        let now = Instant::now();
        if self.last_warning.get().is_none_or(|last| now - last >= Duration::from_secs(1)) {
            self.last_warning.set(Some(now));
            tracing::warn!(%error, "cannot accept a connection");
        }
    }

    /// Takes one connection off the queue; false when there is none or no more may be open.
    fn accept_one(&self) -> io::Result<bool> {
        let connections = &self.shared.connections;
        if connections.fetch_add(1, Ordering::Relaxed) >= self.shared.config.limits.connections_max {
            connections.fetch_sub(1, Ordering::Relaxed);
            return Ok(false);
        }
        let place = OpenConnection::take(self.shared.clone(), self.open.clone());
        let Some(socket) = accept(&self.listener, self.uses_epoll)? else { return Ok(false) };
        let stream = Stream::new(TcpStream::from_std(socket.into())?);
        let proxy = self.proxy.clone();
        monoio::spawn(async move {
            connection::serve(stream, proxy).await;
            drop(place);
        });
        Ok(true)
    }
}

/// A place among the open connections, which is given back when it is dropped.
struct OpenConnection {
    shared: Arc<Shared>,
    open: Rc<Cell<usize>>,
}

impl OpenConnection {
    /// The place in the process' count has been taken already.
    fn take(shared: Arc<Shared>, open: Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        OpenConnection { shared, open }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `accept4`; `None` when no connection waits. On the ring sockets block, since the kernel waits for them there.
fn accept(listener: &monoio::net::TcpListener, nonblocking: bool) -> io::Result<Option<OwnedFd>> {
    let flags = libc::SOCK_CLOEXEC | if nonblocking { libc::SOCK_NONBLOCK } else { 0 };
    loop {
        // SAFETY: the descriptor is open, and no address is asked for.
        let accepted =
            unsafe { libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags) };
        if accepted >= 0 {
            // SAFETY: the kernel has just given us this descriptor.
            return Ok(Some(unsafe { OwnedFd::from_raw_fd(accepted) }));
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock => return Ok(None),
            // The client gave up while it waited.
            io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
            _ => return Err(error),
        }
    }
}

/// Does what the main thread orders over `control`.
async fn follow(mut control: monoio::net::UnixStream, shared: Arc<Shared>, proxy: Rc<Proxy>) {
    let mut byte = vec![0; 1];
    loop {
        let result;
        (result, byte) = control.read(byte).await;
        // The end of the stream means that the main thread is gone: then everything ends.
        let Ok(1) = result else { return proxy.lifecycle.advance(Phase::Expired) };
        match Order::of_byte(byte[0]) {
            Some(Order::Reload) => proxy.replace_credentials(shared.credentials.load_full()),
            Some(Order::Drain) => proxy.lifecycle.advance(Phase::Draining),
            Some(Order::Expire) => proxy.lifecycle.advance(Phase::Expired),
            None => {}
        }
    }
}
