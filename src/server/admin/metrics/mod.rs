//! The metrics page: the counts of the shards, summed when the page is requested, in Prometheus' text format.
//!
//! Invariant: the shards are read, and never waited for; a sum that is read while they count is of some moment of each.
//! Names follow Prometheus' conventions: seconds and bytes, `_total` for what only grows.

mod connections;
mod credentials;
mod exposition;
mod gateway;
mod gen_ai;
mod keys;
mod process;
mod quota;
mod requests;
mod usage;

use std::time::UNIX_EPOCH;

use self::exposition::Exposition;
use super::gateway_state::GatewayState;

/// Writes all metrics; `alive` shards answer.
///
/// # Errors
/// A family is not valid; a test of the page makes sure that all are.
pub fn text(state: &GatewayState, alive: usize) -> prometheus::Result<Vec<u8>> {
    let mut page = Exposition::default();
    gateway::build(&mut page, state, alive);
    requests::requests(&mut page, state);
    requests::attempts(&mut page, state);
    credentials::write(&mut page, state);
    quota::write(&mut page, state);
    connections::write(&mut page, state);
    requests::times(&mut page, state);
    usage::write(&mut page, state);
    keys::write(&mut page, state);
    gen_ai::write(&mut page, state);
    gateway::known_objects(&mut page, state);
    gateway::prices(&mut page, state);
    gateway::captures(&mut page, state);
    gateway::logs(&mut page);
    process::write(&mut page, state.started.duration_since(UNIX_EPOCH).unwrap_or_default());
    page.encode()
}
