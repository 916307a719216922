//! When the drain has taken too long, everything that is still open ends, whatever it waits for.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

mod support;

use std::time::{Duration, Instant};

use support::{Client, Gateway, Peer, Upstream};

/// The drain limit of the test, what the farewell may take, and what a busy machine may add.
const ENDS_WITHIN: Duration = Duration::from_millis(1000 + 2000 + 1000);

#[test]
fn a_client_that_takes_nothing_and_one_that_sends_half_a_head_do_not_hold_up_the_end() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        peer.read_request();
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        // More than all socket buffers between here and a client that does not read.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| while peer.write([b'x'; 65536]) {}));
    });
    let mut gateway = Gateway::builder().upstream(&upstream).arg("--drain-timeout", "1").start();
    let mut stalled = Client::connect_unrecorded(gateway.port());
    stalled.send("GET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n");
    upstream.wait_for_requests(1);
    let mut halfway = Client::connect(gateway.port());
    halfway.send("GET /v1/x HT");
    std::thread::sleep(Duration::from_millis(200));
    let asked = Instant::now();
    gateway.terminate();
    assert!(gateway.wait().success());
    assert!(asked.elapsed() < ENDS_WITHIN, "it took {:?}", asked.elapsed());
    gateway.wait_for_log("end=shutdown");
}
