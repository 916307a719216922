//! The wait for a place among the requests of a key that are under way.
//!
//! Invariant: nothing of the body is read and the client is not asked for it; the wait ends with its limit, with the
//! client, and with the drain; and whoever leaves gives what it had to the next.

use std::time::Duration;

use crate::credentials::LimitField;
use crate::io::{Either, Phase, race};
use crate::proxy::downstream::Downstream;
use crate::proxy::error::GatewayError;
use crate::proxy::exchange::Exchange;
use crate::proxy::key_accounts::parallel::{ParallelPlace, QueueFull};
use crate::proxy::outcome::Outcome;
use crate::proxy::resources::Resources;

/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The time after which one that was not let in may try again: requests of models take seconds.
const TRY_AGAIN_SECONDS: u64 = 5;

/// Waits for a place, behind all who do. `None`: the key has no account, and so nothing to wait for.
///
/// # Errors
/// The end of the exchange: there was no place, the client has left, or the drain has expired.
pub async fn wait_for_place(
    resources: &Resources,
    exchange: &Exchange,
    downstream: &Downstream,
) -> Result<Option<ParallelPlace>, Outcome> {
    let account = exchange.snapshot.governed(exchange.key).and_then(|governed| governed.account.as_ref());
    let Some(account) = account else { return Ok(None) };
    let refused =
        || Outcome::Failed(GatewayError::LimitReached(account.refuse(LimitField::Parallel, TRY_AGAIN_SECONDS)));
    let (remote, waker) = resources.remote_waits.begin();
    let mut waiting = account.parallel.wait(move || waker.wake()).map_err(|QueueFull| refused())?;
    let woken = downstream.upstream_deadline.within(WAIT_MAX, remote.woken());
    let interrupted = race(downstream.outgoing().left(), resources.lifecycle.reached(Phase::Expired));
    // The interruptions come first: a place is for a client that is there.
    match race(interrupted, woken).await {
        // Also where the time is up: it may have become free just then.
        Either::Second(_) => waiting.take().map(Some).ok_or_else(refused),
        Either::First(Either::First(())) => Err(Outcome::CLIENT_GONE),
        Either::First(Either::Second(())) => Err(Outcome::Failed(GatewayError::Draining)),
    }
}
