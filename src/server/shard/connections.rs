//! The open connections of one shard: each has a task while it is served, and is parked without one while it is idle.
//!
//! Invariant: every open connection holds a permit, which it returns when it ends.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use monoio::net::TcpStream;
use rustls::ServerConfig;

use super::connection::{self, Arrival};
use super::draining;
use super::keep_alive::IdleConnection;
use super::shared::Shared;
use crate::http1::head::begins_http2;
use crate::io::{Deadline, Either, HandshakeError, Parking, Stream, race, tls};
use crate::proxy::Proxy;
use crate::proxy::error::GatewayError;

/// The open connections of one shard.
pub struct Connections {
    shared: Arc<Shared>,
    proxy: Rc<Proxy>,
    /// The number of permits that connections hold.
    open: Rc<Cell<usize>>,
    parking: Parking<ParkedConnection>,
}

/// An idle connection with its permit.
struct ParkedConnection {
    idle: IdleConnection,
    permit: ConnectionPermit,
}

impl AsRawFd for ParkedConnection {
    fn as_raw_fd(&self) -> RawFd {
        self.idle.as_raw_fd()
    }
}

impl Connections {
    /// Starts with none, and with the task that resumes idle connections. To be called on the thread of the shard.
    ///
    /// # Errors
    /// The parking cannot be set up.
    pub fn start(shared: Arc<Shared>, proxy: Rc<Proxy>) -> io::Result<Rc<Self>> {
        let (parking, arrivals) = Parking::open()?;
        let connections = Rc::new(Connections { shared, proxy, open: Rc::default(), parking });
        monoio::spawn(connections.clone().resume_parked(arrivals));
        Ok(connections)
    }

    /// Returns whether the process has as many open connections as it may have.
    pub fn is_full(&self) -> bool {
        self.shared.connections.load(Ordering::Relaxed) >= self.shared.config.limits.connections_max
    }

    /// Takes a permit for one more connection; `None` when no more may be open.
    pub fn permit(&self) -> Option<ConnectionPermit> {
        let connections = &self.shared.connections;
        if connections.fetch_add(1, Ordering::Relaxed) >= self.shared.config.limits.connections_max {
            connections.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.open.set(self.open.get() + 1);
        Some(ConnectionPermit { shared: self.shared.clone(), open: self.open.clone() })
    }

    pub fn open_count(&self) -> usize {
        self.open.get()
    }

    /// Serves a connection that has just been accepted.
    pub fn admit(self: &Rc<Self>, permit: ConnectionPermit, stream: Stream) {
        match &self.shared.listener_tls {
            Some(config) => drop(monoio::spawn(self.clone().secure(permit, stream, config.load_full()))),
            None => self.spawn(permit, Arrival::Accepted(stream)),
        }
    }

    /// Closes all idle connections. One on which a request has arrived meanwhile is served first.
    pub fn close_parked(self: &Rc<Self>) {
        for ParkedConnection { idle, permit } in self.parking.take_all() {
            if !idle.is_quiet() {
                self.spawn(permit, Arrival::Resumed(idle));
            }
        }
    }

    /// Resumes idle connections on which something has arrived.
    async fn resume_parked(self: Rc<Self>, arrivals: TcpStream) {
        let go_on = |ParkedConnection { idle, permit }: ParkedConnection| self.spawn(permit, Arrival::Resumed(idle));
        if let Err(error) = self.parking.attend(arrivals, go_on).await {
            tracing::error!(%error, "idle connections are no longer served");
        }
    }

    fn spawn(self: &Rc<Self>, permit: ConnectionPermit, arrival: Arrival) {
        monoio::spawn(self.clone().run(permit, arrival));
    }

    /// Serves a connection until it ends or is parked.
    async fn run(self: Rc<Self>, permit: ConnectionPermit, arrival: Arrival) {
        if let Some(idle) = connection::serve(arrival, self.proxy.clone()).await {
            self.park(permit, idle);
        }
    }

    /// Performs the TLS handshake with a client that has just connected, in a task of its own, so that the task that
    /// serves the connection is no larger. A client that speaks plain HTTP gets an error page.
    async fn secure(self: Rc<Self>, permit: ConnectionPermit, stream: Stream, config: Arc<ServerConfig>) {
        let handshake = tls::accept(stream, config, self.proxy.resources.timeouts.handshake);
        match race(handshake, draining::grace_over(&self.proxy, &Deadline::default())).await {
            Either::First(Ok(stream)) => self.spawn(permit, Arrival::Accepted(stream)),
            Either::First(Err(HandshakeError::NotTls(stream, received))) => {
                connection::refuse(stream, error_without_tls(received.filled()), &self.proxy).await;
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

/// Returns the error for a client that does not begin with a handshake, in the protocol that it speaks.
fn error_without_tls(received: &[u8]) -> GatewayError {
    if begins_http2(received) { GatewayError::Http2NotSupported } else { GatewayError::TlsRequired }
}

/// The permit to be one of the open connections of the process, returned when it is dropped.
pub struct ConnectionPermit {
    shared: Arc<Shared>,
    open: Rc<Cell<usize>>,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every open connection costs it. An `async fn` or block that is given a future or a large value holds it twice:
    /// that is what usually breaks this.
    #[test]
    fn the_task_of_a_connection_stays_small() {
        fn size_of_future<F>(_run: fn(Rc<Connections>, ConnectionPermit, Arrival) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size_of_future(Connections::run);
        println!("{bytes} bytes");
        assert!(bytes <= 5_200, "{bytes} bytes");
    }
}
