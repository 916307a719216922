use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream as Peer};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;

use monoio::net::TcpStream;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use socket2::{Domain, SockRef, Socket, Type};

use super::*;
use crate::io::deadline::{next_turn, on_both_drivers, pause};

/// Time that nothing takes here, even on a busy machine.
const ENOUGH: Duration = Duration::from_secs(30);

/// Both sides' configurations; the server's chain has its certificate so many times.
fn configurations(
    chain_len: usize,
    versions: &[&'static SupportedProtocolVersion],
) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["gateway".into()]).unwrap().self_signed(&key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let chain = vec![certificate.der().clone(); chain_len];
    let server = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let client =
        ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(roots).with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

fn client(config: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config.clone(), ServerName::try_from("gateway").unwrap()).unwrap()
}

/// The first flight of a client.
fn hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let mut hello = Vec::new();
    client(config).write_tls(&mut hello).unwrap();
    hello
}

/// The results of handshakes, in their order, with their companions: numbers.
type Settled = Rc<RefCell<Vec<(usize, Result<Stream, HandshakeError>)>>>;

/// A table with its attendant, and what has come out of it.
struct Reception {
    listener: TcpListener,
    handshakes: Rc<Handshakes<usize>>,
    settled: Settled,
    config: Arc<ServerConfig>,
}

impl Reception {
    fn open(config: Arc<ServerConfig>) -> Self {
        let (handshakes, events) = Handshakes::open().unwrap();
        let (handshakes, settled) = (Rc::new(handshakes), Settled::default());
        let (attendant, out) = (handshakes.clone(), settled.clone());
        monoio::spawn(async move {
            attendant.attend(events, |number, result| out.borrow_mut().push((number, result))).await
        });
        Reception { listener: TcpListener::bind("127.0.0.1:0").unwrap(), handshakes, settled, config }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    fn connect(&self) -> Peer {
        let peer = Peer::connect(self.address()).unwrap();
        peer.set_read_timeout(Some(ENOUGH)).unwrap();
        peer
    }

    /// Accepts the next connection, and begins its handshake.
    fn begin(&self, number: usize, limit: Duration) {
        self.begin_within(number, HandshakeLimits { begins_by: None, due: Instant::now() + limit });
    }

    fn begin_within(&self, number: usize, limits: HandshakeLimits) {
        let socket = self.listener.accept().unwrap().0;
        SockRef::from(&socket).set_send_buffer_size(4096).unwrap();
        socket.set_nonblocking(true).unwrap();
        let stream = Stream::new(TcpStream::from_std(socket).unwrap());
        self.handshakes.begin(stream, self.config.clone(), number, limits).unwrap();
    }

    async fn until_settled(&self, count: usize) {
        let started = Instant::now();
        while self.settled.borrow().len() < count {
            assert!(started.elapsed() < ENOUGH, "{} of {count} are over", self.settled.borrow().len());
            pause(Duration::from_millis(5)).await;
        }
    }

    fn waiting_count(&self) -> usize {
        self.handshakes.places.borrow().iter().len()
    }
}

fn fault(result: &Result<Stream, HandshakeError>) -> String {
    match result {
        Err(HandshakeError::Failed(fault)) => fault.to_string(),
        Err(HandshakeError::NotTls(..)) => "not TLS".into(),
        Err(HandshakeError::Silent(_)) => "silent".into(),
        Ok(_) => "none".into(),
    }
}

#[test]
fn a_turn_answers_few_of_the_clients_that_knock_at_the_same_time() {
    const CLIENTS: usize = 100;
    /// A handshake takes a tenth of what [`spend_on`] gives a turn, or more.
    const EACH_TURN_MAX: usize = 20;
    on_both_drivers(|| async {
        let (server, client) = configurations(1, rustls::ALL_VERSIONS);
        let (reception, hello) = (Reception::open(server), hello(&client));
        let peers: Vec<Peer> = (0..CLIENTS)
            .map(|number| {
                let mut peer = reception.connect();
                peer.write_all(&hello).unwrap();
                peer.set_nonblocking(true).unwrap();
                reception.begin(number, ENOUGH);
                peer
            })
            .collect();
        let has_answer = |peer: &&Peer| peer.peek(&mut [0; 1]).is_ok();
        let (mut answered, started) = (0, Instant::now());
        while answered < CLIENTS {
            next_turn().await;
            let now = peers.iter().filter(has_answer).count();
            assert!(now - answered <= EACH_TURN_MAX, "{} in one turn", now - answered);
            answered = now;
            assert!(started.elapsed() < ENOUGH, "{answered} of {CLIENTS} were answered");
        }
        assert_eq!(reception.waiting_count(), CLIENTS, "they wait for their clients' next flights");
    });
}

#[test]
fn a_flight_that_its_socket_has_no_room_for_is_sent_when_it_has() {
    on_both_drivers(|| async {
        // Several times the room of both sockets; a client takes 64 KiB at most.
        // With version 1.3 the client would send something after the first bytes of it.
        let (server, config) = configurations(150, &[&rustls::version::TLS12]);
        let reception = Reception::open(server);
        let (address, (has_waited, waits)) = (reception.address(), mpsc::channel());
        let peer = thread::spawn(move || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            socket.connect(&address.into()).unwrap();
            let (mut client, mut peer) = (client(&config), Peer::from(socket));
            client.write_tls(&mut peer).unwrap();
            waits.recv().unwrap();
            client.complete_io(&mut peer).map(|_| ()).map_err(|error| error.to_string())
        });
        reception.begin(7, ENOUGH);
        let started = Instant::now();
        while !reception.handshakes.places.borrow().iter().any(|(_, under_way)| under_way.handshake.waits_for_room()) {
            assert!(started.elapsed() < ENOUGH, "it had room");
            pause(Duration::from_millis(5)).await;
        }
        has_waited.send(()).unwrap();
        reception.until_settled(1).await;
        assert_eq!((reception.settled.borrow()[0].0, fault(&reception.settled.borrow()[0].1)), (7, "none".into()));
        assert_eq!(peer.join().unwrap(), Ok(()));
        assert_eq!(reception.waiting_count(), 0);
    });
}

