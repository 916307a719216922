//! Clients that speak HTTP/2 without asking: they are told in their own protocol to use HTTP/1.1, and the log says so.

use crate::support::{Client, Ended, GET, Gateway, GatewayBuilder, Upstream, json, lines_saying, shown, value_of};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frames that a client sends after its preface: `SETTINGS`, and `HEADERS` of `GET /` that end the stream.
const FRAMES: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x03\x01\x05\0\0\0\x01\x82\x84\x86";

/// Checks that the connection ends, without a reset, with an empty `SETTINGS` and a `GOAWAY` that asks for HTTP/1.1.
fn expect_go_away(client: &mut Client) {
    let (bytes, ended) = client.read_to_end();
    assert_eq!(ended, Ended::Eof, "{}", shown(&bytes));
    let (settings, go_away) = bytes.split_at_checked(9).unwrap_or_else(|| panic!("{}", shown(&bytes)));
    assert_eq!(settings, b"\0\0\0\x04\0\0\0\0\0", "not an empty SETTINGS frame");
    let [0, high, low, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xd, message @ ..] = go_away else {
        panic!("not a GOAWAY of stream 0 with HTTP_1_1_REQUIRED: {}", shown(go_away));
    };
    assert_eq!(usize::from(*high) * 256 + usize::from(*low), 8 + message.len(), "another length");
    let message = std::str::from_utf8(message).expect("text");
    assert!(message.contains("use HTTP/1.1"), "{message}");
}

fn builder(upstream: &Upstream) -> GatewayBuilder {
    Gateway::builder().upstream(upstream).shards(1)
}

#[test]
fn a_preface_is_answered_by_a_go_away_however_it_comes() {
    let upstream = Upstream::plain(json(200, "{}"));
    for driver in ["auto", "epoll"] {
        let gateway = builder(&upstream).arg("--io-driver", driver).start();
        let mut whole = Client::connect(gateway.port());
        whole.send([PREFACE, FRAMES].concat());
        expect_go_away(&mut whole);
        let mut alone = Client::connect(gateway.port());
        alone.send(PREFACE);
        expect_go_away(&mut alone);
        let mut slow = Client::connect(gateway.port());
        // The last six bytes may come after the answer.
        slow.send_slowly(&PREFACE[..18]);
        let _ = slow.try_send(&PREFACE[18..]);
        expect_go_away(&mut slow);
        for at in 1..PREFACE.len() {
            let mut client = Client::connect(gateway.port());
            client.send(&PREFACE[..at]);
            let _ = client.try_send([&PREFACE[at..], FRAMES].concat());
            expect_go_away(&mut client);
        }
    }
    assert_eq!(upstream.requests().len(), 0);
}

#[test]
fn a_client_that_goes_on_sending_is_not_reset() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = builder(&upstream).start();
    let mut client = Client::connect(gateway.port());
    client.send([PREFACE, FRAMES].concat());
    let data = [&b"\0\x40\0\0\0\0\0\0\x01"[..], &[b'x'; 16 * 1024]].concat();
    for _ in 0..64 {
        client.send(&data);
    }
    expect_go_away(&mut client);
}

#[test]
fn a_preface_after_other_requests_is_answered_after_them() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = builder(&upstream).start();
    let mut client = Client::connect(gateway.port());
    assert_eq!(client.ask(GET).status, 200);
    client.send([GET.as_bytes(), PREFACE].concat());
    assert_eq!(client.read_response().status, 200);
    expect_go_away(&mut client);
    let mut kept = Client::connect(gateway.port());
    assert_eq!(kept.ask(GET).status, 200);
    kept.send(PREFACE);
    expect_go_away(&mut kept);
    assert_eq!(upstream.requests().len(), 3);
}

#[test]
fn the_log_and_the_metrics_name_it_by_its_code() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = builder(&upstream).arg("--admin", "127.0.0.1:0").start();
    let mut client = Client::connect(gateway.port());
    client.send([PREFACE, FRAMES].concat());
    expect_go_away(&mut client);
    let line = gateway.wait_for_log(" exchange ");
    assert_eq!(value_of(&line, "code"), Some("http2_not_supported"), "{line}");
    assert_eq!((value_of(&line, "end"), value_of(&line, "attempts")), (Some("refused"), Some("0")), "{line}");
    let page = gateway.metrics();
    assert!(page.contains("flow_uring_errors_total{code=\"http2_not_supported\"} 1\n"), "{page}");
}

#[test]
fn every_answer_made_here_has_its_code_in_the_log_and_no_other_has_one() {
    let upstream = Upstream::plain(json(404, "{}"));
    let gateway = builder(&upstream).start();
    assert_eq!(Client::connect(gateway.port()).ask("GET /.. HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 400);
    let line = gateway.wait_for_log("status=400");
    assert_eq!(value_of(&line, "code"), Some("bad_path"), "{line}");
    assert_eq!(Client::connect(gateway.port()).ask(GET).status, 404);
    let line = gateway.wait_for_log("status=404");
    assert_eq!(value_of(&line, "code"), None, "{line}");
    assert_eq!(lines_saying(&gateway.log(), "exchange").len(), 2);
}
