//! The drain after a stop signal: open exchanges go on to their end, idle connections are closed after a second, new ones
//! are refused.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Client, DEADLINE, EVENT_STREAM, Ended, GET, Gate, Gateway, LIVENESS, POST, Peer, Upstream, chunk, is_error_event,
    json, parse_events, repeat_until_undisturbed, sse,
};

/// The time that a connection without a whole request has when the drain begins, as one that has just connected: one
/// second, and somewhat less here, so that it is not over by either clock.
pub const SURELY_WITHIN_GRACE: Duration = Duration::from_millis(900);

/// Returns for how long streams go on after the signal: one second, or the seconds in `FLOW_URING_TEST_DRAIN_SECONDS`,
/// as nobody waits 45 of them for every change.
fn stream_time() -> Duration {
    let seconds = std::env::var("FLOW_URING_TEST_DRAIN_SECONDS");
    Duration::from_secs(seconds.map_or(1, |seconds| seconds.parse().expect("whole seconds")))
}

const STREAMS: usize = 10;
const EVENT_INTERVAL: Duration = Duration::from_millis(100);
const LAST_EVENT: &str = "data: {\"last\":true}\n\n";

fn event(number: usize) -> String {
    format!("data: {{\"number\":{number}}}\n\n")
}

/// An upstream that streams until `is_over`.
pub fn streaming_until(is_over: &Arc<AtomicBool>) -> impl Fn(&mut Peer) + Send + Sync + 'static {
    let is_over = Arc::clone(is_over);
    move |peer| {
        while peer.read_request().is_some() && peer.write(EVENT_STREAM) {
            let mut number = 0;
            while !is_over.load(Ordering::SeqCst) {
                if !peer.write(chunk(&event(number))) {
                    return;
                }
                number += 1;
                peer.sleep(EVENT_INTERVAL);
            }
            peer.write(chunk(LAST_EVENT));
            peer.write("0\r\n\r\n");
        }
    }
}

pub fn wait_for_refused_connections(gateway: &Gateway) {
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
    const CLIENTS: usize = 200;
    let upstream = Upstream::plain(json(200, "{}"));
    let builder = Gateway::builder().shards(1).upstream(&upstream);
    let mut gateway = builder.arg("--keepalive-timeout", "600").arg("--connect-timeout", "600").start();
    let connect = |_| Client::connect_unrecorded(gateway.port()).with_deadline(4 * DEADLINE);
    let mut clients: Vec<Client> = (0..CLIENTS).map(connect).collect();
    for client in &mut clients {
        // Each is idle at once: it has not sent two requests in a row.
        client.ask(LIVENESS);
    }
    gateway.freeze();
    gateway.terminate();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(if number % 20 == 0 { GET } else { LIVENESS });
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
    let is_over = Arc::default();
    let upstream = Upstream::tls(streaming_until(&is_over));
    let mut gateway = Gateway::builder().upstream(&upstream).patient().start();
    let port = gateway.port();

    let mut idle = Client::connect(port);
    idle.ask(LIVENESS);
    // Its next request is expected at once.
    let mut just_used = Client::connect(port);
    (0..3).for_each(|_| drop(just_used.ask(LIVENESS)));

    let deadline = stream_time() + 4 * DEADLINE;
    let mut streams: Vec<Client> = (0..STREAMS).map(|_| Client::connect(port).with_deadline(deadline)).collect();
    for stream in &mut streams {
        stream.send(POST);
    }
    upstream.wait_for_requests(STREAMS);
    gateway.terminate();
    // None of the streams has ended yet, and the drain limit is ten minutes.
    for (what, client) in [("idle", &mut idle), ("just used", &mut just_used)] {
        assert_eq!(client.expect_close(), Ended::Eof, "{what}");
    }
    wait_for_refused_connections(&gateway);
    let line = gateway.wait_for_log("stopping:");
    assert!(line.contains(&format!("open_exchanges={STREAMS}")), "{line}");
    assert!(line.contains("a second signal exits at once"), "{line}");

    thread::sleep(stream_time());
    is_over.store(true, Ordering::SeqCst);
    for mut stream in streams {
        let response = stream.read_response();
        assert!(response.is_whole, "{response:?}");
        let count = parse_events(&response.body).len() - 1;
        assert_eq!(response.text(), (0..count).map(event).collect::<String>() + LAST_EVENT);
        assert_eq!(stream.expect_close(), Ended::Eof);
    }
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(gateway.log().iter().any(|line| line.ends_with("stopped")));
}

