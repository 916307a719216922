//! The count of tokens and of cost: what of an answer is reported, what is estimated, whose it is, and where it is shown;
//! the file that a gateway keeps of it, and the command that prints it.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

#[path = "../support/mod.rs"]
mod support;

mod command;
mod counted;
mod estimated;
mod names;
mod prices;

use std::collections::BTreeMap;
use std::time::Instant;

use support::{DEADLINE, Gateway, GatewayBuilder, Peer, Upstream};

/// Returns a builder for this upstream with the admin pages on any free port.
fn before(upstream: &Upstream) -> GatewayBuilder {
    Gateway::builder().upstream(upstream).arg("--admin", "127.0.0.1:0").env("FLOW_PROXY_USAGE_DB", "off")
}

/// Makes the head of a `POST` with this body.
fn post(path: &str, body: &str) -> String {
    let length = body.len();
    let fields = "Host: localhost\r\nContent-Type: application/json";
    format!("POST {path} HTTP/1.1\r\n{fields}\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// Answers each request with these bytes, whatever it asks for.
fn answering(head_and_body: String) -> impl Fn(&mut Peer) + Send + Sync + 'static {
    move |peer| {
        while peer.read_request().is_some() {
            peer.write(&head_and_body);
        }
    }
}

/// A whole answer of JSON.
fn whole(fields: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
}

/// A chunked event stream, a chunk an event.
fn streamed(events: &[&str]) -> String {
    let chunk = |event: &&str| format!("{:x}\r\ndata: {event}\n\n\r\n", event.len() + 8);
    let chunks: String = events.iter().map(chunk).collect();
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
}

/// The samples of the metrics page that `is_wanted`, by their name with its labels.
fn samples(gateway: &Gateway, is_wanted: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
    let page = gateway.metrics();
    let sample = |line: &str| line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.to_owned()));
    page.lines().filter(|line| is_wanted(line)).filter_map(sample).collect()
}

/// Waits until the usage that is shown is this: `name{labels} value`, a line each, in their order.
fn expect_usage(gateway: &Gateway, expected: &[&str]) {
    const FAMILIES: [&str; 5] = [
        "flow_uring_tokens_total{",
        "flow_uring_estimated_tokens_total{",
        "flow_uring_key_tokens_total{",
        "flow_uring_cost_usd_total{",
        "flow_uring_answers_without_usage_total",
    ];
    let until = Instant::now() + DEADLINE;
    loop {
        let samples = samples(gateway, |line| FAMILIES.iter().any(|family| line.starts_with(family)));
        let shown: Vec<String> = samples.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let shown: Vec<&str> = shown.iter().filter_map(|line| line.strip_prefix("flow_uring_")).collect();
        if shown == expected {
            return;
        }
        assert!(Instant::now() < until, "shown: {shown:#?}\nexpected: {expected:#?}");
    }
}
