//! A restart that nobody notices: a new gateway takes the listening sockets of the one that runs, which then ends what it
//! has open. Whatever goes wrong before the new one serves leaves the old one as it was.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

mod support;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use support::{Client, DEADLINE, Gateway, GatewayBuilder, Peer, Upstream, json};
use tempfile::TempDir;

const GET: &str = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n";
const HELLO: &[u8] = b"flow-to\x01";

/// One place where a gateway and its successors meet.
struct Place {
    runtime: TempDir,
    upstream: Upstream,
}

impl Place {
    fn before(upstream: Upstream) -> Self {
        Place { runtime: tempfile::tempdir().expect("a temporary directory"), upstream }
    }

    fn builder(&self) -> GatewayBuilder {
        let directory = self.runtime.path().to_str().expect("a readable path");
        Gateway::builder().upstream(&self.upstream).env("XDG_RUNTIME_DIR", directory)
    }

    fn successor_of(&self, gateway: &Gateway) -> GatewayBuilder {
        self.builder().arg("--port", gateway.port().to_string()).switch("--take-over")
    }

    fn socket(&self, gateway: &Gateway) -> PathBuf {
        self.runtime.path().join(format!("flow-uring-127.0.0.1-{}.sock", gateway.port()))
    }
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket())
}

fn answers(gateway: &Gateway) -> bool {
    // More than one, so that each shard has its turn most likely.
    (0..10).all(|_| Client::connect(gateway.port()).ask(GET).status == 200)
}

/// Clients that ask over a new connection each time, at a steady pace, until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<io::Result<()>>>>,
    began: Instant,
}

impl Load {
    const CLIENTS: u32 = 16;
    const RATE: u32 = 2000;

    fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |number: u32| {
            let stop = stop.clone();
            thread::spawn(move || {
                let interval = Duration::from_secs(1) * Self::CLIENTS / Self::RATE;
                let mut due = Instant::now() + interval * number / Self::CLIENTS;
                let mut outcomes = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    // A machine that cannot keep up is not asked to catch up.
                    due = (due + interval).max(Instant::now());
                    // Every other client does not send at once, so that there are always connections without a request.
                    let pause = Duration::from_millis(if number.is_multiple_of(2) { 0 } else { 3 });
                    let text = format!("{number}-{}", outcomes.len());
                    outcomes.push(ask_over_new_connection(port, pause, &text));
                }
                outcomes
            })
        };
        let clients = (0..Self::CLIENTS).map(client).collect();
        Load { stop, clients, began: Instant::now() }
    }

    /// How many requests were answered, and how many a second.
    fn finish(self) -> (usize, f64) {
        self.stop.store(true, Ordering::Relaxed);
        let took = self.began.elapsed();
        let outcomes: Vec<_> = self.clients.into_iter().flat_map(|client| client.join().expect("a client")).collect();
        let failed: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert!(
            failed.is_empty(),
            "{} of {} requests failed: {:?}",
            failed.len(),
            outcomes.len(),
            &failed[..failed.len().min(5)]
        );
        (outcomes.len(), outcomes.len() as f64 / took.as_secs_f64())
    }
}

/// Sends `text` and makes sure that just it comes back.
fn ask_over_new_connection(port: u16, pause: Duration, text: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    thread::sleep(pause);
    stream.set_read_timeout(Some(DEADLINE))?;
    let length = text.len();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n{text}").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let is_right = answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&format!("\r\n\r\n{text}"));
    if is_right { Ok(()) } else { Err(io::Error::other(format!("{text}: {answer:?}"))) }
}

const EVENTS: usize = 10;

/// Streams some events over a second where that is asked for, and gives all others their own body.
fn stream_or_echo(peer: &mut Peer) {
    while let Some(request) = peer.read_request() {
        if !request.path().ends_with("/messages") {
            peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len()));
            peer.write(&request.body);
            continue;
        }
        peer.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..EVENTS {
            peer.write("9\r\ndata: 1\n\n\r\n");
            peer.sleep(Duration::from_millis(100));
        }
        peer.write("0\r\n\r\n");
    }
}

