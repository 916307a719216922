//! The limits of time and size, each at its border: what is just within passes, and what is just beyond ends as it has to.
//!
//! A size is met to the byte. A time is set short; what is just within it comes at half of it, several times over where
//! each wait has the limit for itself.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod connections;
mod downstream_times;
mod ends;
mod heads;
mod stalled_writes;
mod stated;
mod upstream_times;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::{Client, Ended, Gateway, GatewayBuilder, Upstream};

const DRIVERS: [&str; 2] = ["auto", "epoll"];

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The sizes that cannot be set.
const REQUEST_LINE_BYTES: usize = 16 * KIB;
const REQUEST_HEAD_BYTES: usize = 64 * KIB;
const REQUEST_FIELDS: usize = 100;
const RESPONSE_HEAD_BYTES: usize = 128 * KIB;
const RESPONSE_FIELDS: usize = 256;
const INTERIM_HEADS: usize = 16;
const INTERIM_BYTES: usize = 64 * KIB;
const CHUNK_EXTENSION_BYTES: usize = 16 * KIB;
const TRAILER_BYTES: usize = 16 * KIB;

/// The time that is set as a limit: the shortest that all of them may have.
const LIMIT: Duration = Duration::from_secs(1);

/// The pace of one side, on its own clock: it acts at half of the limit, and notes where it was nearly as late as that.
#[derive(Clone, Default)]
struct Pace(Arc<AtomicBool>);

impl Pace {
    /// Acts half of the limit after the last action.
    fn act<T>(&self, action: impl FnOnce() -> T) -> T {
        let since = Instant::now();
        thread::sleep(LIMIT / 2);
        let acted = action();
        if since.elapsed() > LIMIT * 9 / 10 {
            self.0.store(true, Ordering::SeqCst);
        }
        acted
    }

    /// Returns whether all that was done came well within the limit: else a round proves nothing.
    fn was_kept(&self) -> bool {
        !self.0.load(Ordering::SeqCst)
    }
}

/// Checks what is within a limit and what is beyond it at the same time: both mostly wait.
fn check_both(within: impl FnOnce() + Send, beyond: impl FnOnce() + Send) {
    thread::scope(|scope| {
        scope.spawn(within);
        beyond();
    });
}

/// Reads until what has come ends in `end`, or the connection does.
fn read_up_to(client: &mut Client, end: &str) -> (Vec<u8>, Option<Ended>) {
    let mut received = Vec::new();
    loop {
        let ended = client.read_at_least(received.len() + 1, &mut received);
        if ended.is_some() || received.ends_with(end.as_bytes()) {
            return (received, ended);
        }
    }
}

/// A gateway with one shard, none of whose other limits is met.
fn builder(driver: &str, upstream: &Upstream) -> GatewayBuilder {
    Gateway::builder().shards(1).upstream(upstream).patient().arg("--io-driver", driver)
}
