//! An upstream that is restarted, refuses, or has vanished: clients hear as little of it as can be, answers come in
//! time, and what waits for it is bounded.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::{BlackHole, Client, Gateway, HeldPort, Response, RestartableUpstream, Totals, secrets_json};

const GET: &str = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n";
const POST: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
/// What is not sent a second time once it may have arrived.
const BATCH: &str = "POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";

/// For how long each outage is watched.
const RUN: Duration = Duration::from_secs(10);

/// RSS may grow by this once all is over: buffers that are kept, and the allocator's own.
const GROWTH_KIB_MAX: u64 = 24 * 1024;

fn gateway(shards: usize, url: &str, connect_timeout: &str) -> Gateway {
    Gateway::builder()
        .shards(shards)
        .secrets(secrets_json(&["a", "b", "c"]))
        .arg("--upstream", url)
        .arg("--connect-timeout", connect_timeout)
        .arg("--log-level", "INFO")
        .start()
}

/// One request of a run, as its client saw it.
struct Seen {
    request: &'static str,
    response: Response,
    took: Duration,
}

/// Sends `a_second` requests from `clients` connections, evenly spread, for the time of a run.
fn load(gateway: &Gateway, clients: usize, a_second: usize, run: Duration) -> Vec<Seen> {
    let interval = Duration::from_secs(1) * clients as u32 / a_second as u32;
    let count = (run.as_secs_f64() / interval.as_secs_f64()) as u32;
    let began = Instant::now();
    let one = |number: usize| {
        let mut client = Client::connect_unrecorded(gateway.port());
        let mut seen = Vec::new();
        for turn in 0..count {
            let at = began + interval * turn + interval * number as u32 / clients as u32;
            thread::sleep(at.saturating_duration_since(Instant::now()));
            let request = [POST, GET, POST, BATCH][(number + turn as usize) % 4];
            let asked = Instant::now();
            let response = client.ask(request);
            if response.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                client = Client::connect_unrecorded(gateway.port());
            }
            seen.push(Seen { request, response, took: asked.elapsed() });
        }
        seen
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|number| scope.spawn(move || one(number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a client that is answered")).collect()
    })
}

/// What is set up once and kept is there after the first exchanges.
fn warm_up(gateway: &Gateway, clients: usize) -> (usize, u64) {
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| Client::connect_unrecorded(gateway.port()).ask(POST));
        }
    });
    let settled = Instant::now();
    let mut descriptors = gateway.open_descriptors();
    // Clients that have gone are closed one by one.
    while settled.elapsed() < Duration::from_millis(300) {
        thread::sleep(Duration::from_millis(20));
        descriptors = descriptors.min(gateway.open_descriptors());
    }
    (descriptors, gateway.rss_kib())
}

fn assert_back_to(gateway: &Gateway, (descriptors, rss): (usize, u64)) {
    gateway.wait_for_descriptors(descriptors);
    let now = gateway.rss_kib();
    println!("RSS: {rss} KiB before, {now} KiB after; {descriptors} descriptors");
    assert!(now <= rss + GROWTH_KIB_MAX, "RSS grew from {rss} to {now} KiB");
}

fn is_clear(response: &Response) -> bool {
    matches!(response.status, 502 | 504) && response.error_code().is_some() && response.is_whole
}

#[test]
fn an_upstream_that_is_restarted_under_load_costs_no_request_that_may_be_sent_again() {
    const RESTARTS: u32 = 3;
    /// Shorter than the least back-off, so that who waits once finds it back.
    const DOWN_FOR: Duration = Duration::from_millis(20);
    let mut upstream = RestartableUpstream::start();
    let mut gateway = gateway(2, &upstream.url(), "2");
    let all = thread::scope(|scope| {
        let loading = scope.spawn(|| load(&gateway, 20, 200, RUN));
        for _ in 0..RESTARTS {
            thread::sleep(RUN / (RESTARTS + 1));
            upstream.stop();
            thread::sleep(DOWN_FOR);
            upstream.resume();
        }
        loading.join().expect("all clients are answered")
    });
    let answered =
        |request: &str| all.iter().filter(|seen| seen.request == request && seen.response.status == 200).count();
    let counts = [GET, POST, BATCH].map(answered);
    let unanswered: Vec<&Seen> = all.iter().filter(|seen| seen.response.status != 200).collect();
    let slowest = all.iter().map(|seen| seen.took).max().expect("many");
    let totals = Totals::at_the_end_of(&mut gateway);
    println!("{} requests, {counts:?} well, {} not, {slowest:?} at most: {totals:?}", all.len(), unanswered.len());
    for seen in &unanswered {
        assert_eq!(seen.request, BATCH, "{:?}", seen.response);
        assert!(is_clear(&seen.response), "{:?}", seen.response);
    }
    assert_eq!(all.len(), 2000);
    assert!(upstream.served() >= counts.iter().sum(), "answers that nobody gave");
    assert_eq!(totals.of("requests"), 2000);
    assert_eq!(totals.of("cooldowns"), 0, "no credential is blamed");
    assert!(totals.of("stale") + totals.of("unreachable") + totals.of("upstream_closed") > 0, "it was not restarted");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}

