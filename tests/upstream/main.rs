//! The way to the upstream: connections of the pool, new ones and those opened in advance, and the HTTP proxies that they are made through.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

#[path = "../support/mod.rs"]
mod support;

mod connections;
mod proxy;
mod real_proxies;
mod warm;
