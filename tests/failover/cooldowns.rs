//! Credentials that cool down: whose turns they are then, how one comes back, and what is done when all cool down.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Client, Gate, Gateway, Peer, Request, Response, Totals, Upstream, lines_saying, secrets_json, value_of,
};
use crate::table::{POST, tried};

const GET: &str = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const REFUSED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno";

fn limited(seconds: u32) -> String {
    format!("HTTP/1.1 429 Too Many\r\nRetry-After: {seconds}\r\nContent-Length: 4\r\n\r\nwait")
}

/// An upstream that answers each request as `reply` says by its credential and by how many that one has sent before.
fn replying(reply: impl Fn(&str, usize) -> String + Send + Sync + 'static) -> Upstream {
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

fn before(upstream: &Upstream, names: &[&str]) -> Gateway {
    Gateway::builder().shards(1).secrets(secrets_json(names)).upstream(upstream).start()
}

/// The credentials and seconds of all cooldowns, once there are as many as are awaited.
fn cooldowns(gateway: &Gateway, awaited: usize) -> Vec<(String, f64)> {
    gateway.wait_for_log_count("credential cools down", awaited);
    let lines = lines_saying(&gateway.log(), "credential cools down");
    let text = |line: &str, name| value_of(line, name).expect("a value").to_owned();
    lines.iter().map(|line| (text(line, "credential"), text(line, "seconds").parse().expect("a number"))).collect()
}

/// Asks `count` times, one after the other, and says whose tokens arrived.
fn turns(client: &mut Client, upstream: &Upstream, count: usize) -> String {
    let before = upstream.requests().len();
    for _ in 0..count {
        assert_eq!(client.ask(GET).status, 200);
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
    let upstream = replying(|name, before| if name == "a" && before == 0 { limited(1) } else { OK.into() });
    let mut gateway = before(&upstream, &["a", "b", "c"]);
    let mut client = Client::connect(gateway.port());
    assert_eq!(turns(&mut client, &upstream, 1), "ab");
    let began = Instant::now();
    // The margin is what the answer's way took.
    while began.elapsed() < Duration::from_millis(900) {
        assert!(!turns(&mut client, &upstream, 1).contains('a'), "after {:?}", began.elapsed());
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_millis(1050).saturating_sub(began.elapsed()));
    // The first request whose turn it is: within one round.
    assert_eq!(turns(&mut client, &upstream, 3).matches('a').count(), 1);
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
    /// The first two requests with `a` wait for their gates and are then answered like this; all else is well.
    fn begin(answers: [String; 2]) -> Self {
        let gates = [Gate::new(), Gate::new()];
        let waiting = gates.clone();
        let count = AtomicUsize::new(0);
        let upstream = Upstream::plain(move |peer: &mut Peer| {
            while let Some(request) = peer.read_request() {
                if request.credential() != "a" {
                    peer.write(OK);
                    continue;
                }
                let number = count.fetch_add(1, Ordering::SeqCst);
                match waiting.get(number) {
                    Some(gate) => {
                        gate.pass();
                        peer.write(&answers[number]);
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
    assert_eq!(turns(&mut client, &held.upstream, 6), "b".repeat(6));
}

#[test]
fn a_shorter_wait_that_is_asked_for_later_does_not_shorten_a_longer_one() {
    // The only credential is used while it cools down, so that the second answer is one to a later attempt.
    let upstream = replying(|_, before| limited(if before == 0 { 60 } else { 1 }));
    let mut gateway = before(&upstream, &["a"]);
    let mut client = Client::connect(gateway.port());
    for _ in 0..3 {
        assert_eq!(client.ask(GET).status, 429);
    }
    Totals::at_the_end_of(&mut gateway);
    let seen = cooldowns(&gateway, 1);
    assert!(!seen.is_empty() && seen.iter().all(|(_, seconds)| (58.0..=60.0).contains(seconds)), "{seen:?}");
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
    assert_eq!(turns(&mut client, &held.upstream, 6).matches('a').count(), 3);
}

#[test]
fn the_cooldown_of_the_only_credential_holds_nothing_back() {
    let upstream = replying(|_, before| if before == 0 { limited(60) } else { OK.into() });
    for names in [&["a"][..], &["a", "a"]] {
        let upstream = if names.len() == 1 {
            &upstream
        } else {
            &replying(|_, before| if before == 0 { limited(60) } else { OK.into() })
        };
        let gateway = before(upstream, names);
        let mut client = Client::connect(gateway.port());
        let first = client.ask(GET);
        assert_eq!((first.status, first.text().as_str()), (429, "wait"));
        gateway.wait_for_log("credential cools down");
        assert_eq!(cooldowns(&gateway, 1), [("a".to_owned(), 60.0)]);
        let asked = Instant::now();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200));
            }
        });
        assert!(asked.elapsed() < Duration::from_millis(900), "held back for {:?}", asked.elapsed());
    }
}

/// Two credentials that both cool down, `b` for the shorter time; the first request after that meets `probe`.
fn all_cooling(probe: impl Fn(&mut Peer) + Send + Sync + 'static) -> (Arc<Upstream>, Gateway) {
    let probed = AtomicUsize::new(0);
    let count = AtomicUsize::new(0);
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            if count.fetch_add(1, Ordering::SeqCst) < 2 {
                peer.write(limited(if request.credential() == "a" { 600 } else { 300 }));
            } else if probed.fetch_add(1, Ordering::SeqCst) == 0 {
                probe(peer);
            } else {
                peer.write(OK);
            }
        }
    });
    let upstream = Arc::new(upstream);
    let gateway = before(&upstream, &["a", "b"]);
    let first = Client::connect(gateway.port()).ask(GET);
    assert_eq!((first.status, tried(&upstream.requests()).as_str()), (429, "ab"));
    gateway.wait_for_log("credential cools down credential=\"b\"");
    assert_eq!(cooldowns(&gateway, 2), [("a".to_owned(), 600.0), ("b".to_owned(), 300.0)]);
    (upstream, gateway)
}

