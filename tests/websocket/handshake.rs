//! The upgrade on its way upstream, and the 101 on its way back.

use std::time::Duration;

use super::frame::{Frame, TEXT, asked, text};
use super::{ACCEPT, KEY, echo_bytes, open, switched, switching, upgrade};
use crate::support::{Client, GET, Gateway, OK, Upstream, answer, json};

#[test]
fn an_upgrade_goes_upstream_with_our_token_and_without_what_is_for_this_hop() {
    let upstream = Upstream::plain(switched(echo_bytes));
    let gateway = Gateway::before(&upstream);
    let lines = "Authorization: Bearer mine\r\nSec-WebSocket-Protocol: realtime, openai-insecure-api-key.sk-1, v1\r\n\
        Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nOpenAI-Beta: realtime=v1\r\n\
        Connection: X-Hop\r\nX-Hop: 1\r\nx-request-id: mine-1\r\n";
    let response = Client::connect(gateway.port()).ask(upgrade("/v1/realtime?model=m%2Fn", lines));
    assert_eq!(response.status, 101);
    let head = upstream.request().head;
    assert_eq!(head.start_line, "GET /flow-llm-proxy/v1/realtime?model=m%2Fn HTTP/1.1");
    let mut rest = head.lines_without(&["host", "authorization"]);
    rest.sort();
    assert_eq!(
        rest,
        [
            "Connection: Upgrade",
            "OpenAI-Beta: realtime=v1",
            &format!("Sec-WebSocket-Key: {KEY}"),
            "Sec-WebSocket-Protocol: realtime, v1",
            "Sec-WebSocket-Version: 13",
            "Upgrade: websocket",
            "x-request-id: mine-1",
        ]
    );
    assert_eq!(head.field("host"), Some(&*upstream.authority()));
    assert!(head.field("authorization").is_some_and(|value| value.starts_with("Bearer eyJ")));
}

#[test]
fn the_switch_goes_downstream_with_its_subprotocol_and_a_request_id() {
    let upstream = Upstream::plain(|peer| {
        if let Some(head) = peer.read_head() {
            let lines = "Sec-WebSocket-Protocol: realtime\r\nSet-Cookie: a=b\r\nX-Kept: 1\r\n";
            peer.write(switching(&head, lines));
            echo_bytes(peer);
        }
    });
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    let response = client.ask(upgrade("/v1/realtime", "Sec-WebSocket-Protocol: realtime\r\n"));
    let fields = ["connection", "upgrade", "sec-websocket-accept", "sec-websocket-protocol", "x-kept", "set-cookie"];
    let expected = [Some("Upgrade"), Some("websocket"), Some(ACCEPT), Some("realtime"), Some("1"), None];
    assert_eq!(fields.map(|name| response.field(name)), expected);
    assert!(response.field("x-request-id").is_some());
    client.send(asked("hello"));
    assert_eq!(client.read_until(asked("hello")), asked("hello"));
    client.half_close();
    client.expect_close();
    let line = gateway.wait_for_log("path=/v1/realtime status=101");
    for part in ["credential=\"alpha\"", "attempts=1", "bytes_in=11 bytes_out=11"] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn what_is_no_upgrade_is_refused_here() {
    let upstream = Upstream::plain(answer(OK));
    let gateway = Gateway::before(&upstream);
    let whole = upgrade("/v1/realtime", "");
    let without = |line: &str| whole.replace(line, "");
    let key = format!("Sec-WebSocket-Key: {KEY}\r\n");
    for (request, status, code) in [
        (without("Connection: Upgrade\r\n"), 400, "bad_request"),
        (without(&key), 400, "bad_request"),
        (without("Sec-WebSocket-Version: 13\r\n"), 400, "bad_request"),
        (whole.replace(KEY, "c2hvcnQ="), 400, "bad_request"),
        (whole.replace("GET", "POST"), 400, "bad_request"),
        (upgrade("/v1/realtime", "Content-Length: 5\r\n") + "hello", 400, "bad_request"),
        (upgrade("/v1/realtime", "Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", 400, "bad_request"),
        (whole.replace("Version: 13", "Version: 8"), 426, "websocket_version_not_supported"),
    ] {
        let response = Client::connect(gateway.port()).ask(&request);
        assert_eq!((response.status, response.error_code()), (status, Some(code)), "{request}");
        let version = (status == 426).then_some("13");
        assert_eq!(response.field("sec-websocket-version"), version);
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn one_in_http_1_0_is_an_ordinary_request() {
    let upstream = Upstream::plain(answer(OK));
    let gateway = Gateway::before(&upstream);
    let request = upgrade("/v1/realtime", "").replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(Client::connect(gateway.port()).ask(request).status, 200);
    assert_eq!(upstream.request().head.field("upgrade"), None);
}

#[test]
fn switched_off_every_upgrade_is_refused_at_once() {
    let upstream = Upstream::plain(answer(OK));
    let gateway = Gateway::builder().upstream(&upstream).arg("--websocket", "off").start();
    let response = Client::connect(gateway.port()).ask(upgrade("/v1/realtime", ""));
    assert_eq!((response.status, response.error_code()), (426, Some("websocket_not_supported")));
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_page_is_let_in_by_its_origin_alone() {
    let upstream = Upstream::plain(switched(echo_bytes));
    let gateway = Gateway::builder().upstream(&upstream).arg("--allow-origin", "https://app.test").start();
    for (origin, status) in [("https://app.test", 101), ("https://other.test", 403), ("null", 403)] {
        let response = Client::connect(gateway.port()).ask(upgrade("/v1/x", &format!("Origin: {origin}\r\n")));
        assert_eq!(response.status, status, "{origin}");
    }
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn an_answer_that_switches_nothing_is_an_ordinary_one() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    for _ in 0..2 {
        let response = client.ask(upgrade("/v1/x", ""));
        assert_eq!((response.status, response.text()), (200, "{}".to_owned()));
    }
    assert_eq!(client.ask(GET).status, 200, "the connection goes on");
    // A connection on which an upgrade was asked for is not used again.
    assert_eq!(upstream.connections(), 3);
}

#[test]
fn no_pooled_connection_is_used_and_none_goes_back() {
    let upstream = Upstream::plain(|peer| {
        while let Some(head) = peer.read_head() {
            if head.field("upgrade").is_some() {
                peer.write(switching(&head, ""));
                return echo_bytes(peer);
            }
            peer.write(OK);
        }
    });
    let gateway = Gateway::builder().shards(1).upstream(&upstream).start();
    let mut client = Client::connect(gateway.port());
    assert_eq!(client.ask(GET).status, 200);
    open(&mut client, "/v1/x");
    client.half_close();
    client.expect_close();
    assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
    assert_eq!(upstream.connections(), 2, "the pooled one for both requests, and a fresh one");
}

#[test]
fn what_comes_right_behind_either_head_goes_through() {
    let upstream = Upstream::plain(|peer| {
        if let Some(head) = peer.read_head() {
            // The client's early bytes may only come after this.
            peer.sleep(Duration::from_millis(50));
            let answer = [switching(&head, "").into_bytes(), text("welcome")].concat();
            peer.write(answer);
            assert_eq!(peer.read_until(asked("early")).as_deref(), Some(&*asked("early")));
            peer.write(Frame::close(1000, "").plain());
        }
    });
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    client.send([upgrade("/v1/x", "").into_bytes(), asked("early")].concat());
    assert_eq!(client.read_response().status, 101);
    assert_eq!(client.read_until(text("welcome")), Frame::new(TEXT, "welcome").plain());
    client.read_until(Frame::close(1000, "").plain());
}
