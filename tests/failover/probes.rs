//! Probes, where all credentials cool down: one request finds out whether a credential works again, and the others wait
//! for the outcome.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::cooldowns::{REFUSED, before, cooldowns, limited, replying, turns};
use crate::support::{
    Client, GET, Gate, Gateway, GatewayBuilder, OK, POST, Peer, Request, Response, Totals, Upstream, lines_saying,
    repeat_until_undisturbed, secrets_json, value_of,
};
use crate::table::tried;

/// The longest that others wait for a probe, from its beginning.
const PROBE_LIMIT: Duration = Duration::from_secs(1);

/// Two credentials that both cool down, `b` for the shorter time; the first request after that meets `probe`. Four
/// requests make it so.
fn all_cooling(probe: impl Fn(&mut Peer) + Send + Sync + 'static) -> (Arc<Upstream>, Gateway) {
    all_cooling_with(|builder| builder, probe)
}

fn all_cooling_with(
    set_up: impl Fn(GatewayBuilder) -> GatewayBuilder,
    probe: impl Fn(&mut Peer) + Send + Sync + 'static,
) -> (Arc<Upstream>, Gateway) {
    let (count, probed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (refusing, serving, last) = (Barrier::new(2), Barrier::new(2), Gate::new());
    let passing = last.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            match count.fetch_add(1, Ordering::SeqCst) {
                0 | 1 => {
                    refusing.wait();
                    peer.write(REFUSED);
                }
                2 | 3 => {
                    serving.wait();
                    if request.credential() == "b" {
                        passing.pass();
                    }
                    peer.write(OK);
                }
                _ if probed.fetch_add(1, Ordering::SeqCst) == 0 => probe(peer),
                _ => _ = peer.write(OK),
            }
        }
    });
    let upstream = Arc::new(upstream);
    let builder = Gateway::builder().shards(1).secrets(secrets_json(&["a", "b"])).upstream(&upstream);
    let gateway = set_up(builder).start();
    // Both are refused at once, and each is evidence against the other before either is.
    let first = ask_at_once(&gateway, 2);
    gateway.wait_for_log("credential cools down credential=\"b\"");
    last.open();
    gateway.wait_for_log("credential cools down credential=\"a\"");
    assert!(answers(first).iter().all(|(response, _)| response.status == 200));
    assert_eq!(cooldowns(&gateway, 2), [("b".to_owned(), 300.0), ("a".to_owned(), 300.0)]);
    (upstream, gateway)
}

/// A client that probes, and an upstream that does not answer it until the gate is opened.
struct HeldProbe {
    upstream: Arc<Upstream>,
    gateway: Gateway,
    gate: Gate,
    asked: Instant,
    client: Vec<thread::JoinHandle<(Response, Instant)>>,
}

fn held_probe() -> HeldProbe {
    let gate = Gate::new();
    let passing = gate.clone();
    let (upstream, gateway) = all_cooling(move |peer| {
        passing.pass();
        peer.write(OK);
    });
    let asked = Instant::now();
    let client = ask_at_once(&gateway, 1);
    upstream.wait_for_requests(5);
    HeldProbe { upstream, gateway, gate, asked, client }
}

/// Asks from `count` clients at once; each thread returns its response and when it came.
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
    upstream.requests().split_off(4)
}

#[test]
fn where_all_cool_down_the_soonest_is_probed_by_one_and_the_others_wait_for_the_outcome() {
    repeat_until_undisturbed(|| {
        let outcome = Arc::new(Mutex::new(None));
        let (gate, noting) = (Gate::new(), outcome.clone());
        let passing = gate.clone();
        let (upstream, mut gateway) = all_cooling(move |peer| {
            passing.pass();
            *noting.lock().expect("nobody panics with it") = Some(Instant::now());
            peer.write(OK);
        });
        let asked = Instant::now();
        let clients = ask_at_once(&gateway, 6);
        upstream.wait_for_requests(5);
        gateway.wait_for_log("credential is probed");
        upstream.is_left_alone_for(Duration::from_millis(200));
        gate.open();
        let answers = answers(clients);
        assert!(answers.iter().all(|(response, _)| response.status == 200));
        let requests = after_the_cooling(&upstream);
        assert_eq!(tried(&requests), "b".repeat(6), "the one that is free soonest, and then the one that works");
        let outcome = outcome.lock().expect("nobody panics with it").expect("it was probed");
        assert_waited(&requests, outcome, asked);
        let totals = Totals::at_the_end_of(&mut gateway);
        assert_eq!(lines_saying(&gateway.log(), "credential works again").len(), 1);
        assert_eq!(["requests", "cooldowns", "recoveries"].map(|name| totals.of(name)), [8, 2, 1], "{totals:?}");
        // Before anybody's wait can have ended by its limit: it was the outcome that ended it.
        answers.iter().all(|(_, at)| *at - asked < PROBE_LIMIT)
    });
}

