//! Requests on their way to the upstream: who may send them, where they go, and what is changed of them and of their
//! answers.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod filter;
mod gemini;
mod ids;
mod modes;

use support::{Client, Gateway, Response};

/// The fields that the gateway sets itself; their place among the others is its own affair.
const OURS: [&str; 5] = ["Host", "Authorization", "Content-Length", "Transfer-Encoding", "x-request-id"];

/// Asks on a connection of its own.
fn ask(gateway: &Gateway, request: impl AsRef<[u8]>) -> Response {
    Client::connect(gateway.port()).ask(request)
}
