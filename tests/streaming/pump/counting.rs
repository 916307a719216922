//! The count of pumped answers, on the page of metrics and at the end of the log: all that can be pumped, and no other.

use std::time::Duration;

use super::DRIVERS;
use crate::support::{Client, EVENT, EVENT_STREAM, Gateway, POST, Peer, Totals, Upstream, check_at_once, wait_until};

const KNOWN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
const EVENTS_OF_KNOWN_LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 18\r\n\r\n";

/// A moment in which what was sent reaches the client.
const A_MOMENT: Duration = Duration::from_millis(30);

/// Sends each of these parts after a pause.
fn in_parts(parts: &'static [&'static str]) -> impl Fn(&mut Peer) + Send + Sync + 'static {
    move |peer| {
        while peer.read_request().is_some() {
            for part in parts {
                peer.write(part);
                peer.sleep(A_MOMENT);
            }
        }
    }
}

/// Returns the count on the page of metrics.
fn counted(gateway: &Gateway) -> u64 {
    let page = Client::connect(gateway.admin_port()).ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").text();
    let line = page.lines().find_map(|line| line.strip_prefix("flow_uring_streams_pumped_total "));
    line.unwrap_or_else(|| panic!("no such metric in {page}")).parse().expect("a count")
}

#[test]
fn what_can_be_pumped_is_and_nothing_else() {
    // What comes in one part is whole when the gateway looks at it; once, if the machine is not too busy each time.
    let cases: [(&[&str], [u64; 3]); 6] = [
        (&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"], [0, 0, 0]),
        (&["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"], [0, 0, 0]),
        (&[EVENT_STREAM, EVENT, "0\r\n\r\n"], [1, 1, 0]),
        (&[CHUNKED, "2\r\nok\r\n", "0\r\n\r\n"], [1, 1, 0]),
        (&[EVENTS_OF_KNOWN_LENGTH, "data: 1\n\n", "data: 2\n\n"], [1, 1, 0]),
        (&[KNOWN, "ok", "ok"], [0, 1, 0]),
    ];
    let runs = DRIVERS.into_iter().flat_map(|driver| cases.map(|case| (driver, case)));
    check_at_once(runs, |(driver, (parts, expected))| {
        let upstream = Upstream::plain(in_parts(parts));
        for (pump, expected) in ["auto", "always", "never"].into_iter().zip(expected) {
            let builder = Gateway::builder().shards(1).upstream(&upstream).patient();
            let builder = builder.arg("--admin", "127.0.0.1:0").arg("--io-driver", driver).arg("--pump", pump);
            let mut gateway = builder.start();
            let response = Client::connect(gateway.port()).ask(POST);
            assert!(response.is_whole, "{response:?}");
            gateway.wait_for_log("end=ok");
            wait_until("it is counted", || counted(&gateway) == expected);
            assert_eq!(Totals::at_the_end_of(&mut gateway).of("streams_pumped"), expected, "{pump} {parts:?}");
        }
    });
}
