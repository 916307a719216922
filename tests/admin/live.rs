//! What a page lives on: the events, and the wish to wake a credential.

use std::time::Instant;

use serde_json::{Value, json};

use crate::state::{chat, state, wait_for_state};
use crate::support::{
    Client, DEADLINE, Gateway, Peer, Response, Upstream, command, json as answer, output_of, secrets_json,
};
use crate::{before, page};

/// The events that may be followed at a time.
const FOLLOWERS_MAX: usize = 16;

pub fn follow(port: u16) -> Client {
    let mut client = Client::connect(port);
    client.send(format!("GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"));
    client
}

fn wake(gateway: &Gateway, name: &str) -> Response {
    let request = format!("POST /api/credentials/{name}/wake HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    Client::connect(gateway.admin_port()).ask(request)
}

#[test]
fn events_tell_the_state_every_second_with_the_last_step_of_the_history() {
    let upstream = Upstream::plain(answer(200, "{}"));
    let gateway = before(&upstream).env("FLOW_PROXY_USAGE_DB", "off").start();
    let mut client = follow(gateway.admin_port());
    assert_eq!(client.read_head().field("content-type"), Some("text/event-stream"));
    for _ in 0..2 {
        let event = client.read_until("\n\n");
        let event = String::from_utf8(event).expect("text");
        let (id, data) = event.split_once('\n').expect("two lines");
        assert!(id.strip_prefix("id: ").is_some_and(|id| id.parse::<u64>().is_ok()), "{id}");
        let state: Value = serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
        assert_eq!(state["history"]["requests"].as_array().map(Vec::len), Some(1));
        assert_eq!(state["stage"], "serving");
    }
}

#[test]
fn followers_are_few_and_keep_nobody_out() {
    let upstream = Upstream::plain(answer(200, "{}"));
    let gateway = before(&upstream).env("FLOW_PROXY_USAGE_DB", "off").start();
    let port = gateway.admin_port();
    let mut followers: Vec<Client> = (0..FOLLOWERS_MAX).map(|_| follow(port)).collect();
    followers.iter_mut().for_each(|client| drop(client.read_until("\n\n")));
    let refused = page(port, "/api/events");
    assert_eq!((refused.status, refused.error_code()), (503, Some("too_many_followers")));
    let silent: Vec<Client> = (0..100).map(|_| Client::connect(port)).collect();
    assert_ne!(page(port, "/healthz").status, 0);
    drop(silent);
    followers.iter_mut().for_each(|client| drop(client.read_until("\n\n")));
    drop(followers);
    let until = Instant::now() + DEADLINE;
    loop {
        let mut client = follow(port);
        if client.read_until("\r\n").starts_with(b"HTTP/1.1 200") {
            break;
        }
        assert!(Instant::now() < until, "the places of those who left are not free");
    }
}

#[test]
fn the_events_end_when_the_gateway_drains() {
    let upstream = Upstream::plain(answer(200, "{}"));
    let gateway = before(&upstream).env("FLOW_PROXY_USAGE_DB", "off").start();
    let mut client = follow(gateway.admin_port());
    client.read_until("\n\n");
    gateway.terminate();
    client.expect_close();
}

/// Refuses the first request of `a` with a long rest, and answers all others.
fn limiting(peer: &mut Peer) {
    while let Some(request) = peer.read_request() {
        let is_limited = request.credential() == "a" && request.path().contains("/completions");
        let limited = "HTTP/1.1 429 No\r\nRetry-After: 3000\r\nContent-Length: 2\r\n\r\n{}";
        peer.write(if is_limited { limited } else { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" });
    }
}

#[test]
fn a_credential_that_is_woken_is_used_by_all_shards_at_once() {
    let upstream = Upstream::plain(limiting);
    let gateway = before(&upstream).shards(2).env("FLOW_PROXY_USAGE_DB", "off");
    let gateway = gateway.secrets(secrets_json(&["a", "b"])).start();
    assert_eq!([chat(&gateway, "m-1"), chat(&gateway, "m-1")], [200, 200]);
    let rests = |state: &Value| state["credentials"][0]["rests"].as_array().map_or(0, Vec::len);
    let resting = wait_for_state(&gateway, |state| rests(state) == 1);
    let credential = &resting["credentials"][0];
    assert_eq!((&credential["state"], &credential["rest"]["what"]), (&json!("limited"), &json!("m-1")));
    assert_eq!(credential["rest"]["reason"], "rate_limited");
    assert!(credential["rest"]["ends_in"].as_f64().is_some_and(|seconds| (2000.0..=3000.0).contains(&seconds)));

    let asked_before = asked_of_a(&upstream);
    (0..8).for_each(|_| assert_eq!(chat(&gateway, "m-1"), 200));
    assert_eq!(asked_of_a(&upstream), asked_before, "it rests on every shard");
    assert_eq!((wake(&gateway, "a").json(), rests(&state(&gateway))), (json!({"woken": true}), 0));
    gateway.wait_for_log("the credential was woken by hand");
    assert_eq!(wake(&gateway, "a").json(), json!({"woken": false}));
    (0..2).for_each(|_| assert_eq!(chat(&gateway, "m-1"), 200));
    assert!(asked_of_a(&upstream) > asked_before, "it is asked again");
    let unknown = wake(&gateway, "nobody");
    assert_eq!((unknown.status, unknown.error_code()), (404, Some("unknown_credential")));
}

#[test]
fn the_command_wakes_a_credential_of_the_gateway_that_runs() {
    let upstream = Upstream::plain(limiting);
    let gateway = before(&upstream).env("FLOW_PROXY_USAGE_DB", "off").secrets(secrets_json(&["a", "b"])).start();
    assert_eq!([chat(&gateway, "m-1"), chat(&gateway, "m-1")], [200, 200]);
    wait_for_state(&gateway, |state| state["credentials"][0]["state"] == "limited");
    let run = |name: &str, admin: String| {
        let mut command = command(env!("CARGO_BIN_EXE_flow-uring"));
        command.args(["wake", name, "--admin", &admin]).current_dir("/");
        let output = output_of(command);
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("");
        (output.status.code(), said)
    };
    let address = || format!("127.0.0.1:{}", gateway.admin_port());
    assert_eq!(run("a", address()), (Some(0), "woken\n".into()));
    assert_eq!(run("a", address()), (Some(0), "it was not resting\n".into()));
    let (code, said) = run("nobody", address());
    assert!(code == Some(1) && said.contains("There is no credential of that name."), "{said}");
    let (code, said) = run("a", format!("127.0.0.1:{}", gateway.port()));
    assert!(code == Some(1) && said.contains("is no gateway"), "{said}");
}

#[test]
fn a_flood_of_admin_clients_holds_up_no_request() {
    let upstream = Upstream::plain(answer(200, "{}"));
    let gateway = before(&upstream).env("FLOW_PROXY_USAGE_DB", "off").start();
    let port = gateway.admin_port();
    let mut clients: Vec<Client> = (0..200).map(|_| Client::connect(port)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let path = ["/api/state", "/api/events", "/metrics", "/api/usage"][number % 4];
        // Of so many some are closed before they have asked.
        let _ = client.try_send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    }
    (0..50).for_each(|_| assert_eq!(chat(&gateway, "m-1"), 200));
    drop(clients);
    wait_for_state(&gateway, |state| state["totals"]["requests"] == 50);
}

fn asked_of_a(upstream: &Upstream) -> usize {
    upstream.requests().iter().filter(|request| request.credential() == "a").count()
}
