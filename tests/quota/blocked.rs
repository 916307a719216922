//! A user that is blocked: all of its credentials are left alone, and others are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::flow::{self, Asked, flow_token};
use crate::support::{Client, GET};
use crate::{before, chat, page, wait_for_metric, wait_for_state};

const REFUSAL: &str = r#"{"error":{"message":"Budget has been exceeded","type":"budget_exceeded","code":"429"}}"#;

/// The user of a credential: that of a and b is blocked.
fn user_of(name: &str) -> (&'static str, &'static str) {
    if ["a", "b"].contains(&name) { ("user-1", "BLOCKED_BUDGET") } else { ("user-2", "active") }
}

#[test]
fn a_blocked_users_two_credentials_are_left_alone_without_a_refused_request_after_the_first_poll() {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = refused.clone();
    let upstream = flow::upstream(move |peer, asked| match asked {
        Asked::Model("a" | "b") => {
            count.fetch_add(1, Ordering::SeqCst);
            flow::refuse(peer, 429, REFUSAL);
        }
        Asked::Token(name) | Asked::Budget(name) | Asked::Requests(name) | Asked::Model(name) => {
            let (user, status) = user_of(name);
            flow::tell(peer, asked, user, status);
        }
    });
    let mut gateway = before(&upstream, &["a", "b", "c"]).start();
    ["a", "b", "c"].iter().for_each(|name| gateway.note_password(&flow_token(name)));
    assert_eq!(chat(&gateway), 200, "before anything is known of quotas another one is asked");
    let line = gateway.wait_for_log("quota is blocked: its credentials cool down");
    for part in ["user=\"user-1\"", "credentials=\"a\"", "quota=\"budget\"", "renewal=\"2099-01-01\""] {
        assert!(line.contains(part), "{part}: {line}");
    }
    // The user of b is known once its own question is answered.
    let line = gateway.wait_for_log("more credentials of a blocked user cool down");
    assert!(line.contains("user=\"user-1\" credentials=\"b\""), "{line}");
    let before_poll = refused.load(Ordering::SeqCst);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    assert_eq!(chat(&gateway), 200);
                    assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
                }
            });
        }
    });
    assert_eq!(refused.load(Ordering::SeqCst), before_poll, "not one request was refused");
    let state = wait_for_state(&gateway, |state| state["quota"]["users"].as_array().is_some_and(|all| all.len() == 2));
    let users = &state["quota"]["users"];
    assert_eq!((&users[0]["name"], &users[0]["credentials"]), (&json!("user-1"), &json!(["a", "b"])));
    assert_eq!((&users[0]["is_blocked"], &users[1]["is_blocked"]), (&json!(true), &json!(false)));
    let budget = &users[0]["budget"];
    assert_eq!(
        (&budget["used"], &budget["limit"], &budget["renewal"]),
        (&json!(12.5), &json!(100.0), &json!(4_070_908_800_u64))
    );
    assert_eq!((&users[0]["requests"]["used"], &users[0]["requests"]["limit"]), (&json!(30.0), &json!(null)));
    let rest = |at: usize| (&state["credentials"][at]["state"], &state["credentials"][at]["rest"]["reason"]);
    assert_eq!(rest(0), (&json!("resting"), &json!("quota_blocked")));
    assert_eq!(rest(1), (&json!("resting"), &json!("quota_blocked")));
    assert_eq!(rest(2), (&json!("up"), &json!(null)));
    let metrics = wait_for_metric(&gateway, r#"flow_uring_quota_blocked{quota="budget",user="user-1"} 1"#);
    for line in [
        r#"flow_uring_quota_blocked{quota="requests",user="user-1"} 0"#,
        r#"flow_uring_quota_blocked{quota="budget",user="user-2"} 0"#,
        r#"flow_uring_quota_used{quota="budget",user="user-1"} 12.5"#,
        r#"flow_uring_quota_limit{quota="budget",user="user-1"} 100"#,
        r#"flow_uring_quota_renewal_timestamp_seconds{quota="budget",user="user-1"} 4070908800"#,
        r#"flow_uring_credential_up{credential="a"} 0"#,
        "flow_uring_quota_failing 0",
        "flow_uring_quota_questions_failed_total 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
    assert!(!metrics.contains(r#"flow_uring_quota_limit{quota="requests""#), "0 is no limit");
    gateway.expect_log_count("quota is blocked", 1);
    let readiness = page(&gateway, "/readyz");
    assert!(readiness.status == 200 && readiness.text().contains("quota_blocked"), "{}", readiness.text());
}

#[test]
fn where_all_users_are_blocked_requests_are_made_all_the_same() {
    let upstream = flow::upstream(|peer, asked| flow::tell(peer, asked, "user-1", "blocked"));
    let gateway = before(&upstream, &["a", "b"]).start();
    assert_eq!(chat(&gateway), 200);
    gateway.wait_for_log("more credentials of a blocked user cool down");
    for _ in 0..20 {
        assert_eq!(chat(&gateway), 200);
    }
    let state = wait_for_state(&gateway, |state| state["credentials"][0]["state"] == "resting");
    assert_eq!(state["credentials"][1]["state"], "resting", "an answer to a request does not end it");
}

#[test]
fn a_credential_of_a_blocked_user_can_be_woken_by_hand() {
    let upstream = flow::upstream(|peer, asked| flow::tell(peer, asked, "user-1", "blocked"));
    let gateway = before(&upstream, &["a", "b"]).start();
    assert_eq!(chat(&gateway), 200);
    gateway.wait_for_log("more credentials of a blocked user cool down");
    let port = gateway.admin_port();
    let wake = format!("POST /api/credentials/a/wake HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(Client::connect(port).ask(wake).json(), json!({"woken": true}));
    let state = wait_for_state(&gateway, |state| state["credentials"][0]["state"] == "up");
    assert_eq!(state["credentials"][1]["state"], "resting");
}
