//! The admin listener: access to it, its pages while all is well and while it is not, and that no client of it holds up
//! another.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod address;
#[cfg(feature = "demo")]
mod demo;
mod health;
mod live;
mod metrics;
#[cfg(feature = "demo")]
mod prices;
mod requests;
mod state;
mod usage;

use std::time::{Duration, Instant};

use support::{Client, DEADLINE, Gateway, GatewayBuilder, Response, Upstream};

/// The time that a client of the admin pages has, from the accept to the close. It cannot be set.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(5);

/// Returns a builder for this upstream with the admin pages on any free port.
fn before(upstream: &Upstream) -> GatewayBuilder {
    Gateway::builder().upstream(upstream).arg("--admin", "127.0.0.1:0")
}

/// Asks for a page as a health check or a scraper does.
fn page(port: u16, path: &str) -> Response {
    Client::connect(port).ask(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"))
}

/// Asks a gateway that is well, and again where it says that it is not: a shard has a second to answer for itself, and
/// on a busy machine may need longer.
fn ask_while_well(port: u16, request: &str) -> (Client, Response) {
    let until = Instant::now() + DEADLINE;
    loop {
        let mut client = Client::connect(port);
        let response = client.ask(request);
        if response.status != 503 {
            return (client, response);
        }
        assert!(Instant::now() < until, "it does not get well: {response:?}");
    }
}

/// Asks for a page until it says so; as `ask_while_well`, for a page that tells of the shards.
fn wait_for_page(port: u16, path: &str, is_so: impl Fn(&Response) -> bool) -> Response {
    let until = Instant::now() + DEADLINE;
    loop {
        let response = page(port, path);
        if is_so(&response) {
            return response;
        }
        assert!(Instant::now() < until, "{path} says {}", response.text());
    }
}
