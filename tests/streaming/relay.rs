//! Every byte is on its way before the next is read, in both directions, and all framings come through.

use std::time::Duration;

use crate::GET;
use crate::support::{
    Client, DEADLINE, EVENT_STREAM, Ended, Gate, Gateway, Peer, Upstream, answer, chunk, echo, json, shown,
};

/// Long enough to see that nothing comes, short enough to be waited for.
const QUIET: Duration = Duration::from_millis(100);

#[test]
fn each_event_arrives_before_the_next_is_sent() {
    for is_tls in [false, true] {
        let received = Gate::new();
        let passed = received.clone();
        let script = move |peer: &mut Peer| {
            peer.read_request();
            peer.write(EVENT_STREAM);
            passed.pass();
            for number in 0..20 {
                peer.write(chunk(&format!("data: {number}\n\n")));
                passed.pass();
            }
            peer.write("0\r\n\r\n");
            peer.read_request();
        };
        let upstream = if is_tls { Upstream::tls(script) } else { Upstream::plain(script) };
        let gateway = Gateway::before(&upstream);
        let mut client = Client::connect(gateway.port());
        client.send(GET);
        assert!(client.read_head().is_chunked());
        received.open();
        for number in 0..20 {
            client.read_until(format!("data: {number}\n\n\r\n"));
            received.open();
        }
        client.read_until("0\r\n\r\n");
    }
}

#[test]
fn half_a_chunk_and_half_a_line_arrive_at_once() {
    let received = Gate::new();
    let passed = received.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        peer.read_request();
        peer.write(EVENT_STREAM);
        peer.write("9\r\ndat");
        passed.pass();
        peer.write("a: 1\n\n\r\n0\r\n\r\n");
        peer.read_request();
    });
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    client.send(GET);
    client.read_head();
    assert_eq!(client.read_until("dat"), b"9\r\ndat");
    received.open();
    assert_eq!(client.read_until("0\r\n\r\n"), b"a: 1\n\n\r\n0\r\n\r\n");
}

#[test]
fn a_body_goes_upstream_as_it_comes() {
    let arrived = Gate::new();
    let opened = arrived.clone();
    let upstream = Upstream::tls(move |peer: &mut Peer| {
        while let Some(head) = peer.read_head() {
            if head.is_chunked() {
                peer.read_until("2\r\nab\r\n");
                opened.open();
                peer.read_until("2\r\ncd\r\n0\r\n\r\n");
            } else {
                peer.read_body_exact(2);
                opened.open();
                peer.read_body_exact(2);
            }
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    for (head, first, second) in
        [("Content-Length: 4", "ab", "cd"), ("Transfer-Encoding: chunked", "2\r\nab\r\n", "2\r\ncd\r\n0\r\n\r\n")]
    {
        client.send(format!("POST /v1/x HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n{first}"));
        arrived.pass();
        client.send(second);
        assert_eq!(client.read_response().text(), "ok");
    }
}

#[test]
fn an_answer_may_begin_while_the_request_still_goes_on() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        peer.read_head();
        peer.read_body_exact(2);
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
        peer.read_body_exact(2);
        peer.write("cd");
        peer.read_request();
    });
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    client.send("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nab");
    assert_eq!(client.read_head().content_length(), Some(4));
    assert_eq!(client.read_until("ab"), b"ab");
    client.send("cd");
    assert_eq!(client.read_until("cd"), b"cd");
}

#[test]
fn chunks_with_extensions_and_trailers_pass_verbatim() {
    let raw =
        "5;name=\"a;b\";x\r\nhello\r\n00A ; y=z\r\n0123456789\r\n0;last\r\nX-Trailer: one\r\nx-trailer:two\r\n\r\n";
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        while peer.read_request().is_some() {
            peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Trailer\r\n\r\n");
            peer.write(raw);
        }
    });
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    for _ in 0..2 {
        let request = format!("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{raw}");
        let response = client.ask(request);
        assert_eq!(shown(&response.raw_body), shown(raw.as_bytes()));
        assert_eq!(response.text(), "hello0123456789");
        assert_eq!(response.trailers, ["X-Trailer: one", "x-trailer:two"]);
        let sent = upstream.requests().pop().expect("a request");
        assert_eq!(shown(&sent.raw_body), shown(raw.as_bytes()));
        assert_eq!(sent.body, b"hello0123456789");
    }
}

