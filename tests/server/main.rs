//! The life of the process: its start and what keeps it from one, its I/O drivers and its TLS listener, the drain and
//! the exit.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

#[path = "../support/mod.rs"]
mod support;

mod check_online;
mod drain;
mod drain_limit;
mod fallback;
mod giving_way;
mod last_second;
mod overload;
mod startup;
mod tls_listener;
