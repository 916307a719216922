//! Waits of an exchange outside its attempts: for the outcome of another's probe, and for the back-off.
//!
//! Invariant: every wait here ends with its limit, with the client, or with the drain, whichever comes first.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::credentials::{Choice, RestScope, Selector, Turn};
use crate::io::{Either, Phase, race};
use crate::proxy::downstream::Downstream;
use crate::proxy::error::GatewayError;
use crate::proxy::outcome::Outcome;
use crate::proxy::resources::Resources;

/// The longest wait for the outcome of a probe while all credentials cool down, and the pause between two looks.
/// Looking costs nothing and needs no wake-up from another shard.
const PROBE_WAIT: Duration = Duration::from_secs(1);
const PROBE_LOOK: Duration = Duration::from_millis(20);
/// The limit on exchanges of the process that wait for one; the others go on at once.
const PROBE_WAITERS_MAX: usize = 1000;

/// Settles which credential the first attempt uses; `scope` is that of the request, where the choice depends on it.
///
/// # Errors
/// As [`pause`].
pub async fn settle_turn(
    resources: &Resources,
    downstream: &Downstream,
    selector: Selector<'_>,
    choice: Choice,
    scope: Option<&RestScope>,
) -> Result<Turn, Outcome> {
    let mut choice = choice;
    let due = Instant::now() + PROBE_WAIT;
    let mut waiting = None;
    loop {
        let preferred = match choice {
            Choice::Use(turn) => return Ok(turn),
            Choice::Open { preferred } => {
                choice = selector.choose_again(preferred, scope, false, Instant::now());
                continue;
            }
            Choice::Wait { preferred, .. } => preferred,
        };
        let place = waiting.get_or_insert_with(|| WaitingPlace::take(resources));
        let has_waited_enough = Instant::now() >= due || !place.is_allowed;
        if !has_waited_enough {
            pause(resources, downstream, PROBE_LOOK).await?;
        }
        choice = selector.choose_again(preferred, scope, has_waited_enough, Instant::now());
    }
}

/// Waits for `time`.
///
/// # Errors
/// The end of the exchange, if the client has left meanwhile or the drain has expired.
pub async fn pause(resources: &Resources, downstream: &Downstream, time: Duration) -> Result<(), Outcome> {
    let over = downstream.upstream_deadline.passed(time);
    let outgoing = downstream.outgoing();
    let interrupted = race(outgoing.left(), resources.lifecycle.reached(Phase::Expired));
    // The interruptions come first: an attempt must not start for a client that has gone.
    match race(interrupted, over).await {
        Either::Second(()) => Ok(()),
        Either::First(Either::First(())) => Err(Outcome::CLIENT_GONE),
        Either::First(Either::Second(())) => Err(Outcome::Failed(GatewayError::Draining)),
    }
}

/// A place among those who wait for a probe.
struct WaitingPlace<'a> {
    resources: &'a Resources,
    is_allowed: bool,
}

impl<'a> WaitingPlace<'a> {
    fn take(resources: &'a Resources) -> Self {
        let is_allowed = resources.probe_waiters.fetch_add(1, Ordering::Relaxed) < PROBE_WAITERS_MAX;
        WaitingPlace { resources, is_allowed }
    }
}

impl Drop for WaitingPlace<'_> {
    fn drop(&mut self) {
        self.resources.probe_waiters.fetch_sub(1, Ordering::Relaxed);
    }
}