#[test]
fn bytes_that_drip_in_make_the_same_exchange() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        while peer.read_request().is_some() {
            for byte in format!("{EVENT_STREAM}{}0\r\n\r\n", chunk("data: 1\n\n")).as_bytes().chunks(1) {
                peer.write(byte);
                peer.sleep(Duration::from_micros(200));
            }
        }
    });
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    for _ in 0..2 {
        let request = "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nT: v\r\n\r\n";
        client.send_slowly(request);
        let response = client.read_response();
        assert_eq!((response.text().as_str(), response.is_whole), ("data: 1\n\n", true));
        let sent = upstream.requests().pop().expect("a request");
        assert_eq!((sent.body.as_slice(), sent.trailers), (&b"ok"[..], vec!["T: v".to_owned()]));
    }
}

#[test]
fn large_bodies_come_through_whole_in_both_directions() {
    let upstream = Upstream::tls(echo());
    let gateway = Gateway::before(&upstream);
    let body: Vec<u8> = (0..8 * 1024 * 1024_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut request =
        format!("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    request.extend_from_slice(&body);
    let response = Client::connect_unrecorded(gateway.port()).with_deadline(4 * DEADLINE).ask(request);
    assert_eq!(response.body.len(), body.len());
    assert!(response.body == body, "the body came back changed");
}

#[test]
fn answers_without_a_body_end_with_their_head() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            match request.path().rsplit('/').next().expect("a segment") {
                "head" => peer.write("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
                "head-chunked" => peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
                "204" => peer.write("HTTP/1.1 204 No Content\r\n\r\n"),
                "304" => peer.write("HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: \"x\"\r\n\r\n"),
                _ => peer.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
            };
        }
    });
    let gateway = Gateway::builder().shards(1).upstream(&upstream).arg("--upstream-idle-timeout", "600").start();
    let mut client = Client::connect(gateway.port());
    let table = [
        ("HEAD", "head", 200),
        ("HEAD", "head-chunked", 200),
        ("GET", "204", 204),
        ("GET", "304", 304),
        ("GET", "0", 200),
    ];
    for (method, path, status) in table {
        let response = client.ask(format!("{method} /v1/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!((response.status, response.body.len()), (status, 0), "{path}");
        if path == "head" {
            assert_eq!(response.field("content-length"), Some("1000"));
        }
    }
    assert!(client.is_quiet_for(QUIET));
    assert_eq!(upstream.connections(), 1, "each of these leaves the upstream connection usable");
}

#[test]
fn a_close_delimited_answer_comes_whole_and_ends() {
    for is_tls in [false, true] {
        for version in ["1.0", "1.1"] {
            let script = move |peer: &mut Peer| {
                peer.read_request();
                peer.write(format!("HTTP/{version} 200 OK\r\nContent-Type: text/plain\r\n\r\nhello "));
                peer.write("world");
            };
            let upstream = if is_tls { Upstream::tls(script) } else { Upstream::plain(script) };
            let gateway = Gateway::before(&upstream);
            let response = Client::connect(gateway.port()).ask(GET);
            assert_eq!(response.head.start_line, "HTTP/1.1 200 OK");
            assert_eq!((response.text().as_str(), response.is_whole), ("hello world", true), "{response:?}");
        }
    }
}

#[test]
fn an_old_client_gets_what_it_can_read() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            if request.path().ends_with("/chunked") {
                peer.write("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
                peer.write(format!(
                    "{EVENT_STREAM}{}{}0\r\nX-Trailer: 1\r\n\r\n",
                    chunk("data: 1\n\n"),
                    chunk("data: 2\n\n")
                ));
            } else {
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        }
    });
    let gateway = Gateway::before(&upstream);

    let mut client = Client::connect(gateway.port());
    let response = client.ask("GET /v1/chunked HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(response.interim.is_empty(), "an HTTP/1.0 client knows no 1xx");
    assert_eq!(response.field("transfer-encoding"), None);
    assert_eq!((response.text().as_str(), response.ended), ("data: 1\n\ndata: 2\n\n", Ended::Eof));

    let mut client = Client::connect(gateway.port());
    for _ in 0..2 {
        let response = client.ask("GET /v1/sized HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        assert_eq!(response.text(), "ok");
        assert!(response.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("keep-alive")));
    }
    let response = client.ask("GET /v1/sized HTTP/1.0\r\n\r\n");
    assert_eq!(response.text(), "ok");
    client.expect_close();
}

