//! Subscribers of tests.

use std::sync::LazyLock;

use tracing::{Dispatch, Subscriber};
use tracing_subscriber::Registry;

/// Runs `steps` with `subscriber` for this thread alone, whatever other threads log meanwhile.
pub fn listening<T>(subscriber: impl Subscriber + Send + Sync + 'static, steps: impl FnOnce() -> T) -> T {
    // While a process has one subscriber only, tracing asks for that of the thread that comes to a callsite first, and
    // remembers for all threads that nobody listens (tracing-core 0.1.36, `callsite::Rebuilder::JustOne`).
    static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Registry::default()));
    LazyLock::force(&ANOTHER);
    tracing::subscriber::with_default(subscriber, steps)
}
