//! Bytes that go on as they come: in both directions and in all framings, event streams with heartbeats, and the ends
//! of streams that the upstream or the client cuts.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

#[path = "../support/mod.rs"]
mod support;

mod broken_streams;
mod disconnect;
mod farewell;
mod heartbeat;
mod pump;
mod relay;

/// A request for a path of no dialect.
const GET: &str = "GET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n";
