//! The drain, from the decision to end the program to the end of its last shard.
//!
//! Run by the main thread. Invariant: every wait here has a limit, so the program ends. The phases of a drain within a
//! shard are those of `io::lifecycle`.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::control::{Order, Shards};
use super::event::SupervisorEvent;
use crate::server::admin::Admin;
use crate::server::admin::stage::Stage;
use crate::server::error::RunError;

/// The time that the shards have to end their streams when the drain limit has passed.
const FAREWELL_LIMIT: Duration = Duration::from_secs(5);

/// The reason why the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownReason {
    Signal,
    /// A signal, while a successor has the listening sockets and does not serve on them yet.
    SignalWhileLending,
    /// Another gateway has taken over.
    Successor,
    /// This gateway was to take over, and its predecessor goes on.
    TakeOverFailed,
}

impl ShutdownReason {
    fn order(self) -> Order {
        match self {
            ShutdownReason::Signal => Order::Drain,
            ShutdownReason::SignalWhileLending | ShutdownReason::Successor | ShutdownReason::TakeOverFailed => {
                Order::DrainKeepingSockets
            }
        }
    }
}

/// Drains all shards, and ends the exchanges that are open when `drain_limit` has passed. The admin pages stay until
/// then, unless a successor takes their address.
///
/// # Errors
/// A shard has died, or a second signal came.
pub fn drain(
    events: &Receiver<SupervisorEvent>,
    shards: &Shards,
    admin: Option<Admin>,
    reason: ShutdownReason,
    drain_limit: Duration,
) -> Result<(), RunError> {
    admin.iter().for_each(|admin| admin.note(Stage::Draining));
    let admin = admin.filter(|_| reason != ShutdownReason::Successor);
    tracing::info!(
        open_exchanges = shards.open_exchanges(),
        "stopping: waiting for open exchanges; a second signal exits at once"
    );
    // A gateway that was taken over drains without a signal: a first one asks only for the drain that is under way.
    let keeps_sockets = reason.order() == Order::DrainKeepingSockets;
    let was_signalled = matches!(reason, ShutdownReason::Signal | ShutdownReason::SignalWhileLending);
    let mut drain = Drain { events, shards, admin, running: shards.count(), was_signalled, keeps_sockets };
    shards.tell_all(reason.order());
    if drain.wait_for_shards(drain_limit)? {
        shards.log_totals();
        tracing::info!("stopped");
        return Ok(());
    }
    let open_exchanges = shards.open_exchanges();
    // Idle connections that have their last second are no news.
    if open_exchanges > 0 {
        tracing::warn!(open_exchanges, "the drain limit has passed; ending what is open");
    }
    shards.tell_all(Order::Expire);
    if !drain.wait_for_shards(FAREWELL_LIMIT)? {
        tracing::warn!(open_exchanges = shards.open_exchanges(), "some exchanges did not end and are cut off");
    }
    shards.log_totals();
    Ok(())
}

struct Drain<'a> {
    events: &'a Receiver<SupervisorEvent>,
    shards: &'a Shards,
    admin: Option<Admin>,
    running: usize,
    keeps_sockets: bool,
    was_signalled: bool,
}

impl Drain<'_> {
    /// Returns true when all shards have ended, and false when `limit` has passed first.
    #[expect(clippy::disallowed_methods, reason = "the main thread serves nothing and waits here")]
    fn wait_for_shards(&mut self, limit: Duration) -> Result<bool, RunError> {
        let due = Instant::now() + limit;
        while self.running > 0 {
            match self.events.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(SupervisorEvent::ShardEnded { has_panicked: true }) => return Err(RunError::ShardDied),
                Ok(SupervisorEvent::ShardEnded { has_panicked: false }) => self.running -= 1,
                // Nothing is reloaded any more: exchanges that still begin end soon.
                Ok(SupervisorEvent::Hangup | SupervisorEvent::FileChanged(..)) => {}
                // If it had the sockets when the signal came, they were kept for it; for others it is too late.
                Ok(SupervisorEvent::Successor(successor)) => {
                    if self.keeps_sockets && successor.grant() {
                        self.admin = None;
                    }
                }
                Ok(SupervisorEvent::Stop) if !self.was_signalled => {
                    self.was_signalled = true;
                    tracing::info!(open_exchanges = self.shards.open_exchanges(), "still waiting for open exchanges");
                }
                Ok(SupervisorEvent::Stop) => {
                    return Err(RunError::Interrupted { open_exchanges: self.shards.open_exchanges() });
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(false),
            }
        }
        Ok(true)
    }
}
