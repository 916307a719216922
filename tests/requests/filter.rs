//! `--filter anthropic-compat`: the requests that lose `anthropic-beta` and `context_management`, as a pair, and that
//! nothing else of them changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::OURS;
use crate::support::{
    BASE_PATH, Client, DEADLINE, Ended, Gateway, GatewayBuilder, Peer, Request, Response, Totals, Upstream, answer,
    check_at_once, is_all_read_at, json, secrets_json, wait_until,
};

const MIB: usize = 1024 * 1024;

const BODY: &str = r#"{
  "model": "m",
  "context_management": {"edits": [{"type": "clear"}]},
  "max_tokens": 1.0e1
}
"#;
const FILTERED: &str = r#"{
  "model": "m",
  "max_tokens": 1.0e1
}
"#;

fn builder(upstream: &Upstream) -> GatewayBuilder {
    Gateway::builder().upstream(upstream).arg("--filter", "anthropic-compat")
}

fn pair() -> (Upstream, Gateway) {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = builder(&upstream).start();
    (upstream, gateway)
}

/// Returns a request with these lines and a length.
fn request(target: &str, lines: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {target} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {length}\r\n\r\n{body}")
}

fn in_chunks(lines: &str, body: &str, size: usize, end: &str) -> String {
    let chunks = body.as_bytes().chunks(size).map(|part| {
        let text = std::str::from_utf8(part).expect("ASCII");
        format!("{:x};a=b\r\n{text}\r\n", part.len())
    });
    let chunks: String = chunks.collect();
    format!("POST /v1/messages HTTP/1.1\r\nHost: localhost\r\n{lines}Transfer-Encoding: chunked\r\n\r\n{chunks}{end}")
}

fn body_of(request: &str) -> &str {
    request.split_once("\r\n\r\n").expect("a head").1
}

fn ask(gateway: &Gateway, request: impl AsRef<[u8]>) -> Response {
    // The longest bodies take more than one step on a busy machine.
    let response = Client::connect_unrecorded(gateway.port()).with_deadline(4 * DEADLINE).ask(request);
    assert_eq!(response.status, 200, "{response:?}");
    response
}

/// Sends `request` to the gateway, and returns what the upstream got.
fn forwarded(upstream: &Upstream, gateway: &Gateway, request: impl AsRef<[u8]>) -> Request {
    let before = upstream.requests().len();
    ask(gateway, request);
    let mut requests = upstream.requests();
    assert_eq!(requests.len(), before + 1);
    requests.remove(before)
}

fn assert_filtered(request: &Request, lines: &[&str], body: &str, what: &str) {
    assert_eq!(String::from_utf8_lossy(&request.body), body, "{what}");
    assert_eq!(request.raw_body, request.body, "{what}");
    assert_eq!(request.head.content_length(), Some(body.len()), "{what}");
    assert!(!request.head.is_chunked(), "{what}");
    assert_eq!(request.head.lines_without(&OURS), lines, "{what}");
}

fn unfiltered_count(gateway: &mut Gateway) -> u64 {
    Totals::at_the_end_of(gateway).of("unfiltered")
}