fn take_over_under_load(place: &Place, first: Gateway, successors: impl Iterator<Item = (usize, &'static str)>) {
    let port = first.port();
    let load = Load::start(port);
    let mut gateways = vec![first];
    let mut streams = Vec::new();
    for (shards, driver) in successors {
        let mut stream = Client::connect(port);
        stream.send("POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}");
        stream.read_until("data: 1\n\n\r\n");
        streams.push(stream);
        // Some requests for each gateway alone.
        thread::sleep(Duration::from_millis(100));
        let predecessor = gateways.last().expect("the first at least");
        let successor = place.successor_of(predecessor).shards(shards).arg("--io-driver", driver);
        gateways.push(successor.arg("--log-level", "INFO").start());
    }
    for mut stream in streams {
        // What was read already is the first event.
        let (rest, _) = stream.read_to_end();
        assert!(rest.ends_with(b"\r\n0\r\n\r\n"), "{}", support::shown(&rest));
        assert_eq!(memchr::memmem::find_iter(&rest, "data: 1\n\n").count(), EVENTS - 1);
    }
    let (answered, rate) = load.finish();
    let last = gateways.pop().expect("the last");
    println!("{} take-overs, {answered} requests over new connections, {rate:.0} a second", gateways.len());
    for mut gateway in gateways {
        assert_eq!(gateway.wait().code(), Some(0));
        assert!(gateway.wait_for_log("another gateway has taken over").contains("process="));
    }
    assert_eq!(last.count_log("took over from the gateway"), 1);
}

#[test]
fn twenty_take_overs_under_load_refuse_reset_and_lose_nothing() {
    let place = Place::before(Upstream::plain(stream_or_echo));
    let first = place.builder().arg("--log-level", "INFO").start();
    let successors = [(2, "auto"), (3, "auto"), (1, "auto"), (2, "auto")];
    take_over_under_load(&place, first, successors.into_iter().cycle().take(20));
}

#[test]
fn gateways_of_either_driver_take_over_from_each_other_under_load() {
    let place = Place::before(Upstream::plain(stream_or_echo));
    let first = place.builder().arg("--log-level", "INFO").arg("--io-driver", "epoll").start();
    let successors = [(2, "auto"), (2, "epoll"), (2, "epoll"), (2, "auto")];
    take_over_under_load(&place, first, successors.into_iter());
}

#[test]
fn with_more_and_with_fewer_shards_every_socket_goes_on_being_served() {
    let place = Place::before(Upstream::plain(json(200, "{}")));
    let mut running = place.builder().shards(4).start();
    for (shards, sockets) in [(1, 4), (6, 6), (2, 6)] {
        let successor = place.successor_of(&running).shards(shards).start();
        assert_eq!(running.wait().code(), Some(0));
        let listening = listening_sockets(&successor);
        // Once for the shard and once to lend.
        assert_eq!(listening, 2 * sockets, "{shards} shards");
        // The kernel spreads them over all sockets: one that nobody serves would keep its clients waiting.
        let answered = (0..100).filter(|_| Client::connect(successor.port()).ask(GET).status == 200).count();
        assert_eq!(answered, 100);
        running = successor;
    }
}

/// How many descriptors of the gateway are sockets that listen on its port.
fn listening_sockets(gateway: &Gateway) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("readable");
    let local = format!(":{:04X}", gateway.port());
    let listening: Vec<String> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.get(1).is_some_and(|address| address.ends_with(&local)) && fields[3] == "0A")
        .map(|fields| format!("socket:[{}]", fields[9]))
        .collect();
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).expect("it runs");
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| listening.iter().any(|socket| Path::new(socket) == target)).count()
}

#[test]
fn one_that_fails_before_it_serves_leaves_the_old_one_serving() {
    let place = Place::before(Upstream::tls(stream_or_echo));
    let mut running = place.builder().shards(1).start();
    let (code, log) = place.successor_of(&running).arg("--upstream-ca", "none.pem").run_to_end();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("none.pem") && !log.contains("taking over"), "found before the sockets were taken: {log}");
    let load = Load::start(running.port());
    for round in 1..=10 {
        thread::sleep(Duration::from_millis(50));
        // It has as many shards as it has room for only half of, which it finds when it has the sockets.
        let (code, log) = place.successor_of(&running).shards(40).open_files_max(250).run_to_end();
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("taking over from the gateway that runs here"), "{log}");
        running.wait_for_log_count("this gateway goes on", round);
    }
    let (answered, rate) = load.finish();
    println!("ten that failed, {answered} requests over new connections, {rate:.0} a second");
    assert!(answers(&running));
    let successor = place.successor_of(&running).start();
    assert_eq!(running.wait().code(), Some(0));
    assert!(answers(&successor));
}

