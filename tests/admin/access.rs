//! Who may see the page and its API: by the host that is called, the page that asks, the token and the session.

use crate::before;
use crate::support::{Client, Gateway, Response, Upstream, json as answer};

const TOKEN: &str = "a-token-of-24-characters";

/// Asks with these header lines.
fn ask(gateway: &Gateway, line: &str, fields: &str) -> Response {
    Client::connect(gateway.admin_port()).ask(format!("{line} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"))
}

/// Starts a gateway whose admin pages are on this address, with or without a file with the token.
fn started(upstream: &Upstream, admin: &str, file: Option<&tempfile::NamedTempFile>) -> Gateway {
    let gateway = Gateway::builder().upstream(upstream).arg("--admin", admin).env("FLOW_PROXY_USAGE_DB", "off");
    match file {
        Some(file) => gateway.arg("--admin-token-file", file.path().to_str().expect("text")).start(),
        None => gateway.start(),
    }
}

fn token_file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("{TOKEN}\n")).expect("written");
    file
}

/// The lines of all requests that need the token.
const GUARDED: [&str; 4] = ["GET /api/state", "GET /api/events", "GET /api/usage", "POST /api/credentials/alpha/wake"];

#[test]
fn an_address_that_others_reach_shows_nothing_but_health_and_metrics_until_there_is_a_token() {
    let upstream = Upstream::plain(answer(200, "{}"));
    let gateway = started(&upstream, "0.0.0.0:0", None);
    for line in GUARDED.into_iter().chain(["GET /"]) {
        let refused = ask(&gateway, line, "");
        assert_eq!((refused.status, refused.error_code()), (403, Some("token_file_needed")), "{line}");
        assert!(refused.text().contains("--admin-token-file"), "{line}");
    }
    for line in ["GET /healthz", "GET /readyz", "GET /metrics"] {
        assert_ne!(ask(&gateway, line, "").status, 403, "{line}");
    }
}

#[test]
fn scrapers_call_a_listener_on_all_addresses_by_any_of_them_and_no_other_listener() {
    let upstream = Upstream::plain(answer(200, "{}"));
    for (admin, taken) in [("0.0.0.0:0", true), ("127.0.0.1:0", false)] {
        let builder = Gateway::builder().upstream(&upstream).arg("--admin", admin).arg("--allow-host", "gateway.lan");
        let gateway = builder.start();
        let status = |host: &str| {
            let request = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n");
            Client::connect(gateway.admin_port()).ask(request).status
        };
        for host in ["10.1.2.3:8900", "10.1.2.3", "[2001:db8::7]:8900"] {
            assert_eq!(status(host), if taken { 200 } else { 403 }, "{admin} {host}");
        }
        for host in ["rebound.example", "10.1.2.3.example:8900", "1.2.3", "0x0a010203"] {
            assert_eq!(status(host), 403, "{admin} {host}");
        }
        assert_eq!(status("gateway.lan:8900"), 200, "{admin}");
    }
}