#[test]
fn field_and_member_go_and_every_other_byte_stays() {
    let (upstream, mut gateway) = pair();
    let odd_filtered = r#"{"b":{"context_management":[1]},"a":1.0E+2,"a":"\u0041\/" }"#;
    let odd = odd_filtered.replacen('{', r#"{"context_management":1,"#, 1);
    let odd = &odd.replace(" }", r#", "context\u005fmanagement" : "x" }"#);
    for (lines, left, body, expected) in [
        ("anthropic-beta: a\r\n", vec![], BODY, FILTERED),
        ("Anthropic-Beta: a,b\r\nX-One: 1\r\nANTHROPIC-BETA: c\r\n", vec!["X-One: 1"], BODY, FILTERED),
        ("anthropic-version: 1\r\n", vec!["anthropic-version: 1"], BODY, FILTERED),
        ("X-Api-Key: k\r\n", vec![], BODY, FILTERED),
        ("x-api-key: k\r\nanthropic-beta: a\r\nAccept: */*\r\n", vec!["Accept: */*"], odd, odd_filtered),
        ("anthropic-beta: a\r\n", vec![], r#"{"context_management":{}}"#, "{}"),
        // The pair is the field alone where there is no such member.
        (
            "anthropic-beta: a\r\nX-One: 1\r\n",
            vec!["X-One: 1"],
            r#"{ "a" : {"context_management":1} }"#,
            r#"{ "a" : {"context_management":1} }"#,
        ),
    ] {
        let found = forwarded(&upstream, &gateway, request("/v1/messages", lines, body));
        assert_filtered(&found, &left, expected, lines);
        assert_eq!(found.credential(), "alpha");
    }
    assert_eq!(unfiltered_count(&mut gateway), 0);
}

#[test]
fn both_modes_and_both_base_urls_are_filtered_with_or_without_a_query() {
    let (upstream, gateway) = pair();
    let listener = format!("http://127.0.0.1:{}/v1/messages", gateway.port());
    for target in [
        "/v1/messages",
        "/v1/messages?beta=true",
        &format!("{BASE_PATH}/v1/messages"),
        &format!("{}/v1/messages?beta=true", upstream.url()),
        &listener,
    ] {
        let found = forwarded(&upstream, &gateway, request(target, "anthropic-beta: a\r\n", BODY));
        assert_filtered(&found, &[], FILTERED, target);
    }
}

#[test]
fn other_paths_and_other_clients_are_left_alone() {
    let (upstream, mut gateway) = pair();
    let beta = "anthropic-beta: a\r\nanthropic-version: b\r\n";
    for (target, lines) in [
        ("/v1/messages/count_tokens", beta),
        ("/v1/messages/", beta),
        ("/v1/messages/batches", beta),
        ("/v1/message", beta),
        ("/V1/Messages", beta),
        ("/v1//messages", beta),
        ("/v1/mess%61ges", beta),
        ("/messages", beta),
        ("/x/v1/messages", beta),
        ("/v1/chat/completions?to=/v1/messages", beta),
        ("/v1/messages", "Accept: a\r\n"),
        ("/v1/messages", "Authorization: Bearer any\r\nApi-Key: k\r\nX-Anthropic-Beta: a\r\n"),
    ] {
        let found = forwarded(&upstream, &gateway, request(target, lines, BODY));
        assert_eq!(found.body, BODY.as_bytes(), "{target}");
        assert!(lines != beta || found.head.lines_without(&OURS).len() == 2, "{target}: {found:?}");
    }
    // There is nothing to filter in it.
    let bare = "GET /v1/messages HTTP/1.1\r\nHost: localhost\r\nanthropic-beta: a\r\n\r\n";
    assert_eq!(forwarded(&upstream, &gateway, bare).head.field("anthropic-beta"), Some("a"));
    assert_eq!(unfiltered_count(&mut gateway), 0, "these are none of the filter's");
}

#[test]
fn without_the_flag_the_bytes_are_the_clients() {
    let upstream = Upstream::plain(json(200, "{}"));
    for gateway in [Gateway::before(&upstream), Gateway::builder().upstream(&upstream).arg("--filter", "none").start()]
    {
        let whole = request("/v1/messages", "anthropic-beta: a\r\nx-api-key: k\r\n", BODY);
        let found = forwarded(&upstream, &gateway, whole);
        assert_eq!(found.raw_body, BODY.as_bytes());
        assert_eq!(found.head.lines_without(&OURS), ["anthropic-beta: a"]);
        let chunked = in_chunks("anthropic-beta: a\r\n", BODY, 9, "0\r\nX-Trailer: t\r\n\r\n");
        let found = forwarded(&upstream, &gateway, &chunked);
        assert_eq!(found.raw_body, body_of(&chunked).as_bytes());
        assert!(found.head.is_chunked() && found.trailers == ["X-Trailer: t"]);
        assert_eq!(found.head.field("anthropic-beta"), Some("a"));
    }
}

#[test]
fn the_variable_switches_it_on_too() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = Gateway::builder().upstream(&upstream).env("FLOW_PROXY_FILTER", "anthropic-compat").start();
    let found = forwarded(&upstream, &gateway, request("/v1/messages", "anthropic-beta: a\r\n", BODY));
    assert_filtered(&found, &[], FILTERED, "by the variable");
}

#[test]
fn a_body_in_chunks_goes_on_with_a_length() {
    let (upstream, mut gateway) = pair();
    let lines = "anthropic-beta: a\r\nX-One: 1\r\n";
    for size in [1, 7, 1000] {
        for end in ["0\r\n\r\n", "0;last\r\nX-Trailer: t\r\n\r\n"] {
            let found = forwarded(&upstream, &gateway, in_chunks(lines, BODY, size, end));
            assert_filtered(&found, &["X-One: 1"], FILTERED, end);
        }
    }
    assert_eq!(unfiltered_count(&mut gateway), 0);
}

#[test]
fn what_cannot_be_filtered_goes_on_as_it_came_with_its_field() {
    let (upstream, mut gateway) = pair();
    let bodies = [
        "",
        " ",
        "null",
        "[{\"context_management\":1}]",
        "{\"context_management\":1",
        "{\"context_management\":1,}",
        "{\"context_management\":01}",
        "{\"context_management\":1}{}",
        "context_management=1",
    ];
    let mut sent = 0;
    for body in bodies {
        let lines = "anthropic-beta: a\r\nX-One: 1\r\n";
        let chunked = in_chunks(lines, body, 4, "0\r\nX-Trailer: t\r\n\r\n");
        let found = forwarded(&upstream, &gateway, &chunked);
        assert_eq!(String::from_utf8_lossy(&found.body), body);
        assert_eq!(String::from_utf8_lossy(&found.raw_body), body_of(&chunked));
        assert_eq!(found.head.lines_without(&OURS), ["anthropic-beta: a", "X-One: 1"], "{body}");
        sent += 1;
        if !body.is_empty() {
            let found = forwarded(&upstream, &gateway, request("/v1/messages", lines, body));
            assert_eq!(String::from_utf8_lossy(&found.raw_body), body);
            assert_eq!(found.head.lines_without(&OURS), ["anthropic-beta: a", "X-One: 1"], "{body}");
            sent += 1;
        }
    }
    gateway.wait_for_log_count("reason=\"it is not a JSON object\"", sent);
    assert_eq!(unfiltered_count(&mut gateway), sent as u64);
}

#[test]
fn an_encoded_body_is_not_looked_into_or_held() {
    let (upstream, mut gateway) = pair();
    for coding in ["gzip", "br, gzip", "identity"] {
        let lines = format!("anthropic-beta: a\r\nContent-Encoding: {coding}\r\n");
        let found = forwarded(&upstream, &gateway, request("/v1/messages", &lines, BODY));
        assert_eq!(found.raw_body, BODY.as_bytes());
        assert_eq!(found.head.lines_without(&OURS), ["anthropic-beta: a", &format!("Content-Encoding: {coding}")]);
    }
    assert_eq!(unfiltered_count(&mut gateway), 3);
}

/// Returns a JSON body of `length` bytes with the member at its end.
fn long_body(length: usize) -> String {
    let frame = "{\"a\":\"\",\"context_management\":1}".len();
    format!("{{\"a\":\"{}\",\"context_management\":1}}", "x".repeat(length - frame))
}

#[test]
fn a_body_beyond_the_limit_of_the_copy_goes_on_as_it_comes() {
    let upstream = Upstream::plain(json(200, "{}"));
    let mut gateway = builder(&upstream).arg("--replay-max", "1").start();
    let lines = "anthropic-beta: a\r\n";
    let fits = long_body(MIB);
    let found = forwarded(&upstream, &gateway, request("/v1/messages", lines, &fits));
    assert_filtered(&found, &[], &fits.replace(",\"context_management\":1", ""), "just fits");
    let too_long = long_body(MIB + 1);
    for request in [request("/v1/messages", lines, &too_long), in_chunks(lines, &too_long, 60_000, "0\r\n\r\n")] {
        let found = forwarded(&upstream, &gateway, &request);
        assert!(found.body == too_long.as_bytes(), "one byte too many");
        assert_eq!(found.head.field("anthropic-beta"), Some("a"));
    }
    // A body that is too long by its declared length is not held at all.
    let mut client = Client::connect(gateway.port());
    client.send(request("/v1/messages", lines, &too_long).split_at(1000).0);
    assert_eq!(upstream.wait_for_requests(4)[3].head.field("anthropic-beta"), Some("a"));
    client.close();
    gateway.wait_for_log_count("reason=\"it is too large to be kept\"", 3);
    assert_eq!(unfiltered_count(&mut gateway), 3);
}

#[test]
fn a_body_for_which_the_process_has_no_room_goes_on_as_it_comes() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = builder(&upstream).patient().shards(1).arg("--replay-max", "128").start();
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nanthropic-beta: a\r\nContent-Length: {}\r\n\r\n",
        128 * MIB
    );
    let mut holder = Client::connect_unrecorded(gateway.port());
    holder.send(head);
    let part = vec![b' '; MIB];
    for _ in 0..126 {
        holder.send(&part);
    }
    // What the sockets' buffers still hold would compete with the next one for the room.
    wait_until("all of it is held", || is_all_read_at(gateway.port()));
    let body = long_body(20 * MIB);
    let found = forwarded(&upstream, &gateway, request("/v1/messages", "anthropic-beta: a\r\n", &body));
    assert!(found.body == body.as_bytes());
    assert_eq!(found.head.field("anthropic-beta"), Some("a"));
    gateway.wait_for_log("reason=\"it is too large to be kept\"");
    let found = forwarded(&upstream, &gateway, request("/v1/messages", "anthropic-beta: a\r\n", BODY));
    assert_filtered(&found, &[], FILTERED, "there is room for a small one");
    // A body for which there is no room is not held at all.
    let mut client = Client::connect(gateway.port());
    client.send(request("/v1/messages", "anthropic-beta: a\r\n", &body).split_at(1000).0);
    assert_eq!(upstream.wait_for_requests(3)[2].head.field("anthropic-beta"), Some("a"));
    client.close();
    gateway.wait_for_log("end=client_disconnected");
    holder.close();
    gateway.wait_for_log_count("end=client_disconnected", 2);
    let body = long_body(2 * MIB);
    let found = forwarded(&upstream, &gateway, request("/v1/messages", "anthropic-beta: a\r\n", &body));
    assert_eq!(found.head.field("anthropic-beta"), None);
}

