//! A restart without interruption: a new gateway takes the listening sockets of the running one, which then drains.
//! A failure before the new one serves leaves the old one as it was.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test waits and locks on threads of its own; no shard runs here"
)]

#[path = "../support/mod.rs"]
mod support;

mod connections;
mod owners;
mod stop_signals;
mod successors;
mod under_load;

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::{Client, GET, Gateway, GatewayBuilder, Upstream};
use tempfile::TempDir;

const HELLO: &[u8] = b"flow-to\x01";

/// The time that the running gateway gives a successor that has the sockets to say that it serves.
const STEP_LIMIT: Duration = Duration::from_secs(5);

/// A connection has a second for its first request when the gateway stops, and both clocks agree that this is less.
const SURELY_WITHIN_GRACE: Duration = Duration::from_millis(900);

/// The directory where a gateway and its successors meet.
struct Place {
    runtime: TempDir,
    upstream: Upstream,
}

impl Place {
    fn before(upstream: Upstream) -> Self {
        Place { runtime: tempfile::tempdir().expect("a temporary directory"), upstream }
    }

    fn builder(&self) -> GatewayBuilder {
        let directory = self.runtime.path().to_str().expect("a readable path");
        Gateway::builder().upstream(&self.upstream).env("XDG_RUNTIME_DIR", directory)
    }

    fn successor_of(&self, gateway: &Gateway) -> GatewayBuilder {
        self.builder().arg("--port", gateway.port().to_string()).switch("--take-over")
    }

    /// Starts one of the successors that `build` makes. On a machine that is too busy a start may take longer than the
    /// running gateway waits for it, or find that the port of one that ends is not free in time: then the next one is
    /// started. A start that fails earlier fails for another reason.
    fn start(&self, build: impl Fn() -> GatewayBuilder) -> Gateway {
        /// The second for which it waits for the port, and what a start takes at least on a machine that is busy.
        const PORT_LIMIT: Duration = Duration::from_millis(1500);
        for _ in 0..5 {
            let began = Instant::now();
            match build().try_start() {
                Ok(gateway) => return gateway,
                Err(failure) => {
                    let limit = if failure.contains("the port is in use") { PORT_LIMIT } else { STEP_LIMIT };
                    assert!(began.elapsed() >= limit, "{failure}");
                }
            }
        }
        panic!("no start was in time");
    }

    fn start_successor_of(&self, gateway: &Gateway) -> Gateway {
        self.start(|| self.successor_of(gateway))
    }

    fn socket(&self, gateway: &Gateway) -> PathBuf {
        self.runtime.path().join(format!("flow-uring-127.0.0.1-{}.sock", gateway.port()))
    }
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket())
}

fn answers(gateway: &Gateway) -> bool {
    // More than one, so that each shard has its turn most likely.
    (0..10).all(|_| Client::connect(gateway.port()).ask(GET).status == 200)
}