#[test]
fn the_token_is_asked_for_where_there_is_one_and_a_wrong_one_waits_alone() {
    let (upstream, file) = (Upstream::plain(answer(200, "{}")), token_file());
    for admin in ["0.0.0.0:0", "127.0.0.1:0"] {
        let gateway = started(&upstream, admin, Some(&file));
        for line in GUARDED {
            let refused = ask(&gateway, line, "");
            assert_eq!((refused.status, refused.error_code()), (401, Some("token_missing")), "{line}");
            assert!(refused.field("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
        }
        let mut guessing = Client::connect(gateway.admin_port());
        guessing.send("GET /api/state HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong\r\n\r\n");
        let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
        assert_eq!(ask(&gateway, "GET /api/state", &bearer).status, 200);
        let refused = guessing.read_response();
        assert_eq!((refused.status, refused.error_code()), (401, Some("token_wrong")));
        assert_eq!(ask(&gateway, "GET /", "").status, 200, "the page asks for the token");
    }
}

#[test]
fn a_log_in_makes_a_session_that_ends_when_its_owner_logs_out_or_the_token_changes() {
    let (upstream, file) = (Upstream::plain(answer(200, "{}")), token_file());
    let mut gateway = started(&upstream, "0.0.0.0:0", Some(&file));
    gateway.note_password(TOKEN);
    let log_in = |body: &str| {
        let fields = format!("Content-Length: {}\r\n\r\n{body}", body.len());
        let request = format!("POST /login HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n{fields}");
        Client::connect(gateway.admin_port()).ask(request)
    };
    assert_eq!(log_in(r#"{"token":"wrong"}"#).error_code(), Some("token_wrong"));
    assert_eq!(log_in("nothing").error_code(), Some("log_in_malformed"));
    assert_eq!(ask(&gateway, "POST /login", "Transfer-Encoding: chunked\r\n").error_code(), Some("log_in_malformed"));
    let session = |body: &str| {
        let response = log_in(body);
        assert_eq!(response.status, 200);
        let cookie = response.field("set-cookie").expect("a cookie");
        let (value, attributes) = cookie.split_once("; ").expect("attributes");
        assert_eq!(attributes, "HttpOnly; SameSite=Strict; Path=/; Max-Age=43200");
        assert!(!cookie.contains(TOKEN));
        format!("Cookie: {value}\r\n")
    };
    let (one, other) = (session(&format!(r#"{{"token":"{TOKEN}"}}"#)), session(&format!("token={TOKEN}")));
    let statuses = || [&one, &other].map(|cookie| ask(&gateway, "GET /api/state", cookie).status);
    assert_eq!(statuses(), [200, 200]);
    assert_eq!(ask(&gateway, "POST /logout", &one).status, 200);
    assert_eq!(statuses(), [401, 200]);
    std::fs::write(file.path(), "another-token-of-32-characters-x").expect("written");
    gateway.signal(libc::SIGHUP);
    gateway.wait_for_log("the token of the admin pages was loaded anew");
    assert_eq!(statuses(), [401, 401]);
    let bearer = "Authorization: Bearer another-token-of-32-characters-x\r\n";
    assert_eq!(ask(&gateway, "GET /api/state", bearer).status, 200);
}

#[test]
fn other_pages_and_other_hosts_may_neither_look_nor_change_anything() {
    let upstream = Upstream::plain(answer(200, "{}"));
    let gateway = before(&upstream).env("FLOW_PROXY_USAGE_DB", "off").start();
    let port = gateway.admin_port();
    for (fields, status) in [
        (format!("Host: localhost:{port}"), 200),
        (format!("Host: localhost:{port}\r\nOrigin: http://localhost:{port}"), 200),
        (format!("Host: localhost:{port}\r\nOrigin: http://localhost:{port}\r\nSec-Fetch-Site: same-origin"), 200),
        (format!("Host: localhost:{port}\r\nSec-Fetch-Site: none"), 200),
        (format!("Host: localhost:{port}\r\nOrigin: http://localhost:3000"), 403),
        (format!("Host: localhost:{port}\r\nOrigin: http://127.0.0.1:{port}"), 403),
        (format!("Host: localhost:{port}\r\nOrigin: null"), 403),
        (format!("Host: localhost:{port}\r\nSec-Fetch-Site: same-site"), 403),
        (format!("Host: localhost:{port}\r\nSec-Fetch-Site: cross-site"), 403),
        (format!("Host: rebound.example:{port}\r\nOrigin: http://rebound.example:{port}"), 403),
    ] {
        for line in ["POST /api/credentials/alpha/wake", "GET /api/state"] {
            let response = Client::connect(port).ask(format!("{line} HTTP/1.1\r\n{fields}\r\n\r\n"));
            assert_eq!(response.status, status, "{line} {fields}");
        }
    }
}

#[test]
fn the_page_is_of_one_origin_and_in_no_cache() {
    let upstream = Upstream::plain(answer(200, "{}"));
    let gateway = before(&upstream).start();
    let page = ask(&gateway, "GET /", "");
    assert_eq!((page.status, page.field("content-type")), (200, Some("text/html; charset=utf-8")));
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        (
            "content-security-policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
             base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        ),
    ] {
        assert_eq!(page.field(name), Some(value), "{name}");
    }
}

#[test]
fn a_file_that_gives_no_token_ends_the_start() {
    let upstream = Upstream::plain(answer(200, "{}"));
    let file = token_file();
    std::fs::write(file.path(), "too-short").expect("written");
    let path = file.path().to_str().expect("text").to_owned();
    let (code, output) = Gateway::builder().upstream(&upstream).arg("--admin-token-file", path).run_to_end();
    assert!(
        code == Some(1) && output.contains("16 to 1024 visible ASCII characters") && !output.contains("too-short"),
        "{output}"
    );
}
