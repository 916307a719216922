//! Sizes that are too much, or that two readers could see differently, in both directions: a chunk counts by its size
//! line, and nothing of one that is refused goes on.

use std::time::Duration;

use crate::support::{Client, Ended, Gate, Gateway, GatewayBuilder, Peer, Upstream, json, secrets_json, shown};

const DRIVERS: [&str; 2] = ["auto", "epoll"];

const HEAD: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A chunk's size line with the limit of 1 MiB, after 5 bytes, and the status that it gets.
const SIZES: [(&str, u16); 8] = [
    ("ffffc", 413),
    ("100001", 413),
    ("80000000", 413),
    ("0000000080000000;a=\"b\"", 413),
    ("fffffffffffffff", 413),
    ("7fffffffffffffff", 413),
    ("8000000000000000", 400),
    ("FFFFFFFFFFFFFFFF", 400),
];

fn builder(upstream: &Upstream) -> GatewayBuilder {
    Gateway::builder().upstream(upstream).shards(1).arg("--body-max", "1").patient()
}

/// An upstream that says when the first chunk is there, and then waits for the end.
fn waiting(arrived: &Gate) -> Upstream {
    let arrived = arrived.clone();
    Upstream::plain(move |peer: &mut Peer| {
        if peer.read_head().is_some() && peer.read_until("hello\r\n").is_some() {
            arrived.open();
            peer.read_to_end();
        }
    })
}

fn expect_refusal(client: &mut Client, status: u16, what: &str) {
    let response = client.read_response();
    let code = if status == 413 { "body_too_large" } else { "bad_request" };
    assert_eq!((response.status, response.error_code()), (status, Some(code)), "{what}");
    assert_eq!(client.expect_close(), Ended::Eof, "{what}");
}

#[test]
fn a_chunk_that_comes_with_its_head_is_refused_before_anything_goes_upstream() {
    let upstream = Upstream::plain(json(200, "{}"));
    for driver in DRIVERS {
        let gateway = builder(&upstream).arg("--io-driver", driver).start();
        for (size, status) in SIZES {
            let mut client = Client::connect(gateway.port());
            client.send(format!("{HEAD}5\r\nhello\r\n{size}\r\nabc"));
            expect_refusal(&mut client, status, size);
        }
    }
    assert_eq!((upstream.connections(), upstream.bytes_received()), (0, 0));
}

#[test]
fn a_later_chunk_is_refused_before_its_size_line_goes_upstream() {
    for driver in DRIVERS {
        for (size, status) in SIZES {
            let arrived = Gate::new();
            let upstream = waiting(&arrived);
            let gateway = builder(&upstream).arg("--io-driver", driver).start();
            let mut client = Client::connect(gateway.port());
            client.send(format!("{HEAD}5\r\nhello\r\n"));
            arrived.pass();
            let before = upstream.bytes_received();
            let (first, second) = size.split_at(size.len() / 2);
            client.send(first).send(format!("{second}\r\nabc"));
            expect_refusal(&mut client, status, size);
            upstream.wait_for_close(0);
            assert_eq!(upstream.bytes_received(), before, "{size}: not a byte more, nor the last chunk");
            assert_eq!(upstream.connections(), 1, "{size}: it is not tried again");
        }
    }
}

#[test]
fn a_body_of_exactly_the_limit_passes() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = builder(&upstream).start();
    let rest = "x".repeat(1024 * 1024 - 5);
    let request = format!("{HEAD}5\r\nhello\r\n{:x}\r\n{rest}\r\n0\r\n\r\n", rest.len());
    assert_eq!(Client::connect(gateway.port()).ask(request).status, 200);
    assert_eq!(upstream.request().body.len(), 1024 * 1024);
}

#[test]
fn without_a_limit_a_size_that_overflows_signed_numbers_is_refused_all_the_same() {
    let arrived = Gate::new();
    let upstream = waiting(&arrived);
    let gateway = Gateway::builder().upstream(&upstream).shards(1).arg("--body-max", "0").patient().start();
    for size in ["8000000000000000", "ffffffffffffffff"] {
        let mut client = Client::connect(gateway.port());
        client.send(format!("{HEAD}{size}\r\nabc"));
        expect_refusal(&mut client, 400, size);
    }
    for length in ["9223372036854775808", "18446744073709551615"] {
        let mut client = Client::connect(gateway.port());
        client.send(format!("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\nabc"));
        expect_refusal(&mut client, 400, length);
    }
    assert_eq!(upstream.bytes_received(), 0);
    let mut client = Client::connect(gateway.port());
    client.send(format!("{HEAD}5\r\nhello\r\n"));
    arrived.pass();
    let before = upstream.bytes_received();
    client.send("ffffffffffffffff\r\nabc");
    expect_refusal(&mut client, 400, "after a chunk");
    upstream.wait_for_close(0);
    assert_eq!(upstream.bytes_received(), before);
}