#[test]
fn nothing_goes_upstream_before_the_body_is_whole() {
    let (upstream, gateway) = pair();
    let whole = request("/v1/messages", "anthropic-beta: a\r\nExpect: 100-continue\r\n", BODY);
    let (head, body) = whole.split_once("\r\n\r\n").expect("a head");
    let (first, second) = body.split_at(40);
    let mut client = Client::connect(gateway.port());
    client.send(format!("{head}\r\n\r\n"));
    assert_eq!(client.read_head().start_line, "HTTP/1.1 100 Continue", "the body is wanted at once");
    client.send(first);
    assert!(upstream.is_left_alone_for(Duration::from_millis(200)) && upstream.connections() == 0);
    client.send(second);
    let response = client.read_response();
    assert_eq!((response.status, response.interim.len()), (200, 0), "it is asked for once");
    assert_filtered(&upstream.request(), &[], FILTERED, "in two pieces");
    // The connection goes on, and what was pipelined is not lost.
    let next = request("/v1/messages", "x-api-key: k\r\n", BODY);
    client.send(format!("{next}{next}"));
    for _ in 0..2 {
        assert_eq!(client.read_response().status, 200);
    }
    upstream.requests()[1..].iter().for_each(|request| assert_filtered(request, &[], FILTERED, "pipelined"));
}

