//! The questions: what they are, when they are asked, and that nobody waits for them.

use std::time::{Duration, Instant};

use crate::flow::{self, Asked, BUDGET_PATH, REQUESTS_PATH, TOKEN_PATH, flow_token, questions};
use crate::support::{Credential, Gateway, Request, secrets_json, wait_until};
use crate::{before, before_with, chat, page, wait_for_metric, wait_for_state};

/// Longer than the gateway needs to ask what it asks at once.
const A_WHILE: Duration = Duration::from_millis(500);

fn lines(requests: &[Request]) -> Vec<&str> {
    requests.iter().map(Request::line).collect()
}

#[test]
fn each_identity_is_asked_once_at_the_first_request_and_not_at_those_that_follow() {
    let upstream = flow::upstream(|peer, asked| flow::tell(peer, asked, "user-1", "active"));
    // Two entries of one identity.
    let secrets = secrets_json(&["a", "b", "a"]);
    let gateway = before(&upstream, &["a"]).secrets(secrets).start();
    wait_for_state(&gateway, |state| state["stage"] == "serving");
    assert!(upstream.is_left_alone_for(A_WHILE), "nothing is asked before a request");
    assert_eq!(chat(&gateway), 200);
    wait_until("both identities are asked", || questions(&upstream).len() == 6);
    for _ in 0..20 {
        assert_eq!(chat(&gateway), 200);
    }
    let asked = questions(&upstream);
    let post = format!("POST {TOKEN_PATH} HTTP/1.1");
    let [budget, requests] = [BUDGET_PATH, REQUESTS_PATH].map(|path| format!("GET {path} HTTP/1.1"));
    assert_eq!(lines(&asked), [&post, &budget, &requests, &post, &budget, &requests]);
    for (asked, name) in asked.chunks(3).zip(["a", "b"]) {
        let Credential { client_secret, tenant, .. } = Credential::named(name);
        assert_eq!(asked[0].head.field("flowtenant"), Some(&*tenant));
        assert_eq!(asked[0].head.field("content-type"), Some("application/json"));
        assert_eq!(asked[0].head.field("authorization"), None);
        let body: serde_json::Value = serde_json::from_slice(&asked[0].body).expect("JSON");
        assert_eq!(body, serde_json::json!({"clientSecret": client_secret}));
        for question in &asked[1..] {
            assert_eq!(question.head.field("flowtoken"), Some(&*flow_token(name)));
            assert_eq!(question.head.field("authorization"), None);
        }
    }
}

#[test]
fn new_credentials_are_asked_at_the_next_request_with_the_tokens_that_are_known() {
    let upstream = flow::upstream(|peer, asked| flow::tell(peer, asked, "user-1", "active"));
    let mut gateway = before(&upstream, &["a"]).start();
    assert_eq!(chat(&gateway), 200);
    wait_until("the identity is asked", || questions(&upstream).len() == 3);
    wait_for_state(&gateway, |state| state["quota"]["users"][0]["requests"]["used"] == 30.0);
    gateway.replace_secrets(&secrets_json(&["b", "a"]));
    gateway.wait_for_log("loaded anew");
    let state = wait_for_state(&gateway, |state| state["credentials"].as_array().is_some_and(|all| all.len() == 2));
    assert_eq!(state["quota"]["users"][0]["credentials"], serde_json::json!(["a"]), "what was told stays");
    wait_until("both are asked", || chat(&gateway) == 200 && questions(&upstream).len() >= 8);
    let asked = questions(&upstream);
    let posts = asked.iter().filter(|request| request.path() == TOKEN_PATH).count();
    assert_eq!(posts, 2, "{asked:?}");
}

#[test]
fn without_the_setting_nobody_is_asked_and_nothing_is_shown() {
    let upstream = flow::upstream(|peer, asked| flow::tell(peer, asked, "user-1", "active"));
    let gateway = before_with(&upstream, &["a", "b"], "off").start();
    for _ in 0..5 {
        assert_eq!(chat(&gateway), 200);
    }
    assert!(upstream.is_left_alone_for(A_WHILE));
    assert_eq!(questions(&upstream).len(), 0);
    assert!(page(&gateway, "/api/state").json()["quota"].is_null());
    assert!(!page(&gateway, "/metrics").text().contains("flow_uring_quota"));
}

#[test]
fn no_request_and_no_drain_waits_for_an_upstream_that_tells_nothing() {
    let upstream = flow::upstream(|peer, asked| match asked {
        Asked::Model(_) => flow::ok(peer, "{}"),
        _ => peer.wait_for_close(),
    });
    let mut gateway = before(&upstream, &["a", "b"]).start();
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(chat(&gateway), 200);
    }
    wait_until("a question", || !questions(&upstream).is_empty());
    gateway.terminate();
    assert!(gateway.wait().success());
    // One question alone would take 10 s.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn an_identity_that_is_told_nothing_keeps_no_other_from_being_asked() {
    let upstream = flow::upstream(|peer, asked| match asked {
        Asked::Token("a") => peer.wait_for_close(),
        _ => flow::tell(peer, asked, "user-1", "active"),
    });
    let gateway: Gateway = before(&upstream, &["a", "b"]).start();
    assert_eq!(chat(&gateway), 200);
    let line = gateway.wait_for_log("the upstream was asked for quotas in vain");
    assert!(line.contains("credential=\"a\"") && line.contains("the upstream took too long"), "{line}");
    let state = wait_for_state(&gateway, |state| state["quota"]["failing"] == 1);
    assert_eq!(state["quota"]["users"][0]["credentials"], serde_json::json!(["b"]));
    wait_for_metric(&gateway, "flow_uring_quota_questions_failed_total 1");
}
