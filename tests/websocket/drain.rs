//! The drain: sockets go on until its limit, and are then closed by a frame at a border.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::frame::{Frame, TEXT, text};
use super::{echo_bytes, open, switched};
use crate::support::{Client, Gate, Gateway, Upstream};

/// The Close frame that says that the service restarts.
const RESTART: [u8; 4] = [0x88, 2, 0x03, 0xF4];

fn draining(upstream: &Upstream, driver: &str, limit: &str) -> Gateway {
    Gateway::builder().upstream(upstream).arg("--io-driver", driver).arg("--drain-timeout", limit).start()
}

#[test]
fn a_socket_goes_on_in_a_drain_and_is_told_at_its_limit() {
    for driver in ["auto", "epoll"] {
        let upstream = Upstream::plain(switched(echo_bytes));
        let mut gateway = draining(&upstream, driver, "1");
        let mut client = Client::connect(gateway.port());
        open(&mut client, "/v1/x");
        gateway.terminate();
        gateway.wait_for_log("stopping");
        client.send(text("still here"));
        assert_eq!(client.read_until(text("still here")), text("still here"));
        assert_eq!(client.read_to_end().0, RESTART, "{driver}");
        drop(client);
        assert!(gateway.wait().success());
        assert!(gateway.wait_for_log("status=101").contains("end=shutdown"));
    }
}

#[test]
fn one_that_ends_before_the_limit_holds_nothing_up() {
    let upstream = Upstream::plain(switched(echo_bytes));
    let mut gateway = draining(&upstream, "auto", "60");
    let mut client = Client::connect(gateway.port());
    open(&mut client, "/v1/x");
    gateway.terminate();
    gateway.wait_for_log("stopping");
    client.half_close();
    client.expect_close();
    drop(client);
    assert!(gateway.wait().success());
}

#[test]
fn within_a_frame_its_end_is_waited_for() {
    for driver in ["auto", "epoll"] {
        let gate = Gate::new();
        let waits = gate.clone();
        let frame = Frame::new(TEXT, vec![b'x'; 1000]).plain();
        let sent = frame.clone();
        let is_first = AtomicBool::new(true);
        let upstream = Upstream::plain(switched(move |peer| {
            if !is_first.swap(false, Ordering::SeqCst) {
                return echo_bytes(peer);
            }
            peer.write(&sent[..500]);
            waits.pass();
            // The next frame begins in the same write, and is not begun downstream.
            peer.write([&sent[500..], &text("one more")[..3]].concat());
            peer.read_to_end();
        }));
        let builder = Gateway::builder().upstream(&upstream).arg("--io-driver", driver).arg("--drain-timeout", "1");
        let mut gateway = builder.shards(1).start();
        let (mut client, mut other) = (Client::connect(gateway.port()), Client::connect(gateway.port()));
        open(&mut client, "/v1/x");
        client.read_until(&frame[..500]);
        open(&mut other, "/v1/x");
        gateway.terminate();
        // It is at a border, so that it tells when the shard knows of the limit.
        assert_eq!(other.read_to_end().0, RESTART, "{driver}");
        gate.open();
        let (bytes, _) = client.read_to_end();
        assert_eq!(bytes, [&frame[500..], &RESTART].concat(), "{driver}");
        drop(client);
        assert!(gateway.wait().success());
    }
}

#[test]
fn where_no_border_comes_or_none_is_known_nothing_is_put_in() {
    for bytes in [&b"\x81\x7E\x03\xE8half"[..], b"\x83\x00no frame"] {
        let upstream = Upstream::plain(switched(move |peer| {
            peer.write(bytes);
            peer.read_to_end();
        }));
        let mut gateway = draining(&upstream, "auto", "1");
        let mut client = Client::connect(gateway.port());
        open(&mut client, "/v1/x");
        client.read_until(bytes);
        gateway.terminate();
        assert!(client.read_to_end().0.is_empty());
        drop(client);
        assert!(gateway.wait().success());
        assert!(gateway.wait_for_log("status=101").contains("end=shutdown"));
    }
}

#[test]
fn a_client_that_answers_the_close_sees_a_clean_end() {
    let upstream = Upstream::plain(switched(echo_bytes));
    let mut gateway = draining(&upstream, "auto", "1");
    let mut client = Client::connect(gateway.port());
    open(&mut client, "/v1/x");
    gateway.terminate();
    client.read_until(RESTART);
    thread::sleep(Duration::from_millis(50));
    client.send(Frame::new(8, [0x03, 0xF4]).masked());
    client.half_close();
    assert_eq!(client.expect_close(), crate::support::Ended::Eof);
    assert!(gateway.wait().success());
}
