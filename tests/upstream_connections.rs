//! Which connection a request goes out on, when it is sent a second time, and what the client hears when there is none.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

mod support;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::{Client, Gateway, Peer, Upstream, answer};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET: &str = "GET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// How an upstream gives up a kept-alive connection under the second request.
type GiveUp = fn(&mut Peer);

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Serves one request a connection, reads the next and gives up; a fresh connection is served again.
fn stale(give_up: GiveUp) -> impl Fn(&mut Peer) + Send + Sync + 'static {
    move |peer| {
        peer.read_request();
        peer.write(OK);
        if peer.read_request().is_some() {
            give_up(peer);
        }
    }
}

#[test]
fn a_connection_is_used_again() {
    for upstream in [Upstream::plain(answer(OK)), Upstream::tls(answer(OK))] {
        let gateway = Gateway::builder().shards(1).upstream(&upstream).start();
        let mut first = Client::connect(gateway.port());
        let mut second = Client::connect(gateway.port());
        for _ in 0..5 {
            assert_eq!(first.ask(GET).text(), "ok");
            assert_eq!(second.ask(GET).text(), "ok");
        }
        assert_eq!(upstream.connections(), 1);
    }
}

#[test]
fn a_request_on_a_stale_connection_is_sent_again_on_a_fresh_one() {
    let ways: [(&str, GiveUp); 3] = [("close", Peer::close), ("abrupt", Peer::close_abruptly), ("reset", Peer::reset)];
    for (way, give_up) in ways {
        for upstream in [Upstream::plain(stale(give_up)), Upstream::tls(stale(give_up))] {
            let gateway = Gateway::builder().shards(1).upstream(&upstream).start();
            let mut client = Client::connect(gateway.port());
            assert_eq!(client.ask(GET).status, 200);
            let body = "x".repeat(100_000);
            let answer = client.ask(post("/v1/chat/completions", &body));
            assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{way}");
            let requests = upstream.wait_for_requests(3);
            assert_eq!(upstream.connections(), 2, "{way}");
            for request in &requests[1..] {
                assert_eq!(request.line(), "POST /flow-llm-proxy/v1/chat/completions HTTP/1.1", "{way}");
                assert_eq!(request.body.len(), body.len(), "{way}");
            }
            assert_eq!(requests[1].authorization(), requests[2].authorization(), "{way}: the same credential");
        }
    }
}

#[test]
fn only_a_request_that_may_reach_the_upstream_twice_goes_out_where_it_may_have_to() {
    let upstream = Upstream::plain(stale(Peer::reset));
    let gateway = Gateway::builder().shards(1).upstream(&upstream).start();
    for (request, times_sent) in [
        (post("/v1/messages", "{}"), 2),
        (post("/v1/batches", "{}"), 1),
        ("DELETE /v1/files/1 HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), 2),
        ("PATCH /v1/files/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".into(), 1),
    ] {
        // The pooled connection fails under its next request.
        assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
        let sent_before = upstream.requests().len();
        assert_eq!(Client::connect(gateway.port()).ask(&request).status, 200, "{request}");
        assert_eq!(upstream.requests().len() - sent_before, times_sent, "{request}");
    }
}

#[test]
fn a_fresh_connection_that_fails_is_tried_twice_more() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        peer.read_request();
        peer.reset();
    });
    let gateway = Gateway::before(&upstream);
    let answer = Client::connect(gateway.port()).ask(GET);
    assert_eq!((answer.status, answer.error_code()), (502, Some("upstream_closed")));
    assert_eq!(upstream.requests().len(), 3);
}

#[test]
fn a_request_that_is_too_large_to_be_kept_goes_out_where_it_need_not_be_sent_twice() {
    const MIB: usize = 1024 * 1024;
    let upstream = Upstream::plain(stale(Peer::reset));
    let gateway = Gateway::builder().shards(1).upstream(&upstream).arg("--replay-max", "1").start();
    for (length, times_sent) in [(MIB + 1, 1), (MIB, 2)] {
        // The pooled connection fails under its next request.
        assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
        let sent_before = upstream.requests().len();
        let answer = Client::connect(gateway.port()).ask(post("/v1/messages", &"x".repeat(length)));
        assert_eq!(answer.status, 200, "{length} bytes");
        assert_eq!(upstream.requests().len() - sent_before, times_sent, "{length} bytes");
    }
}

