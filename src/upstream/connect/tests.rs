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

/// Time limit of a connect that should succeed or fail by itself.
const ENOUGH: Duration = Duration::from_secs(30);
/// Time limit of a connect that is to be given up.
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

/// Starts a proxy that connects to `upstream` whatever it is asked for.
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

/// Starts a proxy that sends this answer.
fn answering(answer: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    served(move |mut tcp| {
        read_request(&mut tcp);
        tcp.write_all(answer.as_bytes()).unwrap();
    })
}

/// Makes a connector through the proxy that has these addresses.
fn tunnelled(proxies: &[SocketAddr], client: Arc<ClientConfig>) -> Connector {
    let Connector { route, addresses, limit } = connector(proxies, client, 1);
    Connector { route: Route { tunnel: Some(Tunnel::to("flow.test", 443, None)), ..route }, addresses, limit }
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
fn after_an_address_that_speaks_no_tls_the_next_is_tried_and_it_comes_last_from_then_on() {
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
        // The first one takes the permit and keeps it: it gets no further by itself.
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
        let result = connect(&tunnelled(&[tunnelling_to(upstream).0], client.clone()), ENOUGH).await.expect("in time");
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
        let permit = Deadline::default().within(ENOUGH, connector.limit.acquire()).await;
        assert!(permit.is_ok());
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
                let permit = Deadline::default().within(ENOUGH, connector.limit.acquire()).await;
                assert!(permit.is_ok(), "{address}");
            }
        }
    });
}
