//! Opening a connection: addresses raced as RFC 8305 says, then TLS.
//!
//! The caller bounds the whole with one deadline; dropping the future closes whatever was half open.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use monoio::net::TcpStream;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::tls::{Handshake, Session, is_certificate_error};
use super::{Connection, Resolver};
use crate::io::{Buffer, Deadline, Stream};

/// Time given to one address before the next is tried beside it (RFC 8305 §5 "Connection Attempt Delay").
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How often a connect that came before the first answer of the resolver looks again.
const RESOLVE_POLL: Duration = Duration::from_millis(20);

/// Room for one read of the handshake.
const READ_ROOM: usize = 16 * 1024;

/// Progress limit of a handshake flight; the caller's deadline on the whole is shorter or fires beside it.
const HANDSHAKE_WRITE_STALL: Duration = Duration::from_secs(60);

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// The host's name has no address (yet).
    Unresolved,
    /// Every address refused or could not be reached; this is what the last one said.
    Tcp(io::Error),
    /// The connection broke, or the peer does not speak TLS as we do.
    Tls(String),
    /// The peer's certificate is not trusted, not valid, or for another name.
    Certificate(String),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Unresolved => formatter.write_str("its name could not be resolved"),
            ConnectError::Tcp(error) => error.fmt(formatter),
            ConnectError::Tls(reason) => write!(formatter, "the TLS handshake failed: {reason}"),
            ConnectError::Certificate(reason) => write!(formatter, "its certificate was refused: {reason}"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConnectError::Tcp(error) => Some(error),
            ConnectError::Unresolved | ConnectError::Tls(_) | ConnectError::Certificate(_) => None,
        }
    }
}

/// How TLS is spoken, and the name that the certificate must hold.
pub type TlsPeer = (Arc<ClientConfig>, ServerName<'static>);

/// Opens connections to the one upstream.
pub struct Connector {
    resolver: Resolver,
    tls: Option<TlsPeer>,
    /// The address that answered last, tried first the next time.
    winner: Cell<Option<SocketAddr>>,
}

impl Connector {
    /// `tls` is `None` for an `http://` upstream.
    pub fn new(resolver: Resolver, tls: Option<TlsPeer>) -> Self {
        Connector { resolver, tls, winner: Cell::new(None) }
    }

    /// Opens a connection, ready for the first request byte. Unbounded in time: the caller holds the deadline.
    ///
    /// # Errors
    /// See [`ConnectError`].
    ///
    /// # Cancel safety
    /// Whoever gives up because it takes too long calls [`Connector::distrust_addresses`].
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        let result = self.try_connect().await;
        if result.is_err() {
            self.distrust_addresses();
        }
        result
    }

    /// What is known of the addresses did not lead to a connection: the last winner is not tried first any more, and
    /// the resolver looks again.
    pub fn distrust_addresses(&self) {
        self.winner.set(None);
        self.resolver.refresh();
    }

    async fn try_connect(&self) -> Result<Connection, ConnectError> {
        let stream = race_addresses(self.candidates().await?, &self.winner).await.map_err(ConnectError::Tcp)?;
        match &self.tls {
            Some((config, name)) => shake_hands(stream, config.clone(), name.clone()).await,
            None => Ok(Connection::new(stream, None, Buffer::none())),
        }
    }

    /// The addresses in the order in which they are tried: the last winner, then the families in turn (RFC 8305 §4).
    async fn candidates(&self) -> Result<Vec<SocketAddr>, ConnectError> {
        loop {
            let answer = self.resolver.answer();
            if !answer.addresses.is_empty() {
                return Ok(in_turn(&answer.addresses, self.winner.get()));
            }
            if answer.has_failed {
                return Err(ConnectError::Unresolved);
            }
            drop(answer);
            monoio::time::sleep(RESOLVE_POLL).await;
        }
    }
}

fn in_turn(addresses: &[SocketAddr], winner: Option<SocketAddr>) -> Vec<SocketAddr> {
    let leads_with_v6 = addresses[0].is_ipv6();
    let mut lead = addresses.iter().filter(|address| address.is_ipv6() == leads_with_v6);
    let mut other = addresses.iter().filter(|address| address.is_ipv6() != leads_with_v6);
    let mut ordered = Vec::with_capacity(addresses.len());
    loop {
        let pair = [lead.next(), other.next()];
        if pair == [None, None] {
            break;
        }
        ordered.extend(pair.into_iter().flatten());
    }
    if let Some(place) = ordered.iter().position(|address| Some(*address) == winner) {
        ordered[..=place].rotate_right(1);
    }
    ordered
}

/// Connects to the addresses one after the other, each [`ATTEMPT_DELAY`] after the one before or at once when all that
/// were started have failed. The first that succeeds wins and the others are closed.
async fn race_addresses(addresses: Vec<SocketAddr>, winner: &Cell<Option<SocketAddr>>) -> io::Result<Stream> {
    type Attempt = Pin<Box<dyn Future<Output = io::Result<(SocketAddr, TcpStream)>>>>;
    let mut waiting = addresses.into_iter();
    let mut running: Vec<Attempt> = Vec::new();
    let mut last_error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        let Some(address) = waiting.next() else {
            if running.is_empty() {
                return Err(last_error);
            }
            match first_of(&mut running).await {
                Ok((address, tcp)) => return accept_winner(address, tcp, winner),
                Err(error) => last_error = error,
            }
            continue;
        };
        running.push(Box::pin(async move { Ok((address, TcpStream::connect_addr(address).await?)) }));
        let started = Instant::now();
        let pace = Deadline::default();
        while !running.is_empty() {
            match pace.before(started + ATTEMPT_DELAY, first_of(&mut running)).await {
                Ok(Ok((address, tcp))) => return accept_winner(address, tcp, winner),
                Ok(Err(error)) => last_error = error,
                Err(_) => break,
            }
        }
    }
}

fn accept_winner(address: SocketAddr, tcp: TcpStream, winner: &Cell<Option<SocketAddr>>) -> io::Result<Stream> {
    winner.set(Some(address));
    tcp.set_nodelay(true)?;
    Ok(Stream::new(tcp))
}

/// The result of the first attempt that ends, which is then taken out.
async fn first_of<T>(running: &mut Vec<Pin<Box<dyn Future<Output = T>>>>) -> T {
    poll_fn(|context| {
        for place in 0..running.len() {
            if let Poll::Ready(output) = running[place].as_mut().poll(context) {
                drop(running.swap_remove(place));
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    })
    .await
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
        let step = session.shake_hands(&mut received);
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
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_the_last_winner_goes_first() {
        let found = addresses(&["[::1]:443", "[::2]:443", "1.1.1.1:443", "2.2.2.2:443", "3.3.3.3:443"]);
        assert_eq!(
            in_turn(&found, None),
            addresses(&["[::1]:443", "1.1.1.1:443", "[::2]:443", "2.2.2.2:443", "3.3.3.3:443"])
        );
        assert_eq!(
            in_turn(&found, Some("2.2.2.2:443".parse().unwrap())),
            addresses(&["2.2.2.2:443", "[::1]:443", "1.1.1.1:443", "[::2]:443", "3.3.3.3:443"])
        );
    }
}
