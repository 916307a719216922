//! The admin listener: who may ask it what, what the pages say while all is well and while it is not, and that no client
//! of it holds up another.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

#[path = "../support/mod.rs"]
mod support;

mod address;
mod health;
mod metrics;
mod requests;

use std::net::TcpListener;

use support::{Client, Gateway, GatewayBuilder, Response, Upstream};

const GET: &str = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// One before this upstream, whose admin pages are on any free port.
fn before(upstream: &Upstream) -> GatewayBuilder {
    Gateway::builder().upstream(upstream).arg("--admin", "127.0.0.1:0")
}

/// Asks for a page as a health check or a scraper does.
fn page(port: u16, path: &str) -> Response {
    Client::connect(port).ask(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("bound").port()
}
