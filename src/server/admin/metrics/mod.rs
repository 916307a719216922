//! The metrics page: what the shards counted, summed when it is asked for, in Prometheus' text format.
//!
//! Invariant: the shards are read from, and never waited for; a sum that is read while they go on is of some moment of
//! each. Names follow Prometheus' conventions: seconds and bytes, `_total` for what only grows.

mod connections;
mod credentials;
mod exposition;
mod gateway;
mod process;
mod requests;

use std::time::UNIX_EPOCH;

use self::exposition::Exposition;
use super::gateway_state::GatewayState;

/// Writes all metrics; `alive` is how many shards answer.
///
/// # Errors
/// When a family is not one; a test of the page sees to it.
pub fn text(state: &GatewayState, alive: usize) -> prometheus::Result<Vec<u8>> {
    let mut page = Exposition::default();
    gateway::build(&mut page, state, alive);
    requests::requests(&mut page, state);
    requests::attempts(&mut page, state);
    credentials::write(&mut page, state);
    connections::write(&mut page, state);
    requests::times(&mut page, state);
    gateway::logs(&mut page);
    process::write(&mut page, state.started.duration_since(UNIX_EPOCH).unwrap_or_default());
    page.encode()
}