#[test]
fn nonsense_silence_and_unfinished_take_overs_change_nothing() {
    let place = Place::before(Upstream::plain(json(200, "{}")));
    let mut running = place.builder().start();
    let knock = || UnixStream::connect(place.socket(&running)).expect("it listens");
    let mut count = 0;
    for words in
        [&b""[..], b"GET / HTTP/1.1\r\n\r\n", b"flow-to\x02", b"flow-to", b"flow-to\x01", b"flow-to\x01X", b"R"]
    {
        let mut stranger = knock();
        stranger.write_all(words).expect("taken");
        stranger.shutdown(std::net::Shutdown::Write).expect("shut down");
        let _ = stranger.read_to_end(&mut Vec::new());
        count += 1;
        running.wait_for_log_count("this gateway goes on", count);
    }
    assert!(answers(&running));
    // One that takes the sockets and hangs: the next one has to wait until it is given up.
    let mut hanging = knock();
    hanging.write_all(HELLO).expect("taken");
    running.wait_for_log_count("has the listening sockets too", 3);
    assert!(answers(&running));
    drop(hanging);
    running.wait_for_log_count("this gateway goes on", count + 1);
    let successor = place.successor_of(&running).start();
    assert_eq!(running.wait().code(), Some(0));
    assert!(answers(&successor));
}

#[test]
fn one_that_is_gone_when_it_is_bidden_farewell_has_taken_nothing_over() {
    let place = Place::before(Upstream::plain(json(200, "{}")));
    let mut running = place.builder().start();
    let mut dying = UnixStream::connect(place.socket(&running)).expect("it listens");
    dying.write_all(HELLO).expect("taken");
    running.wait_for_log("has the listening sockets too");
    // Its word is heard when it is not there any more.
    running.signal(libc::SIGSTOP);
    dying.write_all(b"R").expect("taken");
    drop(dying);
    running.signal(libc::SIGCONT);
    running.wait_for_log("this gateway goes on");
    assert!(answers(&running));
    let successor = place.successor_of(&running).start();
    assert_eq!(running.wait().code(), Some(0));
    assert!(answers(&successor));
}

#[test]
fn a_stop_signal_while_another_gateway_starts_leaves_the_sockets_to_it() {
    let place = Place::before(Upstream::plain(json(200, "{}")));
    let mut running = place.builder().start();
    let mut slow_to_start = UnixStream::connect(place.socket(&running)).expect("it listens");
    slow_to_start.write_all(HELLO).expect("taken");
    running.wait_for_log("has the listening sockets too");
    let mut busy = Client::connect(running.port());
    let (begin, rest) = GET.split_at(GET.len() - 2);
    busy.send(begin);
    thread::sleep(Duration::from_millis(50));
    running.terminate();
    running.wait_for_log("stopping:");
    slow_to_start.write_all(b"R").expect("taken");
    let mut heard = Vec::new();
    slow_to_start.read_to_end(&mut heard).expect("its end");
    assert_eq!(heard.last(), Some(&b'F'), "{heard:?}");
    assert_eq!(busy.ask(rest).status, 200);
    assert_eq!(running.wait().code(), Some(0));
    assert!(!is_there(&place.socket(&running)));
}

#[test]
fn a_stop_signal_at_any_moment_of_a_take_over_leaves_one_that_serves() {
    let place = Place::before(Upstream::plain(json(200, "{}")));
    let mut running = place.builder().start();
    for round in 0..20 {
        let builder = place.successor_of(&running);
        let successor = thread::scope(|scope| {
            let starting = scope.spawn(|| builder.start());
            // A start takes some tens of milliseconds.
            thread::sleep(Duration::from_millis(2 * round));
            running.terminate();
            starting.join().expect("it serves")
        });
        assert!(answers(&successor));
        assert_eq!(running.wait().code(), Some(0), "round {round}");
        running = successor;
    }
}

