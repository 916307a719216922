//! The way to the upstream: connections of the pool and new ones, and the HTTP proxies that they are made through.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

#[path = "../support/mod.rs"]
mod support;

mod connections;
mod proxy;
mod real_proxies;
