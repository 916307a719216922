//! The addresses of the upstream's host, or of its proxy's, kept fresh on a thread of its own.
//!
//! `getaddrinfo` blocks, so no shard calls it. The thread resolves at start, every [`REFRESH_INTERVAL`], and when a
//! connect has failed; the last good answer stays in use when a later look-up fails. Shards read one atomic pointer.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};

/// Interval at which a good answer is refreshed. The system's resolver hides the record's TTL; this is what the public
/// load balancers in front of such hosts use.
pub const REFRESH_INTERVAL: Duration = Duration::from_secs(60);

/// Least time between two look-ups, however many connects fail.
const LOOKUP_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Limit on the addresses taken from one answer; a host with more does not need the rest.
pub(super) const ADDRESS_COUNT_MAX: usize = 16;

/// The current addresses of one host.
#[derive(Debug, Clone)]
pub struct Resolver {
    resolution: Arc<ArcSwap<Resolution>>,
    wake: SyncSender<()>,
}

/// The result of the look-ups of a host.
#[derive(Debug, Default)]
pub struct Resolution {
    /// The last good addresses, in the system's order (RFC 6724); empty before the first.
    pub addresses: Vec<SocketAddr>,
    /// Set when the last look-up failed.
    pub has_failed: bool,
}

impl Resolver {
    /// Starts the thread and its first look-up. The thread ends when the last clone of this resolver is dropped.
    ///
    /// # Errors
    /// When the thread cannot be started.
    #[expect(clippy::disallowed_methods, reason = "the resolver's own thread waits here")]
    pub fn start(host: String, port: u16) -> io::Result<Self> {
        let resolution = Arc::new(ArcSwap::default());
        let (wake, woken) = sync_channel(1);
        let resolver = Resolver { resolution: resolution.clone(), wake };
        thread::Builder::new().name("flow-resolver".into()).spawn(move || {
            loop {
                look_up(&host, port, &resolution);
                thread::sleep(LOOKUP_INTERVAL_MIN);
                match woken.recv_timeout(REFRESH_INTERVAL) {
                    Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(resolver)
    }

    /// Makes a resolver that knows `addresses` and never looks anything up.
    #[cfg(any(test, feature = "fuzz"))]
    pub fn fixed(addresses: Vec<SocketAddr>) -> Self {
        let (wake, _) = sync_channel(1);
        Resolver { resolution: Arc::new(ArcSwap::from_pointee(Resolution { addresses, has_failed: false })), wake }
    }

    /// Returns the present result. Costs no lock and no copy; not to be held across an await.
    pub fn resolution(&self) -> Guard<Arc<Resolution>> {
        self.resolution.load()
    }

    /// Asks for a look-up soon: the addresses in use do not work.
    pub fn refresh(&self) {
        match self.wake.try_send(()) {
            // Full: one is already asked for. Disconnected: the process is ending.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the resolver's own thread is where blocking look-ups belong")]
fn look_up(host: &str, port: u16, resolution: &ArcSwap<Resolution>) {
    let (addresses, failure) = match (host, port).to_socket_addrs() {
        Ok(found) => (found.take(ADDRESS_COUNT_MAX).collect::<Vec<_>>(), None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let last_good = resolution.load();
    if addresses.is_empty() {
        let failure = failure.unwrap_or_else(|| "the name has no address".into());
        if !last_good.has_failed {
            tracing::warn!(host, %failure, "cannot resolve the name of the host to connect to");
        }
        resolution.store(Arc::new(Resolution { addresses: last_good.addresses.clone(), has_failed: true }));
    } else if addresses != last_good.addresses || last_good.has_failed {
        tracing::debug!(host, count = addresses.len(), "resolved the name of the host to connect to");
        resolution.store(Arc::new(Resolution { addresses, has_failed: false }));
    }
}
