//! The log and the outputs that it goes to, those too that take no more.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

#[path = "../support/mod.rs"]
mod support;

mod blocked_output;
mod files;
