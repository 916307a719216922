//! `GET /api/state`: every field is there, as documented, and tells what happened.

use serde_json::{Value, json};

use crate::support::{Client, Gateway, Upstream, json as answer, secrets_json};
use crate::{before, page};

/// A chat answer that tells what it used and what it cost.
const ANSWER: &str =
    r#"{"model":"m-1","choices":[],"usage":{"prompt_tokens":30,"completion_tokens":12,"total_tokens":42,"cost":0.25}}"#;

/// Sends a chat request for a model.
pub fn chat(gateway: &Gateway, model: &str) -> u16 {
    let body = format!(r#"{{"model":"{model}","messages":[]}}"#);
    let head = "POST /v1/chat/completions?key=hidden HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
    let request = format!("{head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    Client::connect(gateway.port()).ask(request).status
}

/// Returns the state as it is now.
pub fn state(gateway: &Gateway) -> Value {
    let response = page(gateway.admin_port(), "/api/state");
    assert_eq!((response.status, response.field("content-type")), (200, Some("application/json")));
    response.json()
}

#[test]
fn the_state_tells_of_the_process_its_credentials_and_what_was_spent() {
    let upstream = Upstream::plain(answer(200, ANSWER));
    let gateway = before(&upstream).env("FLOW_PROXY_USAGE_DB", "off").secrets(secrets_json(&["a", "b"])).start();
    assert_eq!([chat(&gateway, "m-1"), chat(&gateway, "m-1")], [200, 200]);
    let state = state(&gateway);
    assert_eq!(state["base_url"], format!("http://127.0.0.1:{}", gateway.port()));
    assert_eq!((&state["stage"], &state["version"]), (&json!("serving"), &json!(env!("CARGO_PKG_VERSION"))));
    assert_eq!(
        (&state["usage"], &state["needs_key"]),
        (&json!({"is_counted": true, "has_file": false}), &json!(false))
    );
    assert_eq!(state["totals"], json!({"requests": 2, "errors": {"4xx": 0, "5xx": 0, "none": 0}}));
    let cost = json!({
        "requests": 2, "input_tokens": 60, "output_tokens": 24, "cache_read_tokens": 0,
        "reported_usd": 0.5, "estimated_usd": 0.0, "without_usage": 0,
    });
    assert_eq!(state["cost"], json!({"today": cost, "days_7": cost, "days_30": cost}));
    let mut named = cost.clone();
    named["name"] = "m-1".into();
    assert_eq!(state["usage_by"]["model"], json!([named]));
    let credential = |name: &str| {
        json!({
            "name": name, "weight": 1, "state": "up", "rest": null, "rests": [],
            "requests": 1, "errors": 0, "share": 0.5,
        })
    };
    assert_eq!(state["credentials"], json!([credential("a"), credential("b")]));
}