/// Asks from as many clients at once, and says what each got and when.
fn ask_at_once(gateway: &Gateway, count: usize) -> Vec<thread::JoinHandle<(Response, Instant)>> {
    let port = gateway.port();
    let ask = move || {
        let response = Client::connect(port).ask(GET);
        (response, Instant::now())
    };
    (0..count).map(|_| thread::spawn(ask)).collect()
}

fn answers(asked: Vec<thread::JoinHandle<(Response, Instant)>>) -> Vec<(Response, Instant)> {
    asked.into_iter().map(|client| client.join().expect("an answer")).collect()
}

fn after_the_cooling(upstream: &Upstream) -> Vec<Request> {
    upstream.requests().split_off(2)
}

#[test]
fn where_all_cool_down_the_soonest_is_probed_by_one_and_the_others_wait_for_the_outcome() {
    let gate = Gate::new();
    let passing = gate.clone();
    let (upstream, mut gateway) = all_cooling(move |peer| {
        passing.pass();
        peer.write(OK);
    });
    let asked = ask_at_once(&gateway, 6);
    upstream.wait_for_requests(3);
    gateway.wait_for_log("credential is probed");
    assert!(upstream.is_left_alone_for(Duration::from_millis(400)), "a second request while the first one probes");
    assert_eq!(tried(&after_the_cooling(&upstream)), "b", "the one that is free soonest");
    let opened = Instant::now();
    gate.open();
    for (response, at) in answers(asked) {
        assert_eq!(response.status, 200);
        assert!(at - opened < Duration::from_millis(400), "held back for {:?} after the outcome", at - opened);
    }
    assert_eq!(tried(&after_the_cooling(&upstream)), "b".repeat(6), "the one that works is used");
    let totals = Totals::at_the_end_of(&mut gateway);
    assert_eq!(lines_saying(&gateway.log(), "credential works again").len(), 1);
    assert_eq!(["requests", "cooldowns", "recoveries"].map(|name| totals.of(name)), [7, 2, 1], "{totals:?}");
}

