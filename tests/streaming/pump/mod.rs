//! Whether the pump relays an open answer or the task of its connection does: nobody can tell. The pump is set to take
//! all that it can (`always`), on both drivers.

mod cases;
mod connections;
mod counting;
mod limits;
mod many;
mod sameness;

use std::fs;
use std::sync::Arc;

use rustls::ClientConfig;
use tempfile::TempDir;

use crate::support::{CERTIFICATES, Gateway, GatewayBuilder, Upstream};

/// The driver that this machine has, and the other one.
const DRIVERS: [&str; 2] = ["auto", "epoll"];

/// Returns a gateway of one shard, whose pump relays all answers that go on.
fn pumping(driver: &str, upstream: &Upstream) -> GatewayBuilder {
    let builder = Gateway::builder().shards(1).upstream(upstream).patient();
    builder.arg("--pump", "always").arg("--io-driver", driver)
}

/// The files of a listener that speaks TLS.
struct ListenerFiles {
    directory: TempDir,
}

impl ListenerFiles {
    fn new() -> Self {
        let files = ListenerFiles { directory: TempDir::new().expect("a directory") };
        fs::write(files.path("cert.pem"), &CERTIFICATES.server_pem).expect("written");
        fs::write(files.path("key.pem"), &CERTIFICATES.server_key_pem).expect("written");
        files
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().expect("a readable path").to_owned()
    }

    fn named_for(&self, builder: GatewayBuilder) -> GatewayBuilder {
        builder.arg("--tls-cert", self.path("cert.pem")).arg("--tls-key", self.path("key.pem"))
    }
}

/// The settings of a client that speaks TLS.
fn client_tls() -> Arc<ClientConfig> {
    Arc::clone(&CERTIFICATES.client)
}
