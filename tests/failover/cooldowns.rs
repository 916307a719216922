//! Credentials that cool down: which others take their turns, and how one returns.

use std::collections::{HashMap, HashSet};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Client, GET, Gate, Gateway, OK, POST, Peer, Totals, Upstream, lines_saying, repeat_until_undisturbed, secrets_json,
    value_of,
};
use crate::table::tried;

pub const REFUSED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno";

pub fn limited(seconds: u32) -> String {
    format!("HTTP/1.1 429 Too Many\r\nRetry-After: {seconds}\r\nContent-Length: 4\r\n\r\nwait")
}

/// An upstream that answers each request as `reply` says by its credential and by how many that one has sent before.
pub fn replying(reply: impl Fn(&str, usize) -> String + Send + Sync + 'static) -> Upstream {
    let counts = Mutex::new(HashMap::<String, usize>::new());
    Upstream::plain(move |peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            let name = request.credential();
            let before = {
                let mut counts = counts.lock().expect("no script panics while it counts");
                let count = counts.entry(name.clone()).or_default();
                *count += 1;
                *count - 1
            };
            peer.write(reply(&name, before));
        }
    })
}

pub fn before(upstream: &Upstream, names: &[&str]) -> Gateway {
    Gateway::builder().shards(1).secrets(secrets_json(names)).upstream(upstream).start()
}

/// Waits for `awaited` cooldowns, and returns the credential and the seconds of each.
pub fn cooldowns(gateway: &Gateway, awaited: usize) -> Vec<(String, f64)> {
    gateway.wait_for_log_count("credential cools down", awaited);
    let lines = lines_saying(&gateway.log(), "credential cools down");
    let text = |line: &str, name| value_of(line, name).expect("a value").to_owned();
    lines.iter().map(|line| (text(line, "credential"), text(line, "seconds").parse().expect("a number"))).collect()
}

/// Asks `count` times, one after the other, and returns whose tokens arrived.
pub fn turns(client: &mut Client, upstream: &Upstream, count: usize) -> String {
    turns_of(client, upstream, GET, count)
}

fn turns_of(client: &mut Client, upstream: &Upstream, request: &str, count: usize) -> String {
    let before = upstream.requests().len();
    for _ in 0..count {
        assert_eq!(client.ask(request).status, 200);
    }
    tried(&upstream.requests()[before..])
}

#[test]
fn the_turns_of_a_credential_that_cools_down_are_shared_evenly() {
    let upstream = replying(|name, _| if name == "a" { REFUSED.into() } else { OK.into() });
    let gateway = before(&upstream, &["a", "b", "c"]);
    let mut client = Client::connect(gateway.port());
    assert_eq!(turns(&mut client, &upstream, 1), "ab");
    let order = turns(&mut client, &upstream, 60);
    let share = |name| order.matches(name).count();
    assert_eq!((order.len(), share("a")), (60, 0), "{order}");
    assert!(share("b").abs_diff(share("c")) <= 2, "{order}");
    gateway.wait_for_log("credential cools down");
    assert_eq!(cooldowns(&gateway, 1), [("a".to_owned(), 300.0)]);
}

#[test]
fn the_turns_are_shared_evenly_whatever_the_weight_of_the_one_that_cools_down() {
    let mut entries: serde_json::Value = serde_json::from_str(&secrets_json(&["a", "b", "c"])).expect("JSON");
    entries[0]["weight"] = 4.into();
    let upstream = replying(|name, _| if name == "a" { REFUSED.into() } else { OK.into() });
    let gateway = Gateway::builder().shards(1).secrets(entries.to_string()).upstream(&upstream).start();
    let mut client = Client::connect(gateway.port());
    turns(&mut client, &upstream, 1);
    let order = turns(&mut client, &upstream, 60);
    assert!(!order.contains('a'), "{order}");
    assert!(order.matches('b').count().abs_diff(order.matches('c').count()) <= 4, "{order}");
}

#[test]
fn a_cooldown_covers_all_entries_of_an_identity() {
    let upstream = replying(|name, _| if name == "a" { REFUSED.into() } else { OK.into() });
    let gateway = before(&upstream, &["a", "a", "b", "a"]);
    let mut client = Client::connect(gateway.port());
    assert_eq!(turns(&mut client, &upstream, 1), "ab");
    assert_eq!(turns(&mut client, &upstream, 12), "b".repeat(12));
}

