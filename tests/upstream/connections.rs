//! Connections to the upstream: the one that a request goes out on, when it is sent a second time, and the answer where
//! there is none.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{
    Client, DEADLINE, Gate, Gateway, HeldPort, OK, Peer, Upstream, answer, repeat_until_undisturbed, unread_from,
};

const GET: &str = "GET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A way in which an upstream gives up a kept-alive connection under the second request.
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
        let gateway = Gateway::builder().shards(1).upstream(&upstream).patient().start();
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
            let gateway = Gateway::builder().shards(1).upstream(&upstream).patient().start();
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

/// Checks that a request that finds a connection in the pool which fails under it was sent this often. Returns false
/// where it was not and the test was late: a request that fails on a kept connection after `failover::STALE_LIMIT` may
/// go out on the next one of the pool, as after any failure.
fn is_sent(gateway: &Gateway, upstream: &Upstream, request: &str, times: usize) -> bool {
    const STALE_LIMIT: Duration = Duration::from_secs(2);
    let began = Instant::now();
    assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
    let before = upstream.requests().len();
    let status = Client::connect(gateway.port()).ask(request).status;
    let sent = upstream.requests().len() - before;
    let (is_so, is_late) = ((status, sent) == (200, times), began.elapsed() >= STALE_LIMIT);
    let line = request.lines().next().expect("a request line");
    assert!(is_so || is_late, "{status}, sent {sent} times and not {times}: {line}, {} bytes", request.len());
    is_so
}

#[test]
fn only_a_request_that_may_reach_the_upstream_twice_goes_out_where_it_may_have_to() {
    repeat_until_undisturbed(|| {
        let upstream = Upstream::plain(stale(Peer::reset));
        let gateway = Gateway::builder().shards(1).upstream(&upstream).patient().start();
        let requests = [
            (post("/v1/messages", "{}"), 2),
            (post("/v1/batches", "{}"), 1),
            ("DELETE /v1/files/1 HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), 2),
            ("PATCH /v1/files/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".into(), 1),
        ];
        requests.iter().all(|(request, times)| is_sent(&gateway, &upstream, request, *times))
    });
}

#[test]
fn a_fresh_connection_that_fails_is_tried_twice_more() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        peer.read_request();
        peer.reset();
    });
    let gateway = Gateway::builder().upstream(&upstream).patient().start();
    let answer = Client::connect(gateway.port()).ask(GET);
    assert_eq!((answer.status, answer.error_code()), (502, Some("upstream_closed")));
    assert_eq!(upstream.requests().len(), 3);
}

#[test]
fn a_request_that_is_too_large_to_be_kept_goes_out_where_it_need_not_be_sent_twice() {
    const MIB: usize = 1024 * 1024;
    repeat_until_undisturbed(|| {
        let upstream = Upstream::plain(stale(Peer::reset));
        let gateway = Gateway::builder().shards(1).upstream(&upstream).patient().arg("--replay-max", "1").start();
        let lengths = [(MIB + 1, 1), (MIB, 2)];
        let request = |length| post("/v1/messages", &"x".repeat(length));
        lengths.into_iter().all(|(length, times)| is_sent(&gateway, &upstream, &request(length), times))
    });
}

