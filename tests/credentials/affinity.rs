//! Sessions that keep their credential (`--affinity session`): while it rests only they move, and back afterwards; and
//! every process with the same secrets agrees.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, Gateway, Request, Upstream, json, repeat_until_undisturbed, secrets_json};

const SESSIONS: usize = 300;
const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

/// Asks for the model `model` as a session.
fn request(fields: &str, model: &str) -> String {
    let body = format!(r#"{{"model":"{model}","messages":[]}}"#);
    let length = body.len();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{fields}\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

fn session(number: usize) -> String {
    format!("x-claude-code-session-id: 0b6e0c2e-6f44-4d5f-9f43-{number:012}\r\n")
}

/// An upstream that answers with the name of the credential; while `is_limited` it limits `beta` for some seconds.
fn namer(is_limited: &Arc<AtomicBool>, rest: Duration) -> Upstream {
    let is_limited = is_limited.clone();
    Upstream::plain(move |peer| {
        while let Some(request) = peer.read_request() {
            let name = request.credential();
            let answer = if name == "beta" && is_limited.load(Ordering::SeqCst) {
                format!("HTTP/1.1 429 Limited\r\nRetry-After: {}\r\nContent-Length: 0\r\n\r\n", rest.as_secs())
            } else {
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len())
            };
            if !peer.write(answer) {
                return;
            }
        }
    })
}

fn gateway(upstream: &Upstream, names: &[&str]) -> Gateway {
    Gateway::builder()
        .upstream(upstream)
        .secrets(secrets_json(names))
        .shards(2)
        .patient()
        .arg("--affinity", "session")
        .start()
}

/// Asks once for each session, over connections that any shard may have, and returns who answered.
fn answerers(gateway: &Gateway, model: &str) -> Vec<String> {
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect_unrecorded(gateway.port())).collect();
    let ask = |number: usize| {
        let response = clients[number % 4].ask(request(&session(number), model));
        assert_eq!(response.status, 200, "{response:?}");
        response.text()
    };
    (0..SESSIONS).map(ask).collect()
}

#[test]
fn a_rest_moves_only_the_sessions_of_the_one_that_rests_and_all_come_back() {
    /// Longer than it takes to ask for all sessions on a busy machine.
    const REST: Duration = Duration::from_secs(6);
    repeat_until_undisturbed(|| {
        let is_limited = Arc::new(AtomicBool::new(false));
        let upstream = namer(&is_limited, REST);
        let gateway = gateway(&upstream, &NAMES);
        let before = answerers(&gateway, "m");
        for name in NAMES {
            let count = before.iter().filter(|answerer| *answerer == name).count();
            // A third; the standard deviation is 8.
            assert!((60..140).contains(&count), "{name}: {count}");
        }
        assert_eq!(answerers(&gateway, "m"), before, "each stays");
        is_limited.store(true, Ordering::SeqCst);
        let began = Instant::now();
        let meanwhile = answerers(&gateway, "m");
        let again = answerers(&gateway, "m");
        if began.elapsed() >= REST {
            return false;
        }
        is_limited.store(false, Ordering::SeqCst);
        for (number, (before, meanwhile)) in before.iter().zip(&meanwhile).enumerate() {
            assert_ne!(meanwhile, "beta");
            assert!(before == "beta" || before == meanwhile, "session {number} has moved from {before}");
        }
        assert_eq!(again, meanwhile, "each to a place of its own");
        let moved = |to: &str| before.iter().zip(&meanwhile).any(|(before, now)| before == "beta" && now == to);
        assert!(moved("alpha") && moved("gamma"), "not all to one");
        // The first session found it out for all.
        gateway.expect_log_count("cools down", 1);
        thread::sleep((began + REST).saturating_duration_since(Instant::now()));
        // The rest began a moment after the first question.
        while gateway.count_log("credential works again") == 0 {
            answerers(&gateway, "m");
        }
        assert_eq!(answerers(&gateway, "m"), before, "all are back");
        true
    });
}

#[test]
fn two_processes_agree_on_all_sessions_whatever_the_order_of_their_secrets() {
    let upstream = namer(&Arc::default(), Duration::ZERO);
    let one = gateway(&upstream, &NAMES);
    let other = gateway(&upstream, &["gamma", "alpha", "beta"]);
    assert_eq!(answerers(&one, "m"), answerers(&other, "m"));
}

#[test]
fn a_request_without_a_session_takes_its_turn_and_one_with_a_session_takes_none() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = gateway(&upstream, &NAMES);
    let long = format!("session_id: {}\r\n", "x".repeat(300));
    for fields in ["", "session_id: \r\n", &long, "x-session: 1\r\n"] {
        let mut client = Client::connect(gateway.port());
        assert_eq!(client.ask(request(fields, "m")).status, 200);
        assert_eq!(client.ask(request(&session(1), "m")).status, 200);
    }
    let requests = upstream.requests();
    let credentials: Vec<String> = requests.iter().map(Request::credential).collect();
    assert_eq!(credentials.iter().step_by(2).collect::<Vec<_>>(), ["alpha", "beta", "gamma", "alpha"]);
    let of_session: Vec<&String> = credentials.iter().skip(1).step_by(2).collect();
    assert!(of_session.iter().all(|name| *name == of_session[0]), "{of_session:?}");
    // The fields go upstream as they came.
    assert_eq!(requests[1].head.field("x-claude-code-session-id"), session(1).trim_end().split(": ").nth(1));
    assert_eq!(requests[4].head.field("session_id"), long.trim_end().split(": ").nth(1));
}

#[test]
fn without_affinity_a_session_is_none() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = Gateway::builder().upstream(&upstream).secrets(secrets_json(&NAMES)).start();
    let mut client = Client::connect(gateway.port());
    (0..6).for_each(|_| assert_eq!(client.ask(request(&session(1), "m")).status, 200));
    let credentials: Vec<String> = upstream.requests().iter().map(Request::credential).collect();
    assert_eq!(credentials, [NAMES, NAMES].concat());
}
