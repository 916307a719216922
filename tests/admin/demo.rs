//! The demo lives while somebody looks at its page, and is left alone otherwise.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::live::follow;
use crate::page;
use crate::state::wait_for_state;
use crate::support::Gateway;

/// Longer than the life of the demo pauses between two requests, at most.
const NOTHING_FOR: Duration = Duration::from_secs(4);

fn start() -> Gateway {
    Gateway::builder().switch("demo").arg("--admin", "127.0.0.1:0").start()
}

#[test]
fn nothing_is_sent_while_nobody_looks_at_the_page() {
    let gateway = start();
    assert_eq!(page(gateway.admin_port(), "/").status, 200, "who has the page but not its events does not look");
    thread::sleep(NOTHING_FOR);
    assert_eq!(page(gateway.port(), "/v1/__served").json(), json!({}));
    gateway.wait_for_log("exchange id=");
    assert_eq!(gateway.count_log("exchange id="), 1, "that question alone");
}

#[test]
fn who_looks_sees_usage_cost_a_slow_stream_and_a_credential_that_rests() {
    let gateway = start();
    gateway.wait_for_log(&format!("Open http://127.0.0.1:{} in a browser", gateway.admin_port()));
    let mut watcher = follow(gateway.admin_port());
    watcher.read_until("\n\n");
    let models = |state: &Value| state["usage_by"]["model"].as_array().map_or(0, Vec::len);
    let is_spent = |state: &Value| state["cost"]["today"]["reported_usd"].as_f64().is_some_and(|cost| cost > 0.0);
    wait_for_state(&gateway, |state| models(state) > 0 && is_spent(state));
    wait_for_state(&gateway, |state| state["streams_count"].as_u64().is_some_and(|count| count > 0));
    let is_resting = |credential: &Value| credential["rests"].as_array().is_some_and(|rests| !rests.is_empty());
    let state = wait_for_state(&gateway, |state| {
        state["credentials"].as_array().is_some_and(|credentials| credentials.iter().any(is_resting))
    });
    let resting: Vec<&Value> =
        state["credentials"].as_array().into_iter().flatten().filter(|credential| is_resting(credential)).collect();
    assert_eq!((resting.len(), &resting[0]["name"], &resting[0]["state"]), (1, &json!("bob"), &json!("limited")));
}

#[test]
fn the_life_ends_with_its_slow_streams_when_the_gateway_drains() {
    let mut gateway = start();
    let _watcher = follow(gateway.admin_port());
    wait_for_state(&gateway, |state| state["streams_count"].as_u64().is_some_and(|count| count > 0));
    gateway.terminate();
    assert!(gateway.wait().success());
    let is_cut = |line: &String| line.contains("path=/v1/messages") && line.contains("end=client_disconnected");
    assert!(gateway.log().iter().any(is_cut), "nobody waits for the slow stream");
}
