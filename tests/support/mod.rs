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
mod in_process;
mod log_lines;
mod messages;
mod observed;
mod outages;
mod process;
mod secrets;
mod skip;
mod sockets;
mod upstream;
mod wire;

use std::thread;
use std::time::{Duration, Instant};

pub use certificates::CERTIFICATES;
pub use client::{Client, Response};
pub use connect_proxy::{Conduct, ConnectProxy, TunnelRequest};
pub use events::{Event, is_error_event, parse_events};
pub use gateway::{Gateway, GatewayBuilder};
pub use in_process::InProcess;
pub use log_lines::{Totals, lines_saying, value_of};
pub use messages::{EVENT, EVENT_STREAM, GET, LIVENESS, OK, POST, chunk};
pub use observed::{observed_directory, scan_directory};
pub use outages::{BlackHole, HeldPort, RestartableUpstream};
pub use process::{Running, command, output_of};
pub use secrets::{Credential, SECRET_MARK, secrets_json, traces_of};
pub use skip::{skip, skip_but_not_on_ci};
pub use sockets::{TcpSocket, is_all_read_at, unread_from};
pub use upstream::{Gate, Peer, Request, Upstream, answer, echo, json, sse};
pub use wire::{Ended, Head};

/// The longest that any single step takes, even on a busy machine: a wait beyond it is a hang.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The base path of every upstream of the kit.
pub const BASE_PATH: &str = "/flow-llm-proxy";

/// Formats bytes for the message of a failed test: readable, and short enough to read.
pub fn shown(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 2000;
    let text = bytes[..bytes.len().min(SHOWN_BYTES_MAX)].escape_ascii().to_string().replace("\\r\\n", "\\r\\n\n");
    if bytes.len() > SHOWN_BYTES_MAX { format!("{text}… ({} bytes)", bytes.len()) } else { text }
}

/// Polls `is_so` until it returns true; fails after [`DEADLINE`].
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < until, "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Repeats a round in which the test itself must be faster than a limit of the program that cannot be set, until it
/// was: `is_undisturbed_round` checks what it has to, and returns false where the test's own clock says that it was
/// late.
pub fn repeat_until_undisturbed(mut is_undisturbed_round: impl FnMut() -> bool) {
    const ROUNDS_MAX: usize = 30;
    let is_checked = (0..ROUNDS_MAX).any(|_| is_undisturbed_round());
    assert!(is_checked, "nothing was checked: by its own clock the test was too late in all of {ROUNDS_MAX} rounds");
}

/// Checks all cases at once, for cases that mostly wait.
pub fn check_at_once<C: Send>(cases: impl IntoIterator<Item = C>, check: impl Fn(C) + Sync) {
    thread::scope(|scope| {
        for case in cases {
            scope.spawn(|| check(case));
        }
    });
}
