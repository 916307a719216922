//! The drain: from the moment the program is to end to the end of its last shard.
//!
//! Run by the main thread. Invariant: every wait here has a limit, so the program ends. What a shard does in a drain is
//! its own affair (`io::lifecycle`).

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::RunError;
use super::control::{Order, Shards};
use super::supervisor::Event;

/// How long the shards have to end their streams when the drain limit has passed.
const FAREWELL_LIMIT: Duration = Duration::from_secs(5);

/// Drains all shards by `order`, and ends what is open when `drain_limit` has passed.
///
/// # Errors
/// A shard has died, or another signal came.
pub fn drain(events: &Receiver<Event>, shards: &Shards, order: Order, drain_limit: Duration) -> Result<(), RunError> {
    let open_exchanges = shards.open_exchanges();
    tracing::info!(open_exchanges, "stopping: waiting for open exchanges; a second signal exits at once");
    let mut running = shards.count();
    shards.tell_all(order);
    if wait_for_shards(events, shards, &mut running, drain_limit)? {
        shards.log_totals();
        tracing::info!("stopped");
        return Ok(());
    }
    tracing::warn!(open_exchanges = shards.open_exchanges(), "the drain limit has passed; ending what is open");
    shards.tell_all(Order::Expire);
    if !wait_for_shards(events, shards, &mut running, FAREWELL_LIMIT)? {
        tracing::warn!(open_exchanges = shards.open_exchanges(), "some exchanges did not end and are cut off");
    }
    shards.log_totals();
    Ok(())
}

/// Whether all shards have ended within `limit`.
#[expect(clippy::disallowed_methods, reason = "the main thread serves nothing and waits here")]
fn wait_for_shards(
    events: &Receiver<Event>,
    shards: &Shards,
    running: &mut usize,
    limit: Duration,
) -> Result<bool, RunError> {
    let due = Instant::now() + limit;
    while *running > 0 {
        match events.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(Event::ShardEnded { has_panicked: true }) => return Err(RunError::ShardDied),
            Ok(Event::ShardEnded { has_panicked: false }) => *running -= 1,
            // No exchange begins any more that could use other credentials, except on connections that are about to end.
            Ok(Event::Hangup | Event::SecretsChanged(_)) => {}
            Ok(Event::Stop) => return Err(RunError::Interrupted { open_exchanges: shards.open_exchanges() }),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(false),
        }
    }
    Ok(true)
}