#[test]
fn a_client_that_has_left_before_its_turn_costs_no_handshake() {
    on_both_drivers(|| async {
        let (server, client) = configurations(1, rustls::ALL_VERSIONS);
        let (reception, hello) = (Reception::open(server), hello(&client));
        let mut peer = reception.connect();
        peer.write_all(&hello).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        reception.begin(0, ENOUGH);
        reception.until_settled(1).await;
        assert_eq!(fault(&reception.settled.borrow()[0].1), "unexpected end of file");
        reception.settled.take();
        pause(Duration::from_millis(1)).await;
        let mut received = Vec::new();
        // A reset, where the hello was not read.
        let _ = peer.read_to_end(&mut received);
        assert!(received.is_empty(), "it was answered: {received:?}");
    });
}

#[test]
fn a_handshake_is_over_when_it_is_due_whatever_comes_meanwhile() {
    on_both_drivers(|| async {
        let (server, client) = configurations(1, rustls::ALL_VERSIONS);
        let (reception, hello) = (Reception::open(server), hello(&client));
        let (_silent, mut slow) = (reception.connect(), reception.connect());
        let limit = Duration::from_millis(300);
        let begun = Instant::now();
        reception.begin(0, limit);
        reception.begin(1, limit);
        for byte in &hello[..hello.len() - 1] {
            if reception.settled.borrow().len() == 2 || slow.write_all(&[*byte]).is_err() {
                break;
            }
            pause(Duration::from_millis(5)).await;
        }
        reception.until_settled(2).await;
        assert!(begun.elapsed() >= limit, "{:?}", begun.elapsed());
        let faults: Vec<_> = reception.settled.borrow().iter().map(|(_, result)| fault(result)).collect();
        assert_eq!(faults, ["it took too long", "it took too long"]);
        assert_eq!(reception.waiting_count(), 0);
    });
}

#[test]
fn one_whose_client_sends_nothing_comes_out_early_and_one_that_waits_for_its_turn_does_not() {
    on_both_drivers(|| async {
        let (server, client) = configurations(1, rustls::ALL_VERSIONS);
        // Nobody attends: all wait for their turn.
        let (handshakes, _events) = Handshakes::open().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || Peer::connect(listener.local_addr().unwrap()).unwrap();
        let (silent, mut eager) = (connect(), connect());
        eager.write_all(&hello(&client)).unwrap();
        for number in 0..2 {
            let stream = Stream::new(TcpStream::from_std(listener.accept().unwrap().0).unwrap());
            let limits = HandshakeLimits { begins_by: Some(Instant::now()), due: Instant::now() + ENOUGH };
            handshakes.begin(stream, server.clone(), number, limits).unwrap();
        }
        let settled = RefCell::new(Vec::new());
        handshakes.end_overdue(&|number, result| settled.borrow_mut().push((number, fault(&result)))).await;
        assert_eq!(settled.take(), [(0, "silent".to_owned())]);
        assert_eq!(handshakes.places.borrow().iter().len(), 1);
        drop(silent);
    });
}

#[test]
fn one_that_comes_later_and_is_due_earlier_is_not_kept_by_those_before_it() {
    on_both_drivers(|| async {
        let (server, client) = configurations(1, rustls::ALL_VERSIONS);
        let (reception, hello) = (Reception::open(server), hello(&client));
        let (mut trickling, _silent, _returned) = (reception.connect(), reception.connect(), reception.connect());
        reception.begin(0, ENOUGH);
        // The attendant waits for this one, and has read of it.
        trickling.write_all(&hello[..10]).unwrap();
        pause(Duration::from_millis(50)).await;
        let soon = Instant::now() + Duration::from_millis(200);
        reception.begin_within(1, HandshakeLimits { begins_by: Some(soon), due: soon + ENOUGH });
        reception.begin_within(2, HandshakeLimits { begins_by: None, due: soon });
        let mut rest = hello[10..hello.len() - 1].iter();
        while reception.settled.borrow().len() < 2 {
            assert!(soon.elapsed() < ENOUGH / 3, "{:?} are over", reception.settled.borrow().len());
            if let Some(byte) = rest.next() {
                trickling.write_all(&[*byte]).unwrap();
            }
            pause(Duration::from_millis(5)).await;
        }
        assert!(Instant::now() >= soon);
        let settled = reception.settled.borrow();
        let mut faults: Vec<_> = settled.iter().map(|(number, result)| (*number, fault(result))).collect();
        faults.sort();
        assert_eq!(faults, [(1, "silent".to_owned()), (2, "it took too long".to_owned())]);
        assert_eq!(reception.waiting_count(), 1, "the one that goes on is not ended");
    });
}

#[test]
fn the_end_of_all_closes_those_that_wait_and_leaves_nothing() {
    on_both_drivers(|| async {
        let (server, _) = configurations(1, rustls::ALL_VERSIONS);
        let reception = Reception::open(server);
        let mut peers: Vec<Peer> = (0..3 * ENDED_AT_ONCE_MAX).map(|_| reception.connect()).collect();
        (0..peers.len()).for_each(|number| reception.begin(number, ENOUGH));
        reception.handshakes.end_all().await;
        assert_eq!(reception.waiting_count(), 0);
        pause(Duration::from_millis(1)).await;
        peers.iter_mut().for_each(|peer| assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0));
        assert_eq!(reception.settled.borrow().len(), 0);
    });
}