#[test]
fn nobody_waits_longer_than_a_second_for_a_probe() {
    let gate = Gate::new();
    let passing = gate.clone();
    let (upstream, gateway) = all_cooling(move |peer| {
        passing.pass();
        peer.write(OK);
    });
    let first = ask_at_once(&gateway, 1);
    let probe = upstream.wait_for_requests(3)[2].at;
    let asked = Instant::now();
    let others = ask_at_once(&gateway, 4);
    for (response, at) in answers(others) {
        assert_eq!(response.status, 200);
        let waited = at - asked;
        assert!(waited < Duration::from_millis(1900), "waited for {waited:?}");
        assert!(at - probe > Duration::from_millis(800), "did not wait: {waited:?}");
    }
    assert_eq!(tried(&after_the_cooling(&upstream)), "bbbbb");
    gate.open();
    assert!(answers(first).iter().all(|(response, _)| response.status == 200));
}

#[test]
fn a_probe_that_fails_lets_the_others_be_answered_in_time() {
    let (upstream, gateway) = all_cooling(|peer| {
        peer.sleep(Duration::from_millis(100));
        peer.write(limited(300));
    });
    let asked = Instant::now();
    for (response, at) in answers(ask_at_once(&gateway, 4)) {
        assert!(matches!(response.status, 200 | 429), "{response:?}");
        assert!(response.error_code().is_none(), "the upstream's answer, not ours: {response:?}");
        assert!(at - asked < Duration::from_millis(2500), "waited for {:?}", at - asked);
    }
    let first_two = &after_the_cooling(&upstream)[..2];
    assert!(first_two[1].at - first_two[0].at >= Duration::from_millis(90), "two probes at once");
}

#[test]
fn a_client_that_goes_while_it_probes_leaves_the_probe_to_the_next() {
    let begun = Gate::new();
    let beginning = begun.clone();
    let (_upstream, gateway) = all_cooling(move |peer| {
        beginning.open();
        peer.wait_for_close();
    });
    let mut client = Client::connect(gateway.port());
    client.send(GET);
    begun.pass();
    client.reset();
    let asked = Instant::now();
    for (response, at) in answers(ask_at_once(&gateway, 3)) {
        assert_eq!(response.status, 200);
        assert!(at - asked < Duration::from_millis(900), "waited for {:?}", at - asked);
    }
}

#[test]
fn a_client_that_goes_in_the_pause_before_it_would_probe_leaves_the_probe_to_the_next() {
    // The request that `b` cannot serve would go on as the probe of `a`.
    let upstream = replying(|name, before| match (name, before) {
        ("a", 0) => limited(1),
        ("b", 1) => "HTTP/1.1 503 Later\r\nContent-Length: 5\r\n\r\nlater".into(),
        _ => OK.into(),
    });
    let gateway = before(&upstream, &["a", "b"]);
    assert_eq!(turns(&mut Client::connect(gateway.port()), &upstream, 1), "ab");
    thread::sleep(Duration::from_millis(1050));
    let mut client = Client::connect(gateway.port());
    client.send(GET);
    // The pause is at least 50 ms.
    gateway.wait_for_log("reason=unavailable");
    client.reset();
    gateway.wait_for_log("end=client_disconnected");
    assert_eq!(tried(&upstream.requests()), "abb", "the client went too late");
    assert_eq!(turns(&mut Client::connect(gateway.port()), &upstream, 2), "ab");
    gateway.wait_for_log("credential is probed credential=\"a\"");
}

