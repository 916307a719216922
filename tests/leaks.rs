//! No leaks: descriptors and memory return to what they were, however an exchange ends, and idle connections are closed
//! when their time has come.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

mod support;

use std::thread;
use std::time::{Duration, Instant};

use support::{
    BlackHole, Client, EVENT, EVENT_STREAM, Ended, GET, Gate, Gateway, LIVENESS, POST, Peer, Upstream, check_at_once,
    json, repeat_until_undisturbed, wait_until,
};

/// Exchanges that must leave nothing; a thousandth of what the memory may grow by is far less than one of them takes.
const EXCHANGES: usize = 1000;
const AT_ONCE: usize = 100;
const GROWTH_KIB_MAX: u64 = 4 * 1024;

/// A gateway whose upstream is the black hole.
fn before_a_black_hole(hole: &BlackHole, connect_timeout: &str) -> Gateway {
    Gateway::builder()
        .shards(1)
        .arg("--upstream", "http://localhost:9")
        .arg("--upstream-addr", hole.address().to_string())
        .arg("--connect-timeout", connect_timeout)
        .arg("--log-level", "WARNING")
        .start()
}

/// Returns the number of descriptors that are open before and after an exchange.
fn descriptors_at_rest(gateway: &Gateway) -> usize {
    let descriptors = gateway.open_descriptors();
    let mut client = Client::connect(gateway.port());
    client.ask(LIVENESS);
    client.reset();
    gateway.wait_for_descriptors(descriptors);
    descriptors
}

#[test]
fn clients_that_are_killed_in_any_phase_leave_no_descriptor() {
    let upstream = Upstream::tls(|peer: &mut Peer| {
        let Some(request) = peer.read_request() else { return };
        if request.path().ends_with("/stream") {
            peer.write(EVENT_STREAM);
            peer.write(EVENT);
        }
        peer.wait_for_close();
    });
    let gateway = Gateway::builder().shards(1).upstream(&upstream).start();
    let descriptors = descriptors_at_rest(&gateway);
    for round in 0..5 {
        let mut streaming = Client::connect(gateway.port());
        streaming.send("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
        streaming.read_until(EVENT);
        let mut thinking = Client::connect(gateway.port());
        thinking.send(POST);
        upstream.wait_for_requests(2 * (round + 1));
        let mut sending = Client::connect(gateway.port());
        sending.send("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1");
        let idle = Client::connect(gateway.port());
        wait_until("all have a connection", || gateway.open_descriptors() >= descriptors + 4);
        for client in [streaming, thinking, sending, idle] {
            client.reset();
        }
    }
    gateway.wait_for_descriptors(descriptors);
}

#[test]
fn clients_that_are_killed_while_a_connect_hangs_leave_no_descriptor() {
    const CLIENTS: usize = 20;
    let hole = BlackHole::open();
    let gateway = before_a_black_hole(&hole, "600");
    let descriptors = descriptors_at_rest(&gateway);
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|_| {
            let mut client = Client::connect(gateway.port());
            client.send(POST);
            client
        })
        .collect();
    wait_until("the connects hang", || hole.pending_connects() == CLIENTS);
    for client in clients {
        client.reset();
    }
    // The connects themselves would hang for ten minutes.
    gateway.wait_for_descriptors(descriptors);
}

/// Runs exchanges, `AT_ONCE` at a time: what the first thousands set up is kept, another one must add nothing. How many
/// meet at their height differs, and with it what is kept: a leak is what every further thousand adds.
fn assert_leaves_nothing(what: &str, gateway: &Gateway, exchanges: impl Fn(usize)) {
    const FURTHER_ROUNDS: usize = 4;
    let descriptors = descriptors_at_rest(gateway);
    exchanges(2 * EXCHANGES);
    gateway.wait_for_descriptors(descriptors);
    let mut sizes = vec![gateway.rss_kib()];
    let adds_nothing = (0..FURTHER_ROUNDS).any(|round| {
        exchanges(EXCHANGES);
        gateway.wait_for_descriptors(descriptors);
        sizes.push(gateway.rss_kib());
        sizes[round + 1] <= sizes[round] + GROWTH_KIB_MAX
    });
    println!("{what}: KiB after {} exchanges, and after each {EXCHANGES} more: {sizes:?}", 2 * EXCHANGES);
    assert!(adds_nothing, "{what}: RSS grows by more than {GROWTH_KIB_MAX} KiB each time: {sizes:?}");
}

#[test]
fn a_thousand_connect_timeouts_leave_nothing() {
    let hole = BlackHole::open();
    let gateway = before_a_black_hole(&hole, "0.05");
    assert_leaves_nothing("connect time-outs", &gateway, |count| {
        for _ in 0..count / AT_ONCE {
            let mut clients: Vec<Client> = (0..AT_ONCE).map(|_| Client::connect(gateway.port())).collect();
            for client in &mut clients {
                client.send(POST);
            }
            for client in &mut clients {
                let response = client.read_response();
                assert_eq!(
                    (response.status, response.error_code()),
                    (504, Some("upstream_connect_timeout")),
                    "{response:?}"
                );
            }
        }
    });
}

