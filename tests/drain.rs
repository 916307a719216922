//! A stop signal: what is open goes on to its end, what rests is closed, nothing new is taken.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

mod support;

use std::io::ErrorKind;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use support::{Client, DEADLINE, Ended, Gate, Gateway, Peer, Upstream, is_error_event, json, parse_events};

const POST: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
const GET: &str = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n";
const LIVENESS: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// How long streams go on after the signal, in seconds: `FLOW_URING_TEST_DRAIN_SECONDS`, since nobody waits 45 of them
/// for every change.
fn stream_seconds() -> u64 {
    std::env::var("FLOW_URING_TEST_DRAIN_SECONDS").map_or(4, |seconds| seconds.parse().expect("whole seconds"))
}

const STREAMS: usize = 20;
const EVENT_INTERVAL: Duration = Duration::from_millis(100);

fn event(number: usize) -> String {
    format!("data: {{\"number\":{number}}}\n\n")
}

fn as_chunk(event: &str) -> String {
    format!("{:x}\r\n{event}\r\n", event.len())
}

const EVENT_STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// An upstream that streams for so long.
fn streaming(time: Duration) -> impl Fn(&mut Peer) + Send + Sync + 'static {
    let count = (time.as_millis() / EVENT_INTERVAL.as_millis()) as usize;
    move |peer| {
        while peer.read_request().is_some() && peer.write(EVENT_STREAM) {
            for number in 0..count {
                peer.write(as_chunk(&event(number)));
                peer.sleep(EVENT_INTERVAL);
            }
            peer.write("0\r\n\r\n");
        }
    }
}

fn wait_for_refused_connections(gateway: &Gateway) {
    let until = Instant::now() + DEADLINE;
    loop {
        match TcpStream::connect(("127.0.0.1", gateway.port())) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return,
            other => assert!(Instant::now() < until, "connections are still taken: {other:?}"),
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn requests_that_have_come_on_idle_connections_are_answered_before_these_close() {
    /// More than a shard looks at in one turn, so that the stop comes in between.
    const CLIENTS: usize = 600;
    let upstream = Upstream::plain(json(200, "{}"));
    let mut gateway = Gateway::builder().shards(1).upstream(&upstream).start();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect_unrecorded(gateway.port())).collect();
    for client in &mut clients {
        client.ask(LIVENESS);
    }
    // Longer than a connection is expected to send its next request at once.
    thread::sleep(Duration::from_millis(300));
    gateway.signal(libc::SIGSTOP);
    gateway.terminate();
    for client in &mut clients {
        client.send(GET);
    }
    gateway.signal(libc::SIGCONT);
    for client in &mut clients {
        let response = client.read_response();
        assert_eq!(response.status, 200, "{response:?}");
        assert_eq!(client.expect_close(), Ended::Eof);
    }
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn open_streams_end_whole_while_idle_connections_close_and_new_ones_are_refused() {
    let time = Duration::from_secs(stream_seconds());
    let upstream = Upstream::tls(streaming(time));
    let mut gateway = Gateway::before(&upstream);
    let port = gateway.port();

    let mut long_idle = Client::connect(port);
    long_idle.ask(LIVENESS);
    // Longer than a connection is expected to send its next request at once.
    thread::sleep(Duration::from_millis(1200));
    let mut just_used = Client::connect(port);
    just_used.ask(LIVENESS);

    let streams: Vec<_> = (0..STREAMS)
        .map(|_| {
            let mut client = Client::connect(port).with_deadline(time + DEADLINE);
            thread::spawn(move || (client.ask(POST), client.expect_close()))
        })
        .collect();
    upstream.wait_for_requests(STREAMS);
    let signalled = Instant::now();
    gateway.terminate();
    for (idle, client) in [("idle", &mut long_idle), ("just used", &mut just_used)] {
        assert_eq!(client.expect_close(), Ended::Eof, "{idle}");
    }
    let closed = signalled.elapsed();
    assert!(closed < Duration::from_secs(1), "idle connections stayed open for {closed:?}");
    wait_for_refused_connections(&gateway);
    let line = gateway.wait_for_log("stopping:");
    assert!(line.contains(&format!("open_exchanges={STREAMS}")), "{line}");
    assert!(line.contains("a second signal exits at once"), "{line}");

    let expected: String = (0..(time.as_millis() / EVENT_INTERVAL.as_millis()) as usize).map(event).collect();
    for stream in streams {
        let (response, ended) = stream.join().expect("a stream");
        assert!(response.is_whole, "{response:?}");
        assert_eq!(response.text(), expected);
        assert_eq!(ended, Ended::Eof);
    }
    let lasted = signalled.elapsed();
    assert_eq!(gateway.wait().code(), Some(0));
    let exited = signalled.elapsed() - lasted;
    println!(
        "{STREAMS} streams went on for {lasted:?}; idle connections closed after {closed:?}, exit {exited:?} after the last"
    );
    assert!(exited < Duration::from_secs(1), "{exited:?}");
    assert!(gateway.log().iter().any(|line| line.ends_with("stopped")));
}

#[test]
fn answers_that_begin_during_the_drain_say_that_the_connection_closes() {
    let gate = Gate::new();
    let passing = gate.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        peer.read_request();
        passing.pass();
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        peer.read_request();
    });
    let mut gateway = Gateway::before(&upstream);
    let mut thinking = Client::connect(gateway.port());
    thinking.send(GET);
    upstream.wait_for_requests(1);
    let mut half_asked = Client::connect(gateway.port());
    let (begin, rest) = LIVENESS.split_at(LIVENESS.len() - 3);
    half_asked.send(begin);
    let mut half_refused = Client::connect(gateway.port());
    half_refused.send("GET /v1/../x HTTP/1.1\r\nHost: localhost\r\n");
    thread::sleep(Duration::from_millis(50));

    gateway.terminate();
    wait_for_refused_connections(&gateway);
    for (mut client, request, status) in [(half_asked, rest, 200), (half_refused, "\r\n", 400)] {
        let response = client.ask(request);
        assert_eq!((response.status, response.field("connection")), (status, Some("close")));
        assert_eq!(client.expect_close(), Ended::Eof);
    }
    gate.open();
    let response = thinking.read_response();
    assert_eq!((response.text().as_str(), response.field("connection")), ("ok", Some("close")));
    assert_eq!(thinking.expect_close(), Ended::Eof);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn either_signal_stops_a_gateway_at_rest_at_once() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let upstream = Upstream::plain(streaming(Duration::from_millis(100)));
        let mut gateway = Gateway::before(&upstream);
        let mut client = Client::connect(gateway.port());
        assert!(client.ask(POST).is_whole);
        // The client knows it before the gateway has noted it.
        gateway.wait_for_log("end=ok");
        let signalled = Instant::now();
        gateway.signal(signal);
        assert_eq!(gateway.wait().code(), Some(0));
        assert!(signalled.elapsed() < Duration::from_secs(1), "{:?}", signalled.elapsed());
        assert!(gateway.wait_for_log("stopping:").contains("open_exchanges=0"));
    }
}

