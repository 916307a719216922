//! Failure and failover, row by row of the contract: what the upstream does with each attempt, which credentials are
//! tried in which order, what the client receives, what the log says and what the last line counts.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test waits and locks on threads of its own; no shard runs here"
)]

#[path = "../support/mod.rs"]
mod support;

mod after_a_while;
mod answers;
mod connections;
mod cooldowns;
mod early_errors;
mod evidence;
mod kept_answers;
mod probes;
mod replay;
mod table;
