//! Requests on their way to the upstream: who may send them, where they go, and what is changed of them and of their
//! answers.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod filter;
mod modes;
