//! An upstream that is restarted, refuses, or is down: clients notice as little as possible, answers come in time, and
//! what waits for it is bounded.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::{
    BlackHole, Client, DEADLINE, GET, Gateway, HeldPort, POST, Response, RestartableUpstream, Totals, secrets_json,
};

/// A request that is not sent a second time once it may have arrived.
const BATCH: &str = "POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";

/// The longest that each of hundreds of clients at once may wait.
const PATIENCE: Duration = Duration::from_secs(4 * DEADLINE.as_secs());

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
    asked: Instant,
    answered: Instant,
}

fn connect(gateway: &Gateway) -> Client {
    Client::connect_unrecorded(gateway.port()).with_deadline(PATIENCE)
}

/// Sends requests from `clients` connections at once, each `interval` after its last, while `goes_on` says so of how
/// many it has sent.
fn load(gateway: &Gateway, clients: usize, interval: Duration, goes_on: impl Fn(u32) -> bool + Sync) -> Vec<Seen> {
    let began = Instant::now();
    let one = |number: usize| {
        let mut client = connect(gateway);
        let mut seen = Vec::new();
        for turn in (0..).take_while(|turn| goes_on(*turn)) {
            let at = began + interval * turn + interval * number as u32 / clients as u32;
            thread::sleep(at.saturating_duration_since(Instant::now()));
            let request = [POST, GET, POST, BATCH][(number + turn as usize) % 4];
            let asked = Instant::now();
            let response = client.ask(request);
            if response.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                client = connect(gateway);
            }
            seen.push(Seen { request, response, asked, answered: Instant::now() });
        }
        seen
    };
    thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = (0..clients).map(|number| scope.spawn(move || one(number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a client that is answered")).collect()
    })
}

/// Runs exchanges until what is set up once and kept is there, and returns the open descriptors and RSS in KiB.
fn warm_up(gateway: &Gateway, clients: usize) -> (usize, u64) {
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| connect(gateway).ask(POST));
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

/// A period without an upstream.
struct Outage {
    from: Instant,
    until: Instant,
}

impl Outage {
    /// Returns whether it was shorter than the least back-off: an attempt after one wait finds the upstream back. An
    /// outage that the test itself prolonged need not be.
    fn is_short(&self) -> bool {
        self.until - self.from < Duration::from_millis(50)
    }

    fn touches(&self, seen: &Seen) -> bool {
        seen.asked <= self.until && seen.answered >= self.from
    }
}

#[test]
fn an_upstream_that_is_restarted_under_load_costs_no_request_that_may_be_sent_again() {
    const SHORT_OUTAGES: usize = 3;
    const OUTAGES_MAX: usize = 30;
    const DOWN_FOR: Duration = Duration::from_millis(20);
    const INTERVAL: Duration = Duration::from_millis(100);
    const BETWEEN_OUTAGES: Duration = Duration::from_millis(700);
    let mut upstream = RestartableUpstream::start();
    // Who waits for a connection that never comes is not answered in time.
    let mut gateway = gateway(2, &upstream.url(), "600");
    let is_over = AtomicBool::new(false);
    let mut outages: Vec<Outage> = Vec::new();
    let all = thread::scope(|scope| {
        let loading = scope.spawn(|| load(&gateway, 20, INTERVAL, |_| !is_over.load(Ordering::SeqCst)));
        while outages.iter().filter(|outage| outage.is_short()).count() < SHORT_OUTAGES && outages.len() < OUTAGES_MAX {
            thread::sleep(BETWEEN_OUTAGES);
            let from = Instant::now();
            upstream.stop();
            thread::sleep(DOWN_FOR);
            upstream.resume();
            outages.push(Outage { from, until: Instant::now() });
        }
        thread::sleep(BETWEEN_OUTAGES);
        is_over.store(true, Ordering::SeqCst);
        loading.join().expect("all clients are answered")
    });
    let short = outages.iter().filter(|outage| outage.is_short()).count();
    assert_eq!(short, SHORT_OUTAGES, "the test drew out too many of its {} outages", outages.len());
    let answered =
        |request: &str| all.iter().filter(|seen| seen.request == request && seen.response.status == 200).count();
    let counts = [GET, POST, BATCH].map(answered);
    let unanswered: Vec<&Seen> = all.iter().filter(|seen| seen.response.status != 200).collect();
    let totals = Totals::at_the_end_of(&mut gateway);
    println!("{} requests, {counts:?} well, {} not: {totals:?}", all.len(), unanswered.len());
    for seen in &unanswered {
        let was_drawn_out = outages.iter().any(|outage| !outage.is_short() && outage.touches(seen));
        assert!(seen.request == BATCH || was_drawn_out, "{:?}", seen.response);
        assert!(is_clear(&seen.response), "{:?}", seen.response);
    }
    assert!(upstream.served() >= counts.iter().sum(), "answers that nobody gave");
    assert_eq!(totals.of("requests"), all.len() as u64);
    assert_eq!(totals.of("cooldowns"), 0, "no credential is blamed");
    assert!(totals.of("stale") + totals.of("unreachable") + totals.of("upstream_closed") > 0, "it was not restarted");
}

