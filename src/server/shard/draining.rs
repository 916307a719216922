//! The time that a drain leaves to a connection without an exchange.

use std::time::{Duration, Instant};

use crate::io::{Deadline, Phase};
use crate::proxy::Proxy;

/// The time for an incomplete TLS handshake or request head, a client that has just connected, or a lingering close,
/// once the drain has begun: a person waits for the exit, and a container engine for 10 s at most.
pub const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// Resolves [`DRAIN_GRACE`] after the beginning of the drain.
pub async fn grace_over(proxy: &Proxy, deadline: &Deadline) {
    proxy.resources.lifecycle.reached(Phase::Draining).await;
    deadline.reached(Instant::now() + DRAIN_GRACE).await;
}

/// Resolves when the drain ends a connection that waits for a request: at once, or [`DRAIN_GRACE`] later if it has just
/// connected and waits for its first request, since its client would take the close for a failure.
pub async fn wait_over(proxy: &Proxy, deadline: &Deadline, is_first: bool) {
    proxy.resources.lifecycle.reached(Phase::Draining).await;
    if is_first {
        deadline.reached(Instant::now() + DRAIN_GRACE).await;
    }
}
