//! The requests of a key that are under way at a time, and those who wait for a place.

use std::time::{Duration, Instant};

use crate::support::{Client, Gate, Gateway, Peer, Upstream, secrets_json, wait_until};
use crate::{BODY, CHAT, Files, before, entry, post, used};

const ONE: &str = r#""limits":{"parallel":1}"#;

/// Answers when the gate lets it, and tells by `x-number` which request it is.
fn gated(gate: &Gate) -> impl Fn(&mut Peer) + Send + Sync + 'static {
    let gate = gate.clone();
    move |peer| {
        while peer.read_request().is_some() {
            gate.pass();
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    }
}

fn numbered(name: &str, number: usize) -> String {
    crate::post_with(name, CHAT, &format!("x-number: {number}\r\n"), BODY)
}

fn waiting(gateway: &Gateway, key: &str) -> f64 {
    crate::sample(gateway, &format!(r#"flow_uring_key_requests_waiting{{key="{key}"}}"#)).unwrap_or_default()
}

#[test]
fn more_than_the_limit_wait_in_their_order_and_other_keys_do_not() {
    let gate = Gate::new();
    let upstream = Upstream::plain(gated(&gate));
    let files = Files::new();
    let entries = [entry("ana", ONE), entry("ben", "")];
    let gateway = before(&upstream, &files, &entries).shards(2).start();
    let mut clients = Vec::new();
    for number in 0..5 {
        let mut client = Client::connect(gateway.port());
        client.send(numbered("ana", number));
        clients.push(client);
        if number == 0 {
            upstream.wait_for_requests(1);
        } else {
            wait_until("it waits", || waiting(&gateway, "ana") == number as f64);
        }
    }
    assert_eq!(used(&gateway, "ana", "parallel"), Some(1.0));
    let mut other = Client::connect(gateway.port());
    other.send(numbered("ben", 9));
    assert_eq!(upstream.wait_for_requests(2)[1].head.field("x-number"), Some("9"));
    (0..clients.len() + 1).for_each(|_| gate.open());
    assert!(clients.iter_mut().all(|client| client.read_response().status == 200));
    let numbers: Vec<String> = upstream
        .wait_for_requests(6)
        .iter()
        .filter_map(|request| request.head.field("x-number").map(str::to_owned))
        .filter(|number| number != "9")
        .collect();
    assert_eq!(numbers, ["0", "1", "2", "3", "4"]);
    wait_until("all places are free", || used(&gateway, "ana", "parallel") == Some(0.0));
}

#[test]
fn a_client_that_leaves_frees_its_place_in_the_queue_and_among_those_under_way() {
    for (driver, pump) in [("uring", "never"), ("uring", "always"), ("epoll", "always")] {
        let gate = Gate::new();
        let upstream = Upstream::plain(gated(&gate));
        let files = Files::new();
        let gateway = before(&upstream, &files, &[entry("ana", ONE)])
            .env("FLOW_PROXY_IO_DRIVER", driver)
            .env("FLOW_PROXY_PUMP", pump)
            .start();
        let connect = |number| {
            let mut client = Client::connect(gateway.port());
            client.send(numbered("ana", number));
            client
        };
        let first = connect(0);
        upstream.wait_for_requests(1);
        let second = connect(1);
        wait_until("it waits", || waiting(&gateway, "ana") == 1.0);
        let _third = connect(2);
        wait_until("both wait", || waiting(&gateway, "ana") == 2.0);
        second.close();
        wait_until("one waits", || waiting(&gateway, "ana") == 1.0);
        let left = Instant::now();
        first.reset();
        assert_eq!(upstream.wait_for_requests(2)[1].head.field("x-number"), Some("2"));
        assert!(left.elapsed() < Duration::from_secs(5), "{driver} {pump}");
        assert_eq!(used(&gateway, "ana", "parallel"), Some(1.0));
        (0..3).for_each(|_| gate.open());
    }
}

#[test]
fn who_waits_needs_no_descriptor_but_its_connection() {
    let gate = Gate::new();
    let upstream = Upstream::plain(gated(&gate));
    let files = Files::new();
    let gateway = before(&upstream, &files, &[entry("ana", ONE)]).shards(1).start();
    let mut first = Client::connect(gateway.port());
    first.send(numbered("ana", 0));
    upstream.wait_for_requests(1);
    assert_eq!(waiting(&gateway, "ana"), 0.0);
    let descriptors = gateway.open_descriptors();
    let mut second = Client::connect(gateway.port());
    second.send(numbered("ana", 1));
    wait_until("it waits", || waiting(&gateway, "ana") == 1.0);
    gateway.wait_for_descriptors(descriptors + 1);
    (0..2).for_each(|_| gate.open());
    assert_eq!([first.read_response().status, second.read_response().status], [200, 200]);
}

#[test]
fn who_waits_is_not_asked_for_its_body_before_it_is_let_in() {
    let gate = Gate::new();
    let upstream = Upstream::plain(gated(&gate));
    let files = Files::new();
    let gateway = before(&upstream, &files, &[entry("ana", ONE)]).start();
    let mut first = Client::connect(gateway.port());
    first.send(numbered("ana", 0));
    upstream.wait_for_requests(1);
    let mut second = Client::connect(gateway.port());
    let request = post("ana", CHAT, BODY).replace("Content-Length", "Expect: 100-continue\r\nContent-Length");
    let (head, body) = request.split_once("\r\n\r\n").expect("a head");
    second.send(format!("{head}\r\n\r\n"));
    wait_until("it waits", || waiting(&gateway, "ana") == 1.0);
    assert!(second.is_quiet_for(Duration::from_millis(200)));
    (0..2).for_each(|_| gate.open());
    assert_eq!(first.read_response().status, 200);
    assert!(second.read_until("100 Continue\r\n\r\n").starts_with(b"HTTP/1.1 100"));
    second.send(body);
    assert_eq!(second.read_response().status, 200);
}

#[test]
fn more_than_a_hundred_do_not_wait() {
    let gate = Gate::new();
    let upstream = Upstream::plain(gated(&gate));
    let files = Files::new();
    let gateway = before(&upstream, &files, &[entry("ana", ONE)]).start();
    let mut clients: Vec<_> = (0..101)
        .map(|number| {
            let mut client = Client::connect(gateway.port());
            client.send(numbered("ana", number));
            client
        })
        .collect();
    wait_until("a hundred wait", || waiting(&gateway, "ana") == 100.0);
    let refused = Client::connect(gateway.port()).ask(numbered("ana", 200));
    assert_eq!((refused.status, refused.error_code()), (429, Some("limit_reached")));
    assert_eq!((refused.field("retry-after"), refused.field("x-should-retry")), (Some("5"), None));
    assert!(refused.text().contains("parallel"), "{}", refused.text());
    (0..clients.len() + 1).for_each(|_| gate.open());
    assert!(clients.iter_mut().all(|client| client.read_response().status == 200));
}

#[test]
fn who_waits_when_a_drain_begins_is_still_served() {
    let gate = Gate::new();
    let upstream = Upstream::plain(gated(&gate));
    let files = Files::new();
    let mut gateway = before(&upstream, &files, &[entry("ana", ONE)]).start();
    let mut clients: Vec<_> = (0..4)
        .map(|number| {
            let mut client = Client::connect(gateway.port());
            client.send(numbered("ana", number));
            client
        })
        .collect();
    wait_until("three wait", || waiting(&gateway, "ana") == 3.0);
    gateway.terminate();
    gateway.wait_for_log("a second signal");
    (0..clients.len()).for_each(|_| gate.open());
    assert!(clients.iter_mut().all(|client| client.read_response().status == 200));
    assert!(gateway.wait().success());
}

#[test]
fn those_who_waited_take_their_turns_one_by_one() {
    let gate = Gate::new();
    let upstream = Upstream::plain(gated(&gate));
    let files = Files::new();
    let secrets = secrets_json(&["a", "b", "c"]);
    let gateway = before(&upstream, &files, &[entry("ana", ONE)]).secrets(secrets).shards(1).start();
    let mut clients: Vec<_> = (0..6)
        .map(|number| {
            let mut client = Client::connect(gateway.port());
            client.send(numbered("ana", number));
            client
        })
        .collect();
    wait_until("five wait", || waiting(&gateway, "ana") == 5.0);
    (0..clients.len()).for_each(|_| gate.open());
    assert!(clients.iter_mut().all(|client| client.read_response().status == 200));
    let mut used: Vec<String> = upstream.wait_for_requests(6).iter().map(|request| request.credential()).collect();
    used.sort();
    assert_eq!(used, ["a", "a", "b", "b", "c", "c"]);
}