#[test]
fn an_upstream_that_refuses_is_not_overrun_with_attempts() {
    const CLIENTS: usize = 125;
    const TURNS: u32 = 16;
    let port = HeldPort::reserve();
    let began = Instant::now();
    let mut gateway = gateway(2, &port.url(), "600");
    let before = warm_up(&gateway, 100);
    let seen = load(&gateway, CLIENTS, Duration::from_millis(250), |turn| turn < TURNS);
    for seen in &seen {
        assert!(is_clear(&seen.response), "{:?}", seen.response);
    }
    assert_back_to(&gateway, before);
    let totals = Totals::at_the_end_of(&mut gateway);
    let seconds = began.elapsed().as_secs() + 1;
    println!("within {seconds} s: {totals:?}");
    let (requests, repeats) = (totals.of("requests"), totals.of("attempts") - totals.of("requests"));
    assert_eq!(requests, 100 + CLIENTS as u64 * u64::from(TURNS));
    // A fifth of the requests, and a few each second in any case; some room, as the share is one of ten seconds.
    assert!(repeats * 10 <= requests * 3 + 100 * seconds, "{repeats} repeats of {requests} requests in {seconds} s");
    // The share is what ends them, and it is not nothing either.
    assert!(repeats * 10 > requests, "{repeats} repeats of {requests} requests");
    assert_eq!(totals.of("unreachable"), repeats, "{totals:?}");
    assert!(totals.of("share_exhausted") > 0, "{totals:?}");
}

#[test]
fn what_waits_for_an_upstream_that_has_vanished_is_bounded() {
    const AT_ONCE: usize = 400;
    /// The connects that one shard may have pending.
    const PENDING_MAX: usize = 256;
    let hole = BlackHole::open();
    // None is given up while the test looks.
    let gateway = gateway(1, &hole.url(), "600");
    let mut clients: Vec<Client> = (0..AT_ONCE).map(|_| connect(&gateway)).collect();
    for client in &mut clients {
        client.send(POST);
    }
    let until = Instant::now() + PATIENCE;
    while hole.pending_connects() < PENDING_MAX {
        assert!(Instant::now() < until, "{} pending connects", hole.pending_connects());
        thread::sleep(Duration::from_millis(10));
    }
    // Those that are too many would come now.
    thread::sleep(Duration::from_millis(300));
    assert_eq!(hole.pending_connects(), PENDING_MAX);
    // They are given up once their clients have gone, and those that waited for a place do not take it.
    drop(clients);
    while hole.pending_connects() > 0 {
        assert!(Instant::now() < until + PATIENCE, "{} connects for nobody", hole.pending_connects());
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_upstream_that_has_vanished_is_given_up_in_time() {
    const AT_ONCE: usize = 400;
    let hole = BlackHole::open();
    // Three attempts of half a second; no other limit ends them before the client's patience does.
    let mut gateway = gateway(1, &hole.url(), "0.5");
    let before = warm_up(&gateway, 20);
    let mut clients: Vec<Client> = (0..AT_ONCE).map(|_| connect(&gateway)).collect();
    for client in &mut clients {
        client.send(POST);
    }
    for client in &mut clients {
        let response = client.read_response();
        assert!(is_clear(&response), "{response:?}");
    }
    drop(clients);
    assert_back_to(&gateway, before);
    assert_eq!(hole.pending_connects(), 0);
    let totals = Totals::at_the_end_of(&mut gateway);
    println!("{totals:?}");
    assert_eq!(totals.of("requests"), 20 + AT_ONCE as u64, "{totals:?}");
    assert!(totals.of("attempts") > totals.of("requests"), "{totals:?}");
}
