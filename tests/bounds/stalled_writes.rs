//! A write of which nothing is taken: the limit cannot be set from outside, so the gateway runs on threads of this process
//! with a shorter one.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flow_uring::config::{IoDriver, Timeouts, UpstreamConfig};
use rustls::ClientConfig;
use socket2::{Domain, Socket, Type};

use crate::support::{
    Client, EVENT_STREAM, Gate, InProcess, Peer, Upstream, check_at_once, chunk, repeat_until_undisturbed, wait_until,
};
use crate::{KIB, LIMIT, MIB, Pace, check_both, read_up_to};

const DRIVERS: [IoDriver; 2] = [IoDriver::Auto, IoDriver::Epoll];

/// A time that no test reaches.
const PATIENCE: Duration = Duration::from_secs(600);

/// A body that no sockets on the way can hold, and that is kept for another attempt.
const BODY_BYTES: usize = 15 * MIB;

/// Starts a gateway with no limits on time that a test reaches but those that `limit` sets.
fn before(upstream_url: &str, io_driver: IoDriver, limit: impl FnOnce(&mut Timeouts)) -> InProcess {
    let upstream = UpstreamConfig::parse(upstream_url, "a test").expect("a URL");
    InProcess::start(upstream, &["alpha"], |config| {
        config.io_driver = io_driver;
        let timeouts = Timeouts { head: PATIENCE, body: PATIENCE, connect: PATIENCE, ..Timeouts::default() };
        config.timeouts = Timeouts { retry: PATIENCE, ..timeouts };
        limit(&mut config.timeouts);
    })
}

/// Waits until one exchange has ended so, and none otherwise.
fn expect_end(gateway: &InProcess, end: &str) {
    let mut page = String::new();
    let ended = |page: &str, end: &str| page.contains(&format!("exchanges_ended_total{{end=\"{end}\"}} 1\n"));
    wait_until(end, || {
        page = Client::connect(gateway.admin_port).ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").text();
        ended(&page, end)
    });
    let others = ["ok", "client_disconnected", "upstream_closed", "timeout"].into_iter().filter(|other| *other != end);
    others.for_each(|other| assert!(!ended(&page, other), "an exchange ended in {other} too"));
}

/// The conduct of an upstream towards the body of a request.
#[derive(Clone)]
enum Takes {
    /// Nothing of it until the gate opens.
    Nothing(Gate),
    /// Nothing until the gate opens, but on its first connection only.
    AllBut(Gate),
    /// Some of it at half of the limit each time.
    Slowly(Pace),
    /// So little each time, at first, that its socket asks for no more within the limit; then the rest.
    Steadily(Pace),
}

/// That is taken at half of the limit each time by who takes steadily, [`STEADY_PARTS`] times. A socket of the gateway,
/// which may hold some megabytes more, is writable again when a third of them was taken.
const STEADY_BYTES: usize = 256 * KIB;
const STEADY_PARTS: usize = 10;

/// The room of who takes steadily: what it has not read is with the gateway.
const STEADY_ROOM_BYTES: usize = 128 * KIB;

/// An upstream with little room for what it has not read; counts its connections.
fn narrow_upstream(takes: Takes) -> (String, Arc<AtomicUsize>) {
    const ROOM_BYTES: usize = 256 * KIB;
    let room_bytes = if let Takes::Steadily(_) = takes { STEADY_ROOM_BYTES } else { ROOM_BYTES };
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(room_bytes).expect("before it listens");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    socket.listen(16).expect("bound");
    let listener = TcpListener::from(socket);
    let url = format!("http://{}/base", listener.local_addr().expect("bound"));
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            let (number, takes) = (counted.fetch_add(1, Ordering::SeqCst), takes.clone());
            thread::spawn(move || take(socket, number, &takes));
        }
    });
    (url, count)
}

