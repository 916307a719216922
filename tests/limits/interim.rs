//! Interim (1xx) answers of the upstream: as many as servers send pass, and a flood of them is a 502, whether they are
//! passed on or swallowed.

use crate::support::{
    Client, GET, Gateway, GatewayBuilder, OK, POST, Peer, Response, Upstream, answer, secrets_json, shown,
};

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";

/// More than 16 of these take less than 64 KiB, more than two of those take more.
const LONG_BYTES: usize = 30 * 1024;

fn builder(upstream: &Upstream) -> GatewayBuilder {
    Gateway::builder().upstream(upstream).shards(1).patient()
}

fn long(status: &str) -> String {
    let start = format!("HTTP/1.1 {status}\r\nX-A: ");
    let value = "x".repeat(LONG_BYTES - start.len() - 4);
    format!("{start}{value}\r\n\r\n")
}

fn expect_502(response: &Response, what: &str) {
    assert_eq!((response.status, response.error_code()), (502, Some("upstream_malformed")), "{what}: {response:?}");
}

#[test]
fn sixteen_pass_and_one_more_is_a_502() {
    for driver in ["auto", "epoll"] {
        for (head, passed_on) in [(CONTINUE, false), (HINTS, true)] {
            for (count, is_whole) in [(16, true), (17, false), (400, false)] {
                let upstream = Upstream::plain(answer(format!("{}{OK}", head.repeat(count))));
                let gateway = builder(&upstream).arg("--io-driver", driver).start();
                let mut client = Client::connect(gateway.port());
                let response = client.ask(GET);
                if is_whole {
                    assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{response:?}");
                } else {
                    expect_502(&response, head);
                    upstream.wait_for_close(0);
                }
                assert_eq!(response.interim.len(), if passed_on { 16 } else { 0 }, "{count}: {response:?}");
                // The client's connection is none the worse for it.
                assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 200);
            }
        }
    }
}

#[test]
fn their_bytes_are_limited_too() {
    for status in ["100 Continue", "103 Early Hints"] {
        for (count, expected) in [(2, 200), (3, 502)] {
            let upstream = Upstream::plain(answer(format!("{}{OK}", long(status).repeat(count))));
            let gateway = builder(&upstream).start();
            assert_eq!(Client::connect(gateway.port()).ask(GET).status, expected, "{status} {count} times");
        }
    }
}

#[test]
fn a_flood_without_an_end_is_cut_off() {
    for driver in ["auto", "epoll"] {
        for head in [CONTINUE, HINTS] {
            let upstream = Upstream::plain(move |peer: &mut Peer| {
                if peer.read_request().is_some() {
                    let many = head.repeat(500);
                    while peer.write(&many) {}
                }
            });
            let gateway = builder(&upstream).arg("--io-driver", driver).start();
            expect_502(&Client::connect(gateway.port()).ask(POST), head);
            upstream.wait_for_close(0);
            assert_eq!(upstream.requests().len(), 1, "it is not asked again");
        }
    }
}

#[test]
fn a_client_of_http_1_0_gets_none_and_is_protected_all_the_same() {
    let upstream = Upstream::plain(answer(format!("{}{OK}", HINTS.repeat(17))));
    let gateway = builder(&upstream).start();
    let response = Client::connect(gateway.port()).ask("GET /v1/x HTTP/1.0\r\n\r\n");
    expect_502(&response, "HTTP/1.0");
    assert!(response.interim.is_empty(), "{response:?}");
}

#[test]
fn those_of_all_attempts_count_together() {
    let unavailable = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nlate";
    for (count, expected) in [(8, 200), (9, 503)] {
        let upstream = Upstream::plain(move |peer: &mut Peer| {
            while let Some(request) = peer.read_request() {
                let is_first = request.credential() == "alpha";
                peer.write(format!("{}{}", HINTS.repeat(count), if is_first { unavailable } else { OK }));
            }
        });
        let gateway = builder(&upstream).secrets(secrets_json(&["alpha", "beta"])).start();
        let response = Client::connect(gateway.port()).ask(GET);
        // The answer that was there is better than an error of ours.
        assert_eq!(response.status, expected, "{response:?}");
        assert_eq!((response.interim.len(), upstream.requests().len()), (16, 2), "{count} each");
    }
}

#[test]
fn one_that_announces_a_body_is_a_502() {
    let hidden = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhidden";
    for status in ["100 Continue", "102 Processing", "103 Early Hints"] {
        let length = hidden.len();
        for framing in [
            format!("Content-Length: {length}\r\n\r\n{hidden}{OK}"),
            format!("content-length: 0\r\n\r\n{OK}"),
            format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{hidden}\r\n0\r\n\r\n{OK}"),
            format!("Link: </x>\r\nTransfer-Encoding: gzip\r\n\r\n{OK}"),
        ] {
            let upstream = Upstream::plain(answer(format!("HTTP/1.1 {status}\r\n{framing}")));
            let gateway = builder(&upstream).start();
            let response = Client::connect(gateway.port()).ask(GET);
            expect_502(&response, &format!("{status}, {}", shown(framing.as_bytes())));
            assert!(response.interim.is_empty(), "{response:?}");
            upstream.wait_for_close(0);
        }
    }
}
