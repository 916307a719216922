//! Keys that may not do everything: requests under way, requests, tokens and cost within a time, models.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

#[path = "../support/mod.rs"]
mod support;

mod models;
mod parallel;
mod reload;
mod spending;

use std::fs;

use support::{Gateway, GatewayBuilder, Peer, Upstream};

/// A directory with files that a gateway reads.
pub struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Files(tempfile::tempdir().expect("a temporary directory"))
    }

    /// Writes a file, and returns its path.
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).expect("written");
        path.to_str().expect("text").to_owned()
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("text").to_owned()
    }
}

/// A price of 1 dollar for a million tokens of the model `m`, in and out.
const PRICES: &str = r#"{"m": {"input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06}}"#;

/// Returns the key of a name.
fn key_of(name: &str) -> String {
    format!("made-up-key-of-{name}-0123456789")
}

/// Makes an entry for a key, with what else is known of it: `"limits":{…}`.
fn entry(name: &str, rest: &str) -> String {
    let key = key_of(name);
    let comma = if rest.is_empty() { "" } else { "," };
    format!(r#"{{"name":"{name}","key":"{key}"{comma}{rest}}}"#)
}

/// Returns a builder with these keys, usage in memory alone, and a price of the model `m`.
fn before(upstream: &Upstream, files: &Files, entries: &[String]) -> GatewayBuilder {
    let keys = files.write("keys.json", &format!("[{}]", entries.join(",")));
    let prices = files.write("prices.json", PRICES);
    Gateway::builder()
        .upstream(upstream)
        .arg("--admin", "127.0.0.1:0")
        .env("FLOW_PROXY_USAGE_DB", "off")
        .env("FLOW_PROXY_API_KEYS_FILE", keys)
        .env("FLOW_PROXY_PRICES", prices)
}

/// Makes the head and body of a `POST` with the key of a name.
fn post(name: &str, path: &str, body: &str) -> String {
    post_with(name, path, "Content-Type: application/json\r\n", body)
}

fn post_with(name: &str, path: &str, fields: &str, body: &str) -> String {
    let (key, length) = (key_of(name), body.len());
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nx-api-key: {key}\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    )
}

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"m","messages":[]}"#;

/// An answer that tells of so many tokens, in and out together.
fn telling(tokens: u64) -> String {
    let (input, output) = (tokens - 1, 1);
    let body = format!(
        r#"{{"object":"chat.completion","model":"m","choices":[],"usage":{{"prompt_tokens":{input},"completion_tokens":{output}}}}}"#
    );
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Answers each request with these bytes.
fn answering(head_and_body: String) -> impl Fn(&mut Peer) + Send + Sync + 'static {
    move |peer| {
        while peer.read_request().is_some() {
            peer.write(&head_and_body);
        }
    }
}

/// Returns the sample of the metrics page that begins like this.
fn sample(gateway: &Gateway, name: &str) -> Option<f64> {
    let page = gateway.metrics();
    let line = page.lines().find(|line| line.starts_with(name))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

fn used(gateway: &Gateway, key: &str, limit: &str) -> Option<f64> {
    sample(gateway, &format!(r#"flow_uring_key_limit_used{{key="{key}",limit="{limit}"}}"#))
}
