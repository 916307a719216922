//! Answers of all shapes: those that can be read are, and all others leave the choice as it was.

use serde_json::{Value, json};

use crate::flow::{self, Asked, flow_token};
use crate::support::{Peer, check_at_once};
use crate::{before, chat, wait_for_state};

/// Wraps a text so many times.
fn wrapped(text: &str, times: usize) -> String {
    (0..times).fold(text.to_owned(), |text, _| format!(r#"{{"status":"success","data":{text}}}"#))
}

#[test]
fn answers_are_read_wrapped_and_in_other_types() {
    let (renewal, renewed) = ("2098-12-31T22:30:00.123-01:30", 4_070_908_800_u64);
    let plain = format!(
        r#"{{"consumed_usd":1.5,"limit":9,"percentage":5,"status":"ok","renewal_date":"{renewal}","user_id":"u"}}"#
    );
    let texts =
        format!(r#"{{"used":"1.5","limit":" 9.0 ","status":"OK","renewal_date":"{renewed}","userId":"u","x":[{{}}]}}"#);
    let others = format!(
        r#"{{"used":1.5,"limit":null,"effective_limit":9,"status":null,"renewal_date":{renewed},"user_id":"u"}}"#
    );
    let mut cases: Vec<(String, usize)> = (0..=3).map(|times| (plain.clone(), times)).collect();
    cases.extend([(texts, 1), (others, 2)]);
    check_at_once(cases, |(text, times)| {
        let shown = text.clone();
        let upstream = flow::upstream(move |peer, asked| match asked {
            Asked::Token(name) => {
                let token = flow_token(name);
                flow::ok(peer, &wrapped(&format!(r#"{{"accessToken":"{token}","expires_in":"3600"}}"#), times));
            }
            Asked::Budget(_) => flow::ok(peer, &wrapped(&text, times)),
            Asked::Requests(_) => flow::ok(peer, &wrapped(r#"{"requests_used":3}"#, times)),
            Asked::Model(_) => flow::ok(peer, "{}"),
        });
        let gateway = before(&upstream, &["a"]).start();
        assert_eq!(chat(&gateway), 200);
        let state = wait_for_state(&gateway, |state| state["quota"]["users"][0]["requests"]["used"] == 3.0);
        let user = &state["quota"]["users"][0];
        let budget = &user["budget"];
        assert_eq!(
            (&user["name"], &budget["used"], &budget["limit"], &budget["renewal"], &user["is_blocked"]),
            (&json!("u"), &json!(1.5), &json!(9.0), &json!(renewed), &json!(false)),
            "{times} {shown}"
        );
        assert_eq!(state["quota"]["failing"], 0);
    });
}

/// An answer to questions about quotas.
type Odd = fn(&mut Peer);

#[test]
fn what_cannot_be_read_leaves_the_choice_as_it_was() {
    const HTML: &str = "<!doctype html><html><body>status: blocked</body></html>";
    let odd: [(&str, Odd); 13] = [
        ("HTML", |peer| flow::ok(peer, HTML)),
        ("401", |peer| flow::refuse(peer, 401, r#"{"status":"blocked"}"#)),
        ("403", |peer| flow::refuse(peer, 403, r#"{"status":"blocked","limit":1}"#)),
        ("404", |peer| flow::refuse(peer, 404, HTML)),
        ("429", |peer| flow::refuse(peer, 429, r#"{"status":"blocked","limit":1}"#)),
        ("500", |peer| flow::refuse(peer, 500, "")),
        ("a redirect", |peer| {
            peer.write("HTTP/1.1 302 Found\r\nLocation: https://example.com/\r\nContent-Length: 0\r\n\r\n");
        }),
        ("nothing", Peer::close),
        ("cut", |peer| {
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"status\":\"blocked\",\"limit\":1}");
            peer.close();
        }),
        ("too long", |peer| flow::ok(peer, &format!(r#"{{"status":"blocked","x":"{}"}}"#, "x".repeat(100_000)))),
        ("no member", |peer| flow::ok(peer, "{}")),
        ("a status of the request", |peer| flow::ok(peer, r#"{"status":"blocked","data":{}}"#)),
        ("a list", |peer| flow::ok(peer, r#"[{"status":"blocked","limit":1}]"#)),
    ];
    check_at_once(odd.into_iter().flat_map(|case| [(case, true), (case, false)]), |((what, odd), is_token_odd)| {
        let upstream = flow::upstream(move |peer, asked| match asked {
            Asked::Model(_) => flow::ok(peer, "{}"),
            Asked::Token(name) if !is_token_odd => flow::tell_token(peer, name),
            _ => odd(peer),
        });
        let gateway = before(&upstream, &["a", "b"]).start();
        assert_eq!(chat(&gateway), 200);
        let state = wait_for_state(&gateway, |state| state["quota"]["failing"] == 2);
        assert_eq!(state["quota"]["users"], json!([]), "{what}");
        let is_up = |credential: &Value| credential["state"] == "up";
        assert!(state["credentials"].as_array().is_some_and(|all| all.iter().all(is_up)), "{what}: {state}");
        for _ in 0..9 {
            assert_eq!(chat(&gateway), 200);
        }
        let state = wait_for_state(&gateway, |state| state["totals"]["requests"] == 10);
        assert_eq!(
            (&state["credentials"][0]["requests"], &state["credentials"][1]["requests"]),
            (&json!(5), &json!(5))
        );
        let line = gateway.wait_for_log("the upstream was asked for quotas in vain");
        assert_eq!(gateway.count_log("quota"), 1, "{what}: one line");
        assert!(line.contains("credential=\"a\" failed=2"), "{what}: {line}");
    });
}

#[test]
fn one_answer_of_two_counts() {
    let upstream = flow::upstream(|peer, asked| match asked {
        Asked::Requests(_) => flow::refuse(peer, 503, ""),
        _ => flow::tell(peer, asked, "user-1", "blocked"),
    });
    let gateway = before(&upstream, &["a", "b"]).start();
    assert_eq!(chat(&gateway), 200);
    gateway.wait_for_log("quota is blocked");
    let state = wait_for_state(&gateway, |state| state["quota"]["failing"] == 2);
    assert_eq!(state["quota"]["users"][0]["requests"], json!(null));
    assert_eq!(state["credentials"][0]["rest"]["reason"], "quota_blocked");
}