#[test]
fn a_second_signal_exits_at_once_and_says_what_was_cut() {
    for (first, second) in [(libc::SIGTERM, libc::SIGTERM), (libc::SIGINT, libc::SIGTERM)] {
        let upstream = Upstream::plain(streaming(Duration::from_secs(30)));
        let mut gateway = Gateway::before(&upstream);
        let mut client = Client::connect(gateway.port());
        client.send(POST);
        client.read_until(event(0));
        gateway.signal(first);
        gateway.wait_for_log("stopping:");
        let signalled = Instant::now();
        gateway.signal(second);
        let status = gateway.wait();
        assert!(signalled.elapsed() < Duration::from_secs(1), "{:?}", signalled.elapsed());
        assert_eq!(status.code(), Some(1));
        gateway.wait_for_log("stopped at once by a second signal; exchanges cut off: 1");
    }
}

/// What is open when the drain limit passes: its path, what the upstream has sent by then, and how the client sees it
/// end.
struct Open {
    path: &'static str,
    sent: &'static str,
    ends: Ends,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Ends {
    /// Whole, with the error event of its path.
    WithErrorEvent,
    /// Whole, as the turn was complete.
    AsItWas,
    /// Visibly incomplete.
    Cut,
    /// With an answer of the gateway's own.
    Refused,
}

const OPEN: [Open; 8] = [
    Open {
        path: "/v1/chat/completions",
        sent: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n",
        ends: Ends::WithErrorEvent,
    },
    Open {
        path: "/v1/messages",
        sent: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n",
        ends: Ends::WithErrorEvent,
    },
    Open {
        path: "/v1/messages",
        sent: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n20\r\ndata: half",
        ends: Ends::WithErrorEvent,
    },
    Open {
        path: "/v1/responses",
        sent: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n",
        ends: Ends::WithErrorEvent,
    },
    Open {
        path: "/v1/chat/completions",
        sent: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\ne\r\ndata: [DONE]\n\n\r\n",
        ends: Ends::AsItWas,
    },
    Open {
        path: "/v1/chat/completions",
        sent: "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
        ends: Ends::Cut,
    },
    Open {
        path: "/v1/chat/completions",
        sent: "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{",
        ends: Ends::Cut,
    },
    Open { path: "/v1/chat/completions", sent: "", ends: Ends::Refused },
];

#[test]
fn when_the_drain_limit_passes_event_streams_end_with_an_error_event_and_the_rest_is_cut() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        let Some(request) = peer.read_request() else { return };
        let number: usize = request.head.field("x-number").and_then(|number| number.parse().ok()).expect("a number");
        peer.write(OPEN[number].sent);
        peer.wait_for_close();
    });
    let mut gateway = Gateway::builder().upstream(&upstream).arg("--drain-timeout", "1").start();
    let clients: Vec<Client> = (0..OPEN.len())
        .map(|number| {
            let mut client = Client::connect(gateway.port());
            client.send(format!(
                "POST {} HTTP/1.1\r\nHost: localhost\r\nX-Number: {number}\r\nContent-Length: 2\r\n\r\n{{}}",
                OPEN[number].path
            ));
            client
        })
        .collect();
    upstream.wait_for_requests(OPEN.len());
    thread::sleep(Duration::from_millis(50));
    let signalled = Instant::now();
    gateway.terminate();

    for (open, mut client) in OPEN.iter().zip(clients) {
        let what = format!("{} {:?}", open.path, open.sent);
        let response = client.read_response();
        assert!(signalled.elapsed() > Duration::from_millis(900), "{what}: ended before the limit");
        assert_eq!(response.is_whole, open.ends != Ends::Cut, "{what}: {response:?}");
        let events = parse_events(&response.body);
        let has_error_event = events.last().is_some_and(|event| is_error_event(event, open.path));
        assert_eq!(has_error_event, open.ends == Ends::WithErrorEvent, "{what}: {response:?}");
        if open.ends == Ends::Refused {
            assert_eq!(response.status, 503, "{what}: {response:?}");
            assert!(response.error_code().is_some() && response.field("retry-after").is_some(), "{response:?}");
        }
        client.expect_close();
    }
    let status = gateway.wait();
    assert!(signalled.elapsed() < Duration::from_secs(3), "{:?}", signalled.elapsed());
    assert_eq!(status.code(), Some(0));
    let line = gateway.wait_for_log("the drain limit has passed");
    assert!(line.contains(&format!("open_exchanges={}", OPEN.len())), "{line}");
    let ended_by_it = gateway.log().iter().filter(|line| line.contains("end=shutdown")).count();
    // The turn that was complete lacks nothing.
    assert_eq!(ended_by_it, OPEN.len() - 1, "{:?}", gateway.log());
}

