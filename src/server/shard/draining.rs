//! The time that a drain leaves to connections that are not in an exchange.

use std::time::{Duration, Instant};

use crate::io::{Deadline, Phase};
use crate::proxy::Proxy;

/// What is left to half a request head, to a client that has just connected, or to a lingering close, when the drain
/// begins: a person waits for the exit, and a container engine for 10 s at most.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// Resolves when a connection without a whole request has held up the drain for long enough.
pub async fn grace_over(proxy: &Proxy, deadline: &Deadline) {
    proxy.lifecycle.reached(Phase::Draining).await;
    deadline.reached(Instant::now() + DRAIN_GRACE).await;
}

/// Resolves when the drain wants a connection that waits for a request to end: at once, or, at the first one of a client
/// that has just connected, and would take the close for a failure, [`DRAIN_GRACE`] later.
pub async fn wait_over(proxy: &Proxy, deadline: &Deadline, is_first: bool) {
    proxy.lifecycle.reached(Phase::Draining).await;
    if is_first {
        deadline.reached(Instant::now() + DRAIN_GRACE).await;
    }
}
