//! The drain limit: everything that is still open ends, whatever it waits for.

use crate::support::{Client, Gateway, Peer, Upstream};

/// The drain limit is a second, and everything else has minutes: only the drain can be what ends it. The program waits
/// five seconds more for what does not end by then, and says so.
#[test]
fn a_client_that_takes_nothing_and_one_that_sends_half_a_head_do_not_hold_up_the_end() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        peer.read_request();
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        // More than all socket buffers between here and a client that does not read.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| while peer.write([b'x'; 65536]) {}));
    });
    let builder = || Gateway::builder().upstream(&upstream).arg("--drain-timeout", "1").arg("--head-timeout", "600");
    let end = || {
        let mut gateway = builder().start();
        let mut stalled = Client::connect_unrecorded(gateway.port());
        stalled.send("GET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stalled.read_head();
        let mut halfway = Client::connect(gateway.port());
        halfway.send("GET /v1/x HT");
        gateway.terminate();
        assert!(gateway.wait().success());
        gateway.wait_for_log("end=shutdown");
        gateway.count_log("some exchanges did not end")
    };
    // On a machine that is too busy it may really take longer, but not each time.
    assert!((0..5).any(|_| end() == 0), "exchanges are cut off that should end by themselves");
}