#[test]
fn a_connection_is_kept_or_closed_as_the_client_asks() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = Gateway::builder().shards(1).upstream(&upstream).arg("--upstream-idle-timeout", "600").start();
    let mut client = Client::connect(gateway.port());
    for _ in 0..3 {
        let response = client.ask(GET);
        assert_eq!((response.status, response.field("connection")), (200, None));
    }
    let response = client.ask("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nConnection: Close\r\n\r\n");
    assert_eq!((response.status, response.field("connection")), (200, Some("close")));
    client.expect_close();
    assert_eq!(upstream.connections(), 1, "the upstream connection is kept all the while");
}

#[test]
fn an_upstream_that_closes_does_not_close_the_clients_connection() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        peer.read_request();
        peer.write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    });
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    for count in 1..4 {
        let response = client.ask(GET);
        assert_eq!((response.text().as_str(), response.field("connection")), ("ok", None));
        assert_eq!(upstream.connections(), count);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            let body = format!("{} {}", request.path(), String::from_utf8_lossy(&request.body));
            if request.path().ends_with("/0") {
                // The first one takes longest: an answer that overtakes would show.
                peer.sleep(Duration::from_millis(50));
            }
            peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        }
    });
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    let request = |number: usize| match number % 3 {
        0 => format!("GET /v1/{number} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        1 => format!("POST /v1/{number} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nok"),
        _ => format!(
            "POST /v1/{number} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
        ),
    };
    client.send((0..12).map(request).collect::<String>());
    for number in 0..12 {
        let body = if number % 3 == 0 { "" } else { "ok" };
        assert_eq!(client.read_response().text(), format!("/flow-llm-proxy/v1/{number} {body}"));
    }
    assert!(client.is_quiet_for(QUIET));
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it_from_here() {
    let upstream = Upstream::plain(echo());
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    for framing in ["Content-Length: 2", "Transfer-Encoding: chunked"] {
        client.send(format!("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nExpect: 100-Continue\r\n{framing}\r\n\r\n"));
        let interim = client.read_head();
        assert_eq!(interim.start_line, "HTTP/1.1 100 Continue");
        assert!(interim.fields.is_empty());
        client.send(if framing.starts_with('C') { "ok" } else { "2\r\nok\r\n0\r\n\r\n" });
        let response = client.read_response();
        assert_eq!((response.status, response.text().as_str(), response.interim.len()), (200, "ok", 0));
        assert_eq!(upstream.requests().pop().expect("a request").head.field("expect"), None);
    }
}

#[test]
fn a_client_that_does_not_wait_with_its_body_gets_one_whole_answer() {
    let upstream = Upstream::plain(echo());
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    for _ in 0..2 {
        client.send("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok");
        // The interim answer may be left out when the body is there (RFC 9110 §10.1.1).
        let response = client.read_response();
        assert!(response.interim.len() <= 1);
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    }
}

#[test]
fn interim_answers_pass_but_for_100() {
    let upstream = Upstream::plain(answer(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n\
         HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ));
    let gateway = Gateway::before(&upstream);
    let response = Client::connect(gateway.port()).ask(GET);
    assert_eq!(response.text(), "ok");
    let interim: Vec<&str> = response.interim.iter().map(|head| head.start_line.as_str()).collect();
    assert_eq!(interim, ["HTTP/1.1 103 Early Hints", "HTTP/1.1 102 Processing"]);
    assert_eq!(response.interim[0].field("link"), Some("</x>"));
}

#[test]
fn a_slow_reader_holds_the_upstream_back() {
    const PART: usize = 64 * 1024;
    const PARTS: usize = 1024;
    let upstream = Upstream::plain(|peer: &mut Peer| {
        peer.read_request();
        peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", PART * PARTS));
        for _ in 0..PARTS {
            if !peer.write(vec![b'x'; PART]) {
                return;
            }
        }
        peer.read_request();
    });
    let gateway = Gateway::before(&upstream);
    let before = gateway.rss_kib();
    let mut client = Client::connect_unrecorded(gateway.port()).with_deadline(4 * DEADLINE);
    client.send(GET);
    client.read_head();
    std::thread::sleep(Duration::from_millis(500));
    let grown = gateway.rss_kib().saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB are held for a reader that does not read");
    let (mut left, mut taken) = (PART * PARTS, 0);
    while left > 0 {
        let part = client.read_up_to(left);
        left -= part.len();
        taken += part.iter().filter(|&&byte| byte == b'x').count();
    }
    assert_eq!(taken, PART * PARTS);
}