#[test]
fn a_request_whose_copy_was_given_up_can_still_change_its_credential_before_it_is_sent() {
    // The third request waits for the probe of `b`, is to go by its name, and has no copy. Then `a` is free sooner.
    let gate = Gate::new();
    let passing = gate.clone();
    let upstream = replying(move |name, before| match (name, before) {
        ("a", 0) => limited(600),
        ("b", 0) => limited(300),
        ("b", 1) => {
            passing.pass();
            limited(900)
        }
        _ => OK.into(),
    });
    let secrets = secrets_json(&["a", "b"]);
    let gateway = Gateway::builder().shards(1).secrets(secrets).upstream(&upstream).arg("--replay-max", "0").start();
    assert_eq!(Client::connect(gateway.port()).ask(GET).status, 429);
    let first = ask_at_once(&gateway, 1);
    upstream.wait_for_requests(3);
    let mut client = Client::connect(gateway.port());
    client.send(POST);
    assert!(upstream.is_left_alone_for(Duration::from_millis(100)));
    gate.open();
    assert_eq!(client.read_response().status, 200);
    assert_eq!(answers(first)[0].0.status, 429);
    assert_eq!(tried(&upstream.requests()), "abba");
}

#[test]
fn what_pauses_before_it_would_use_a_credential_that_begins_to_cool_down_uses_another() {
    const CLIENTS: usize = 30;
    /// So that all of them may be repeated.
    const OTHERS: usize = 5 * CLIENTS;
    /// What the news may take from the upstream's thread to the gateway's shard on a busy machine.
    const NEWS_TAKE_MAX: Duration = Duration::from_millis(40);
    let begun = Mutex::new(HashSet::new());
    // All requests are told to come later, all at once, and pause for up to 250 ms with their next credential in mind.
    let all_have_come = Barrier::new(CLIENTS);
    let answered = Arc::new(Mutex::new(Vec::new()));
    let noting = answered.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            if request.path().ends_with("/models") {
                peer.write(OK);
                continue;
            }
            let is_first = begun.lock().expect("nobody panics with it").insert(request.path().to_owned());
            let status = if is_first {
                all_have_come.wait();
                503
            } else if request.credential() == "b" {
                429
            } else {
                200
            };
            noting.lock().expect("nobody panics with it").push((request.path().to_owned(), status, Instant::now()));
            peer.write(format!("HTTP/1.1 {status} Told\r\nContent-Length: 2\r\n\r\nok"));
        }
    });
    let gateway = before(&upstream, &["a", "b", "c"]);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(gateway.port())).collect();
    turns(&mut clients[0], &upstream, OTHERS);
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    }
    for client in &mut clients {
        assert_eq!(client.read_response().status, 200);
    }
    let answered = answered.lock().expect("nobody panics with it");
    let was_limited = |path: &str| answered.iter().any(|(other, status, _)| other == path && *status == 429);
    let proof = answered.iter().find(|(path, status, _)| *status == 200 && was_limited(path));
    let known = proof.expect("one was limited").2 + NEWS_TAKE_MAX;
    let requests = upstream.requests();
    let with_b = requests[OTHERS + CLIENTS..].iter().filter(|request| request.credential() == "b");
    let (early, late): (Vec<_>, Vec<_>) = with_b.partition(|request| request.at < known);
    println!("b was used {} times before it was known to be limited", early.len());
    assert!(late.is_empty(), "used while it cools down: {late:#?}");
    let seen = cooldowns(&gateway, 1);
    let [(name, seconds)] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((name.as_str(), *seconds), ("b", 30.0), "one period, however many were limited in it");
}

#[test]
fn a_client_that_goes_while_it_waits_for_a_probe_is_not_forwarded() {
    let gate = Gate::new();
    let passing = gate.clone();
    let (upstream, gateway) = all_cooling(move |peer| {
        passing.pass();
        peer.write(OK);
    });
    let first = ask_at_once(&gateway, 1);
    upstream.wait_for_requests(3);
    let mut waiting = Client::connect(gateway.port());
    waiting.send(POST);
    assert!(upstream.is_left_alone_for(Duration::from_millis(100)));
    waiting.reset();
    gateway.wait_for_log("end=client_disconnected");
    gate.open();
    assert!(answers(first).iter().all(|(response, _)| response.status == 200));
    assert!(upstream.is_left_alone_for(Duration::from_millis(300)), "a request of a client that had gone");
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
    assert_eq!(turns(&mut client, &held.upstream, 6), "b".repeat(6));
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