/// No request but the probe came before the probe's outcome, unless the wait for it was over, which had not begun when
/// the first was `asked`.
fn assert_waited(requests: &[Request], outcome: Instant, asked: Instant) {
    let mut times: Vec<Instant> = requests.iter().map(|request| request.at).collect();
    times.sort();
    for at in &times[1..] {
        let since = *at - asked;
        assert!(
            *at >= outcome || since >= PROBE_LIMIT,
            "another request while the first one probes, {since:?} after it"
        );
    }
}

#[test]
fn nobody_waits_longer_than_a_second_for_a_probe() {
    /// Between this limit and the next one that could end a wait.
    const WAITED_MAX: Duration = Duration::from_millis(1900);
    repeat_until_undisturbed(|| {
        let HeldProbe { upstream, gateway, gate, asked, client } = held_probe();
        let others = answers(ask_at_once(&gateway, 4));
        for (response, at) in &others {
            assert_eq!(response.status, 200);
            assert!(*at - asked >= PROBE_LIMIT, "did not wait: {:?}", *at - asked);
        }
        assert_eq!(tried(&after_the_cooling(&upstream)), "bbbbb");
        gate.open();
        assert!(answers(client).iter().all(|(response, _)| response.status == 200));
        others.iter().all(|(_, at)| *at - asked < WAITED_MAX)
    });
}

#[test]
fn a_probe_that_fails_lets_the_others_be_answered_in_time() {
    /// One failed probe, and one wait that lasts to its limit.
    const IN_TIME: Duration = Duration::from_millis(2500);
    repeat_until_undisturbed(|| {
        let outcome = Arc::new(Mutex::new(None));
        let noting = outcome.clone();
        let (upstream, gateway) = all_cooling(move |peer| {
            peer.sleep(Duration::from_millis(100));
            *noting.lock().expect("nobody panics with it") = Some(Instant::now());
            peer.write(limited(300));
        });
        let asked = Instant::now();
        let answers = answers(ask_at_once(&gateway, 4));
        for (response, _) in &answers {
            assert!(matches!(response.status, 200 | 429), "{response:?}");
            assert!(response.error_code().is_none(), "the upstream's answer, not ours: {response:?}");
        }
        let outcome = outcome.lock().expect("nobody panics with it").expect("it was probed");
        assert_waited(&after_the_cooling(&upstream), outcome, asked);
        answers.iter().all(|(_, at)| *at - asked < IN_TIME)
    });
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
    gateway.wait_for_log("end=client_disconnected");
    assert!(answers(ask_at_once(&gateway, 3)).iter().all(|(response, _)| response.status == 200));
    // A probe that is not left to others is waited for, and then nobody probes any more.
    gateway.expect_log_count("credential is probed", 2);
}

#[test]
fn a_client_that_goes_in_the_pause_before_it_would_probe_leaves_the_probe_to_the_next() {
    const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
    repeat_until_undisturbed(|| {
        // The request that `b` cannot serve would go on as the probe of `a`.
        let upstream = replying(|name, before| match (name, before) {
            ("a", 0) => "HTTP/1.1 429 Too Many\r\nRetry-After-Ms: 20\r\nContent-Length: 4\r\n\r\nwait".into(),
            ("b", 1) => "HTTP/1.1 503 Later\r\nContent-Length: 5\r\n\r\nlater".into(),
            _ => OK.into(),
        });
        let gateway = before(&upstream, &["a", "b"]);
        assert_eq!(turns(&mut Client::connect(gateway.port()), &upstream, 1), "ab");
        thread::sleep(Duration::from_millis(20));
        let mut client = Client::connect(gateway.port());
        client.send(GET);
        gateway.wait_for_log("reason=unavailable");
        // Seen by the upstream before the pause began.
        let went = client.reset() - upstream.requests()[2].at;
        let exchange = gateway.wait_for_log(" exchange id=0-2 ");
        if value_of(&exchange, "attempts") != Some("1") {
            assert!(went >= SHORTEST_PAUSE, "an attempt for a client that had gone");
            return false;
        }
        assert_eq!(value_of(&exchange, "end"), Some("client_disconnected"), "{exchange}");
        assert_eq!(turns(&mut Client::connect(gateway.port()), &upstream, 2), "ab");
        gateway.wait_for_log("credential is probed credential=\"a\"");
        true
    });
}

