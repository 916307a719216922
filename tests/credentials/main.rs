//! The credentials that requests are sent with: whose turn it is, how they are replaced while the gateway runs, and how
//! those that fail are left alone.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test waits and locks on threads of its own; no shard runs here"
)]

#[path = "../support/mod.rs"]
mod support;

mod affinity;
mod of_keys;
mod recovery;
mod reload;
mod rotation;
mod stored_objects;
mod waits;
