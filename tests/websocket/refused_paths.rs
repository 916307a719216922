//! An upstream without WebSocket is asked once for a path, and then left alone for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{counting, echo_bytes, open, sample, switching, upgrade};
use crate::support::{Client, Upstream, json};

#[test]
fn a_path_without_websocket_is_remembered_whatever_its_query() {
    for status in [404, 405, 426, 501] {
        let upstream = Upstream::plain(json(status, "{}"));
        let gateway = counting(&upstream).shards(2).start();
        for path in ["/v1/responses?a=1", "/v1/responses", "/v1/responses?b", "/v1/responses"] {
            let response = Client::connect(gateway.port()).ask(upgrade(path, ""));
            assert_eq!((response.status, response.error_code()), (426, Some("websocket_not_supported")), "{status}");
        }
        assert_eq!(upstream.requests().len(), 1, "{status}");
        gateway.wait_for_log_count("the upstream has no WebSocket on this path", 1);
        assert_eq!(sample(&gateway, "flow_uring_websockets_refused_total"), 3.0);
        let response = Client::connect(gateway.port()).ask(upgrade("/v1/realtime", ""));
        assert_eq!((response.status, upstream.requests().len()), (426, 2), "another path is asked for");
    }
}

#[test]
fn the_connection_of_a_client_is_told_to_use_http() {
    let upstream = Upstream::plain(json(404, "{}"));
    let gateway = counting(&upstream).start();
    let response = Client::connect(gateway.port()).ask(upgrade("/v1/responses", ""));
    assert_eq!(response.field("upgrade"), Some("HTTP/1.1"));
    assert!(response.text().contains("plain HTTP"));
}

#[test]
fn a_path_that_has_switched_is_asked_again() {
    let switches = Arc::new(AtomicBool::new(true));
    let switching_now = Arc::clone(&switches);
    let upstream = Upstream::plain(move |peer| {
        if let Some(head) = peer.read_head() {
            if switching_now.load(Ordering::SeqCst) {
                peer.write(switching(&head, ""));
                return echo_bytes(peer);
            }
            peer.write("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let gateway = counting(&upstream).start();
    open(&mut Client::connect(gateway.port()), "/v1/realtime?model=a");
    switches.store(false, Ordering::SeqCst);
    for count in 2..4 {
        let response = Client::connect(gateway.port()).ask(upgrade("/v1/realtime?model=b", ""));
        assert_eq!((response.status, upstream.requests().len()), (426, count));
    }
    assert_eq!(sample(&gateway, "flow_uring_websockets_refused_total"), 0.0);
}
