//! The ids of a request: each has one, the upstream, the client and the log see the same, and so do all attempts.

use crate::ask;
use crate::support::{
    Client, EVENT_STREAM, Gateway, Peer, Response, Upstream, answer, check_at_once, json, secrets_json,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const DRIVERS: [&str; 2] = ["auto", "epoll"];

fn get(path: &str, field_lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{field_lines}\r\n")
}

fn id_of(response: &Response) -> String {
    let ids: Vec<_> = response.head.all("x-request-id");
    assert_eq!(ids.len(), 1, "{response:?}");
    ids[0].to_owned()
}

fn logged(gateway: &Gateway, id: &str) -> String {
    gateway.wait_for_log(&format!(" request_id={id} "))
}

#[test]
fn a_request_without_an_id_gets_one_that_all_sides_see() {
    check_at_once(DRIVERS, |driver| {
        let upstream = Upstream::plain(json(200, "{}"));
        let gateway = Gateway::builder().upstream(&upstream).arg("--io-driver", driver).start();
        let mut client = Client::connect(gateway.port());
        let mut seen = Vec::new();
        let too_long = format!("x-request-id: {}\r\n", "x".repeat(129));
        for field_lines in ["", "x-request-id: a b\r\n", "x-request-id: a\r\nx-request-id: a\r\n", &too_long] {
            let id = id_of(&client.ask(get("/v1/models", field_lines)));
            let sent = upstream.requests().pop().expect("one came").head;
            assert_eq!(sent.all("x-request-id"), [&*id], "{field_lines}");
            assert!(logged(&gateway, &id).contains(" status=200 "));
            assert!(!seen.contains(&id), "{id} twice");
            seen.push(id);
        }
    });
}

#[test]
fn an_id_and_a_trace_of_the_client_are_passed_on_and_logged() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = Gateway::before(&upstream);
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let lines = format!(
        "Connection: x-request-id, traceparent\r\nX-Request-ID: req/1\r\nTraceparent: {parent}\r\ntracestate: a=b\r\n"
    );
    assert_eq!(id_of(&ask(&gateway, get("/v1/models", &lines))), "req/1");
    let sent = upstream.request().head;
    assert_eq!(sent.all("x-request-id"), ["req/1"]);
    assert_eq!((sent.field("traceparent"), sent.field("tracestate")), (Some(&*parent), Some("a=b")));
    assert!(logged(&gateway, "req/1").contains(&format!(" trace_id={TRACE} ")));
    // One that is not valid is passed on, and is no trace.
    ask(&gateway, get("/v1/models", "x-request-id: req/2\r\ntraceparent: 00-0-0-0\r\n"));
    assert_eq!(upstream.requests()[1].head.field("traceparent"), Some("00-0-0-0"));
    assert!(!logged(&gateway, "req/2").contains("trace_id"));
}

#[test]
fn the_upstreams_own_id_goes_to_the_client() {
    let upstream = Upstream::plain(answer("HTTP/1.1 404 No\r\nX-Request-Id: theirs\r\nContent-Length: 0\r\n\r\n"));
    let gateway = Gateway::before(&upstream);
    assert_eq!(id_of(&ask(&gateway, get("/v1/models", "x-request-id: mine\r\n"))), "theirs");
    assert_eq!(upstream.request().head.all("x-request-id"), ["mine"]);
}

#[test]
fn answers_made_here_have_an_id_and_interim_ones_have_none() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        peer.read_request();
        peer.write("HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n");
        peer.close();
    });
    let gateway = Gateway::builder().upstream(&upstream).arg("--allow-origin", "https://a.example").start();
    let preflight = "Origin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n";
    for (request, status) in [
        (get("/", "x-request-id: mine\r\n"), 200),
        (get("*", "x-request-id: mine\r\n").replace("GET", "OPTIONS"), 204),
        (get("/v1", &format!("x-request-id: mine\r\n{preflight}")).replace("GET", "OPTIONS"), 204),
        (get("/a/../b", "x-request-id: mine\r\n"), 400),
        (get("/v1", "x-request-id: mine\r\nHost: b\r\n"), 400),
        (get("/v1", "x-request-id: mine\r\nOrigin: https://b.example\r\n"), 403),
    ] {
        let response = ask(&gateway, &request);
        assert_eq!((response.status, &*id_of(&response)), (status, "mine"), "{request}");
    }
    // What cannot be read has no id to take over.
    let unread = ask(&gateway, "GET / HTTP/1.1\r\nno colon\r\nx-request-id: mine\r\n\r\n");
    assert_eq!(unread.status, 400);
    assert!(logged(&gateway, &id_of(&unread)).contains(" status=400 "));
    let broken = ask(&gateway, get("/v1/models", ""));
    assert_eq!(broken.status, 502);
    assert!(broken.interim.iter().all(|head| head.field("x-request-id").is_none()), "{broken:?}");
    assert!(logged(&gateway, &id_of(&broken)).contains(" code=upstream_closed"));
}

#[test]
fn every_attempt_and_a_filtered_body_carry_the_same_id() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        while let Some(asked) = peer.read_request() {
            let status = if asked.credential() == "a" { 429 } else { 200 };
            peer.write(format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\n{{}}"));
        }
    });
    let gateway = Gateway::builder()
        .upstream(&upstream)
        .secrets(secrets_json(&["a", "bb"]))
        .arg("--filter", "anthropic-compat")
        .start();
    let body = r#"{"model":"m","messages":[],"context_management":{}}"#;
    for (path, version) in [("/v1/chat/completions", ""), ("/v1/messages", "anthropic-version: 2023-06-01\r\n")] {
        let before = upstream.requests().len();
        let response = ask(
            &gateway,
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{version}Content-Length: {}\r\n\r\n{body}", body.len()),
        );
        let id = id_of(&response);
        let requests = upstream.requests();
        assert!(requests.len() > before);
        for request in &requests[before..] {
            assert_eq!(request.head.all("x-request-id"), [&*id]);
        }
    }
    assert!(upstream.requests().len() > 2, "there was a second attempt");
}

#[test]
fn the_id_of_a_stream_is_in_its_line_whoever_relays_it() {
    check_at_once(["always", "never"], |pump| {
        let upstream = Upstream::plain(|peer: &mut Peer| {
            while peer.read_request().is_some() {
                peer.write(EVENT_STREAM);
                peer.write("e\r\ndata: [DONE]\n\n\r\n");
                peer.write("0\r\n\r\n");
            }
        });
        let gateway = Gateway::builder().upstream(&upstream).env("FLOW_PROXY_PUMP", pump).start();
        let mut client = Client::connect(gateway.port());
        for _ in 0..3 {
            let id = id_of(&client.ask(get("/v1/models", "")));
            assert!(logged(&gateway, &id).contains(" end=ok"), "{pump}");
        }
    });
}
