//! `GET /api/state`: every field is there, as documented, and tells what happened.

use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{Client, DEADLINE, Gate, Gateway, Peer, Upstream, json as answer, secrets_json};
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

/// Waits until the state is so.
pub fn wait_for_state(gateway: &Gateway, is_so: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + DEADLINE;
    loop {
        let state = state(gateway);
        if is_so(&state) {
            return state;
        }
        assert!(Instant::now() < until, "not so: {state:#}");
    }
}

/// Checks that `value` has these fields, and no others.
fn assert_fields(value: &Value, fields: &str) {
    let mut found: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    let mut expected: Vec<&str> = fields.split_whitespace().collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn every_documented_field_is_there_and_no_other() {
    let upstream = Upstream::plain(answer(200, ANSWER));
    let gateway = before(&upstream).env("FLOW_PROXY_USAGE_DB", "off").start();
    assert_eq!(chat(&gateway, "m-1"), 200);
    let state = wait_for_state(&gateway, |state| state["exchanges"][0].is_object());
    assert_fields(
        &state,
        "version started now listen base_url is_tls upstream driver stage shards usage needs_key now_figures totals \
         history cost usage_by credentials keys quota streams streams_count exchanges",
    );
    assert_fields(&state["shards"], "count answering");
    assert_fields(
        &state["now_figures"],
        "requests_per_second time_to_first_byte_p50 time_to_first_byte_p95 open_streams open_exchanges \
         errors_per_second output_tokens_per_second",
    );
    assert_fields(&state["history"], "step end requests errors ttfb_p50 ttfb_p95 open_streams tokens_out cost_usd");
    for (name, values) in state["history"].as_object().expect("an object") {
        assert!(values.as_array().is_none_or(|values| values.len() == 180), "{name}");
    }
    assert_fields(&state["cost"], "today days_7 days_30");
    assert_fields(&state["usage_by"], "model key credential");
    assert_fields(&state["credentials"][0], "name weight state rest rests requests errors share");
    assert_fields(
        &state["exchanges"][0],
        "id request_id at method path status end code credential key model attempts ttfb_ms duration_ms tokens_in \
         tokens_out cost_usd cost_is_reported",
    );
}

#[test]
fn the_last_exchanges_are_told_newest_first_and_without_their_query() {
    let upstream = Upstream::plain(answer(200, ANSWER));
    let gateway = before(&upstream).shards(2).env("FLOW_PROXY_USAGE_DB", "off").start();
    for model in ["m-1", "m-2"] {
        assert_eq!(chat(&gateway, model), 200);
    }
    let state = wait_for_state(&gateway, |state| state["exchanges"].as_array().is_some_and(|all| all.len() == 2));
    let exchange = &state["exchanges"][0];
    for (name, value) in [
        ("method", json!("POST")),
        ("path", json!("/v1/chat/completions")),
        ("model", json!("m-2")),
        ("status", json!(200)),
        ("end", json!("ok")),
        ("code", json!(null)),
        ("key", json!(null)),
        ("attempts", json!(1)),
        ("tokens_in", json!(30)),
        ("tokens_out", json!(12)),
        ("cost_usd", json!(0.25)),
        ("cost_is_reported", json!(true)),
    ] {
        assert_eq!(exchange[name], value, "{name}");
    }
    let (at, now) = (exchange["at"].as_f64().expect("a time"), state["now"].as_f64().expect("a time"));
    assert!(at <= now && now - at < DEADLINE.as_secs_f64(), "{at} {now}");
    assert!(!state.to_string().contains("hidden"));
}

#[test]
fn an_answer_is_listed_while_it_is_on_its_way() {
    let gate = Gate::new();
    let held = gate.clone();
    let event = r#"{"choices":[{"index":0,"delta":{"content":"12345678"}}]}"#;
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        if peer.read_request().is_none() {
            return;
        }
        peer.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
        peer.write(format!("data: {event}\n\n"));
        held.pass();
        peer.write("data: [DONE]\n\n");
    });
    let gateway = before(&upstream).env("FLOW_PROXY_USAGE_DB", "off").start();
    let mut client = Client::connect(gateway.port());
    let body = r#"{"model":"m-1","stream":true,"messages":[]}"#;
    let head = "POST /v1/chat/completions?key=hidden HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
    client.send(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    let state = wait_for_state(&gateway, |state| state["streams"][0]["tokens_so_far"] == 2);
    assert_eq!(state["streams_count"], 1);
    let stream = &state["streams"][0];
    assert_fields(stream, "id age model key credential path tokens_so_far");
    assert_eq!((&stream["path"], &stream["model"]), (&json!("/v1/chat/completions"), &json!("m-1")));
    gate.open();
    wait_for_state(&gateway, |state| state["streams_count"] == 0 && state["streams"].as_array().unwrap().is_empty());
}