#[test]
fn answers_that_begin_during_the_drain_say_that_the_connection_closes() {
    repeat_until_undisturbed(|| {
        let gate = Gate::new();
        let passing = gate.clone();
        let upstream = Upstream::plain(move |peer: &mut Peer| {
            peer.read_request();
            passing.pass();
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            peer.read_request();
        });
        let mut gateway = Gateway::builder().shards(1).upstream(&upstream).start();
        let mut thinking = Client::connect(gateway.port());
        thinking.send(GET);
        upstream.wait_for_requests(1);
        let mut half_asked = Client::connect(gateway.port());
        let (begin, rest) = LIVENESS.split_at(LIVENESS.len() - 3);
        half_asked.send(begin);
        let mut half_refused = Client::connect(gateway.port());
        half_refused.send("GET /v1/../x HTTP/1.1\r\nHost: localhost\r\n");
        // It is accepted after the others, so these are accepted now.
        Client::connect(gateway.port()).ask(LIVENESS);

        let stopped = Instant::now();
        gateway.terminate();
        wait_for_refused_connections(&gateway);
        let sent = [half_asked.try_send(rest), half_refused.try_send("\r\n")];
        let is_undisturbed = stopped.elapsed() < SURELY_WITHIN_GRACE;
        for ((mut client, sent), status) in [half_asked, half_refused].into_iter().zip(sent).zip([200, 400]) {
            if is_undisturbed {
                sent.expect("the gateway waits for it");
                let response = client.read_response();
                assert_eq!((response.status, response.field("connection")), (status, Some("close")));
                assert_eq!(client.expect_close(), Ended::Eof);
            }
        }
        gate.open();
        let response = thinking.read_response();
        assert_eq!((response.text().as_str(), response.field("connection")), ("ok", Some("close")));
        assert_eq!(thinking.expect_close(), Ended::Eof);
        assert_eq!(gateway.wait().code(), Some(0));
        is_undisturbed
    });
}

#[test]
fn either_signal_stops_a_gateway_at_rest() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let upstream = Upstream::plain(sse(&[LAST_EVENT], Duration::ZERO));
        let mut gateway = Gateway::before(&upstream);
        let mut client = Client::connect(gateway.port());
        assert!(client.ask(POST).is_whole);
        // The client knows it before the gateway has noted it.
        gateway.wait_for_log("end=ok");
        // Neither the drain limit nor the client's keep-alive ends as soon as a wait of the test.
        gateway.signal(signal);
        assert_eq!(gateway.wait().code(), Some(0));
        assert!(gateway.wait_for_log("stopping:").contains("open_exchanges=0"));
    }
}

#[test]
fn a_second_signal_exits_at_once_and_says_what_was_cut() {
    for (first, second) in [(libc::SIGTERM, libc::SIGTERM), (libc::SIGINT, libc::SIGTERM)] {
        // Never over: only the second signal can end it, as the drain limit is ten minutes.
        let upstream = Upstream::plain(streaming_until(&Arc::default()));
        let mut gateway = Gateway::before(&upstream);
        let mut client = Client::connect(gateway.port());
        client.send(POST);
        client.read_until(event(0));
        gateway.signal(first);
        gateway.wait_for_log("stopping:");
        gateway.signal(second);
        assert_eq!(gateway.wait().code(), Some(1));
        gateway.wait_for_log("stopped at once by a second signal; exchanges cut off: 1");
    }
}

