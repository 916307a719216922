//! `/healthz`, `/readyz` and the `healthcheck` command, while all is well, while a shard hangs, and during a drain.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Client, GET, Gate, Gateway, OK, Peer, Upstream, command, output_of, repeat_until_undisturbed, secrets_json,
    skip_but_not_on_ci,
};
use crate::{EXCHANGE_LIMIT, before, page, wait_for_page};

/// The time that a shard is given to answer. It cannot be set.
const ALIVE_LIMIT: Duration = Duration::from_secs(1);

/// Stops one thread of another process.
struct Held {
    thread: libc::pid_t,
}

impl Held {
    /// Returns `None` where this process may not do that. On CI it has to.
    fn thread_of(gateway: &Gateway, name: &str) -> Option<Self> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", gateway.pid())).expect("it runs");
        let is_named = |path: &std::path::Path| {
            std::fs::read_to_string(path.join("comm")).is_ok_and(|found| found.trim_end() == name)
        };
        let path = tasks.map(|task| task.expect("an entry").path()).find(|path| is_named(path)).expect("such a thread");
        let thread: libc::pid_t = path.file_name().expect("a name").to_str().expect("text").parse().expect("a number");
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: both requests take no pointer that is looked at.
        let is_held = unsafe {
            libc::ptrace(libc::PTRACE_SEIZE, thread, none, none) == 0
                && libc::ptrace(libc::PTRACE_INTERRUPT, thread, none, none) == 0
        };
        if !is_held {
            skip_but_not_on_ci("a shard that hangs: no thread of another process may be held here (ptrace)");
            return None;
        }
        let mut status = 0;
        // SAFETY: `status` is of this frame. The thread stops by itself, and is not waited for elsewhere.
        let waited = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
        assert_eq!(waited, thread, "{}", std::io::Error::last_os_error());
        Some(Held { thread })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: the request takes no pointer that is looked at.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.thread, none, none) };
    }
}

fn shard_states(health: &Value) -> Vec<&str> {
    let shards = health["shards"].as_array().expect("a list");
    shards.iter().map(|shard| shard["state"].as_str().expect("a word")).collect()
}

/// Checks that `flow-uring healthcheck` says this of the gateway with these admin pages.
fn check_healthcheck(gateway: &Gateway, code: i32, said: &str) {
    let address = format!("127.0.0.1:{}", gateway.admin_port());
    repeat_until_undisturbed(|| {
        let began = Instant::now();
        let mut command = command(env!("CARGO_BIN_EXE_flow-uring"));
        command.args(["healthcheck", "--port", &gateway.port().to_string()]).env("FLOW_PROXY_ADMIN", &address);
        let output = output_of(command);
        let found = (output.status.code(), String::from_utf8(output.stderr).expect("text"));
        let is_so = found == (Some(code), said.to_owned());
        // A shard that is well may have been held up too. Where one hangs, its limit passes in every round.
        let is_disturbed = began.elapsed() >= if code == 0 { ALIVE_LIMIT } else { EXCHANGE_LIMIT };
        assert!(is_so || is_disturbed, "{found:?}");
        is_so
    });
}

#[test]
fn a_shard_that_hangs_is_told_of_and_holds_up_no_page() {
    let upstream = Upstream::plain(crate::support::json(200, "{}"));
    let gateway = before(&upstream).start();
    let port = gateway.admin_port();
    let healthy = wait_for_page(port, "/healthz", |page| page.status == 200);
    assert_eq!(healthy.json()["status"], "ok");
    assert_eq!(shard_states(&healthy.json()), ["answers", "answers"]);
    check_healthcheck(&gateway, 0, "");
    let Some(held) = Held::thread_of(&gateway, "flow-shard-1") else {
        return;
    };
    for _ in 0..3 {
        let failing = wait_for_page(port, "/healthz", |page| {
            assert_eq!((page.status, shard_states(&page.json())[1]), (503, "silent"));
            shard_states(&page.json())[0] == "answers"
        });
        let failing = failing.json();
        assert_eq!(
            (&failing["status"], &failing["reason"]),
            (&json!("failing"), &json!("no answer within 1 s from shard 1"))
        );
    }
    check_healthcheck(&gateway, 1, &format!("flow-uring: unhealthy: 127.0.0.1:{port} answered with status 503\n"));
    assert_eq!(page(port, "/readyz").status, 200, "which is not the same question");
    wait_for_page(port, "/metrics", |page| page.text().contains("\nflow_uring_shards_answering 1\n"));
    drop(held);
    wait_for_page(port, "/healthz", |page| page.status == 200);
    check_healthcheck(&gateway, 0, "");
    assert_eq!(upstream.connections(), 0, "health checks spend no request");
}

