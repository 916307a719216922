//! The open connections of one shard: each has a task while it is served, and is parked without one while it is idle.
//!
//! Invariant: every open connection holds a permit, which it returns when it ends.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use monoio::net::TcpStream;

use super::connection::{self, Arrival};
use super::keep_alive::IdleConnection;
use super::shared::Shared;
use crate::http1::head::begins_http2;
use crate::io::{HandshakeError, Handshakes, Parking, Stream};
use crate::proxy::Proxy;
use crate::proxy::error::GatewayError;

/// The open connections of one shard.
pub struct Connections {
    shared: Arc<Shared>,
    proxy: Rc<Proxy>,
    /// The number of permits that connections hold.
    open: Rc<Cell<usize>>,
    parking: Parking<ParkedConnection>,
    handshakes: Handshakes<ConnectionPermit>,
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
    /// Starts with none, and with the tasks that resume idle connections and perform TLS handshakes. To be called on
    /// the thread of the shard.
    ///
    /// # Errors
    /// The parking or the table of handshakes cannot be set up.
    pub fn start(shared: Arc<Shared>, proxy: Rc<Proxy>) -> io::Result<Rc<Self>> {
        let (parking, arrivals) = Parking::open()?;
        let (handshakes, flights) = Handshakes::open()?;
        let connections = Rc::new(Connections { shared, proxy, open: Rc::default(), parking, handshakes });
        monoio::spawn(connections.clone().resume_parked(arrivals));
        monoio::spawn(connections.clone().perform_handshakes(flights));
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
        let Some(config) = &self.shared.listener_tls else {
            return self.spawn(permit, Arrival::Accepted(stream));
        };
        let due = Instant::now() + self.proxy.resources.timeouts.handshake;
        if let Err(error) = self.handshakes.begin(stream, config.load_full(), permit, due) {
            tracing::warn!(%error, "cannot wait for a client's TLS handshake; its connection is closed");
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

    /// Closes all connections whose TLS handshake is not over.
    pub async fn end_handshakes(&self) {
        self.handshakes.end_all().await;
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

    /// Performs the TLS handshakes with clients that have just connected, and serves those that succeed. A client that
    /// speaks plain HTTP gets an error page.
    async fn perform_handshakes(self: Rc<Self>, flights: TcpStream) {
        let settle = |permit, result| match result {
            Ok(stream) => self.spawn(permit, Arrival::Accepted(stream)),
            Err(HandshakeError::NotTls(stream, received)) => {
                let (proxy, error) = (self.proxy.clone(), error_without_tls(received.filled()));
                monoio::spawn(async move {
                    connection::refuse(stream, error, &proxy).await;
                    drop(permit);
                });
            }
            Err(HandshakeError::Failed(fault)) => tracing::debug!(%fault, "a TLS handshake failed"),
        };
        if let Err(error) = self.handshakes.attend(flights, settle).await {
            tracing::error!(%error, "TLS handshakes with clients are no longer performed");
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