/// Takes a request as `takes` says and answers it, if the gateway lasts.
fn take(mut socket: TcpStream, number: usize, takes: &Takes) {
    const PART_BYTES: usize = 3 * MIB;
    let mut part = vec![0; PART_BYTES];
    let mut taken = 0;
    if let Takes::Steadily(pace) = takes {
        for _ in 0..STEADY_PARTS {
            if pace.act(|| socket.read_exact(&mut part[..STEADY_BYTES])).is_err() {
                return;
            }
            taken += STEADY_BYTES;
        }
    }
    while taken < BODY_BYTES {
        let next = &mut part[..PART_BYTES.min(BODY_BYTES - taken)];
        let read = match takes {
            Takes::Nothing(gate) => return gate.pass(),
            Takes::AllBut(gate) if number == 0 => return gate.pass(),
            Takes::AllBut(_) | Takes::Steadily(_) => socket.read_exact(next),
            Takes::Slowly(pace) => pace.act(|| socket.read_exact(next)),
        };
        if read.is_err() {
            return;
        }
        taken += next.len();
    }
    let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    // A close over unread bytes would be a reset.
    let _ = socket.read_to_end(&mut Vec::new());
}

/// A request whose head and body have [`BODY_BYTES`] together as they go upstream, or a little more.
fn upload() -> Vec<u8> {
    let head = format!("POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: {BODY_BYTES}\r\n\r\n");
    [head.into_bytes(), vec![b'x'; BODY_BYTES]].concat()
}

#[test]
fn an_upstream_that_takes_nothing_for_so_long_is_given_up_and_the_request_tried_again() {
    let shorten = |timeouts: &mut Timeouts| timeouts.upstream_write = LIMIT;
    let given_up = |driver| {
        let gate = Gate::new();
        let (url, count) = narrow_upstream(Takes::Nothing(gate.clone()));
        let gateway = before(&url, driver, shorten);
        let (begun, mut client) = (Instant::now(), Client::connect_unrecorded(gateway.port));
        let _ = client.try_send(upload());
        let response = client.read_response();
        assert!(begun.elapsed() >= 3 * LIMIT, "{driver:?}: after {:?}", begun.elapsed());
        assert_eq!((response.status, response.error_code()), (504, Some("upstream_timeout")), "{driver:?}");
        assert_eq!(count.load(Ordering::SeqCst), 3, "{driver:?}");
        expect_end(&gateway, "timeout");
        (0..3).for_each(|_| gate.open());
    };
    let tried_again = |driver| {
        let gate = Gate::new();
        let (url, count) = narrow_upstream(Takes::AllBut(gate.clone()));
        let gateway = before(&url, driver, shorten);
        let response = Client::connect_unrecorded(gateway.port).ask(upload());
        assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{driver:?}");
        assert_eq!(count.load(Ordering::SeqCst), 2, "{driver:?}");
        expect_end(&gateway, "ok");
        gate.open();
    };
    check_at_once(DRIVERS, |driver| check_both(|| given_up(driver), || tried_again(driver)));
}

#[test]
fn an_upstream_that_takes_some_in_time_gets_all_of_a_body() {
    let cases =
        DRIVERS.into_iter().flat_map(|driver| [(driver, Takes::Slowly as fn(_) -> _), (driver, Takes::Steadily)]);
    check_at_once(cases, |(driver, takes)| {
        repeat_until_undisturbed(|| {
            let pace = Pace::default();
            let (url, count) = narrow_upstream(takes(pace.clone()));
            let gateway = before(&url, driver, |timeouts| timeouts.upstream_write = LIMIT);
            let mut client = Client::connect_unrecorded(gateway.port);
            let _ = client.try_send(upload());
            let (received, _) = read_up_to(&mut client, "ok");
            let (is_whole, count) = (received.ends_with(b"ok"), count.load(Ordering::SeqCst));
            assert!(!pace.was_kept() || is_whole && count == 1, "{driver:?}: {count} attempts");
            pace.was_kept()
        });
    });
}

/// Heads of answers without an end: one that has a task of its own, and one that is relayed by the loop of the shard.
const ANSWERS: [&str; 2] = ["HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n", EVENT_STREAM];

fn endless(head: &'static str) -> Upstream {
    let part = chunk(&format!("data: {}\n\n", "x".repeat(16 * 1024))).repeat(8);
    Upstream::plain(move |peer: &mut Peer| {
        if peer.read_request().is_some() && peer.write(head) {
            while peer.write(&part) {}
        }
    })
}

