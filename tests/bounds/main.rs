//! The limits of time and size, each at its border: what is just within passes, and what is just beyond ends as it has to.
//!
//! A size is met to the byte. A time is set short; what is just within it comes at half of it, several times over where
//! each wait has the limit for itself.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod heads;

use support::{Gateway, GatewayBuilder, Upstream};

const DRIVERS: [&str; 2] = ["auto", "epoll"];

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The sizes that cannot be set.
const REQUEST_LINE_BYTES: usize = 16 * KIB;
const REQUEST_HEAD_BYTES: usize = 64 * KIB;
const REQUEST_FIELDS: usize = 100;
const RESPONSE_HEAD_BYTES: usize = 128 * KIB;
const RESPONSE_FIELDS: usize = 256;
const INTERIM_HEADS: usize = 16;
const INTERIM_BYTES: usize = 64 * KIB;
const CHUNK_EXTENSION_BYTES: usize = 16 * KIB;
const TRAILER_BYTES: usize = 16 * KIB;

/// A gateway with one shard, none of whose other limits is met.
fn builder(driver: &str, upstream: &Upstream) -> GatewayBuilder {
    Gateway::builder().shards(1).upstream(upstream).patient().arg("--io-driver", driver)
}