#[test]
fn a_client_that_has_just_connected_has_a_second_for_its_first_request() {
    for driver in ["auto", "epoll"] {
        let upstream = Upstream::plain(json(200, "{}"));
        let mut gateway = Gateway::builder().upstream(&upstream).arg("--io-driver", driver).start();
        let mut asking = Client::connect(gateway.port());
        let mut silent = Client::connect(gateway.port());
        thread::sleep(Duration::from_millis(50));
        let signalled = Instant::now();
        gateway.terminate();
        wait_for_refused_connections(&gateway);
        thread::sleep(Duration::from_millis(300));
        let response = asking.ask(GET);
        assert_eq!((response.status, response.field("connection")), (200, Some("close")), "{driver}");
        assert_eq!(silent.expect_close(), Ended::Eof, "{driver}");
        let closed = signalled.elapsed();
        assert!((900..2000).contains(&closed.as_millis()), "{driver}: closed after {closed:?}");
        assert_eq!(gateway.wait().code(), Some(0));
    }
}

#[test]
fn half_a_request_head_does_not_hold_up_the_exit() {
    let upstream = Upstream::plain(json(200, "{}"));
    let mut gateway = Gateway::before(&upstream);
    let mut half = Client::connect(gateway.port());
    half.send("GET /v1/x HTTP/1.1\r\nHo");
    let mut refused = Client::connect(gateway.port());
    refused.send("BAD\x01\r\n\r\n");
    refused.read_until("\r\n\r\n");
    let stopped = Instant::now();
    gateway.terminate();
    assert!(gateway.wait().success());
    assert!(stopped.elapsed() < Duration::from_secs(3), "it took {:?}", stopped.elapsed());
}