#[test]
fn a_request_of_unknown_length_that_outgrows_its_copy_on_a_stale_connection_is_a_502() {
    let upstream = Upstream::plain(stale(Peer::reset));
    let gateway = Gateway::builder().shards(1).upstream(&upstream).patient().arg("--replay-max", "1").start();
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
    let is_answered = Gate::new();
    let passing = is_answered.clone();
    let upstream = Upstream::tls(move |peer: &mut Peer| {
        while peer.read_request().is_some() {
            peer.write(OK);
            passing.pass();
            peer.write("HTTP/1.1 408 Request Timeout\r\nContent-Length: 3\r\n\r\nbad");
        }
    });
    let gateway = Gateway::builder().shards(1).upstream(&upstream).patient().start();
    let mut client = Client::connect(gateway.port());
    for _ in 0..3 {
        assert_eq!(client.ask(GET).text(), "ok");
        is_answered.open();
        let until = Instant::now() + DEADLINE;
        while unread_from(upstream.port()) == 0 {
            assert!(Instant::now() < until, "nothing comes unasked");
            std::thread::sleep(Duration::from_millis(1));
        }
        // A connection that was idle for less than this is not checked (`SHORT_REST`).
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(upstream.connections(), 3);
}

#[test]
fn idle_connections_are_closed_when_they_are_old() {
    const AGE: Duration = Duration::from_secs(1);
    let (upstream, other_upstream) = (Upstream::tls(answer(OK)), Upstream::tls(answer(OK)));
    let before = |upstream| Gateway::builder().shards(1).upstream(upstream).patient();
    // Its limit is too long to be met here.
    let other = before(&other_upstream).start();
    assert_eq!(Client::connect(other.port()).ask(GET).status, 200);
    let gateway = before(&upstream).arg("--upstream-idle-timeout", AGE.as_secs().to_string()).start();
    assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
    // It is idle from some time after the request had come.
    let age = upstream.wait_for_close(0) - upstream.request().at;
    assert!(age >= AGE, "closed after {age:?}");
    assert_eq!(other_upstream.closes(), 0, "it was not by this limit that it was closed");
}

fn answer_with(field: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{field}Content-Length: 2\r\n\r\nok")
}

#[test]
fn an_upstream_shortens_the_rest_of_its_connection() {
    let short = Upstream::tls(answer(answer_with("Keep-Alive: timeout=2, max=100\r\n")));
    let [none_said, unreadable] =
        ["", "Keep-Alive: timeout=-2\r\n"].map(|field| Upstream::tls(answer(answer_with(field))));
    let before = |upstream| Gateway::builder().shards(1).upstream(upstream).patient().start();
    let others = [before(&none_said), before(&unreadable)];
    let gateway = before(&short);
    for gateway in others.iter().chain([&gateway]) {
        assert_eq!(Client::connect(gateway.port()).ask(GET).text(), "ok");
    }
    let age = short.wait_for_close(0) - short.request().at;
    assert!(age >= Duration::from_secs(1), "closed after {age:?}");
    assert_eq!((none_said.closes(), unreadable.closes()), (0, 0), "it was not by this limit that it was closed");
}

#[test]
fn an_upstream_lengthens_the_rest_of_its_connection() {
    for (field, connections) in [("Keep-Alive: timeout=100\r\n", 1), ("Keep-Alive: timeout=x\r\n", 2)] {
        let upstream = Upstream::tls(answer(answer_with(field)));
        let gateway = Gateway::builder().shards(1).upstream(&upstream).patient();
        let gateway = gateway.arg("--upstream-idle-timeout", "0.2").start();
        for _ in 0..2 {
            assert_eq!(Client::connect(gateway.port()).ask(GET).text(), "ok");
            std::thread::sleep(Duration::from_millis(500));
        }
        assert_eq!(upstream.connections(), connections, "{field}");
    }
}

#[test]
fn a_connection_that_may_not_rest_for_more_than_a_second_is_not_used_again() {
    for seconds in [0, 1] {
        let upstream = Upstream::tls(answer(answer_with(&format!("Keep-Alive: timeout={seconds}\r\n"))));
        let gateway = Gateway::builder().shards(1).upstream(&upstream).patient().start();
        let mut client = Client::connect(gateway.port());
        for _ in 0..2 {
            assert_eq!(client.ask(GET).text(), "ok");
        }
        assert_eq!(upstream.connections(), 2, "{seconds}");
    }
}

#[test]
fn a_connect_that_fails_is_answered_with_what_to_do() {
    let refusing = HeldPort::reserve();
    let plain = Upstream::plain(|peer: &mut Peer| {
        peer.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    });
    for (upstream, status, code) in [
        (refusing.url(), 502, "upstream_connect_failed"),
        ("https://nowhere.invalid/base".into(), 502, "upstream_resolve_failed"),
        (format!("https://{}", plain.authority()), 502, "upstream_tls_failed"),
    ] {
        let gateway = Gateway::builder().patient().arg("--upstream", &upstream).start();
        let answer = Client::connect(gateway.port()).ask(GET);
        assert_eq!((answer.status, answer.error_code()), (status, Some(code)), "{upstream}");
    }
}

#[test]
fn a_certificate_that_is_not_trusted_is_refused_and_the_flag_is_named() {
    let upstream = Upstream::tls(answer(OK));
    let url = format!("https://{}/base", upstream.authority());
    let gateway = Gateway::builder().patient().arg("--upstream", url).start();
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
    // No other limit ends within what a step may take here.
    let gateway = Gateway::builder().upstream(&upstream).patient().arg("--client-timeout", "1").start();
    let asked = Instant::now();
    let answer = Client::connect(gateway.port()).ask(GET);
    let waited = asked.elapsed();
    assert_eq!((answer.status, answer.error_code()), (504, Some("upstream_timeout")));
    assert!(waited >= Duration::from_secs(1), "after {waited:?}");
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