#[test]
fn a_body_that_is_held_for_the_filter_is_refused_by_a_size_line_too() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = builder(&upstream).arg("--filter", "anthropic-compat").start();
    let head = "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nanthropic-version: 1\r\nTransfer-Encoding: chunked\r\n\
                Expect: 100-continue\r\n\r\n";
    for (size, status) in SIZES {
        let mut client = Client::connect(gateway.port());
        client.send(head).read_until("100 Continue\r\n\r\n");
        client.send_slowly(format!("5\r\n{{\"a\":\r\n{size}\r\nabc"));
        expect_refusal(&mut client, status, size);
    }
    assert_eq!(upstream.bytes_received(), 0);
}

#[test]
fn a_body_that_is_searched_for_an_owner_is_refused_by_a_size_line_too() {
    let upstream = Upstream::plain(json(200, r#"{"object":"response","id":"resp_1"}"#));
    let gateway = builder(&upstream).secrets(secrets_json(&["alpha", "beta"])).start();
    let head = "POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let stored = Client::connect(gateway.port()).ask(format!("{head}Content-Length: 2\r\n\r\n{{}}"));
    assert_eq!(stored.status, 200);
    for (size, status) in SIZES {
        let before = upstream.bytes_received();
        let mut client = Client::connect(gateway.port());
        client.send(format!("{head}Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"));
        client.read_until("100 Continue\r\n\r\n");
        client.send(format!("5\r\n{{\"a\":\r\n{size}\r\nabc"));
        expect_refusal(&mut client, status, size);
        // It may have been sent on without its owner, where this machine was slow.
        let sent = upstream.bytes_received() - before;
        assert!(sent < 1000, "{size}: {sent} bytes went upstream");
        assert!(upstream.requests().iter().all(|request| !request.raw_body.ends_with(b"abc")), "{size}");
    }
}

#[test]
fn a_second_attempt_refuses_what_the_first_has_not_seen() {
    let (refused, arrived) = (Gate::new(), Gate::new());
    let (has_refused, has_arrived) = (refused.clone(), arrived.clone());
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        if peer.read_head().is_none() || peer.read_until("hello\r\n").is_none() {
            return;
        }
        if peer.number() == 0 {
            peer.write("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
            has_refused.open();
        } else {
            has_arrived.open();
        }
        peer.read_to_end();
    });
    let gateway = builder(&upstream).secrets(secrets_json(&["alpha", "beta"])).start();
    let mut client = Client::connect(gateway.port());
    client.send(format!("{HEAD}5\r\nhello\r\n"));
    refused.pass();
    arrived.pass();
    let before = upstream.bytes_received();
    client.send("100000\r\nabc");
    expect_refusal(&mut client, 413, "in the second attempt");
    upstream.wait_for_close(1);
    assert_eq!((upstream.bytes_received(), upstream.connections()), (before, 2));
}

#[test]
fn a_size_that_overflows_in_an_answer_is_not_passed_on_and_the_answer_is_not_whole() {
    for driver in DRIVERS {
        for size in ["8000000000000000", "ffffffffffffffff", "10000000000000000"] {
            let (received, passed) = (Gate::new(), Gate::new());
            let (has_received, has_passed) = (received.clone(), passed.clone());
            let upstream = Upstream::plain(move |peer: &mut Peer| {
                peer.read_request();
                peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
                has_received.pass();
                peer.write(format!("{size}\r\nok\r\n0\r\n\r\n"));
                has_passed.open();
                peer.wait_for_close();
            });
            let gateway = builder(&upstream).arg("--io-driver", driver).start();
            let mut client = Client::connect(gateway.port());
            client.send("GET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n");
            client.read_until("2\r\nok\r\n");
            received.open();
            passed.pass();
            let (rest, _) = client.read_to_end();
            assert_eq!(shown(&rest), "", "{size}: nothing comes after the whole chunk");
            upstream.wait_for_close(0);
        }
    }
}

#[test]
fn an_answer_that_begins_with_a_length_that_overflows_is_a_502() {
    for framing in ["Content-Length: 9223372036854775808\r\n\r\nok", "Content-Length: 18446744073709551615\r\n\r\nok"] {
        let upstream = Upstream::plain(move |peer: &mut Peer| {
            peer.read_request();
            peer.write(format!("HTTP/1.1 200 OK\r\n{framing}"));
            peer.wait_for_close();
        });
        let gateway = builder(&upstream).start();
        let response = Client::connect(gateway.port()).ask("GET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!((response.status, response.error_code()), (502, Some("upstream_malformed")), "{framing}");
        upstream.wait_for_close(0);
        assert!(upstream.is_left_alone_for(Duration::from_millis(1)));
    }
}