#[test]
fn a_request_of_unknown_length_that_outgrows_its_copy_on_a_stale_connection_is_a_502() {
    let upstream = Upstream::plain(stale(Peer::reset));
    let gateway = Gateway::builder().shards(1).upstream(&upstream).arg("--replay-max", "1").start();
    assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
    let size = 1024 * 1024 + 1;
    let head = "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = Client::connect(gateway.port());
    client.send(format!("{head}{size:x}\r\n{}\r\n", "x".repeat(size)));
    // Its head and most of its body are on their way before it is known to be too long.
    let _ = client.try_send("0\r\n\r\n");
    let answer = client.read_response();
    assert_eq!((answer.status, answer.error_code()), (502, Some("upstream_closed")));
}

#[test]
fn a_connection_on_which_something_came_unasked_is_not_used_again() {
    let upstream = Upstream::tls(|peer: &mut Peer| {
        while peer.read_request().is_some() {
            peer.write(OK);
            peer.sleep(Duration::from_millis(50));
            peer.write("HTTP/1.1 408 Request Timeout\r\nContent-Length: 3\r\n\r\nbad");
        }
    });
    let gateway = Gateway::builder().shards(1).upstream(&upstream).start();
    let mut client = Client::connect(gateway.port());
    for _ in 0..3 {
        assert_eq!(client.ask(GET).text(), "ok");
        std::thread::sleep(Duration::from_millis(150));
    }
    assert_eq!(upstream.connections(), 3);
}

#[test]
fn idle_connections_are_closed_when_they_are_old() {
    let upstream = Upstream::tls(answer(OK));
    let gateway = Gateway::builder().shards(1).upstream(&upstream).arg("--upstream-idle-timeout", "1").start();
    assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
    let answered = Instant::now();
    let closed = upstream.wait_for_close(0);
    let age = closed - answered;
    assert!((Duration::from_millis(900)..Duration::from_millis(1500)).contains(&age), "closed after {age:?}");
}

#[test]
fn a_connect_that_fails_is_answered_with_what_to_do() {
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let plain = Upstream::plain(|peer: &mut Peer| {
        peer.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    });
    for (upstream, status, code) in [
        (format!("http://{refusing}/base"), 502, "upstream_connect_failed"),
        ("https://nowhere.invalid/base".into(), 502, "upstream_resolve_failed"),
        (format!("https://{}", plain.authority()), 502, "upstream_tls_failed"),
    ] {
        let gateway = Gateway::builder().arg("--upstream", &upstream).start();
        let answer = Client::connect(gateway.port()).ask(GET);
        assert_eq!((answer.status, answer.error_code()), (status, Some(code)), "{upstream}");
    }
}

#[test]
fn a_certificate_that_is_not_trusted_is_refused_and_the_flag_is_named() {
    let upstream = Upstream::tls(answer(OK));
    let gateway = Gateway::builder().arg("--upstream", format!("https://{}/base", upstream.authority())).start();
    let answer = Client::connect(gateway.port()).ask(GET);
    assert_eq!((answer.status, answer.error_code()), (502, Some("upstream_certificate_refused")));
    assert!(answer.text().contains("--upstream-ca"), "{}", answer.text());
    assert!(upstream.requests().is_empty());
}

#[test]
fn an_upstream_that_says_nothing_is_given_up_in_time() {
    let heads = Arc::new(AtomicUsize::new(0));
    let seen = heads.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        peer.read_head();
        seen.fetch_add(1, Ordering::Relaxed);
        peer.wait_for_close();
    });
    let gateway = Gateway::builder().upstream(&upstream).arg("--client-timeout", "1").start();
    let asked = Instant::now();
    let answer = Client::connect(gateway.port()).ask(GET);
    let waited = asked.elapsed();
    assert_eq!((answer.status, answer.error_code()), (504, Some("upstream_timeout")));
    assert!((Duration::from_secs(1)..Duration::from_secs(2)).contains(&waited), "after {waited:?}");
    upstream.wait_for_close(0);
    assert_eq!(heads.load(Ordering::Relaxed), 1);
}

#[test]
fn an_upstream_that_accepts_and_shakes_no_hands_is_given_up_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = format!("https://{}", silent.local_addr().unwrap());
    let gateway = Gateway::builder().arg("--upstream", upstream).arg("--connect-timeout", "0.3").start();
    let answer = Client::connect(gateway.port()).ask(GET);
    assert_eq!((answer.status, answer.error_code()), (504, Some("upstream_connect_timeout")));
}
