//! Opening a connection: a permit, the addresses in a race, the proxy's tunnel if there is one, then TLS.
//!
//! The caller bounds the whole with one deadline; dropping the future closes whatever was half open and returns its
//! permit.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;

use super::address_race::race_addresses;
use super::addresses::{Addresses, Tries};
use super::connect_limit::ConnectLimit;
use super::connection::Connection;
use super::resolve::Resolver;
use super::tls::session::{Handshake, Session, is_certificate_error, is_protocol_error};
use super::tunnel::{ProxyFault, Tunnel};
use crate::io::{Buffer, Deadline, Stream, pause, turns};

/// Interval at which a connect that came before the resolver's first answer looks again.
const RESOLVE_POLL: Duration = Duration::from_millis(20);

/// Room for one read of the handshake.
const READ_ROOM: usize = 16 * 1024;

/// Progress limit of a handshake flight; the caller's deadline on the whole is shorter or fires on its own.
const HANDSHAKE_WRITE_STALL: Duration = Duration::from_secs(60);

/// The reason why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// The host's name has no address (yet).
    Unresolved,
    /// Every address refused or could not be reached; this is the error of the last one.
    Tcp(io::Error),
    /// The connection broke, or the peer supports no TLS that this side does.
    Tls(String),
    /// The peer takes none of the protocols that were offered (ALPN).
    NoCommonProtocol,
    /// The peer's certificate is not trusted, not valid, or for another name.
    Certificate(String),
    /// The proxy in front of the upstream cannot be reached, or opens no tunnel.
    Proxy(ProxyFault),
}

impl ConnectError {
    /// Returns whether another address of the same host may do better, once this one has accepted.
    fn may_be_of_one_address(&self) -> bool {
        match self {
            ConnectError::Tls(_) | ConnectError::NoCommonProtocol => true,
            ConnectError::Proxy(fault) => !matches!(fault, ProxyFault::Refused { .. }),
            ConnectError::Unresolved | ConnectError::Tcp(_) | ConnectError::Certificate(_) => false,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Unresolved => formatter.write_str("its name could not be resolved"),
            ConnectError::Tcp(error) => error.fmt(formatter),
            ConnectError::Tls(reason) => write!(formatter, "the TLS handshake failed: {reason}"),
            ConnectError::NoCommonProtocol => formatter.write_str("it does not take HTTP/1.1 (ALPN)"),
            ConnectError::Certificate(reason) => write!(formatter, "its certificate was refused: {reason}"),
            ConnectError::Proxy(fault) => fault.fmt(formatter),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConnectError::Tcp(error) => Some(error),
            ConnectError::Proxy(fault) => Some(fault),
            ConnectError::Unresolved
            | ConnectError::Tls(_)
            | ConnectError::NoCommonProtocol
            | ConnectError::Certificate(_) => None,
        }
    }
}

