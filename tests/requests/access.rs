//! Access to the gateway: refused are pages of other origins, requests for a foreign host name, and callers without a
//! key where keys are required; nothing of what is refused reaches the upstream.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Instant;

use crate::ask;
use crate::support::{Credential, DEADLINE, Gateway, GatewayBuilder, Upstream, answer, json};

const PAGE: &str = "https://app.example.com";
const ALICE: &str = "key-of-alice-0123456789";
const BOB: &str = "key-of-bob-0123456789";

fn get(path: &str, field_lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{field_lines}\r\n")
}

fn post(field_lines: &str) -> String {
    format!("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n{field_lines}\r\n{{}}")
}

fn pair(configure: impl FnOnce(GatewayBuilder) -> GatewayBuilder) -> (Upstream, Gateway) {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = configure(Gateway::builder().upstream(&upstream)).start();
    (upstream, gateway)
}

/// Writes a file of keys that only its owner can read.
fn keys_file(directory: &tempfile::TempDir, text: &str) -> PathBuf {
    keys_file_named("keys", directory, text)
}

fn keys_file_named(name: &str, directory: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
    path
}

#[test]
fn a_page_of_another_origin_is_refused_whatever_it_tries() {
    let (upstream, gateway) = pair(|builder| builder.arg("--allow-origin", PAGE));
    for request in [
        post("Origin: https://evil.example\r\nContent-Type: text/plain\r\n"),
        post("Origin: null\r\n"),
        post(&format!("Origin: {PAGE}.evil.example\r\n")),
        post("Origin: https://evil.example\r\nSec-Fetch-Site: same-origin\r\n"),
        get("/v1/models", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n"),
        get("/v1/models", "Sec-Fetch-Site: same-site\r\n"),
        get("/", "Origin: https://evil.example\r\n"),
        "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\
         Access-Control-Request-Method: POST\r\n\r\n"
            .to_owned(),
    ] {
        let response = ask(&gateway, &request);
        assert_eq!((response.status, response.error_code()), (403, Some("origin_not_allowed")), "{request}");
        assert!(response.text().contains("--allow-origin"), "{response:?}");
        assert_eq!(response.field("access-control-allow-origin"), None, "{response:?}");
    }
    assert_eq!(upstream.requests().len(), 0);
    // Requests of no page pass: an SDK, a person who types the address.
    assert_eq!(ask(&gateway, post("")).status, 200);
    assert_eq!(ask(&gateway, get("/", "Sec-Fetch-Site: none\r\n")).status, 200);
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn a_page_of_an_allowed_origin_gets_its_preflight_and_may_read_every_answer() {
    let upstream = Upstream::plain(answer(
        "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: https://flow.example\r\nAccess-Control-Allow-Credentials: true\r\n\
         Vary: Accept-Encoding\r\nContent-Length: 2\r\n\r\n{}",
    ));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let keys = keys_file(&directory, &format!("alice:{ALICE}\n"));
    let gateway = Gateway::builder()
        .upstream(&upstream)
        .arg("--allow-origin", "http://localhost:3000")
        .arg("--allow-origin", PAGE)
        .arg("--api-keys-file", keys.to_str().expect("a readable path"))
        .start();
    let origin = format!("Origin: {PAGE}\r\n");

    let preflight = ask(
        &gateway,
        format!(
            "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n{origin}Access-Control-Request-Method: POST\r\n\
             Access-Control-Request-Headers: authorization,content-type,x-stainless-os\r\n\
             Access-Control-Request-Private-Network: true\r\n\r\n"
        ),
    );
    assert_eq!((preflight.status, preflight.field("access-control-allow-origin")), (204, Some(PAGE)));
    let allowed = preflight.field("access-control-allow-headers").expect("named");
    assert_eq!(allowed, "authorization, content-type, x-stainless-os");
    assert!(preflight.field("access-control-allow-methods").expect("named").contains("POST"));
    assert_eq!(preflight.field("access-control-allow-private-network"), Some("true"));
    assert_eq!(upstream.requests().len(), 0, "it is answered here, and without a key");

    let key = format!("Authorization: Bearer {ALICE}\r\n");
    let answered = ask(&gateway, post(&format!("{origin}{key}")));
    assert_eq!(answered.status, 200);
    assert_eq!(answered.head.all("access-control-allow-origin"), [PAGE], "{answered:?}");
    assert_eq!(answered.head.all("access-control-allow-credentials").len(), 0, "the upstream's word does not count");
    assert_eq!(answered.head.all("vary"), ["Accept-Encoding", "Origin"]);

    // The gateway's own answers too, or the page would see a network failure instead of the error.
    for (request, status) in [
        (post(&origin), 401),
        (get("/v1/../x", &origin), 400),
        (get("/", &origin), 200),
        (format!("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n{origin}{key}\r\n"), 204),
    ] {
        let response = ask(&gateway, &request);
        assert_eq!((response.status, response.field("access-control-allow-origin")), (status, Some(PAGE)), "{request}");
        assert_eq!(response.field("vary"), Some("Origin"));
    }
    // Without a page nothing is added, and the upstream's fields are its own.
    let plain = ask(&gateway, post(&key));
    assert_eq!(plain.field("access-control-allow-origin"), Some("https://flow.example"));
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn on_loopback_the_gateway_answers_to_its_own_names_alone() {
    let (upstream, gateway) = pair(|builder| builder.arg("--allow-host", "gateway.lan"));
    let status = |host: &str| {
        let response = ask(&gateway, format!("GET /v1/models HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        (response.status, response.error_code().map(str::to_owned))
    };
    let ours = ["localhost", "127.0.0.1:1", "[::1]", "a.localhost", "host.docker.internal:8899", "GATEWAY.lan:80"];
    for host in ours {
        assert_eq!(status(host), (200, None), "{host}");
    }
    for host in ["evil.example", "evil.example:8899", "10.0.0.1", "localhost.evil.example"] {
        assert_eq!(status(host), (403, Some("host_not_allowed".into())), "{host}");
    }
    assert_eq!(upstream.requests().len(), ours.len());
    // A target in absolute form counts by itself: a client that took the gateway for a proxy is told what to do.
    let proxied = "GET http://evil.example/v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    assert_eq!(ask(&gateway, proxied).error_code(), Some("not_an_open_proxy"));
    let refused = ask(&gateway, "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert!(refused.status == 403 && refused.text().contains("--allow-host"), "{refused:?}");
}

#[test]
fn on_another_address_names_are_free_until_one_is_given() {
    let (_upstream, open) = pair(|builder| builder.arg("--host", "0.0.0.0"));
    let get = "GET /v1/models HTTP/1.1\r\nHost: anything.example\r\n\r\n";
    assert_eq!(ask(&open, get).status, 200);
    let warning = open.wait_for_log("without API keys");
    assert!(warning.contains("WARN") && warning.contains("--api-keys-file"), "{warning}");

    let keys = ("FLOW_PROXY_API_KEYS", format!("alice:{ALICE}"));
    let (_upstream, guarded) =
        pair(|builder| builder.arg("--host", "0.0.0.0").arg("--allow-host", "gateway.lan").env(keys.0, keys.1));
    assert_eq!(ask(&guarded, get).error_code(), Some("host_not_allowed"));
    assert_eq!(guarded.count_log("without API keys"), 0, "{:?}", guarded.log());
}

#[test]
fn a_caller_needs_one_of_the_keys_and_its_name_stands_in_the_log() {
    let (upstream, gateway) = pair(|builder| builder.env("FLOW_PROXY_API_KEYS", format!("alice:{ALICE}, bob:{BOB}")));
    for (field_lines, code) in [
        (String::new(), "api_key_missing"),
        ("Authorization: Bearer wrong\r\n".to_owned(), "api_key_unknown"),
        (format!("x-api-key: {ALICE}x\r\n"), "api_key_unknown"),
        (format!("Cookie: {ALICE}\r\n"), "api_key_missing"),
    ] {
        let response = ask(&gateway, post(&field_lines));
        assert_eq!((response.status, response.error_code()), (401, Some(code)), "{field_lines}");
        assert_eq!(response.field("www-authenticate"), Some("Bearer realm=\"flow-uring\""));
    }
    let messages = "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(ask(&gateway, messages).json()["error"]["type"], "authentication_error");
    assert_eq!(ask(&gateway, get("/", "")).status, 200, "a probe needs none");
    assert_eq!(upstream.requests().len(), 0);

    for (field_lines, name) in [
        (format!("Authorization: Bearer {ALICE}\r\n"), "alice"),
        (format!("x-api-key: {BOB}\r\n"), "bob"),
        (format!("api-key: {BOB}\r\n"), "bob"),
        (format!("Proxy-Authorization: Bearer {ALICE}\r\n"), "alice"),
    ] {
        assert_eq!(ask(&gateway, post(&field_lines)).status, 200, "{field_lines}");
        gateway.wait_for_log(&format!("key=\"{name}\""));
    }
    for request in upstream.requests() {
        assert_eq!(Credential::of_authorization(request.authorization()), Credential::named("alpha"));
        for field in ["x-api-key", "api-key", "proxy-authorization"] {
            assert_eq!(request.head.field(field), None, "the caller's key is not for the upstream");
        }
    }
    assert!(!gateway.log().concat().contains(ALICE) && !gateway.log().concat().contains(BOB));
}

#[test]
fn keys_are_reloaded_like_secrets_and_a_bad_file_changes_nothing() {
    let upstream = Upstream::plain(json(200, "{}"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = keys_file(&directory, &format!("alice:{ALICE}\n"));
    let gateway =
        Gateway::builder().upstream(&upstream).arg("--api-keys-file", path.to_str().expect("a readable path")).start();
    let status = |key: &str| ask(&gateway, post(&format!("x-api-key: {key}\r\n"))).status;
    assert_eq!((status(ALICE), status(BOB)), (200, 401));

    // At once, so that no look finds half of it.
    let put = |text: &str| fs::rename(keys_file_named("keys.new", &directory, text), &path).expect("renamed");
    put(&format!("bob:{BOB}\n"));
    let line = gateway.wait_for_log("the file of API keys was loaded anew");
    assert!(line.contains("added bob; removed alice"), "{line}");
    // Each shard learns of them some time after the log line, and any of them may serve a request.
    let (until, mut in_a_row) = (Instant::now() + DEADLINE, 0);
    while in_a_row < 12 {
        assert!(Instant::now() < until, "the shards go on with the keys of before");
        in_a_row = if (status(ALICE), status(BOB)) == (401, 200) { in_a_row + 1 } else { 0 };
    }

    put(&format!("{ALICE}\n"));
    gateway.signal(libc::SIGHUP);
    let line = gateway.wait_for_log("the API keys loaded before stay in use");
    assert!(line.contains("ERROR"), "{line}");
    assert_eq!((status(ALICE), status(BOB)), (401, 200));
    fs::remove_file(&path).expect("removed");
    gateway.wait_for_log("is gone; the keys loaded before stay in use");
    assert_eq!((status(ALICE), status(BOB)), (401, 200), "no file is no open door");
    assert!(!gateway.log().concat().contains(ALICE));
}

#[test]
fn a_start_with_keys_that_cannot_be_used_fails_and_shows_none_of_them() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let bad = keys_file(&directory, "no-colon-but-a-key-hunter2\n");
    let file = |path: &str| Gateway::builder().arg("--api-keys-file", path.to_owned());
    let (code, log) = file(bad.to_str().expect("a readable path")).run_to_end();
    assert_eq!((code, log.contains("line 1: expected name:key")), (Some(1), true), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
    let (code, log) = file("/nowhere/keys").run_to_end();
    assert_eq!((code, log.contains("/nowhere/keys cannot be read")), (Some(1), true), "{log}");
    let given = |builder: GatewayBuilder| builder.env("FLOW_PROXY_API_KEYS", "hunter2");
    let (code, log) = given(Gateway::builder()).run_to_end();
    assert_eq!(
        (code, log.contains("environment FLOW_PROXY_API_KEYS: entry 1: expected name:key")),
        (Some(64), true),
        "{log}"
    );
    assert!(!log.contains("hunter2"), "{log}");
    let both = file("/nowhere/keys").env("FLOW_PROXY_API_KEYS", format!("alice:{ALICE}"));
    let (code, log) = both.run_to_end();
    assert_eq!((code, log.contains("give only one of them")), (Some(64), true), "{log}");
}