#[test]
fn a_thousand_clients_that_do_not_wait_for_the_answer_leave_nothing() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        if peer.read_head().is_some() {
            peer.wait_for_close();
        }
    });
    let gateway = Gateway::builder().shards(1).upstream(&upstream).arg("--log-level", "WARNING").start();
    let seen = std::cell::Cell::new(0);
    assert_leaves_nothing("dropped waits", &gateway, |count| {
        for _ in 0..count / AT_ONCE {
            let clients: Vec<Client> = (0..AT_ONCE)
                .map(|_| {
                    let mut client = Client::connect(gateway.port());
                    client.send(POST);
                    client
                })
                .collect();
            seen.set(seen.get() + AT_ONCE);
            upstream.wait_for_requests(seen.get());
            for (number, client) in clients.into_iter().enumerate() {
                if number % 2 == 0 {
                    client.reset()
                } else {
                    client.close()
                };
            }
        }
    });
}

#[test]
fn idle_connections_close_when_their_time_has_come() {
    let upstream = Upstream::plain(json(200, "{}"));
    check_at_once(["0.5", "1.5"], |keepalive| {
        let gateway = Gateway::builder().upstream(&upstream).arg("--keepalive-timeout", keepalive).start();
        let limit = Duration::from_secs_f64(keepalive.parse().expect("seconds"));
        // A client that is slower than the limit finds its connection closed.
        repeat_until_undisturbed(|| {
            let opened = Instant::now();
            let mut untouched = Client::connect(gateway.port());
            let mut used = Client::connect(gateway.port());
            let sent = used.try_send(GET);
            let is_undisturbed = opened.elapsed() < limit;
            if is_undisturbed {
                sent.expect("the gateway waits for it");
                assert_eq!(used.read_response().status, 200);
                for (what, client) in [("untouched", &mut untouched), ("used", &mut used)] {
                    // By default it would be longer than any wait of the test.
                    assert_eq!(client.expect_close(), Ended::Eof, "{what}");
                    assert!(opened.elapsed() >= limit, "{what} of {keepalive} s: {:?}", opened.elapsed());
                }
            }
            is_undisturbed
        });
    });
}

#[test]
fn pooled_upstream_connections_close_when_their_time_has_come() {
    const LIMIT: Duration = Duration::from_millis(500);
    /// Without the flag: twenty times as long.
    const DEFAULT_LIMIT: Duration = Duration::from_secs(10);
    check_at_once([Upstream::plain(json(200, "{}")), Upstream::tls(json(200, "{}"))], |upstream| {
        let gateway = Gateway::builder().shards(1).upstream(&upstream).arg("--upstream-idle-timeout", "0.5").start();
        let mut client = Client::connect(gateway.port());
        for _ in 0..3 {
            assert_eq!(client.ask(GET).status, 200);
        }
        let last = upstream.requests().pop().expect("a request");
        // It is idle from a moment after its last request on.
        let idle = upstream.wait_for_close(last.connection) - last.at;
        assert!((LIMIT..DEFAULT_LIMIT).contains(&idle), "{idle:?}");
        let connections = upstream.connections();
        assert_eq!(client.ask(GET).status, 200);
        assert_eq!(upstream.connections(), connections + 1);
    });
}

/// Returns the CPU time that a process has used so far.
fn cpu_time(gateway: &Gateway) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gateway.pid())).expect("the gateway runs");
    // After the name, which may hold anything, `utime` and `stime` are the 12th and 13th field.
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    // SAFETY: no pointer is passed.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_secs_f64(ticks as f64 / per_second as f64)
}

#[test]
fn connections_beyond_the_limit_wait_quietly_and_are_served_when_a_place_frees() {
    const PLACES: usize = 4;
    const WAIT: Duration = Duration::from_secs(1);
    let gate = Gate::new();
    let passing = gate.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        while peer.read_request().is_some() {
            passing.pass();
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let gateway = Gateway::builder().upstream(&upstream).arg("--max-connections", PLACES.to_string()).start();
    let ask = || {
        let mut client = Client::connect(gateway.port());
        client.send(POST);
        client
    };
    let served: Vec<Client> = (0..PLACES).map(|_| ask()).collect();
    upstream.wait_for_requests(PLACES);
    // Enough for every shard to have some that wait.
    let waiting: Vec<Client> = (0..2 * PLACES).map(|_| ask()).collect();
    let before = cpu_time(&gateway);
    thread::sleep(WAIT);
    let used = cpu_time(&gateway) - before;
    println!("{used:?} of CPU time in {WAIT:?} with connections waiting");
    assert!(used < WAIT / 5, "a busy loop: {used:?} of CPU time in {WAIT:?}");
    assert_eq!(upstream.requests().len(), PLACES, "more than {PLACES} connections were served");

    for _ in 0..served.len() + waiting.len() {
        gate.open();
    }
    // Each leaves when it has its answer; the order in which they are let in is not specified.
    thread::scope(|scope| {
        for mut client in served.into_iter().chain(waiting) {
            scope.spawn(move || assert_eq!(client.read_response().text(), "ok"));
        }
    });
}
