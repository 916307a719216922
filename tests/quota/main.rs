//! Quotas of the upstream's users (`--quota flow`): what is asked, which answers count, and that blocked users are left
//! alone.

#![expect(clippy::disallowed_methods, reason = "a test waits on threads of its own; no shard runs here")]

#[path = "../support/mod.rs"]
mod support;

mod asking;
mod blocked;
#[cfg(feature = "demo")]
mod demo;
mod flow;
mod online;
mod shapes;

use std::time::Instant;

use serde_json::Value;

use support::{Client, DEADLINE, Gateway, GatewayBuilder, Response, Upstream, secrets_json};

/// Returns a builder for credentials of these names that asks for quotas, with the admin pages on any free port.
fn before(upstream: &Upstream, names: &[&str]) -> GatewayBuilder {
    before_with(upstream, names, "flow")
}

fn before_with(upstream: &Upstream, names: &[&str], quota: &str) -> GatewayBuilder {
    let builder = Gateway::builder().upstream(upstream).secrets(secrets_json(names)).arg("--admin", "127.0.0.1:0");
    builder.arg("--quota", quota).env("FLOW_PROXY_USAGE_DB", "off").env("FLOW_PROXY_PRICES", "off")
}

/// Sends a chat request.
fn chat(gateway: &Gateway) -> u16 {
    let body = r#"{"model":"m-1","messages":[]}"#;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close";
    Client::connect(gateway.port()).ask(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())).status
}

fn page(gateway: &Gateway, path: &str) -> Response {
    let port = gateway.admin_port();
    Client::connect(port).ask(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"))
}

/// Waits until the state is so.
fn wait_for_state(gateway: &Gateway, is_so: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + DEADLINE;
    loop {
        let state = page(gateway, "/api/state").json();
        if is_so(&state) {
            return state;
        }
        assert!(Instant::now() < until, "{}", state["quota"]);
    }
}

/// Waits until the metrics have this line.
fn wait_for_metric(gateway: &Gateway, line: &str) -> String {
    let until = Instant::now() + DEADLINE;
    loop {
        let metrics = page(gateway, "/metrics").text();
        if metrics.lines().any(|found| found == line) {
            return metrics;
        }
        assert!(Instant::now() < until, "no {line}: {metrics}");
    }
}