#[test]
fn a_request_whose_copy_was_given_up_can_still_change_its_credential_before_it_is_sent() {
    repeat_until_undisturbed(|| {
        // The request waits for the probe of `b`, is to go by its name, and has no copy. The probe is refused, and is
        // answered with `a`, which thus works again.
        let gate = Gate::new();
        let passing = gate.clone();
        let (upstream, gateway) = all_cooling_with(
            |builder| builder.arg("--replay-max", "0"),
            move |peer| {
                passing.pass();
                peer.write(REFUSED);
            },
        );
        let asked = Instant::now();
        let first = ask_at_once(&gateway, 1);
        upstream.wait_for_requests(5);
        let mut client = Client::connect(gateway.port());
        client.send(POST);
        upstream.is_left_alone_for(Duration::from_millis(100));
        gate.open();
        assert_eq!(client.read_response().status, 200);
        let requests = after_the_cooling(&upstream);
        if requests[2].at - asked >= PROBE_LIMIT {
            // It may have gone by the name of `b`, as nobody waits longer than that.
            return false;
        }
        assert_eq!(answers(first)[0].0.status, 200);
        assert_eq!(tried(&requests), "baa");
        true
    });
}

#[test]
fn the_cooldown_of_the_only_credential_holds_nothing_back() {
    const AT_ONCE: usize = 4;
    for names in [&["a"][..], &["a", "a"]] {
        repeat_until_undisturbed(|| {
            // None of them is answered before all have come.
            let all_have_come = Barrier::new(AT_ONCE);
            let upstream = replying(move |_, before| {
                if before == 0 {
                    return limited(600);
                }
                all_have_come.wait();
                OK.into()
            });
            let gateway = before(&upstream, names);
            let first = Client::connect(gateway.port()).ask(GET);
            assert_eq!((first.status, first.text().as_str()), (429, "wait"));
            assert_eq!(cooldowns(&gateway, 1), [("a".to_owned(), 600.0)]);
            let asked = Instant::now();
            let answers = answers(ask_at_once(&gateway, AT_ONCE));
            assert!(answers.iter().all(|(response, _)| response.status == 200));
            assert_eq!(gateway.count_log("credential is probed"), 0, "the others would wait for it");
            // Whoever is held back is so for a second.
            upstream.requests().iter().all(|request| request.at.saturating_duration_since(asked) < PROBE_LIMIT)
        });
    }
}

#[test]
fn a_client_that_goes_while_it_waits_for_a_probe_is_not_forwarded() {
    repeat_until_undisturbed(|| {
        let HeldProbe { upstream, gateway, gate, asked, client } = held_probe();
        let mut waiting = Client::connect(gateway.port());
        waiting.send(POST);
        upstream.is_left_alone_for(Duration::from_millis(100));
        waiting.close();
        gateway.wait_for_log(" path=/v1/chat/completions ");
        // Else it may have been forwarded when its wait was over, before the client went.
        let is_in_time = asked.elapsed() < PROBE_LIMIT;
        gate.open();
        assert!(answers(client).iter().all(|(response, _)| response.status == 200));
        if is_in_time {
            gateway.wait_for_log("end=client_disconnected");
            assert!(upstream.is_left_alone_for(Duration::from_millis(300)), "a request of a client that had gone");
            assert_eq!(upstream.requests().len(), 5, "a request of a client that had gone");
        }
        is_in_time
    });
}

#[test]
fn a_client_that_goes_while_its_body_is_held_for_the_filter_leaves_the_probe_to_the_next() {
    let filtered = |builder: GatewayBuilder| builder.arg("--filter", "anthropic-compat");
    let (upstream, gateway) = all_cooling_with(filtered, |peer| {
        peer.write(OK);
    });
    let mut leaving = Client::connect(gateway.port());
    leaving.send(
        "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nanthropic-beta: a\r\nContent-Length: 100\r\n\r\n{\"model\"",
    );
    leaving.close();
    gateway.wait_for_log(" path=/v1/messages ");
    assert_eq!(gateway.count_log("credential is probed"), 0);
    assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
    assert_eq!(tried(&after_the_cooling(&upstream)), "b");
    gateway.wait_for_log("credential is probed credential=\"b\"");
}
