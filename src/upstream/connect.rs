//! Opening a connection: a place among the pending ones, the addresses in a race, the proxy's tunnel if there is one,
//! then TLS.
//!
//! The caller bounds the whole with one deadline; dropping the future closes whatever was half open and gives its place
//! back.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::address_race::race_addresses;
use super::addresses::{Addresses, Tries};
use super::places::Places;
use super::tls::{Handshake, Session, is_certificate_error};
use super::tunnel::{ProxyFault, Tunnel};
use super::{Connection, Resolver};
use crate::io::{Buffer, Deadline, Stream, pause};

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
    /// The proxy before the upstream cannot be reached, or opens no tunnel.
    Proxy(ProxyFault),
}

impl ConnectError {
    /// Whether another address of the same host may do better, once this one has accepted.
    fn may_be_of_one_address(&self) -> bool {
        match self {
            ConnectError::Tls(_) => true,
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
            ConnectError::Unresolved | ConnectError::Tls(_) | ConnectError::Certificate(_) => None,
        }
    }
}

/// How TLS is spoken, and the name that the certificate must hold.
pub type TlsPeer = (Arc<ClientConfig>, ServerName<'static>);

/// The way to the upstream: the same for all connectors of the process.
#[derive(Clone)]
pub struct Route {
    /// Of the host to connect to: the proxy's where there is a tunnel, else the upstream's.
    pub resolver: Resolver,
    pub tunnel: Option<Tunnel>,
    /// `None` for an `http://` upstream.
    pub tls: Option<TlsPeer>,
}

/// Opens connections to the one upstream.
pub struct Connector {
    route: Route,
    addresses: Addresses,
    places: Places,
}

impl Connector {
    /// Of the connects, `pending_max` are under way at a time; the others wait.
    pub fn new(route: Route, pending_max: usize) -> Self {
        Connector { route, addresses: Addresses::default(), places: Places::new(pending_max) }
    }

    /// Opens a connection, ready for the first request byte. Unbounded in time: the caller holds the deadline, and the
    /// wait for a place counts within it.
    ///
    /// # Errors
    /// See [`ConnectError`].
    ///
    /// # Cancel safety
    /// Whoever gives up because it takes too long calls [`Connector::distrust_addresses`], before the next await.
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        // From the start: when this is dropped while it waits, no address is to blame.
        let tries = self.addresses.begin();
        let _place = self.places.take().await;
        let result = self.try_addresses(&tries).await;
        if result.is_err() {
            self.route.resolver.refresh();
        }
        result
    }

    /// What the connect that was dropped last had under way took too long: it is tried last the next time, and the
    /// resolver looks again.
    pub fn distrust_addresses(&self) {
        self.addresses.distrust_abandoned();
        self.route.resolver.refresh();
    }

    /// Each round takes an address out, so there are no more rounds than addresses.
    async fn try_addresses(&self, tries: &Tries<'_>) -> Result<Connection, ConnectError> {
        let mut remaining = self.candidates().await?;
        let mut farthest = None;
        loop {
            let (address, stream) = match race_addresses(&mut remaining, tries).await {
                Ok(winner) => winner,
                // An address that got beyond TCP tells more than one that does not answer.
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

    /// The addresses in the order in which they are tried.
    async fn candidates(&self) -> Result<Vec<SocketAddr>, ConnectError> {
        loop {
            let answer = self.route.resolver.answer();
            if !answer.addresses.is_empty() {
                return Ok(self.addresses.in_order(&answer.addresses));
            }
            if answer.has_failed {
                return Err(match self.route.tunnel {
                    Some(_) => ConnectError::Proxy(ProxyFault::Unresolved),
                    None => ConnectError::Unresolved,
                });
            }
            drop(answer);
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
    use std::future::poll_fn;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;
    use std::thread;

    use rustls::{ServerConfig, ServerConnection};

    use super::super::address_race::tests::{listening, refusing};
    use super::super::tls::tests::acquainted;
    use super::super::tunnel::tests::read_request;
    use super::*;
    use crate::io::Deadline;
    use crate::io::deadline::on_a_shard;

    /// What a test gives a connect that should succeed or fail by itself.
    const ENOUGH: Duration = Duration::from_secs(30);
    /// What it gives one that is to be given up.
    const LITTLE: Duration = Duration::from_millis(100);

    /// An address at which each connection is served by `serve`, one after the other, and counted. Its thread ends with
    /// the test's process.
    fn served(serve: impl Fn(TcpStream) + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        thread::spawn(move || {
            for tcp in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                serve(tcp.unwrap());
            }
        });
        (address, accepted)
    }

    fn speaking_tls(config: Arc<ServerConfig>) -> (SocketAddr, Arc<AtomicUsize>) {
        served(move |mut tcp| {
            let mut server = ServerConnection::new(config.clone()).unwrap();
            // It fails where the client refuses the certificate.
            let _ = server.complete_io(&mut tcp);
        })
    }

    fn speaking_no_tls() -> (SocketAddr, Arc<AtomicUsize>) {
        served(|mut tcp| _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    }

    /// A proxy that connects to `upstream` whatever it is asked for.
    fn tunnelling_to(upstream: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
        served(move |mut tcp| {
            assert!(read_request(&mut tcp).starts_with("CONNECT flow.test:443 HTTP/1.1\r\n"));
            let mut upstream = TcpStream::connect(upstream).unwrap();
            tcp.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
            let (mut from_gateway, mut to_upstream) = (tcp.try_clone().unwrap(), upstream.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from_gateway, &mut to_upstream));
            thread::spawn(move || std::io::copy(&mut upstream, &mut tcp));
        })
    }

    /// A proxy that answers so.
    fn answering(answer: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
        served(move |mut tcp| {
            read_request(&mut tcp);
            tcp.write_all(answer.as_bytes()).unwrap();
        })
    }

    /// Goes through the proxy that has these addresses.
    fn tunnelled(proxies: &[SocketAddr], client: Arc<ClientConfig>) -> Connector {
        let Connector { route, addresses, places } = connector(proxies, client, 1);
        Connector { route: Route { tunnel: Some(Tunnel::to("flow.test", 443, None)), ..route }, addresses, places }
    }

    fn connector(addresses: &[SocketAddr], client: Arc<ClientConfig>, pending_max: usize) -> Connector {
        let name = ServerName::try_from("flow.test").unwrap();
        let route = Route { resolver: Resolver::fixed(addresses.to_vec()), tunnel: None, tls: Some((client, name)) };
        Connector::new(route, pending_max)
    }

    /// Connects as an exchange does. `None`: given up.
    async fn connect(connector: &Connector, limit: Duration) -> Option<Result<Connection, ConnectError>> {
        let result = Deadline::default().within(limit, connector.connect()).await;
        if result.is_err() {
            connector.distrust_addresses();
        }
        result.ok()
    }

    async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
        poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
    }

    #[test]
    fn behind_an_address_that_speaks_no_tls_the_next_is_tried_and_it_comes_last_from_then_on() {
        let (server, client) = acquainted(&rustls::version::TLS13);
        let ((useless, useless_accepted), (good, accepted)) = (speaking_no_tls(), speaking_tls(server));
        on_a_shard(async {
            let connector = connector(&[useless, good], client, 1);
            for count in 1..=3 {
                let result = connect(&connector, ENOUGH).await.expect("in time");
                assert!(result.is_ok(), "{:?}", result.err());
                assert_eq!((useless_accepted.load(Ordering::SeqCst), accepted.load(Ordering::SeqCst)), (1, count));
            }
            let untried = listening().1;
            let order = connector.addresses.in_order(&[useless, untried, good]);
            assert_eq!(order, [good, untried, useless]);
        });
    }

    #[test]
    fn when_no_address_is_of_use_the_one_that_got_farthest_tells() {
        let (_, client) = acquainted(&rustls::version::TLS13);
        let (useless, accepted) = speaking_no_tls();
        let (_socket, refusing) = refusing();
        on_a_shard(async {
            for addresses in [[useless, refusing], [refusing, useless]] {
                let connector = connector(&addresses, client.clone(), 1);
                let result = connect(&connector, ENOUGH).await.expect("in time");
                assert!(matches!(result, Err(ConnectError::Tls(_))), "{:?}", result.err());
            }
            let connector = connector(&[refusing], client, 1);
            let result = connect(&connector, ENOUGH).await.expect("in time");
            assert!(matches!(result, Err(ConnectError::Tcp(_))), "{:?}", result.err());
        });
        assert_eq!(accepted.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_certificate_that_is_refused_is_the_end_of_the_connect() {
        let (server, client) = acquainted(&rustls::version::TLS13);
        let (stranger, _) = acquainted(&rustls::version::TLS13);
        let ((wrong, _), (good, accepted)) = (speaking_tls(stranger), speaking_tls(server));
        on_a_shard(async {
            let connector = connector(&[wrong, good], client, 1);
            let result = connect(&connector, ENOUGH).await.expect("in time");
            assert!(matches!(result, Err(ConnectError::Certificate(_))), "{:?}", result.err());
            assert_eq!(accepted.load(Ordering::SeqCst), 0);
            assert_eq!(connector.addresses.in_order(&[wrong, good]), [good, wrong]);
        });
    }

    #[test]
    fn an_address_that_hangs_costs_one_connect_its_limit_and_not_the_next() {
        let (server, client) = acquainted(&rustls::version::TLS13);
        let ((_listener, silent), (good, _)) = (listening(), speaking_tls(server));
        on_a_shard(async {
            let connector = connector(&[silent, good], client, 1);
            assert!(connect(&connector, LITTLE).await.is_none(), "nobody shakes hands");
            let result = connect(&connector, ENOUGH).await.expect("in time");
            assert!(result.is_ok(), "{:?}", result.err());
        });
    }

    #[test]
    fn a_connect_that_is_dropped_for_another_reason_blames_no_address() {
        let (server, client) = acquainted(&rustls::version::TLS13);
        let ((_listener, silent), (good, accepted)) = (listening(), speaking_tls(server));
        on_a_shard(async {
            let connector = connector(&[silent, good], client, 1);
            for _ in 0..2 {
                // The client has gone.
                let result = Deadline::default().within(LITTLE, connector.connect()).await;
                assert!(result.is_err());
            }
            assert_eq!(accepted.load(Ordering::SeqCst), 0);
        });
    }

    #[test]
    fn a_connect_waits_for_a_place_within_its_limit_and_blames_no_address_for_it() {
        let (server, client) = acquainted(&rustls::version::TLS13);
        let ((_listener, silent), (good, _)) = (listening(), speaking_tls(server));
        on_a_shard(async {
            let connector = connector(&[silent, good], client, 1);
            // One that is dropped with an address under way, for another reason, leaves nothing behind for the next.
            assert!(Deadline::default().within(LITTLE, connector.connect()).await.is_err());
            // The first one takes the place and keeps it: it gets no further by itself.
            let mut first = Box::pin(connector.connect());
            assert!(poll_once(first.as_mut()).await.is_pending());
            assert!(connect(&connector, LITTLE).await.is_none(), "there is no place, and its own limit counts");
            let found = [silent, good];
            assert_eq!(connector.addresses.in_order(&found), found, "it tried no address");
            // The next waits until the first is given up, and goes elsewhere then.
            let mut next = Box::pin(connect(&connector, ENOUGH));
            assert!(poll_once(next.as_mut()).await.is_pending());
            drop(first);
            connector.distrust_addresses();
            let result = next.await.expect("in time");
            assert!(result.is_ok(), "{:?}", result.err());
        });
    }

    #[test]
    fn through_a_tunnel_tls_is_spoken_with_the_upstream_itself() {
        let (server, client) = acquainted(&rustls::version::TLS13);
        let (stranger, _) = acquainted(&rustls::version::TLS13);
        let ((upstream, accepted), (imposter, _)) = (speaking_tls(server), speaking_tls(stranger));
        on_a_shard(async {
            let result =
                connect(&tunnelled(&[tunnelling_to(upstream).0], client.clone()), ENOUGH).await.expect("in time");
            assert!(result.is_ok(), "{:?}", result.err());
            assert_eq!(accepted.load(Ordering::SeqCst), 1);
            let result = connect(&tunnelled(&[tunnelling_to(imposter).0], client), ENOUGH).await.expect("in time");
            assert!(matches!(result, Err(ConnectError::Certificate(_))), "{:?}", result.err());
        });
    }

    #[test]
    fn an_address_of_the_proxy_that_opens_no_tunnel_gives_way_to_the_next_one() {
        let (server, client) = acquainted(&rustls::version::TLS13);
        let (good, _) = tunnelling_to(speaking_tls(server).0);
        for answer in ["HTTP/1.1 503 No\r\n\r\n", "SSH-2.0\r\n", ""] {
            let (useless, asked) = answering(answer);
            on_a_shard(async {
                let connector = tunnelled(&[useless, good], client.clone());
                for _ in 0..2 {
                    let result = connect(&connector, ENOUGH).await.expect("in time");
                    assert!(result.is_ok(), "{answer:?}: {:?}", result.err());
                }
                assert_eq!(asked.load(Ordering::SeqCst), 1, "{answer:?}");
                let result = connect(&tunnelled(&[useless], client.clone()), ENOUGH).await.expect("in time");
                assert!(matches!(result, Err(ConnectError::Proxy(_))), "{answer:?}: {:?}", result.err());
            });
        }
    }

    #[test]
    fn a_proxy_that_says_no_is_the_end_of_the_connect() {
        let (_, client) = acquainted(&rustls::version::TLS13);
        let ((other, asked), (_socket, refusing)) = (answering(""), refusing());
        for answer in ["HTTP/1.1 407 No\r\n\r\n", "HTTP/1.1 403 No\r\n\r\n"] {
            let (strict, _) = answering(answer);
            on_a_shard(async {
                let result =
                    connect(&tunnelled(&[refusing, strict, other], client.clone()), ENOUGH).await.expect("in time");
                let is_refusal = matches!(result, Err(ConnectError::Proxy(ProxyFault::Refused { .. })));
                assert!(is_refusal, "{answer:?}: {:?}", result.err());
            });
        }
        assert_eq!(asked.load(Ordering::SeqCst), 0, "the next address would say the same");
    }

    #[test]
    fn a_proxy_that_is_not_there_is_told_from_an_upstream_that_is_not() {
        let (_, client) = acquainted(&rustls::version::TLS13);
        let (_socket, refusing) = refusing();
        on_a_shard(async {
            let result = connect(&tunnelled(&[refusing], client), ENOUGH).await.expect("in time");
            assert!(matches!(result, Err(ConnectError::Proxy(ProxyFault::Tcp(_)))), "{:?}", result.err());
        });
    }

    #[test]
    fn an_address_of_the_proxy_that_hangs_costs_one_connect_its_limit_and_not_the_next() {
        let (server, client) = acquainted(&rustls::version::TLS13);
        let ((_listener, silent), (good, _)) = (listening(), tunnelling_to(speaking_tls(server).0));
        on_a_shard(async {
            let connector = tunnelled(&[silent, good], client);
            assert!(connect(&connector, LITTLE).await.is_none(), "nobody answers");
            let result = connect(&connector, ENOUGH).await.expect("in time");
            assert!(result.is_ok(), "{:?}", result.err());
            let place = Deadline::default().within(ENOUGH, connector.places.take()).await;
            assert!(place.is_ok());
        });
    }

    #[test]
    fn a_place_is_given_back_however_the_connect_ends() {
        let (server, client) = acquainted(&rustls::version::TLS13);
        let (stranger, _) = acquainted(&rustls::version::TLS13);
        let (_listener, silent) = listening();
        let (_socket, refusing) = refusing();
        on_a_shard(async {
            for address in [speaking_tls(server).0, speaking_tls(stranger).0, speaking_no_tls().0, refusing, silent] {
                let connector = connector(&[address], client.clone(), 1);
                for _ in 0..3 {
                    let _ = connect(&connector, LITTLE).await;
                    let place = Deadline::default().within(ENOUGH, connector.places.take()).await;
                    assert!(place.is_ok(), "{address}");
                }
            }
        });
    }
}
