//! WebSockets: which upgrades go upstream, which answers open a tunnel, and what a tunnel does with bytes, ends, limits
//! and the drain.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

#[path = "../support/mod.rs"]
mod support;

mod bytes;
mod cases;
mod drain;
mod ends;
mod failover;
mod frame;
mod handshake;
mod keys;
mod refused_paths;
mod smuggling;
mod usage;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use support::{Client, Gateway, GatewayBuilder, Head, Peer, Response, Upstream};

/// The key of RFC 6455 §1.3, and the answer to it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Returns an upgrade on this path, with further lines.
fn upgrade(path: &str, lines: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{lines}\r\n"
    )
}

/// Returns the answer to a key (RFC 6455 §4.2.2), reckoned apart from the program.
fn accept_of(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64_STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// Returns a valid 101 to this head, with further lines.
fn switching(head: &Head, lines: &str) -> String {
    let accept = accept_of(head.field("sec-websocket-key").expect("a key"));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{lines}\r\n"
    )
}

/// Switches with each upgrade, and then does what the script says.
fn switched(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> impl Fn(&mut Peer) + Send + Sync + 'static {
    move |peer| {
        if let Some(head) = peer.read_head() {
            let answer = switching(&head, "");
            peer.write(answer);
            script(peer);
        }
    }
}

/// Sends back all that comes, and ends when the other side does.
fn echo_bytes(peer: &mut Peer) {
    while let Some(bytes) = peer.read_some() {
        peer.write(bytes);
    }
}

/// Opens a socket on this path.
fn open(client: &mut Client, path: &str) -> Response {
    let response = client.ask(upgrade(path, ""));
    assert_eq!(response.status, 101, "{response:?}");
    response
}

/// Returns a gateway with the admin pages, and usage in memory alone.
fn counting(upstream: &Upstream) -> GatewayBuilder {
    Gateway::builder().upstream(upstream).arg("--admin", "127.0.0.1:0").env("FLOW_PROXY_USAGE_DB", "off")
}

/// Returns the sum of the samples of a metric that have this among their labels.
fn samples_of(gateway: &Gateway, name: &str, label: &str) -> f64 {
    let text = gateway.metrics();
    let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Returns the value of a sample of the metrics, by all that stands before it; 0 where there is none.
fn sample(gateway: &Gateway, name: &str) -> f64 {
    let text = gateway.metrics();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or(0.0)
}

#[test]
fn the_kit_answers_the_key_of_the_rfc_as_the_rfc_does() {
    assert_eq!(accept_of(KEY), ACCEPT);
}
