//! Limits that change while the gateway runs.

use crate::support::{Client, Gate, Upstream, wait_until};
use crate::{BODY, CHAT, Files, answering, before, entry, post, telling, used};

#[test]
fn counts_of_a_name_that_stays_are_kept_and_new_limits_hold_at_once() {
    let upstream = Upstream::plain(answering(telling(60)));
    let files = Files::new();
    let limits = |tokens: u64| [entry("ana", &format!(r#""limits":{{"tokens_per_day":{tokens}}}"#))];
    let gateway = before(&upstream, &files, &limits(1000)).start();
    let ask = || Client::connect(gateway.port()).ask(post("ana", CHAT, BODY)).status;
    assert_eq!(ask(), 200);
    wait_until("it is counted", || used(&gateway, "ana", "tokens_per_day") == Some(60.0));
    for (tokens, status) in [(50, 429), (100, 200)] {
        files.write("keys.json", &format!("[{}]", limits(tokens).join(",")));
        gateway.signal(libc::SIGHUP);
        wait_until("the new limit holds", || {
            let metric = r#"flow_uring_key_limit{key="ana",limit="tokens_per_day"}"#;
            crate::sample(&gateway, metric) == Some(tokens as f64)
        });
        wait_until("it holds on the shard", || ask() == status);
    }
}

#[test]
fn who_waits_for_a_place_comes_in_when_the_limit_is_lifted() {
    let gate = Gate::new();
    let passing = gate.clone();
    let upstream = Upstream::plain(move |peer| {
        while peer.read_request().is_some() {
            passing.pass();
            peer.write(telling(2));
        }
    });
    let files = Files::new();
    let gateway = before(&upstream, &files, &[entry("ana", r#""limits":{"parallel":1}"#)]).start();
    let mut clients: Vec<_> = (0..2)
        .map(|_| {
            let mut client = Client::connect(gateway.port());
            client.send(post("ana", CHAT, BODY));
            client
        })
        .collect();
    upstream.wait_for_requests(1);
    files.write("keys.json", &format!("[{}]", entry("ana", "")));
    gateway.signal(libc::SIGHUP);
    upstream.wait_for_requests(2);
    (0..2).for_each(|_| gate.open());
    assert!(clients.iter_mut().all(|client| client.read_response().status == 200));
}