/// An exchange that is open when the drain limit passes: its path, the bytes that the upstream has sent by then, the
/// last of them as the client reads them, and how it ends.
struct Open {
    path: &'static str,
    sent: &'static str,
    seen: &'static str,
    ends: Ends,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Ends {
    /// Whole, with the error event of its API.
    WithErrorEvent,
    /// Whole, as the turn was complete.
    AsItWas,
    /// Visibly incomplete.
    Cut,
    /// With an answer of the gateway's own.
    Refused,
}

const OPEN: [Open; 9] = [
    Open {
        path: "/v1/chat/completions",
        sent: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n16\r\ndata: {\"choices\":[]}\n\n\r\n",
        seen: "data: {\"choices\":[]}\n\n\r\n",
        ends: Ends::WithErrorEvent,
    },
    Open {
        path: "/v1/messages",
        sent: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n16\r\nevent: ping\ndata: {}\n\n\r\n",
        seen: "event: ping\ndata: {}\n\n\r\n",
        ends: Ends::WithErrorEvent,
    },
    Open {
        path: "/v1/chat/completions",
        sent: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n",
        seen: "data: 1\n\n\r\n",
        ends: Ends::Cut,
    },
    Open {
        path: "/v1/messages",
        sent: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n20\r\ndata: half",
        seen: "data: half",
        ends: Ends::WithErrorEvent,
    },
    Open {
        path: "/v1/responses",
        sent: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {\"type\":\"response.created\"}\n\n",
        seen: "data: {\"type\":\"response.created\"}\n\n",
        ends: Ends::WithErrorEvent,
    },
    Open {
        path: "/v1/chat/completions",
        sent: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\ne\r\ndata: [DONE]\n\n\r\n",
        seen: "data: [DONE]\n\n\r\n",
        ends: Ends::AsItWas,
    },
    Open {
        path: "/v1/chat/completions",
        sent: "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
        seen: "{\r\n",
        ends: Ends::Cut,
    },
    Open {
        path: "/v1/chat/completions",
        sent: "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{",
        seen: "{",
        ends: Ends::Cut,
    },
    Open { path: "/v1/chat/completions", sent: "", seen: "", ends: Ends::Refused },
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
    let port = gateway.port();
    let (ready, readiness) = channel();
    let read = |number: usize, open: &Open| {
        let mut client = Client::connect(port);
        client.send(format!(
            "POST {} HTTP/1.1\r\nHost: localhost\r\nX-Number: {number}\r\nContent-Length: 2\r\n\r\n{{}}",
            open.path
        ));
        let response = client.read_response_after(open.seen.as_bytes(), || ready.send(()).expect("it is waited for"));
        let ended = Instant::now();
        client.expect_close();
        (response, ended)
    };
    let (signalled, ends) = thread::scope(|scope| {
        let readers: Vec<_> =
            OPEN.iter().enumerate().map(|(number, open)| scope.spawn(move || read(number, open))).collect();
        for _ in &OPEN {
            readiness.recv_timeout(DEADLINE).expect("all clients see what was sent");
        }
        upstream.wait_for_requests(OPEN.len());
        let signalled = Instant::now();
        gateway.terminate();
        (signalled, readers.into_iter().map(|reader| reader.join().expect("an end")).collect::<Vec<_>>())
    });

    for (open, (response, ended)) in OPEN.iter().zip(ends) {
        let what = format!("{} {:?}", open.path, open.sent);
        assert!(ended - signalled > Duration::from_millis(900), "{what}: ended before the limit");
        assert_eq!(response.is_whole, open.ends != Ends::Cut, "{what}: {response:?}");
        let events = parse_events(&response.body);
        let has_error_event = events.last().is_some_and(|event| is_error_event(event, open.path));
        assert_eq!(has_error_event, open.ends == Ends::WithErrorEvent, "{what}: {response:?}");
        if open.ends == Ends::Refused {
            assert_eq!(response.status, 503, "{what}: {response:?}");
            assert!(response.error_code().is_some() && response.field("retry-after").is_some(), "{response:?}");
        }
    }
    assert_eq!(gateway.wait().code(), Some(0));
    let line = gateway.wait_for_log("the drain limit has passed");
    assert!(line.contains(&format!("open_exchanges={}", OPEN.len())), "{line}");
    // The turn that was complete lacks nothing.
    assert_eq!(gateway.count_log("end=shutdown"), OPEN.len() - 1, "{:?}", gateway.log());
}

#[test]
fn half_a_request_head_and_a_refused_client_that_stays_do_not_hold_up_the_exit() {
    /// For so long the connection of a refused client is kept without a drain.
    const LINGER_LIMIT: Duration = Duration::from_secs(5);
    let exit = || {
        let upstream = Upstream::plain(json(200, "{}"));
        let mut gateway = Gateway::builder().upstream(&upstream).arg("--head-timeout", "600").start();
        let mut half = Client::connect(gateway.port());
        half.send("GET /v1/x HTTP/1.1\r\nHo");
        let begun = Instant::now();
        let mut refused = Client::connect(gateway.port());
        refused.send("BAD\x01\r\n\r\n");
        refused.read_until("\r\n\r\n");
        gateway.terminate();
        assert!(gateway.wait().success());
        begun.elapsed()
    };
    // On a machine that is too busy it may really take longer, but not each time.
    assert!((0..5).any(|_| exit() < LINGER_LIMIT), "the exit waits for {LINGER_LIMIT:?}");
}
