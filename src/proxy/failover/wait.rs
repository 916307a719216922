//! Waits of an exchange outside its attempts: for the outcome of another's probe, and for the back-off.
//!
//! Invariant: every wait here ends with its limit, with the client, or with the drain, whichever comes first.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::credentials::{Choice, Turn};
use crate::io::{Either, Phase, race};
use crate::observability::Ending;
use crate::proxy::Proxy;
use crate::proxy::attempt::Outcome;
use crate::proxy::downstream::{Downstream, left};
use crate::proxy::error::GatewayError;
use crate::proxy::snapshot::Snapshot;

/// The longest wait for the outcome of a probe while all credentials cool down, and the pause between two looks.
/// Looking costs nothing and needs no wake-up from another shard.
const PROBE_WAIT: Duration = Duration::from_secs(1);
const PROBE_LOOK: Duration = Duration::from_millis(20);
/// The limit on exchanges of the process that wait for one; the others go on at once.
const PROBE_WAITERS_MAX: usize = 1000;

impl Proxy {
    /// Settles which credential the first attempt uses.
    ///
    /// # Errors
    /// As [`Proxy::pause`].
    pub async fn settle_turn(
        &self,
        downstream: &Downstream,
        snapshot: &Snapshot,
        choice: Choice,
    ) -> Result<Turn, Outcome> {
        let mut choice = choice;
        let due = Instant::now() + PROBE_WAIT;
        let mut waiting = None;
        loop {
            let tick = match choice {
                Choice::Use(turn) => return Ok(turn),
                Choice::Wait { tick, .. } => tick,
            };
            let place = waiting.get_or_insert_with(|| WaitingPlace::take(self));
            let has_waited_enough = Instant::now() >= due || !place.is_allowed;
            if !has_waited_enough {
                self.pause(downstream, PROBE_LOOK).await?;
            }
            choice = snapshot.credentials.choose_again(tick, has_waited_enough, Instant::now());
        }
    }

    /// Waits for `time`.
    ///
    /// # Errors
    /// The end of the exchange, if the client has left meanwhile or the drain has expired.
    pub async fn pause(&self, downstream: &Downstream, time: Duration) -> Result<(), Outcome> {
        let over = downstream.upstream_deadline.passed(time);
        let interrupted =
            race(left(&downstream.stream, downstream.departure.as_ref()), self.lifecycle.reached(Phase::Expired));
        // The interruptions come first: an attempt must not start for a client that has gone.
        match race(interrupted, over).await {
            Either::Second(()) => Ok(()),
            Either::First(Either::First(())) => Err(Outcome::ClientGone(Ending::ClientDisconnected)),
            Either::First(Either::Second(())) => Err(Outcome::Failed(GatewayError::Draining)),
        }
    }
}

/// A place among those who wait for a probe.
struct WaitingPlace<'a> {
    proxy: &'a Proxy,
    is_allowed: bool,
}

impl<'a> WaitingPlace<'a> {
    fn take(proxy: &'a Proxy) -> Self {
        let is_allowed = proxy.probe_waiters.fetch_add(1, Ordering::Relaxed) < PROBE_WAITERS_MAX;
        WaitingPlace { proxy, is_allowed }
    }
}

impl Drop for WaitingPlace<'_> {
    fn drop(&mut self) {
        self.proxy.probe_waiters.fetch_sub(1, Ordering::Relaxed);
    }
}