fn asking(mut client: Client) -> Client {
    client.send("GET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.read_head();
    client
}

#[test]
fn a_client_that_takes_nothing_for_so_long_is_given_up() {
    let cases = DRIVERS.into_iter().flat_map(|driver| ANSWERS.map(|head| (driver, head)));
    check_at_once(cases, |(driver, head)| {
        let upstream = endless(head);
        let gateway = before(&upstream.url(), driver, |timeouts| timeouts.downstream_write = LIMIT);
        let begun = Instant::now();
        let _client = asking(Client::connect_narrow(gateway.port, None));
        upstream.wait_for_close(0);
        assert!(begun.elapsed() >= LIMIT, "{driver:?}: after {:?}", begun.elapsed());
        // It counts as one that has left.
        expect_end(&gateway, "client_disconnected");
    });
}

#[test]
fn a_client_that_takes_some_in_time_is_served_on() {
    const PART_BYTES: usize = 2 * MIB;
    const TAKEN: usize = 5;
    // More than is on its way to it when it is given up.
    const BYTES_AFTER: usize = 24 * MIB;
    let cases = DRIVERS.into_iter().flat_map(|driver| ANSWERS.map(|head| (driver, head)));
    check_at_once(cases, |(driver, head)| {
        repeat_until_undisturbed(|| {
            let upstream = endless(head);
            let gateway = before(&upstream.url(), driver, |timeouts| timeouts.downstream_write = LIMIT);
            let (mut client, pace) = (asking(Client::connect_unrecorded(gateway.port)), Pace::default());
            let mut ended = None;
            for _ in 0..TAKEN {
                ended = ended.or(pace.act(|| client.read_at_least(PART_BYTES, &mut Vec::new())));
            }
            ended = ended.or_else(|| client.read_at_least(BYTES_AFTER, &mut Vec::new()));
            assert!(!pace.was_kept() || ended.is_none(), "{driver:?}, {head}: {ended:?}");
            pace.was_kept()
        });
    });
}

/// Heads as in [`ANSWERS`], each with the same content of so many `x` and an end.
fn whole_answers(x_count: usize) -> [String; 2] {
    const EVENT_BYTES: usize = 16 * KIB;
    let (event, events_count) = (format!("data: {}\n\n", "x".repeat(EVENT_BYTES)), x_count / EVENT_BYTES);
    let length = event.len() * events_count;
    let counted = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{}", event.repeat(events_count));
    [counted, [EVENT_STREAM, &chunk(&event).repeat(events_count), "0\r\n\r\n"].concat()]
}

/// Connects with little room for what is not read.
fn connect_steady(port: u16, tls: Option<&Arc<ClientConfig>>) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(STEADY_ROOM_BYTES).expect("before it is connected");
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).expect("the gateway listens");
    Client::over(socket.into(), tls)
}

#[test]
fn a_client_that_takes_little_all_the_time_gets_all_of_an_answer() {
    // More than is on its way to it when it is given up.
    const X_COUNT: usize = 24 * MIB;
    let cases = DRIVERS.into_iter().flat_map(|driver| whole_answers(X_COUNT).map(|answer| (driver, answer)));
    check_at_once(cases, |(driver, answer)| {
        let head = answer.split("\r\n\r\n").next().expect("a head").to_owned();
        let upstream = Upstream::plain(move |peer: &mut Peer| {
            if peer.read_request().is_some() {
                peer.write(&answer);
            }
        });
        let gateway = before(&upstream.url(), driver, |timeouts| timeouts.downstream_write = LIMIT);
        repeat_until_undisturbed(|| {
            let (mut client, pace) = (asking(connect_steady(gateway.port, None)), Pace::default());
            let (mut ended, mut count) = (None, 0);
            let mut take = |client: &mut Client, bytes| {
                let mut received = Vec::new();
                ended = ended.or_else(|| client.read_at_least(bytes, &mut received));
                count += received.iter().filter(|byte| **byte == b'x').count();
                ended.is_none() && count < X_COUNT
            };
            for _ in 0..STEADY_PARTS {
                pace.act(|| take(&mut client, STEADY_BYTES));
            }
            while take(&mut client, 1) {}
            assert!(!pace.was_kept() || count == X_COUNT, "{driver:?}, {head}: {count} and {ended:?}");
            pace.was_kept()
        });
    });
}