#[test]
fn an_upstream_that_refuses_is_not_overrun_with_attempts() {
    let port = HeldPort::reserve();
    let mut gateway = gateway(2, &port.url(), "2");
    let before = warm_up(&gateway, 100);
    let seen = load(&gateway, 125, 500, RUN);
    assert_eq!(seen.len(), 5000);
    for seen in &seen {
        assert!(is_clear(&seen.response), "{:?}", seen.response);
        assert!(seen.took < Duration::from_secs(2), "{:?}: {:?}", seen.took, seen.response);
    }
    assert_back_to(&gateway, before);
    let totals = Totals::at_the_end_of(&mut gateway);
    let slowest = seen.iter().map(|seen| seen.took).max().expect("many");
    println!("{slowest:?} at most: {totals:?}");
    let (requests, attempts) = (totals.of("requests"), totals.of("attempts"));
    assert_eq!(requests, 5100);
    assert!(attempts * 10 < requests * 13, "{attempts} attempts for {requests} requests");
    // The share is what ends them, and it is not nothing either.
    assert!(attempts * 10 > requests * 11, "{attempts} attempts for {requests} requests");
    assert_eq!(totals.of("unreachable"), attempts - requests, "{totals:?}");
    assert!(totals.of("share_exhausted") > 0, "{totals:?}");
}

#[test]
fn an_upstream_that_has_vanished_is_given_up_in_time_and_what_waits_is_bounded() {
    const CONNECT_TIMEOUT: f64 = 0.5;
    const ATTEMPTS_MAX: u32 = 3;
    const AT_ONCE: usize = 400;
    /// Of one shard.
    const PENDING_MAX: usize = 256;
    let hole = BlackHole::open();
    let mut gateway = gateway(1, &hole.url(), &CONNECT_TIMEOUT.to_string());
    let before = warm_up(&gateway, 20);
    let is_over = AtomicBool::new(false);
    let (most, slowest) = thread::scope(|scope| {
        let watching = scope.spawn(|| {
            // Where many are given up and others begin at once, the sockets of both are there for some milliseconds: who
            // hangs is there at the next look too.
            const BETWEEN_LOOKS: Duration = Duration::from_millis(40);
            let (mut most, mut last) = (0, 0);
            while !is_over.load(Ordering::SeqCst) {
                let now = gateway.open_descriptors();
                most = most.max(now.min(last));
                last = now;
                thread::sleep(BETWEEN_LOOKS);
            }
            most
        });
        let mut clients: Vec<Client> = (0..AT_ONCE).map(|_| Client::connect_unrecorded(gateway.port())).collect();
        let asked: Vec<Instant> = clients.iter_mut().map(|client| client.send(POST)).map(|_| Instant::now()).collect();
        let answer = |(client, asked): (&mut Client, Instant)| {
            let response = client.read_response();
            assert!(is_clear(&response), "{response:?}");
            asked.elapsed()
        };
        let slowest = clients.iter_mut().zip(asked).map(answer).max().expect("many");
        is_over.store(true, Ordering::SeqCst);
        (watching.join().expect("the gateway runs"), slowest)
    });
    assert_back_to(&gateway, before);
    let totals = Totals::at_the_end_of(&mut gateway);
    // Each client is one descriptor, and so is each connect that hangs: a fast count, where the system's table of all
    // sockets takes longer to read than a connect may take.
    let most = most.saturating_sub(before.0 + AT_ONCE);
    println!("{most} pending connects at most, {slowest:?} at most: {totals:?}");
    let limit = Duration::from_secs_f64(CONNECT_TIMEOUT) * ATTEMPTS_MAX + Duration::from_secs(1);
    assert!(slowest < limit, "{slowest:?}, not within {limit:?}");
    assert!((1..=PENDING_MAX).contains(&most), "{most} pending connects");
    assert_eq!(hole.pending_connects(), 0);
}