#[test]
fn one_that_never_says_that_it_serves_is_given_up_in_time() {
    let place = Place::before(Upstream::plain(json(200, "{}")));
    let running = place.builder().start();
    let mut hanging = UnixStream::connect(place.socket(&running)).expect("it listens");
    hanging.write_all(HELLO).expect("taken");
    let began = Instant::now();
    hanging.set_read_timeout(Some(2 * DEADLINE)).expect("not zero");
    let _ = hanging.read_to_end(&mut Vec::new());
    let took = began.elapsed();
    assert!((4500..7000).contains(&took.as_millis()), "{took:?}");
    assert!(running.wait_for_log("this gateway goes on").contains("said nothing for too long"));
    assert!(answers(&running));
}

#[test]
fn where_nobody_is_it_starts_as_usual_and_what_a_killed_one_left_is_replaced() {
    let place = Place::before(Upstream::plain(json(200, "{}")));
    let mut first = place.builder().start();
    let socket = place.socket(&first);
    assert_eq!(socket.symlink_metadata().expect("there").mode() & 0o777, 0o600);
    first.signal(libc::SIGKILL);
    first.wait();
    assert!(is_there(&socket), "a killed one cannot tidy up");
    let mut second = place.successor_of(&first).start();
    second.wait_for_log("there is no gateway to take over from; starting as usual");
    assert!(answers(&second));
    let mut third = place.successor_of(&second).start();
    third.wait_for_log("took over");
    assert_eq!(second.wait().code(), Some(0));
    assert!(is_there(&socket), "it is the successor's");
    third.terminate();
    assert_eq!(third.wait().code(), Some(0));
    assert!(!is_there(&socket), "nobody listens there any more");
    assert_eq!(std::fs::read_dir(place.runtime.path()).expect("readable").count(), 0);
    let fourth = place.successor_of(&third).start();
    fourth.wait_for_log("there is no gateway to take over from; starting as usual");
    assert!(answers(&fourth));
}

#[test]
fn a_port_of_somebody_else_is_the_usual_error_and_no_port_is_one_of_usage() {
    let place = Place::before(Upstream::plain(json(200, "{}")));
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = other.local_addr().expect("bound").port().to_string();
    let (code, log) = place.builder().arg("--port", port).switch("--take-over").run_to_end();
    assert_eq!(code, Some(1));
    assert!(log.contains("there is no gateway to take over from") && log.contains("the port is in use"), "{log}");
    let (code, log) = place.builder().arg("--port", "0").switch("--take-over").run_to_end();
    assert_eq!(code, Some(64));
    assert!(log.contains("--take-over: name the --port"), "{log}");
}

#[test]
fn without_a_usable_runtime_directory_it_serves_and_says_what_it_cannot_do() {
    let upstream = Upstream::plain(json(200, "{}"));
    for directory in [format!("/tmp/{}", "long".repeat(30)), "/tmp/flow-uring-of-nobody/none".into()] {
        let mut gateway = Gateway::builder().upstream(&upstream).env("XDG_RUNTIME_DIR", &directory).start();
        let line = gateway.wait_for_log("no later gateway will be able to take over from this one");
        assert!(line.contains(&directory), "{line}");
        assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
        gateway.terminate();
        assert_eq!(gateway.wait().code(), Some(0));
    }
}

#[test]
fn connections_of_the_old_one_end_in_order_and_a_first_request_is_still_answered() {
    let place = Place::before(Upstream::plain(json(200, "{}")));
    let mut running = place.builder().start();
    let mut idle = Client::connect(running.port());
    assert_eq!(idle.ask(GET).status, 200);
    let mut just_connected = Client::connect(running.port());
    thread::sleep(Duration::from_millis(50));
    let _successor = place.successor_of(&running).start();
    idle.expect_close();
    let response = just_connected.ask(GET);
    assert_eq!((response.status, response.field("connection")), (200, Some("close")));
    assert_eq!(running.wait().code(), Some(0));
}

#[test]
fn a_stop_signal_to_one_that_was_taken_over_does_not_cut_its_streams() {
    let place = Place::before(Upstream::plain(stream_or_echo));
    let mut running = place.builder().start();
    let mut stream = Client::connect(running.port());
    stream.send("POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}");
    stream.read_until("data: 1\n\n\r\n");
    let _successor = place.successor_of(&running).start();
    running.wait_for_log("stopping:");
    running.terminate();
    running.wait_for_log("still waiting for open exchanges");
    let (rest, _) = stream.read_to_end();
    assert!(rest.ends_with(b"\r\n0\r\n\r\n"), "{}", support::shown(&rest));
    assert_eq!(running.wait().code(), Some(0));
}
