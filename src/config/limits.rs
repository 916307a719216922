//! The time and size limits of the contract and their defaults; those of a message head are `http1`'s.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::process::{default_shards, descriptors_max};
use super::value::MEBIBYTE;

/// Idle upstream connections of one shard where descriptors are plenty: more requests at once are rare, and each
/// connection costs memory on both sides.
const IDLE_UPSTREAM_MAX: usize = 256;

/// Pending connects of one shard: at 50 ms for TCP and TLS that is 5,000 new connections a second. While the upstream
/// does not answer, it bounds the descriptors and 16 KiB buffers in use, and the burst of handshakes that the upstream
/// gets when it is back.
const PENDING_CONNECTS_MAX: usize = 256;

/// The most upstream connections that a shard can be told to keep ready: they are opened anew every few seconds.
pub const WARM_CONNECTIONS_MAX: u64 = 16;

/// The time limits of each wait of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// A request head, from its first byte to its last.
    pub head: Duration,
    /// A downstream connection between two exchanges.
    pub keepalive: Duration,
    /// A request body, while a read is pending.
    pub body: Duration,
    /// A downstream TLS handshake.
    pub handshake: Duration,
    /// Name resolution, TCP connect and TLS handshake of one attempt together.
    pub connect: Duration,
    /// The response head, from the last request byte written; and the response body, while a read is pending.
    pub client: Duration,
    /// A write upstream that makes no progress.
    pub upstream_write: Duration,
    /// A write downstream that makes no progress.
    pub downstream_write: Duration,
    /// An upstream connection in the pool.
    pub upstream_idle: Duration,
    /// Open exchanges after a stop signal.
    pub drain: Duration,
    /// No attempt starts later than this after the start of its exchange; zero: there is no second attempt.
    pub retry: Duration,
    /// The silence of an event stream after which the downstream gets a comment; `None`: no comments are sent.
    pub heartbeat: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            head: Duration::from_secs(10),
            keepalive: Duration::from_secs(75),
            body: Duration::from_secs(60),
            handshake: Duration::from_secs(10),
            connect: Duration::from_secs(10),
            // Real answers take up to 600 s to their first byte.
            client: Duration::from_secs(600),
            upstream_write: Duration::from_secs(60),
            downstream_write: Duration::from_secs(60),
            // Front doors were seen closing idle connections at 15 s; a reused one must not be that old.
            upstream_idle: Duration::from_secs(10),
            drain: Duration::from_secs(600),
            // Clients wait at least that long for a first byte, and two attempts that fail slowly take less.
            retry: Duration::from_secs(60),
            heartbeat: None,
        }
    }
}

/// The size limits and the limits of what exists at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// One request body; `None`: any size.
    pub body_bytes_max: Option<u64>,
    /// The replay buffer of one request, kept for a second attempt.
    pub replay_bytes_max: usize,
    /// All replay buffers of the process together.
    pub replay_total_bytes_max: usize,
    /// Idle pooled upstream connections of one shard.
    pub idle_upstream_max: usize,
    /// Upstream connections that a shard in use keeps ready, at most [`WARM_CONNECTIONS_MAX`]; 0: none.
    pub warm_connections: usize,
    /// Upstream connections of one shard that are being opened; at least 1.
    pub pending_connects_max: usize,
    /// Open downstream connections of the process.
    pub connections_max: usize,
}

impl Limits {
    /// The defaults for a process of `shards` that may open `descriptors_max` files.
    ///
    /// 40 % of them are for downstream connections, each of which may need an upstream one too. A tenth is for all
    /// pools together, since another shard cannot use the descriptor of an idle connection. The rest is for listeners
    /// and files.
    pub fn for_descriptors(descriptors_max: u64, shards: NonZeroUsize) -> Self {
        let count = |descriptors: u64| usize::try_from(descriptors).unwrap_or(usize::MAX);
        let connections_max = count(descriptors_max / 5 * 2).max(1);
        let idle_upstream_max = (count(descriptors_max / 10) / shards).clamp(1, IDLE_UPSTREAM_MAX);
        Limits {
            body_bytes_max: Some(256 * MEBIBYTE),
            replay_bytes_max: (16 * MEBIBYTE) as usize,
            replay_total_bytes_max: (128 * MEBIBYTE) as usize,
            idle_upstream_max,
            // An agent has one request at a time, and its turns are what people wait for.
            warm_connections: 1,
            pending_connects_max: PENDING_CONNECTS_MAX,
            connections_max,
        }
    }
}

impl Default for Limits {
    /// The defaults under the current soft `RLIMIT_NOFILE`; call [`super::raise_descriptor_limit`] first.
    fn default() -> Self {
        Limits::for_descriptors(descriptors_max(), default_shards())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_leave_the_descriptors_that_open_exchanges_need() {
        for (descriptors, shards) in [(1024, 1), (1024, 2), (1024, 16), (20_000, 2), (20_000, 64), (1 << 20, 128)] {
            let limits = Limits::for_descriptors(descriptors, NonZeroUsize::new(shards).unwrap());
            let of_exchanges = 2 * limits.connections_max;
            let of_pools = shards * limits.idle_upstream_max;
            let taken = of_exchanges + of_pools;
            assert!(taken as u64 <= descriptors / 10 * 9 + 1, "{descriptors}, {shards} shards: {taken}");
            assert!((1..=256).contains(&limits.idle_upstream_max), "{descriptors}, {shards} shards");
        }
    }

    #[test]
    fn pools_are_not_smaller_than_they_must_be() {
        let limits = Limits::for_descriptors(20_000, NonZeroUsize::new(2).unwrap());
        assert_eq!(limits.idle_upstream_max, 256);
    }
}
