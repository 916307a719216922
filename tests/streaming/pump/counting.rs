//! The count of pumped answers, on the page of metrics and at the end of the log: all that can be pumped, and no other.

use super::DRIVERS;
use crate::support::{Client, Gate, Gateway, POST, Peer, Totals, Upstream, check_at_once, wait_until};

const KNOWN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n";
const EVENTS_OF_KNOWN_LENGTH: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 18\r\n\r\ndata: 1\n\n";
const EVENTS: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";

/// Sends the first part, and the second once the client has that.
fn in_two_parts(first: &'static str, second: &'static str, gate: &Gate) -> impl Fn(&mut Peer) + Send + Sync + 'static {
    let gate = gate.clone();
    move |peer| {
        while peer.read_request().is_some() {
            peer.write(first);
            if !second.is_empty() {
                gate.pass();
                peer.write(second);
            }
        }
    }
}

/// Returns the count on the page of metrics.
fn counted(gateway: &Gateway) -> u64 {
    let page = gateway.metrics();
    let line = page.lines().find_map(|line| line.strip_prefix("flow_uring_streams_pumped_total "));
    line.unwrap_or_else(|| panic!("no such metric in {page}")).parse().expect("a count")
}

#[test]
fn what_can_be_pumped_is_and_nothing_else() {
    let whole = [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ];
    let cases = [
        // In one part, so that it is whole when the gateway looks at it.
        (whole[0], "", [0, 0, 0]),
        (whole[1], "", [0, 0, 0]),
        (EVENTS, "9\r\ndata: 2\n\n\r\n0\r\n\r\n", [1, 1, 0]),
        (CHUNKED, "0\r\n\r\n", [1, 1, 0]),
        (EVENTS_OF_KNOWN_LENGTH, "data: 2\n\n", [1, 1, 0]),
        (KNOWN, "ok", [0, 1, 0]),
    ];
    let runs = DRIVERS.into_iter().flat_map(|driver| cases.map(|case| (driver, case)));
    check_at_once(runs, |(driver, (first, second, expected))| {
        let gate = Gate::new();
        let upstream = Upstream::plain(in_two_parts(first, second, &gate));
        for (pump, expected) in ["auto", "always", "never"].into_iter().zip(expected) {
            let builder = Gateway::builder().shards(1).upstream(&upstream).patient();
            let builder = builder.arg("--admin", "127.0.0.1:0").arg("--io-driver", driver).arg("--pump", pump);
            let mut gateway = builder.start();
            let mut client = Client::connect(gateway.port());
            client.send(POST);
            let (_, body) = first.split_once("\r\n\r\n").expect("a head");
            let response = client.read_response_after(body.as_bytes(), || gate.open());
            assert!(response.is_whole, "{response:?}");
            gateway.wait_for_log("end=ok");
            wait_until("it is counted", || counted(&gateway) == expected);
            assert_eq!(Totals::at_the_end_of(&mut gateway).of("streams_pumped"), expected, "{pump} {first:?}");
        }
    });
}
