//! The test kit: the gateway as the real binary in a process of its own, between a scripted upstream and a raw client
//! that live in the test's process on blocking threads.
//!
//! Everything listens on a port of its own, every wait has a deadline that fails with what was received, and all that
//! the gateway lets out (its log and every byte a client got) is searched for secrets when it ends.

#![allow(dead_code, unused_imports, reason = "every test file takes its own part of the kit")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "blocking threads on purpose: nothing here shares the gateway's runtime, or its mistakes"
)]

mod certificates;
mod client;
mod connect_proxy;
mod events;
mod gateway;
mod log_lines;
mod observed;
mod outages;
mod secrets;
mod upstream;
mod wire;

use std::thread;
use std::time::Duration;

pub use certificates::CERTIFICATES;
pub use client::{Client, Response};
pub use connect_proxy::{Conduct, ConnectProxy, TunnelRequest};
pub use events::{Event, is_error_event, parse_events};
pub use gateway::{Gateway, GatewayBuilder};
pub use log_lines::{Totals, lines_saying, value_of};
pub use observed::{observed_directory, scan_directory};
pub use outages::{BlackHole, HeldPort, RestartableUpstream};
pub use secrets::{Credential, SECRET_MARK, secrets_json};
pub use upstream::{Gate, Peer, Request, Upstream, answer, echo, json, sse};
pub use wire::{Ended, Head};

/// What no single step takes, even on a busy machine: a wait beyond it is a hang.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// The base path of every upstream of the kit.
pub const BASE_PATH: &str = "/flow-llm-proxy";

/// A test's place for bytes in a message: readable, and short enough to read.
pub fn shown(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 2000;
    let text = bytes[..bytes.len().min(SHOWN_BYTES_MAX)].escape_ascii().to_string().replace("\\r\\n", "\\r\\n\n");
    if bytes.len() > SHOWN_BYTES_MAX { format!("{text}… ({} bytes)", bytes.len()) } else { text }
}

/// Checks all cases at once, where most of their time is waiting.
pub fn check_at_once<C: Send>(cases: impl IntoIterator<Item = C>, check: impl Fn(C) + Sync) {
    thread::scope(|scope| {
        for case in cases {
            scope.spawn(|| check(case));
        }
    });
}
