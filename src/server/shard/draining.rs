//! The time that a drain leaves to a connection without an exchange.

use std::time::{Duration, Instant};

use crate::io::{Deadline, Lifecycle, Phase, race};
use crate::proxy::Proxy;

/// The time for a connection without an exchange in a drain. Once that has begun: for a client that has just connected, is
/// about to send its next request, or has not ended its TLS handshake. A close at once would cross with a request on its
/// way, which its client may not repeat (RFC 9112 §9.3.1). And for the rest of a head, and a lingering close. A person
/// waits for the exit, and a container engine for 10 s at most.
pub const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// Returns whether a drain has begun so long ago that nobody waits for a request any more, or is over.
pub fn is_wait_over(lifecycle: &Lifecycle) -> bool {
    let is_grace_over = lifecycle.draining_since().is_some_and(|since| since.elapsed() >= DRAIN_GRACE);
    is_grace_over || lifecycle.phase() == Phase::Expired
}

/// Resolves when the drain ends a connection that has waited for a request `since` then: [`DRAIN_GRACE`] after the
/// beginning of both, or with the drain's end. An answer that began before the drain has promised that the connection
/// goes on, so its client may send the next request as it ends.
pub async fn wait_over(proxy: &Proxy, deadline: &Deadline, since: Instant) {
    let lifecycle = &proxy.resources.lifecycle;
    lifecycle.reached(Phase::Draining).await;
    let begun = lifecycle.draining_since().map_or(since, |drain| drain.max(since));
    race(deadline.reached(begun + DRAIN_GRACE), lifecycle.reached(Phase::Expired)).await;
}

/// Resolves [`DRAIN_GRACE`] after this call or the beginning of the drain, whichever is later, or with the drain's end.
pub async fn grace_over(proxy: &Proxy, deadline: &Deadline) {
    let lifecycle = &proxy.resources.lifecycle;
    lifecycle.reached(Phase::Draining).await;
    race(deadline.reached(Instant::now() + DRAIN_GRACE), lifecycle.reached(Phase::Expired)).await;
}