/// The configuration of TLS, and the name that the certificate must hold.
pub type TlsPeer = (Arc<ClientConfig>, ServerName<'static>);

/// The way to the upstream: the same for all connectors of the process.
#[derive(Clone)]
pub struct Route {
    /// The resolver of the host to connect to: the proxy if there is a tunnel, else the upstream.
    pub resolver: Resolver,
    pub tunnel: Option<Tunnel>,
    /// `None` for an `http://` upstream.
    pub tls: Option<TlsPeer>,
}

impl Route {
    /// Returns the same route with a handshake of its own that offers this protocol alone (ALPN, RFC 7301); `None`
    /// without TLS.
    pub fn offering(&self, protocol: &str) -> Option<Route> {
        let (config, name) = self.tls.as_ref()?;
        let mut config = ClientConfig::clone(config);
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        // A session that is resumed could be one of the other protocol.
        config.resumption = Resumption::disabled();
        Some(Route { tls: Some((Arc::new(config), name.clone())), ..self.clone() })
    }
}

/// Opens connections to the one upstream.
pub struct Connector {
    route: Route,
    addresses: Addresses,
    limit: ConnectLimit,
}

impl Connector {
    /// Makes a connector with at most `pending_max` connects under way at a time; the others wait.
    pub fn new(route: Route, pending_max: usize) -> Self {
        Connector { route, addresses: Addresses::default(), limit: ConnectLimit::new(pending_max) }
    }

    /// Returns the time since which the shard has had a connect to go on with, and has not found the time; `None` while
    /// connects wait for the network alone.
    pub fn stands_since(&self) -> Option<Instant> {
        let handshake = turns::first_waits_since(turns::Work::UpstreamHandshake)?;
        // Most of those that wait for one are still before their permit.
        Some(self.limit.first_waits_since().map_or(handshake, |permit| permit.min(handshake)))
    }

    /// Opens a connection, ready for the first request byte. Unbounded in time: the caller holds the deadline, which
    /// covers the wait for a permit too.
    ///
    /// # Errors
    /// See [`ConnectError`].
    ///
    /// # Cancel safety
    /// Dropping it closes what was under way. A caller that drops it because its limit has passed calls
    /// [`Connector::distrust_addresses`], before the next await.
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        // From the start: if this is dropped while it waits, no address is blamed.
        let tries = self.addresses.begin();
        let _permit = self.limit.acquire().await;
        let result = self.try_addresses(&tries).await;
        if result.is_err() {
            self.route.resolver.refresh();
        }
        result
    }

    /// Distrusts the addresses that the last dropped connect had under way, which took too long: they are tried last
    /// the next time, and the resolver looks again.
    pub fn distrust_addresses(&self) {
        self.addresses.distrust_abandoned();
        self.route.resolver.refresh();
    }

    /// Tries addresses until one leads to a connection. Each round removes an address, so there are no more rounds
    /// than addresses.
    async fn try_addresses(&self, tries: &Tries<'_>) -> Result<Connection, ConnectError> {
        let mut remaining = self.candidates().await?;
        let mut farthest = None;
        loop {
            let (address, stream) = match race_addresses(&mut remaining, tries).await {
                Ok(winner) => winner,
                // An address that got beyond TCP says more about the fault than one that does not answer.
                Err(error) => return Err(farthest.unwrap_or_else(|| self.not_reached(error))),
            };
            match self.secure(stream).await {
                Ok(connection) => {
                    tries.succeed(address);
                    return Ok(connection);
                }
                Err(error) if error.may_be_of_one_address() => {
                    tracing::debug!(%address, %error, "an address is of no use");
                    tries.fail(address);
                    farthest = Some(error);
                }
                Err(error) => {
                    tries.fail(address);
                    return Err(error);
                }
            }
        }
    }

    fn not_reached(&self, error: io::Error) -> ConnectError {
        match self.route.tunnel {
            Some(_) => ConnectError::Proxy(ProxyFault::Tcp(error)),
            None => ConnectError::Tcp(error),
        }
    }

    async fn secure(&self, stream: Stream) -> Result<Connection, ConnectError> {
        if let Some(tunnel) = &self.route.tunnel {
            tunnel.open(&stream).await.map_err(ConnectError::Proxy)?;
        }
        match &self.route.tls {
            Some((config, name)) => shake_hands(stream, config.clone(), name.clone()).await,
            None => Ok(Connection::new(stream, None, Buffer::none())),
        }
    }

    /// Returns the addresses in the order in which they are tried.
    async fn candidates(&self) -> Result<Vec<SocketAddr>, ConnectError> {
        loop {
            let resolution = self.route.resolver.resolution();
            if !resolution.addresses.is_empty() {
                return Ok(self.addresses.in_order(&resolution.addresses));
            }
            if resolution.has_failed {
                return Err(match self.route.tunnel {
                    Some(_) => ConnectError::Proxy(ProxyFault::Unresolved),
                    None => ConnectError::Unresolved,
                });
            }
            drop(resolution);
            pause(RESOLVE_POLL).await;
        }
    }
}

async fn shake_hands(
    stream: Stream,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<Connection, ConnectError> {
    let mut session = Session::new(config, name).map_err(|error| ConnectError::Tls(error.to_string()))?;
    let progress = Deadline::default();
    let mut received = Buffer::none();
    loop {
        // Hundreds of answers come at the same time when an upstream is back, each with a certificate to verify.
        let step = turns::spend_on(turns::Work::UpstreamHandshake, || session.shake_hands(&mut received)).await;
        let urgent = session.take_urgent();
        if !urgent.is_empty() {
            let mut out = Buffer::take();
            out.tail().extend_from_slice(&urgent);
            let written = pin!(stream.write_all(out, &progress, HANDSHAKE_WRITE_STALL)).await.0;
            if step.is_ok() {
                written.map_err(|error| ConnectError::Tls(format!("{error:?}")))?;
            }
        }
        match step {
            Ok(Handshake::Complete) => return Ok(Connection::new(stream, Some(session), received)),
            Ok(Handshake::NeedsInput) => {}
            Err(error) if is_protocol_error(&error) => return Err(ConnectError::NoCommonProtocol),
            Err(error) if is_certificate_error(&error) => return Err(ConnectError::Certificate(error.to_string())),
            Err(error) => return Err(ConnectError::Tls(error.to_string())),
        }
        received.reserve(READ_ROOM);
        let (result, buffer) = stream.read(received).await;
        received = buffer;
        match result {
            Ok(0) => return Err(ConnectError::Tls("the peer closed the connection".into())),
            Ok(_) => {}
            Err(error) => return Err(ConnectError::Tls(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests;