#[test]
fn a_body_that_can_be_no_object_is_held_no_longer() {
    let (upstream, mut gateway) = pair();
    for (body, known) in [("{\"context_management\":1}] and more", 25), ("[{\"context_management\":1}]", 1)] {
        let whole = request("/v1/messages", "anthropic-beta: a\r\n", body);
        let came = whole.len() - body.len() + known;
        let before = upstream.requests().len();
        let mut client = Client::connect(gateway.port());
        client.send(&whole[..came - 1]);
        assert!(upstream.is_left_alone_for(Duration::from_millis(100)), "it may still be one");
        client.send(&whole[came - 1..came]);
        let started = upstream.wait_for_requests(before + 1);
        assert_eq!(started[before].head.field("anthropic-beta"), Some("a"));
        assert_eq!(client.send(&whole[came..]).read_response().status, 200);
        assert_eq!(String::from_utf8_lossy(&upstream.requests()[before].body), body);
    }
    gateway.wait_for_log_count("reason=\"it is not a JSON object\"", 2);
    assert_eq!(unfiltered_count(&mut gateway), 2);
}

#[test]
fn what_is_repeated_without_end_goes_on_as_it_came() {
    let (upstream, mut gateway) = pair();
    let body = format!("{{{}\"b\":0}}", r#""context_management":1,"a":2,"#.repeat(5_000));
    let found = forwarded(&upstream, &gateway, request("/v1/messages", "anthropic-beta: a\r\n", &body));
    assert!(found.body == body.as_bytes());
    assert_eq!(found.head.field("anthropic-beta"), Some("a"));
    gateway.wait_for_log_count("reason=\"it repeats the member too often\"", 1);
    assert_eq!(unfiltered_count(&mut gateway), 1);
}

#[test]
fn a_filtered_body_that_came_in_chunks_still_says_which_model_it_is_for() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            let status = if request.credential() == "a" { "429 Too Many" } else { "200 OK" };
            peer.write(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    let gateway = builder(&upstream).secrets(secrets_json(&["a", "b"])).start();
    ask(&gateway, in_chunks("anthropic-beta: a\r\n", BODY, 10, "0\r\n\r\n"));
    gateway.wait_for_log_count("scope=model of=\"m\"", 1);
}

#[test]
fn another_attempt_sends_the_filtered_request_again_with_its_own_token() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            let status = if request.credential() == "longer-name" { "200 OK" } else { "401 Unauthorized" };
            peer.write(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    let gateway = builder(&upstream).secrets(secrets_json(&["a", "longer-name"])).start();
    for request in [
        request("/v1/messages", "X-One: 1\r\nanthropic-beta: a\r\nX-Two: 2\r\n", BODY),
        in_chunks("X-One: 1\r\nanthropic-beta: a\r\nX-Two: 2\r\n", BODY, 10, "0\r\n\r\n"),
    ] {
        ask(&gateway, request);
    }
    let requests = upstream.requests();
    let credentials: Vec<String> = requests.iter().map(Request::credential).collect();
    assert_eq!(credentials, ["a", "longer-name", "longer-name"]);
    requests.iter().for_each(|request| assert_filtered(request, &["X-One: 1", "X-Two: 2"], FILTERED, "every attempt"));
}

#[test]
fn a_credential_that_cools_down_while_the_body_is_held_is_not_used() {
    let is_limited = Arc::new(AtomicBool::new(false));
    let limited = is_limited.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            let is_refused = request.credential() == "b" && limited.load(Ordering::SeqCst);
            let status = if is_refused { "429 Too Many\r\nRetry-After: 3600" } else { "200 OK" };
            peer.write(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    let gateway = builder(&upstream).shards(1).secrets(secrets_json(&["a", "b"])).start();
    let other = request("/v1/messages", "", BODY);
    ask(&gateway, &other);
    let whole = request("/v1/messages", "x-api-key: k\r\nExpect: 100-continue\r\n", BODY);
    let mut client = Client::connect(gateway.port());
    client.send(whole.strip_suffix(BODY).expect("its body")).read_until("100 Continue\r\n\r\n");
    is_limited.store(true, Ordering::SeqCst);
    ask(&gateway, &other);
    ask(&gateway, &other);
    assert_eq!(client.send(BODY).read_response().status, 200);
    let credentials: Vec<String> = upstream.requests().iter().map(Request::credential).collect();
    // The first, the two others (the last of them by a second attempt), and the one that was held.
    assert_eq!(credentials, ["a", "a", "b", "a", "a"]);
    assert_filtered(&upstream.requests()[4], &[], FILTERED, "after the hold");
}

#[test]
fn a_client_that_leaves_while_its_body_is_held_costs_the_upstream_nothing() {
    let (upstream, gateway) = pair();
    let whole = request("/v1/messages", "anthropic-beta: a\r\n", BODY);
    check_at_once([false, true], |resets| {
        let mut client = Client::connect(gateway.port());
        client.send(&whole[..whole.len() - 1]);
        if resets {
            client.reset()
        } else {
            client.close()
        };
    });
    gateway.wait_for_log_count("end=client_disconnected", 2);
    assert!(upstream.is_left_alone_for(Duration::from_millis(100)) && upstream.connections() == 0);
}

#[test]
fn a_body_that_stops_coming_is_a_408() {
    let upstream = Upstream::plain(answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    let gateway = builder(&upstream).patient().arg("--body-timeout", "0.3").start();
    let lines = "anthropic-beta: a\r\n";
    let whole = request("/v1/messages", lines, BODY);
    check_at_once([&whole[..whole.len() - 1], &in_chunks(lines, BODY, 10, "")], |sent| {
        let mut client = Client::connect(gateway.port());
        let response = client.send(sent).read_response();
        assert_eq!((response.status, response.error_code()), (408, Some("body_timeout")), "{response:?}");
        assert_eq!(client.expect_close(), Ended::Eof);
    });
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_body_that_breaks_its_framing_is_a_400() {
    let upstream = Upstream::plain(answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    let gateway = builder(&upstream).patient().start();
    let sent = in_chunks("anthropic-beta: a\r\nExpect: 100-continue\r\n", BODY, 10, "x\r\n");
    let (head, body) = sent.split_once("\r\n\r\n").expect("a head");
    let mut client = Client::connect(gateway.port());
    client.send(format!("{head}\r\n\r\n")).read_until("100 Continue\r\n\r\n");
    let response = client.send(body).read_response();
    assert_eq!((response.status, response.error_code()), (400, Some("bad_request")), "{response:?}");
    assert_eq!(client.expect_close(), Ended::Eof);
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_held_request_ends_with_the_drain() {
    let upstream = Upstream::plain(json(200, "{}"));
    let mut gateway = builder(&upstream).arg("--drain-timeout", "0.2").start();
    let whole = request("/v1/messages", "anthropic-beta: a\r\nExpect: 100-continue\r\n", BODY);
    let mut client = Client::connect(gateway.port());
    client.send(&whole[..whole.len() - BODY.len()]);
    client.read_until("\r\n\r\n");
    gateway.terminate();
    let response = client.read_response();
    assert_eq!((response.status, response.error_code()), (503, Some("draining")));
    assert!(gateway.wait().success());
    assert_eq!(upstream.connections(), 0);
}