#[test]
fn a_gateway_that_drains_is_alive_and_not_ready() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        while peer.read_request().is_some() {
            held.pass();
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        }
    });
    let mut gateway = before(&upstream).start();
    let port = gateway.admin_port();
    let ready = page(port, "/readyz");
    assert_eq!((ready.status, &ready.json()["status"]), (200, &json!("ready")));
    let mut client = Client::connect(gateway.port());
    client.send(GET);
    wait_for_page(port, "/metrics", |page| page.text().contains("\nflow_uring_exchanges_in_flight 1\n"));
    gateway.terminate();
    gateway.wait_for_log("stopping:");
    let draining = page(port, "/readyz");
    assert_eq!((draining.status, &draining.json()["status"]), (503, &json!("draining")));
    assert!(draining.json()["reason"].is_string());
    // The shard that has nothing open may have ended already.
    let health = wait_for_page(port, "/healthz", |page| page.status == 200);
    assert!(!shard_states(&health.json()).contains(&"silent"));
    gate.open();
    assert_eq!(client.read_response().status, 200);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn credentials_that_rest_are_listed_with_their_scope_and_change_nothing() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            let (path, credential) = (request.path().to_owned(), request.credential());
            peer.write(match &*credential {
                "a" if path.ends_with("/responses") => "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n",
                "a" => "HTTP/1.1 429 Slow\r\nRetry-After: 3000\r\nContent-Length: 0\r\n\r\n",
                _ if path.ends_with("/embeddings") => "HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n",
                _ => OK,
            });
        }
    });
    let gateway = before(&upstream).shards(1).secrets(secrets_json(&["a", "b"])).start();
    let port = gateway.admin_port();
    let ready = page(port, "/readyz").json();
    assert_eq!((&ready["cooldowns"], &ready["limited_for_all"]), (&json!([]), &json!([])));
    let ask = |path: &str, body: &str| {
        let length = body.len();
        let request = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}");
        Client::connect(gateway.port()).ask(request).status
    };
    assert_eq!(ask("/v1/messages", r#"{"model":"m"}"#), 200);
    assert_eq!(ask("/v1/messages", r#"{"model":"other"}"#), 200);
    assert_eq!(ask("/v1/messages", "{}"), 200);
    assert_eq!(ask("/v1/embeddings", r#"{"model":"e"}"#), 429);
    assert_eq!(ask("/v1/responses", "{}"), 200);
    let ready = page(port, "/readyz");
    assert_eq!(ready.status, 200);
    let ready = ready.json();
    assert_eq!((&ready["status"], &ready["credentials"]), (&json!("ready"), &json!(2)));
    let rests = ready["cooldowns"].as_array().expect("a list");
    let of = |scope: &str| rests.iter().find(|rest| rest["scope"] == scope).unwrap_or_else(|| panic!("{rests:?}"));
    assert!(rests.iter().all(|rest| rest["credential"] == "a"), "{rests:?}");
    for (rest, reason, seconds) in [
        (of("credential"), "refused", 270..=300),
        (of("model"), "rate_limited", 2700..=3000),
        (of("path_family"), "rate_limited", 2700..=3000),
    ] {
        assert_eq!(rest["reason"], reason, "{rest}");
        assert!(rest["seconds"].as_u64().is_some_and(|said| seconds.contains(&said)), "{rest}");
        let time = |name: &str| httpdate::parse_http_date(rest[name].as_str().expect("a date")).expect("a date");
        let length = time("until").duration_since(time("since")).expect("later").as_secs();
        assert!(length.abs_diff(*seconds.end()) <= 1, "{rest}");
    }
    assert_eq!(of("path_family")["path_family"], "messages");
    assert_eq!((&ready["limited_for_all"][0]["model"], &ready["limited_for_all"][1]), (&json!("e"), &Value::Null));
    let metrics = page(port, "/metrics").text();
    for line in [
        r#"flow_uring_credential_scoped_rests{credential="a",reason="rate_limited",scope="model"} 1"#,
        r#"flow_uring_credential_scoped_rests{credential="a",reason="rate_limited",scope="path_family"} 1"#,
        r#"flow_uring_credential_up{credential="a"} 0"#,
        r#"flow_uring_credential_up{credential="b"} 1"#,
        "flow_uring_limited_for_all 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(gateway.wait_for_log("credential cools down").contains("reason=rate_limited scope=model of=\"m\""));
}
