//! The time that a drain leaves to a connection without an exchange.

use std::time::{Duration, Instant};

use crate::io::{Deadline, Phase, race};
use crate::proxy::Proxy;

/// The time for a connection without an exchange once the drain has begun: a client that has just connected, is about to
/// send its next request, or is within a TLS handshake, a head or a lingering close. A close at once would cross with a
/// request on its way, which its client may not repeat (RFC 9112 §9.3.1). A person waits for the exit, and a container
/// engine for 10 s at most.
pub const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// Resolves [`DRAIN_GRACE`] after the beginning of the drain, or with its end.
pub async fn grace_over(proxy: &Proxy, deadline: &Deadline) {
    let lifecycle = &proxy.resources.lifecycle;
    lifecycle.reached(Phase::Draining).await;
    race(deadline.reached(Instant::now() + DRAIN_GRACE), lifecycle.reached(Phase::Expired)).await;
}
