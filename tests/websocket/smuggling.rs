//! Nothing is tunnelled that both sides have not agreed on.

use std::time::Duration;

use super::frame::asked;
use super::{ACCEPT, accept_of, echo_bytes, switched, switching, upgrade};
use crate::support::{Client, GET, Gateway, OK, POST, Upstream, answer};

/// Asks for an upgrade of an upstream that answers with these bytes, and sends a request in the tunnel that there may
/// not be. Returns status and code, and the bytes that the upstream got after its answer.
fn asked_of(bytes: &str) -> (u16, Option<String>) {
    let switched = bytes.to_owned();
    let upstream = Upstream::plain(move |peer| {
        if peer.read_head().is_some() {
            peer.write(&switched);
            assert!(peer.read_to_end().is_empty(), "something was tunnelled");
        }
    });
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    client.send([upgrade("/v1/x", "Sec-WebSocket-Protocol: a\r\n"), "not HTTP".to_owned()].concat());
    let response = client.read_response();
    let error = response.error_code().map(str::to_owned);
    drop(client);
    upstream.wait_for_close(0);
    (response.status, error)
}

#[test]
fn a_switch_that_is_not_the_one_that_was_asked_for_is_a_502() {
    let head = "HTTP/1.1 101 Switching Protocols\r\n";
    let both = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    let accept = format!("Sec-WebSocket-Accept: {ACCEPT}\r\n");
    let other = format!("Sec-WebSocket-Accept: {}\r\n", accept_of("AAAAAAAAAAAAAAAAAAAAAA=="));
    for (lines, code) in [
        (format!("Upgrade: h2c\r\nConnection: Upgrade\r\n{accept}"), "upstream_switched_protocols"),
        (format!("Connection: Upgrade\r\n{accept}"), "upstream_switched_protocols"),
        (format!("Upgrade: websocket\r\n{accept}"), "upstream_switched_protocols"),
        (both.to_owned(), "upstream_malformed"),
        (format!("{both}{other}"), "upstream_malformed"),
        (format!("{both}{accept}{accept}"), "upstream_malformed"),
        (format!("{both}{accept}Sec-WebSocket-Protocol: b\r\n"), "upstream_malformed"),
        (format!("{both}{accept}Sec-WebSocket-Extensions: permessage-deflate\r\n"), "upstream_malformed"),
        (format!("{both}{accept}Content-Length: 8\r\n"), "upstream_malformed"),
        (format!("{both}{accept}Transfer-Encoding: chunked\r\n"), "upstream_malformed"),
    ] {
        assert_eq!(asked_of(&format!("{head}{lines}\r\nbytes")), (502, Some(code.to_owned())), "{lines}");
    }
}

#[test]
fn a_switch_that_nobody_asked_for_is_a_502() {
    for request in [GET, POST] {
        let switch = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {ACCEPT}\r\n\r\nbytes"
        );
        let upstream = Upstream::plain(answer(switch));
        let gateway = Gateway::before(&upstream);
        let response = Client::connect(gateway.port()).ask(request);
        assert_eq!((response.status, response.error_code()), (502, Some("upstream_switched_protocols")));
    }
}

#[test]
fn a_success_opens_no_tunnel_and_what_follows_is_a_request() {
    let upstream = Upstream::plain(|peer| {
        while let Some(request) = peer.read_request() {
            let body = request.head.start_line;
            peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        }
    });
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    client.send([&upgrade("/v1/x", ""), GET].concat());
    assert!(client.read_response().text().starts_with("GET /flow-llm-proxy/v1/x "));
    let next = client.read_response();
    assert_eq!((next.status, next.text().as_str()), (200, "GET /flow-llm-proxy/v1/models HTTP/1.1"));
    let tokens = upstream.requests().iter().filter(|request| request.head.field("authorization").is_some()).count();
    assert_eq!(tokens, 2, "each is a request of its own");
}

#[test]
fn a_request_behind_an_upgrade_goes_through_the_tunnel_and_nowhere_else() {
    let upstream = Upstream::plain(switched(echo_bytes));
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    let second = upgrade("/v1/other", "");
    client.send([upgrade("/v1/x", ""), second.clone()].concat());
    assert_eq!(client.read_response().status, 101);
    assert_eq!(client.read_until(&second), second.as_bytes(), "it comes back as it was sent, without a token");
    client.half_close();
    client.expect_close();
    assert_eq!((upstream.requests().len(), upstream.connections()), (1, 1));
}

#[test]
fn nothing_of_a_client_goes_upstream_before_the_switch() {
    let upstream = Upstream::plain(|peer| {
        if let Some(head) = peer.read_head() {
            peer.sleep(Duration::from_millis(100));
            peer.write("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
            drop(head);
            assert!(peer.read_to_end().is_empty(), "early bytes went on");
        }
    });
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    client.send([upgrade("/v1/x", "").into_bytes(), asked("early")].concat());
    assert_eq!(client.read_response().status, 403);
    // What follows is no request.
    assert_eq!(client.read_response().status, 400);
    upstream.wait_for_close(0);
}

#[test]
fn an_error_after_an_interim_switch_is_no_switch() {
    // A 103 is passed on and opens nothing; the 101 after it does.
    let upstream = Upstream::plain(|peer| {
        if let Some(head) = peer.read_head() {
            let switch = switching(&head, "");
            peer.write(format!("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n{switch}"));
            echo_bytes(peer);
        }
    });
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    let response = client.ask(upgrade("/v1/x", ""));
    assert_eq!((response.status, response.interim.len()), (101, 1));
    client.send("x");
    assert_eq!(client.read_up_to(1), b"x");
    drop(client);
    let plain = Upstream::plain(answer(OK));
    assert_eq!(Client::connect(Gateway::before(&plain).port()).ask(GET).status, 200);
}
