//! Messages that break RFC 9112 or a limit are refused and go no further, in both directions.

use std::time::{Duration, Instant};

use crate::support::{
    Client, DEADLINE, Ended, Gate, Gateway, Peer, Response, Upstream, answer, check_at_once, json,
    repeat_until_undisturbed, shown,
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Sends `raw` on a connection of its own, and expects a refusal and the close after it.
fn refused(gateway: &Gateway, raw: &[u8]) -> Response {
    let mut client = Client::connect(gateway.port());
    client.send(raw);
    let response = client.read_response();
    let sent = shown(raw);
    assert!(response.error_code().is_some(), "without X-Flow-Uring-Error: {sent}");
    assert_eq!(response.field("connection"), Some("close"), "{sent}");
    assert_eq!(response.field("content-type"), Some("application/json"), "{sent}");
    assert!(response.json()["error"]["message"].is_string(), "{sent}");
    assert_eq!(client.expect_close(), Ended::Eof, "{sent}");
    response
}

/// Each of `table` gets one of its statuses, and the upstream gets nothing.
fn assert_refused(table: &[(&str, &[u16])]) {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = Gateway::before(&upstream);
    let mut wrong = Vec::new();
    for (raw, expected) in table {
        let before = upstream.bytes_received();
        let response = refused(&gateway, raw.as_bytes());
        if !expected.contains(&response.status) {
            wrong.push(format!("{} instead of {expected:?}: {}", response.status, shown(raw.as_bytes())));
        }
        if upstream.bytes_received() != before {
            wrong.push(format!("something reached the upstream: {}", shown(raw.as_bytes())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert_eq!(upstream.requests().len(), 0);
}

#[test]
fn a_request_with_ambiguous_framing_is_refused() {
    assert_refused(&[
        (
            "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            &[400],
        ),
        (
            "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            &[400],
        ),
        ("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", &[400]),
        ("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", &[400]),
        ("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2, 2\r\n\r\nok", &[400]),
        ("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: +2\r\n\r\nok", &[400]),
        ("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: -2\r\n\r\nok", &[400]),
        ("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0x2\r\n\r\nok", &[400]),
        ("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length:\r\n\r\nok", &[400]),
        ("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2 2\r\n\r\nok", &[400]),
        ("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2;\r\n\r\nok", &[400]),
        ("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: a\r\n\r\nok", &[400]),
        ("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 18446744073709551616\r\n\r\nok", &[400, 413]),
        ("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9223372036854775808\r\n\r\nok", &[400]),
        ("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n", &[400]),
        ("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", &[400]),
        (
            "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            &[400],
        ),
        ("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", &[400]),
        (
            "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
            &[400],
        ),
        ("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", &[400, 501]),
        ("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n", &[400]),
        ("POST /v1/x HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[400]),
        ("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", &[501]),
        ("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", &[501, 400]),
    ]);
}

#[test]
fn a_malformed_head_is_refused() {
    assert_refused(&[
        ("GET /v1/x HTTP/1.1\nHost: localhost\n\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost: localhost\nX-A: b\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost: localhost\r\n\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost: localhost\rX-A: b\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\rHost: localhost\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX-A: a\rb\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX-A: a\0b\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX-A: a\u{1}b\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX-A: a\u{7f}b\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost : localhost\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX-A : b\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX-A\t: b\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\n Host: localhost\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\n\r\nHost: localhost\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n c\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n\tc\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX A: b\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX-A\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost: localhost\r\n: b\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX(A: b\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX\u{e9}: b\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nAccept: */*\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\nhost: other\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost: local host\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost: localhost/v1\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost: user@localhost\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost: localhost:port\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1\r\nHost: localhost, localhost\r\n\r\n", &[400]),
        ("\r\n\r\n\r\nGET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]),
    ]);
}

#[test]
fn a_malformed_request_line_is_refused() {
    assert_refused(&[
        ("GE(T /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]),
        ("G\u{1}T /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]),
        (" GET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]),
        (" /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]),
        ("GET  /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]),
        ("GET /v1/x  HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]),
        ("GET /v1/a b HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]),
        ("GET v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]),
        ("GET * HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]),
        ("GET HTTP/1.1\r\nHost: localhost\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1 \r\nHost: localhost\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/1.1.1\r\nHost: localhost\r\n\r\n", &[400]),
        ("GET /v1/x HTTQ/1.1\r\nHost: localhost\r\n\r\n", &[400]),
        ("GET /v1/x http/1.1\r\nHost: localhost\r\n\r\n", &[400]),
        ("GET /v1/x HTTP/11\r\nHost: localhost\r\n\r\n", &[400]),
        ("GET /v1/x\r\n\r\n", &[400]),
        ("GET /v1/x\r\nHost: localhost\r\n\r\n", &[400]),
        ("PRI * HTTP/2.0\r\nHost: localhost\r\n\r\nSM\r\n\r\n", &[505]),
        ("GET /v1/x HTTP/2.0\r\nHost: localhost\r\n\r\n", &[505]),
        ("GET /v1/x HTTP/3.0\r\nHost: localhost\r\n\r\n", &[505]),
        ("\u{16}\u{3}\u{1}\0\u{5}\u{1}\r\n\r\n", &[400]),
    ]);
}

#[test]
fn a_malformed_chunk_that_comes_with_its_head_is_refused() {
    let bodies = [
        "FFFFFFFFFFFFFFFFF\r\n",
        "10000000000000000\r\nab",
        "+2\r\nok\r\n0\r\n\r\n",
        "-2\r\nok\r\n0\r\n\r\n",
        "\r\nok\r\n0\r\n\r\n",
        "0x2\r\nok\r\n0\r\n\r\n",
        " 2\r\nok\r\n0\r\n\r\n",
        "g\r\nok\r\n0\r\n\r\n",
        "2\nok\r\n0\r\n\r\n",
        "2\rok\r\n0\r\n\r\n",
        "2\r\nokX\r\n0\r\n\r\n",
        "2\r\nok\n0\r\n\r\n",
        "2\r\nok0\r\n\r\n",
        "2;a\nb\r\nok\r\n0\r\n\r\n",
        "2;a\0b\r\nok\r\n0\r\n\r\n",
        ";a\r\nok\r\n0\r\n\r\n",
        "2 2\r\nok\r\n0\r\n\r\n",
    ];
    let head = "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let requests: Vec<String> = bodies.iter().map(|body| format!("{head}{body}")).collect();
    let table: Vec<(&str, &[u16])> = requests.iter().map(|request| (request.as_str(), &[400][..])).collect();
    assert_refused(&table);
}

#[test]
fn a_malformed_chunk_in_mid_body_is_refused_and_ends_the_upstreams_request() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        peer.read_request();
    });
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    client.send("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
    upstream.wait_for_requests(1);
    client.send("zz\r\n");
    assert_eq!(client.read_response().status, 400);
    assert_eq!(client.expect_close(), Ended::Eof);
    upstream.wait_for_close(0);
    assert_eq!(upstream.request().body, b"ok", "the body did not end well upstream");
}

#[test]
fn a_head_that_is_too_large_is_refused_by_what_is_too_large() {
    let line = format!("GET /v1/{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(16 * 1024));
    let endless_line = "G".repeat(17 * 1024);
    let field = format!("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX-A: {}\r\n\r\n", "b".repeat(64 * 1024));
    let endless_field = format!("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX-A: {}", "b".repeat(65 * 1024));
    let fields = format!("GET /v1/x HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X-A: b\r\n".repeat(100));
    assert_refused(&[
        (&line, &[414]),
        (&endless_line, &[414, 400]),
        (&field, &[431]),
        (&endless_field, &[431]),
        (&fields, &[431]),
    ]);
}

#[test]
fn a_head_within_the_limits_passes() {
    let upstream = Upstream::plain(answer(OK));
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    let fields = format!("GET /v1/x HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X-A: b\r\n".repeat(99));
    let large = format!("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX-A: {}\r\n\r\n", "b".repeat(60 * 1024));
    let line = format!("GET /v1/{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(16_000));
    for request in [fields, large, line] {
        assert_eq!(client.ask(&request).status, 200, "{}", shown(request.as_bytes()));
    }
    let seen = upstream.requests();
    assert_eq!(seen[0].head.all("x-a").len(), 99);
    assert_eq!(seen[1].head.field("x-a").map(str::len), Some(60 * 1024));
}

#[test]
fn what_is_unusual_and_valid_passes() {
    let upstream = Upstream::plain(answer(OK));
    let gateway = Gateway::before(&upstream);
    let table: &[&[u8]] = &[
        b"\r\n\r\nGET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX-A: caf\xc3\xa9 \x80\xff\r\n\r\n",
        b"GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX-A:\ta\tb\t\r\n\r\n",
        b"GET /v1/x HTTP/1.1\r\nhOsT:localhost\r\nX-A:\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\ntransfer-encoding: Chunked\r\n\r\n0A;x=\"y\"\r\n0123456789\r\n000\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 002\r\n\r\nok",
        b"BREW /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ];
    for (index, raw) in table.iter().enumerate() {
        let mut client = Client::connect(gateway.port());
        let response = client.ask(raw);
        assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{}", shown(raw));
        assert_eq!(client.ask("GET /v1/y HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").status, 200);
        assert_eq!(upstream.requests().len(), 2 * (index + 1), "{}", shown(raw));
    }
}

#[test]
fn a_body_that_is_too_large_is_refused_and_the_sender_sees_the_answer() {
    const MIB: usize = 1024 * 1024;
    /// `connection::LINGER_LIMIT`: a client that sends for longer than this is reset.
    const LINGER_LIMIT: Duration = Duration::from_secs(5);
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = Gateway::builder().upstream(&upstream).arg("--body-max", "1").start();
    // It may close before all is sent; what counts is that the answer is not lost to a reset.
    let assert_refused_in_time = |head: &str, body: &[u8]| {
        repeat_until_undisturbed(|| {
            let began = Instant::now();
            let mut client = Client::connect(gateway.port());
            client.send(head);
            let _ = client.try_send(body);
            let (status, ended) = (client.read_response().status, client.expect_close());
            let is_in_time = began.elapsed() < LINGER_LIMIT;
            assert!(status == 413 && (ended == Ended::Eof || !is_in_time), "{status}, {ended:?}");
            ended == Ended::Eof
        });
    };
    let head = format!("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", 4 * MIB);
    assert_refused_in_time(&head, &vec![b'x'; 4 * MIB]);
    assert_eq!(upstream.bytes_received(), 0);
    let head = "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 0x10000], b"\r\n".to_vec()].concat();
    assert_refused_in_time(head, &chunk.repeat(32));

    let exact = format!("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MIB}\r\n\r\n{}", "x".repeat(MIB));
    assert_eq!(Client::connect(gateway.port()).ask(exact).status, 200);
}

#[test]
fn endless_chunk_extensions_and_trailers_are_refused() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        peer.read_request();
    });
    let gateway = Gateway::before(&upstream);
    let head = "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let one_extension = format!("{head}2;{}\r\nok\r\n0\r\n\r\n", "x".repeat(17 * 1024));
    let many_extensions = format!("{head}{}0\r\n\r\n", "1;0123456789abcdef\r\nx\r\n".repeat(1100));
    let trailers = format!("{head}0\r\n{}\r\n", "X-Trailer: 0123456789\r\n".repeat(900));
    for request in [one_extension, many_extensions, trailers] {
        let mut client = Client::connect(gateway.port());
        let _ = client.try_send(&request);
        assert_eq!(client.read_response().status, 400, "{}", shown(request.as_bytes()));
        assert_eq!(client.expect_close(), Ended::Eof);
    }
}

#[test]
fn an_expectation_other_than_100_continue_is_refused() {
    assert_refused(&[
        ("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nExpect: 200-ok\r\nContent-Length: 2\r\n\r\n", &[417]),
        ("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nExpect: x\r\n\r\n", &[417]),
    ]);
}

#[test]
fn a_request_that_stops_arriving_gets_408() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        peer.read_request();
    });
    let parts = [
        ("--head-timeout", "GET /v1/x HTTP/1.1\r\nHost: local"),
        ("--body-timeout", "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nok"),
        ("--body-timeout", "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok"),
    ];
    let patient = || Gateway::builder().upstream(&upstream).patient();
    // None of its limits is met here.
    let other = patient().start();
    let mut others: Vec<Client> = parts.iter().map(|_| Client::connect(other.port())).collect();
    for (client, (_, part)) in others.iter_mut().zip(parts) {
        client.send(part);
    }
    check_at_once(parts, |(limit, part)| {
        let gateway = patient().arg(limit, "1").start();
        let started = Instant::now();
        let response = refused(&gateway, part.as_bytes());
        assert_eq!(response.status, 408, "{}", shown(part.as_bytes()));
        let took = started.elapsed();
        assert!(took >= Duration::from_secs(1), "{took:?} for 1 s");
    });
    for client in &mut others {
        assert!(client.is_quiet_for(Duration::from_millis(1)), "it was not by these limits that they were refused");
    }
}

#[test]
fn a_head_that_drips_in_gets_408_all_the_same() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = Gateway::builder().upstream(&upstream).arg("--head-timeout", "1").start();
    let mut client = Client::connect(gateway.port());
    client.send("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX-A: ");
    let started = Instant::now();
    while client.is_quiet_for(Duration::from_millis(100)) {
        let _ = client.try_send("b");
        assert!(started.elapsed() < DEADLINE, "the head may drip in for ever");
    }
    assert_eq!(client.read_response().status, 408);
}

#[test]
fn a_refused_request_is_the_last_of_its_connection() {
    let upstream = Upstream::plain(answer(OK));
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    client.send("GET /v1/a HTTP/1.1\r\nHost: localhost\r\n\r\nGET /v1/b HTTP/1.1\r\n\r\nGET /v1/c HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.read_response().status, 200);
    assert_eq!(client.read_response().status, 400);
    assert_eq!(client.expect_close(), Ended::Eof);
    assert_eq!(upstream.request().path(), "/flow-llm-proxy/v1/a");
}

#[test]
fn a_malformed_answer_is_a_502_and_its_connection_is_not_reused() {
    let many_fields = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\nok", "X-A: b\r\n".repeat(257));
    let large_head = format!("HTTP/1.1 200 OK\r\nX-A: {}\r\nContent-Length: 2\r\n\r\nok", "b".repeat(129 * 1024));
    let table = vec![
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok".to_owned(),
        "HTTP/1.1 200 OK\r\nX-A: b\nContent-Length: 2\r\n\r\nok".to_owned(),
        "HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 2\r\n\r\nok".to_owned(),
        "HTTP/1.1 200 OK\r\nX-A : b\r\nContent-Length: 2\r\n\r\nok".to_owned(),
        "HTTP/1.1 200 OK\r\n X-A: b\r\nContent-Length: 2\r\n\r\nok".to_owned(),
        "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2\r\n\r\nok".to_owned(),
        "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(),
        "HTTP/1.1 20x OK\r\nContent-Length: 2\r\n\r\nok".to_owned(),
        "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(),
        "ICY 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(),
        "<html>hello</html>\r\n\r\n".to_owned(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_owned(),
        many_fields,
        large_head,
    ];
    for bad in table {
        let raw = bad.clone();
        let upstream = Upstream::plain(move |peer: &mut Peer| {
            while peer.read_request().is_some() {
                peer.write(if peer.number() == 0 { raw.as_bytes() } else { OK });
            }
        });
        let gateway = Gateway::builder().shards(1).upstream(&upstream).patient().start();
        let mut client = Client::connect(gateway.port());
        let response = client.ask("GET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(response.status, 502, "{}", shown(bad.as_bytes()));
        assert!(response.error_code().is_some(), "{}", shown(bad.as_bytes()));
        upstream.wait_for_close(0);
        let mut client = Client::connect(gateway.port());
        assert_eq!(client.ask("GET /v1/y HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 200);
        assert_eq!(upstream.requests().last().expect("a second request").connection, 1);
    }
}

#[test]
fn a_malformed_chunk_in_an_answer_cuts_it() {
    let received = Gate::new();
    let passed = received.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        peer.read_request();
        peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
        passed.pass();
        peer.write("zz\r\nok\r\n0\r\n\r\n");
        peer.wait_for_close();
    });
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    client.send("GET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.read_until("2\r\nok\r\n");
    received.open();
    let (rest, _) = client.read_to_end();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "the answer looks whole: {}", shown(&rest));
    upstream.wait_for_close(0);
}

#[test]
fn a_malformed_chunk_that_comes_with_an_answers_head_never_makes_a_whole_answer() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        peer.read_request();
        peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n");
        peer.wait_for_close();
    });
    let gateway = Gateway::before(&upstream);
    let response = Client::connect(gateway.port()).ask("GET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n");
    // It depends on the network whether the head is sent before the chunk is read.
    assert!(response.status == 502 || !response.is_whole, "{response:?}");
    upstream.wait_for_close(0);
}

#[test]
fn surplus_bytes_after_an_answer_are_not_taken_for_the_next_one() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        while peer.read_request().is_some() {
            let surplus: &[u8] =
                if peer.number() == 0 { b"HTTP/1.1 500 Surplus\r\nContent-Length: 0\r\n\r\n" } else { b"" };
            peer.write([OK, surplus].concat());
        }
    });
    let gateway = Gateway::builder().shards(1).upstream(&upstream).start();
    let mut client = Client::connect(gateway.port());
    for _ in 0..2 {
        assert_eq!(client.ask("GET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 200);
    }
    upstream.wait_for_close(0);
}

#[test]
fn an_answer_before_the_request_was_whole_ends_both_connections() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        peer.read_head();
        peer.read_body_exact(2);
        peer.write(OK);
        peer.wait_for_close();
    });
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    client.send("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nok");
    let response = client.read_response();
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    client.expect_close();
    upstream.wait_for_close(0);
}
