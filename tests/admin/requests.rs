//! Answers of the admin listener, and its limits for clients that are slow or many.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, Ended, Upstream, json, repeat_until_undisturbed};
use crate::{EXCHANGE_LIMIT, ask_while_well, before, page, wait_for_page};

/// The paths that who asks for another is told.
const PATHS: [&str; 7] = ["/", "/healthz", "/readyz", "/metrics", "/api/state", "/api/events", "/api/usage"];

#[test]
fn pages_are_read_with_get_and_head_and_other_paths_are_told_what_there_is() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = before(&upstream).start();
    let port = gateway.admin_port();
    for (path, content_type) in [
        ("/healthz", "application/json"),
        ("/readyz", "application/json"),
        ("/metrics", "text/plain; version=0.0.4"),
        ("/metrics?name=x", "text/plain; version=0.0.4"),
    ] {
        let (_, response) = ask_while_well(port, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!((response.status, response.field("content-type")), (200, Some(content_type)), "{path}");
        assert_eq!((response.field("connection"), response.field("cache-control")), (Some("close"), Some("no-store")));
        let (mut client, head) = ask_while_well(port, &format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!((head.status, head.field("content-type")), (200, Some(content_type)), "{path}");
        assert!(head.field("content-length").is_some_and(|length| length != "0"));
        client.expect_close();
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "get"] {
            let refused = Client::connect(port).ask(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            let told = (refused.status, refused.field("allow"), refused.error_code());
            assert_eq!(told, (405, Some("GET, HEAD"), Some("method_not_allowed")), "{method} {path}");
        }
    }
    for path in ["/healthz/", "/v1/models", "/metrics/.."] {
        let response = page(port, path);
        assert_eq!((response.status, response.error_code()), (404, Some("not_found")), "{path}");
        assert_eq!(response.json()["paths"], serde_json::json!(PATHS));
    }
}

#[test]
fn neither_web_pages_nor_names_that_others_give_out_get_anything() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = before(&upstream).start();
    let port = gateway.admin_port();
    for (fields, status, code) in [
        (format!("Host: localhost:{port}"), 200, None),
        ("Host: admin.localhost".into(), 200, None),
        ("Host: host.docker.internal:8900".into(), 200, None),
        ("Host: [::1]:8900".into(), 200, None),
        ("Host: example.com".into(), 403, Some("host_not_allowed")),
        (format!("Host: rebound.example.com:{port}"), 403, Some("host_not_allowed")),
        ("Host: 192.168.1.1".into(), 403, Some("host_not_allowed")),
        ("Host: ".into(), 400, Some("bad_request")),
        (format!("Host: localhost\r\nOrigin: http://localhost:{port}"), 403, Some("origin_not_allowed")),
        ("Host: localhost\r\nSec-Fetch-Site: cross-site".into(), 403, Some("origin_not_allowed")),
        ("Host: localhost\r\nSec-Fetch-Site: same-site".into(), 403, Some("origin_not_allowed")),
        ("Host: localhost\r\nSec-Fetch-Site: none".into(), 200, None),
        ("Host: localhost\r\nHost: localhost".into(), 400, Some("bad_request")),
        ("Accept: */*".into(), 400, Some("bad_request")),
    ] {
        for path in ["/healthz", "/metrics"] {
            let (_, response) = ask_while_well(port, &format!("GET {path} HTTP/1.1\r\n{fields}\r\n\r\n"));
            assert_eq!((response.status, response.error_code()), (status, code), "{fields}");
        }
    }
}

#[test]
fn a_head_that_is_malformed_or_too_large_is_refused_and_a_body_is_not_waited_for() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = before(&upstream).start();
    let port = gateway.admin_port();
    let large = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(9000));
    let many = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{}", "X: y\r\n".repeat(65));
    for (request, status) in [
        ("\u{16}\u{3}\u{1}", 400),
        ("GET /healthz HTTP/1.1\nHost: localhost\n\n", 400),
        ("GET /healthz HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
        (&large, 431),
        (&many, 431),
    ] {
        let mut client = Client::connect(port);
        // What follows the refused part may not be taken any more.
        let _ = client.try_send(request);
        assert_eq!(client.read_response().status, status, "{}", &request[..20.min(request.len())]);
    }
    // More than one read takes.
    let some_of_it = "x".repeat(60_000);
    let unread = format!("GET /readyz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{some_of_it}");
    repeat_until_undisturbed(|| {
        let began = Instant::now();
        let mut client = Client::connect(port);
        assert_eq!(client.ask(&unread).status, 200);
        assert_eq!(client.expect_close(), Ended::Eof);
        // What is still sent is taken, up to the limit: a reset could overtake the answer.
        let sent = (0..20).try_for_each(|_| {
            thread::sleep(Duration::from_millis(5));
            client.try_send("and some more")
        });
        assert!(sent.is_ok() || began.elapsed() >= EXCHANGE_LIMIT, "{sent:?}");
        sent.is_ok()
    });
}

#[test]
fn clients_that_hang_hold_up_nobody_and_are_given_up() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = before(&upstream).start();
    let port = gateway.admin_port();
    let hang = || {
        let mut client = Client::connect(port);
        client.send("GET /healthz HTTP/1.1\r\n");
        client
    };
    repeat_until_undisturbed(|| {
        let began = Instant::now();
        let mut first = hang();
        // More than there is room for.
        let mut hanging: Vec<Client> = (0..40).map(|_| hang()).collect();
        for path in ["/healthz", "/readyz", "/metrics"] {
            wait_for_page(port, path, |page| page.status == 200);
        }
        first.expect_close();
        // Before anybody's limit has passed: the pages waited for none of them, and the oldest has made room.
        let is_in_time = began.elapsed() < EXCHANGE_LIMIT;
        let mut last = hanging.pop().expect("forty");
        last.expect_close();
        let took = began.elapsed();
        assert!(took >= EXCHANGE_LIMIT, "{took:?}");
        is_in_time
    });
    wait_for_page(port, "/healthz", |page| page.status == 200);
}
