//! The upstream connection of an attempt: a pooled one, or a fresh one within the connect limit.

use std::io;

use crate::io::{Either, Phase, race};
use crate::proxy::downstream::Downstream;
use crate::proxy::error::GatewayError;
use crate::proxy::resources::Resources;
use crate::upstream::{ConnectError, Connection, ProxyFault};

/// Reasons why there is no connection.
pub enum NoConnection {
    ClientGone,
    Failed(GatewayError),
}

/// Takes a connection from the pool, if `may_reuse`, or opens one.
///
/// # Errors
/// The client has left meanwhile, or no connection can be had.
pub async fn connection(
    resources: &Resources,
    downstream: &Downstream,
    may_reuse: bool,
) -> Result<Connection, NoConnection> {
    resources.warm.note_request();
    if may_reuse && let Some(connection) = resources.pool.checkout() {
        return Ok(connection);
    }
    // Boxed: it is needed for a moment, and the task of the connection would keep room for it all its life.
    let connect = Box::pin(resources.connector.connect());
    let connect = downstream.upstream_deadline.within(resources.timeouts.connect, connect);
    let outgoing = downstream.outgoing();
    let interrupted = race(outgoing.left(), resources.lifecycle.reached(Phase::Expired));
    let error = match race(connect, interrupted).await {
        Either::First(Ok(Ok(connection))) => return Ok(connection),
        Either::First(Ok(Err(error))) => {
            tracing::warn!(%error, "cannot connect to the upstream");
            of_connect_error(error)
        }
        Either::First(Err(_)) => {
            tracing::warn!("connecting to the upstream took too long");
            resources.connector.distrust_addresses();
            GatewayError::ConnectTimeout
        }
        Either::Second(Either::First(())) => return Err(NoConnection::ClientGone),
        Either::Second(Either::Second(())) => GatewayError::Draining,
    };
    Err(NoConnection::Failed(error))
}

fn of_connect_error(error: ConnectError) -> GatewayError {
    match error {
        ConnectError::Unresolved => GatewayError::UpstreamResolve,
        ConnectError::Tcp(error) if is_out_of_descriptors(&error) => GatewayError::OutOfDescriptors,
        ConnectError::Tcp(error) => GatewayError::UpstreamConnect(error.kind()),
        ConnectError::Tls(_) | ConnectError::NoCommonProtocol => GatewayError::UpstreamTls,
        ConnectError::Certificate(_) => GatewayError::UpstreamCertificate,
        ConnectError::Proxy(fault) => of_proxy_fault(&fault),
    }
}

fn of_proxy_fault(fault: &ProxyFault) -> GatewayError {
    match fault {
        ProxyFault::Tcp(error) if is_out_of_descriptors(error) => GatewayError::OutOfDescriptors,
        ProxyFault::Tcp(error) => GatewayError::ProxyConnect(error.kind()),
        ProxyFault::Unresolved => GatewayError::ProxyResolve,
        ProxyFault::Closed => GatewayError::ProxyClosed,
        ProxyFault::Malformed(what) => GatewayError::ProxyMalformed(what),
        ProxyFault::Refused { status } => GatewayError::ProxyRefused { status: *status },
        ProxyFault::Failed { status } => GatewayError::ProxyFailed { status: *status },
    }
}

/// Tells whether the process or the system may open no more files: not the upstream's fault.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}