#[test]
fn a_cooldown_holds_on_all_shards() {
    let upstream = replying(|name, _| if name == "a" { REFUSED.into() } else { OK.into() });
    let gateway = Gateway::builder().shards(2).secrets(secrets_json(&["a", "b", "c"])).upstream(&upstream).start();
    assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
    for _ in 0..24 {
        assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
    }
    assert_eq!(tried(&upstream.requests()).matches('a').count(), 1, "{}", tried(&upstream.requests()));
}

#[test]
fn a_cooldown_ends_by_itself_and_the_next_turn_is_the_probe() {
    const COOLDOWN: Duration = Duration::from_secs(1);
    let upstream = replying(|name, before| if name == "a" && before == 0 { limited(1) } else { OK.into() });
    let mut gateway = before(&upstream, &["a", "b", "c"]);
    let mut client = Client::connect(gateway.port());
    assert_eq!(turns(&mut client, &upstream, 1), "ab");
    let began = Instant::now();
    while began.elapsed() < COOLDOWN - Duration::from_millis(100) {
        turns(&mut client, &upstream, 1);
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(COOLDOWN.saturating_sub(began.elapsed()));
    // The first request whose turn it is: within one round.
    assert_eq!(turns(&mut client, &upstream, 3).matches('a').count(), 1);
    let requests = upstream.requests();
    let with_a: Vec<_> = requests.iter().filter(|request| request.credential() == "a").collect();
    // A test that is late may have seen more of them. The cooldown began after the first was seen.
    let rested = with_a[1].at - with_a[0].at;
    assert!(rested >= COOLDOWN, "used {rested:?} after it was limited");
    gateway.wait_for_log("credential works again");
    let order = turns(&mut client, &upstream, 30);
    for name in ["a", "b", "c"] {
        assert!((9..=11).contains(&order.matches(name).count()), "the turns are not even again: {order}");
    }
    let totals = Totals::at_the_end_of(&mut gateway);
    let log = gateway.log();
    for message in ["credential is probed", "credential works again"] {
        let lines = lines_saying(&log, message);
        assert_eq!(lines.len(), 1, "{message}: {lines:?}");
        assert_eq!(value_of(&lines[0], "credential"), Some("a"), "{lines:?}");
        assert!(lines[0].contains(" INFO "), "{lines:?}");
    }
    assert_eq!(["cooldowns", "recoveries"].map(|name| totals.of(name)), [1, 1], "{totals:?}");
}

/// Starts requests that the upstream holds, so that several attempts of one credential are under way at once.
struct Held {
    upstream: Upstream,
    gateway: Gateway,
    gates: [Gate; 2],
}

impl Held {
    /// The numbers of the two that take `a`.
    const WITH_A: [usize; 2] = [0, 2];

    /// The requests of [`Self::two_with_a`] wait for their gates and are then answered like this; all else is well.
    fn begin(answers: [String; 2]) -> Self {
        let gates = [Gate::new(), Gate::new()];
        let waiting = gates.clone();
        let upstream = Upstream::plain(move |peer: &mut Peer| {
            while let Some(request) = peer.read_request() {
                // By its own number: two threads may come here in another order than their requests came.
                match Self::WITH_A.iter().position(|number| *number == request.number) {
                    Some(place) => {
                        waiting[place].pass();
                        peer.write(&answers[place]);
                    }
                    None => {
                        peer.write(OK);
                    }
                }
            }
        });
        let gateway = before(&upstream, &["a", "b"]);
        Self { upstream, gateway, gates }
    }

    /// Sends two requests that take `a`, with one for `b` in between.
    fn two_with_a(&self) -> [Client; 2] {
        let mut first = Client::connect(self.gateway.port());
        first.send(POST);
        self.upstream.wait_for_requests(1);
        assert_eq!(Client::connect(self.gateway.port()).ask(GET).status, 200);
        let mut second = Client::connect(self.gateway.port());
        second.send(POST);
        let requests = self.upstream.wait_for_requests(3);
        assert_eq!(tried(&requests), "aba");
        [first, second]
    }
}

#[test]
fn answers_to_attempts_that_began_before_a_cooldown_do_not_double_it() {
    let limited = "HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\n\r\n";
    for (answer, seconds) in [(REFUSED, 300.0), (limited, 30.0)] {
        let held = Held::begin([answer.to_owned(), answer.to_owned()]);
        let clients = held.two_with_a();
        for (mut client, gate) in clients.into_iter().zip(&held.gates) {
            gate.open();
            assert_eq!(client.read_response().status, 200);
        }
        // Logged after what could have doubled it.
        held.gateway.wait_for_log("exchange id=0-3 ");
        let seen = cooldowns(&held.gateway, 1);
        assert!(seen.iter().all(|(name, said)| name == "a" && *said <= seconds), "{answer:?}: {seen:?}");
    }
}

#[test]
fn a_later_deadline_does_not_shorten_an_earlier_one() {
    let held = Held::begin([limited(600), limited(1)]);
    let clients = held.two_with_a();
    for (mut client, gate) in clients.into_iter().zip(&held.gates) {
        gate.open();
        assert_eq!(client.read_response().status, 200);
    }
    thread::sleep(Duration::from_millis(1200));
    let mut client = Client::connect(held.gateway.port());
    assert_eq!(turns_of(&mut client, &held.upstream, POST, 6), "b".repeat(6));
}

#[test]
fn a_shorter_wait_that_is_asked_for_later_does_not_shorten_a_longer_one() {
    // The only credential is used while it cools down, so that the second answer is one to a later attempt.
    let upstream = replying(|_, before| limited(if before == 0 { 3000 } else { 1 }));
    let mut gateway = before(&upstream, &["a"]);
    let mut client = Client::connect(gateway.port());
    for _ in 0..3 {
        assert_eq!(client.ask(GET).status, 429);
    }
    Totals::at_the_end_of(&mut gateway);
    let seen = cooldowns(&gateway, 1);
    assert!(!seen.is_empty() && seen.iter().all(|(_, seconds)| (2900.0..=3000.0).contains(seconds)), "{seen:?}");
}

#[test]
fn answers_to_attempts_that_began_before_a_cooldown_do_not_lengthen_it() {
    let held = Held::begin([limited(1), limited(600)]);
    let clients = held.two_with_a();
    for (mut client, gate) in clients.into_iter().zip(&held.gates) {
        gate.open();
        assert_eq!(client.read_response().status, 200);
    }
    thread::sleep(Duration::from_millis(1200));
    let mut client = Client::connect(held.gateway.port());
    assert_eq!(turns_of(&mut client, &held.upstream, POST, 6).matches('a').count(), 3);
}

#[test]
fn what_pauses_before_it_would_use_a_credential_that_begins_to_cool_down_uses_another() {
    /// Few enough that all of them may be repeated within one second.
    const CLIENTS: usize = 9;
    let mut entries: serde_json::Value = serde_json::from_str(&secrets_json(&["a", "b", "c"])).expect("JSON");
    // Most begin with `a`, and have `b` in mind next.
    entries[0]["weight"] = 7.into();
    repeat_until_undisturbed(|| {
        // All requests are told to come later, all at once, and pause for up to 250 ms.
        let (begun, all_have_come) = (Mutex::new(HashSet::new()), Barrier::new(CLIENTS));
        let upstream = Upstream::plain(move |peer: &mut Peer| {
            while let Some(request) = peer.read_request() {
                let is_first = begun.lock().expect("nobody panics with it").insert(request.path().to_owned());
                let status = if is_first {
                    all_have_come.wait();
                    503
                } else if request.credential() == "b" {
                    429
                } else {
                    200
                };
                peer.write(format!("HTTP/1.1 {status} Told\r\nContent-Length: 2\r\n\r\nok"));
            }
        });
        let mut gateway = Gateway::builder().shards(1).secrets(entries.to_string()).upstream(&upstream).start();
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(gateway.port())).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(format!("GET /{number} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        }
        for client in &mut clients {
            assert_eq!(client.read_response().status, 200);
        }
        Totals::at_the_end_of(&mut gateway);
        let seen = cooldowns(&gateway, 0);
        // Where all pauses were over before the first answer to `b` was, nobody paused before a cooldown.
        let [(name, seconds)] = &seen[..] else {
            assert!(seen.is_empty(), "one period, however many were limited in it: {seen:?}");
            return false;
        };
        assert_eq!((name.as_str(), *seconds), ("b", 30.0));
        let late = paused_into_the_cooldown(&gateway.log());
        let with_b = upstream.requests().into_iter().filter(|request| request.credential() == "b");
        // The first of a path is the one that was told to come later.
        let used: Vec<_> = with_b.filter(|request| late.iter().any(|path| request.path().ends_with(path))).collect();
        assert!(used.is_empty(), "used while it cools down: {used:#?}");
        !late.is_empty()
    });
}

/// Returns the paths of the requests whose pause before `b` ended after `b` began to cool down, by the gateway's clock.
fn paused_into_the_cooldown(log: &[String]) -> Vec<String> {
    let cooling = logged_at(&lines_saying(log, "credential cools down")[0]);
    let exchanges: Vec<_> = log.iter().filter(|line| line.contains(" exchange id=")).collect();
    let path_of = |id: &str| {
        let line = exchanges.iter().find(|line| value_of(line, "id") == Some(id)).expect("all have ended");
        value_of(line, "path").expect("a path").to_owned()
    };
    let mut paths = Vec::new();
    for line in lines_saying(log, "another attempt") {
        let pause = value_of(&line, "pause_ms").and_then(|pause| pause.parse().ok()).expect("milliseconds");
        // The pause begins after its line, and the cooldown before its own.
        let is_late = logged_at(&line) + Duration::from_millis(pause) > cooling;
        if value_of(&line, "next") == Some("b") && is_late {
            paths.push(path_of(value_of(&line, "id").expect("an id")));
        }
    }
    paths
}

/// Returns the time of day at the beginning of a line, as in `2026-11-22T22:13:32.123456Z`.
fn logged_at(line: &str) -> Duration {
    let (_, time) = line.split_once('T').expect("a date");
    let seconds = time.split_once('Z').expect("a time").0.split(':').map(|part| part.parse::<f64>().expect("digits"));
    Duration::from_secs_f64(seconds.fold(0.0, |sum, part| sum * 60.0 + part))
}

#[test]
fn a_suspicion_that_is_not_confirmed_ends_with_its_request() {
    // `a` refuses the first request, and the client goes before any other credential has answered it.
    let upstream = Upstream::plain(|peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            match (request.path().ends_with("/first"), &*request.credential()) {
                (true, "a") => peer.write(REFUSED),
                (true, _) => return peer.wait_for_close(),
                _ => peer.write(OK),
            };
        }
    });
    let gateway = before(&upstream, &["a", "b"]);
    let mut client = Client::connect(gateway.port());
    client.send("GET /first HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(tried(&upstream.wait_for_requests(2)), "ab");
    client.reset();
    gateway.wait_for_log("end=client_disconnected");
    let order = turns(&mut Client::connect(gateway.port()), &upstream, 10);
    assert_eq!((order.matches('a').count(), order.matches('b').count()), (5, 5), "{order}");
    assert!(cooldowns(&gateway, 0).is_empty());
}

#[test]
fn an_answer_that_succeeds_after_a_cooldown_began_does_not_end_it() {
    // The first of two requests with `a` is limited; the second, which began before that, is well.
    let held = Held::begin([limited(600), OK.to_owned()]);
    let clients = held.two_with_a();
    for (mut client, gate) in clients.into_iter().zip(&held.gates) {
        gate.open();
        assert_eq!(client.read_response().status, 200);
    }
    let mut client = Client::connect(held.gateway.port());
    assert_eq!(turns_of(&mut client, &held.upstream, POST, 6), "b".repeat(6));
}

#[test]
fn a_refusal_while_all_others_cool_down_is_looked_into_with_one_of_them() {
    // `b` is limited at first; later `a` is revoked, and `b` could serve again long before its cooldown is over.
    let upstream = replying(|name, before| match (name, before) {
        ("a", 2..) => REFUSED.to_owned(),
        ("b", 0) => limited(600),
        _ => OK.to_owned(),
    });
    let gateway = before(&upstream, &["a", "b"]);
    let mut client = Client::connect(gateway.port());
    assert_eq!(turns(&mut client, &upstream, 2), "aba");
    assert_eq!(turns(&mut client, &upstream, 2), "abb");
    assert_eq!(cooldowns(&gateway, 2), [("b".to_owned(), 600.0), ("a".to_owned(), 300.0)]);
}
