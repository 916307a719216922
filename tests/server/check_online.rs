//! `flow-uring check --online` against a scripted upstream: one request with each credential, and the report on it.

use std::net::TcpListener;

use crate::support::{
    CERTIFICATES, Credential, HeldPort, Peer, SECRET_MARK, Upstream, answer, command, output_of, secrets_json,
};

/// The text of the upstream beside its status, which no output may repeat.
const UPSTREAM_TEXT: &str = "the-words-of-the-upstream";

struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs the check with the credentials of these names and the upstream's authority, and searches its output for
/// secrets.
fn check(names: &[&str], words: &[&str]) -> Outcome {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("secrets.json"), secrets_json(names)).expect("written");
    std::fs::write(directory.path().join("ca.pem"), &CERTIFICATES.authority_pem).expect("written");
    let mut command = command(env!("CARGO_BIN_EXE_flow-uring"));
    command.arg("check").args(words).current_dir(directory.path()).env_clear().env("FLOW_PROXY_USAGE_DB", "off");
    // A handshake takes longer on a busy machine.
    command.env("FLOW_PROXY_CONNECT_TIMEOUT", "600");
    let output = output_of(command);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    let outcome = Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
    for said in [&outcome.stdout, &outcome.stderr] {
        for secret in [SECRET_MARK, "eyJ", UPSTREAM_TEXT] {
            assert!(!said.contains(secret), "{secret} is in {said}");
        }
    }
    outcome
}

/// Answers each credential as its name says.
fn by_name(peer: &mut Peer) {
    let Some(request) = peer.read_request() else { return };
    let credential = Credential::of_authorization(request.authorization());
    let (status, fields) = match credential.client_id.split('-').next() {
        Some("good") => (200, ""),
        Some("wrong") => (401, ""),
        Some("limited") => (429, "Retry-After: 7\r\n"),
        _ => (503, ""),
    };
    peer.write("HTTP/1.1 103 Early Hints\r\n\r\n");
    peer.write(format!(
        "HTTP/1.1 {status} {UPSTREAM_TEXT}\r\n{fields}Content-Length: {}\r\n\r\n{UPSTREAM_TEXT}",
        UPSTREAM_TEXT.len()
    ));
}

#[test]
fn each_credential_is_tried_once_and_told_on_its_own_line() {
    for upstream in [Upstream::tls(by_name), Upstream::plain(by_name)] {
        let names = ["good", "wrong", "limited", "broken", "good-too"];
        let outcome = check(&names, &["--online", "--upstream", &upstream.url(), "--upstream-ca", "ca.pem"]);
        assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
        let found = format!(
            "GET {}/v1/models with each credential:\n  [0] good: works (200)\n  [4] good-too: works (200)\n",
            upstream.url()
        );
        assert!(outcome.stdout.ends_with(&found), "{}", outcome.stdout);
        assert_eq!(
            outcome.stderr.lines().filter(|line| line.contains(": [")).collect::<Vec<_>>(),
            [
                "warning: [2] limited: rate limited (429), retry after 7 s",
                "problem: [1] wrong: refused (401): its clientId, clientSecret or tenant is wrong, or it has no access",
                "problem: [3] broken: the upstream answered 503",
            ]
        );
        let requests = upstream.wait_for_requests(names.len());
        let mut asked: Vec<String> =
            requests.iter().map(|request| Credential::of_authorization(request.authorization()).client_id).collect();
        asked.sort();
        assert_eq!(asked, ["broken", "good", "good-too", "limited", "wrong"].map(|name| format!("{name}-client-id")));
        for request in requests {
            assert_eq!(request.line(), "GET /flow-llm-proxy/v1/models HTTP/1.1");
            assert_eq!(request.head.field("host"), Some(upstream.authority().as_str()));
        }
    }
}

#[test]
fn credentials_that_are_known_are_a_success() {
    let upstream = Upstream::tls(by_name);
    let outcome = check(&["good", "limited"], &["--online", "--upstream", &upstream.url(), "--upstream-ca", "ca.pem"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("warning: [1] limited: rate limited (429)"), "{}", outcome.stderr);
}

#[test]
fn the_protocols_that_the_upstream_offers_are_told_and_one_without_http_1_1_is_a_problem() {
    for (protocols, told) in [
        (&["h2", "http/1.1"][..], "the upstream offers h2 and http/1.1 by ALPN; the gateway uses http/1.1"),
        (&["http/1.1"], "the upstream offers http/1.1 by ALPN, and not h2"),
        (&[], "the upstream offers nothing by ALPN; the gateway speaks HTTP/1.1 without"),
    ] {
        let upstream = Upstream::tls_offering(protocols, by_name);
        let outcome = check(&["good"], &["--online", "--upstream", &upstream.url(), "--upstream-ca", "ca.pem"]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        assert!(outcome.stdout.contains(&format!("\n{told}\nGET ")), "{}", outcome.stdout);
        assert_eq!(upstream.requests().len(), 1, "no request is made for it");
    }
    for (protocols, told) in [
        (&["h2"][..], "problem: the upstream offers h2 alone by ALPN, and the gateway speaks HTTP/1.1"),
        (&["h3"], "problem: the upstream offers neither h2 nor http/1.1 by ALPN, and the gateway speaks HTTP/1.1"),
    ] {
        let upstream = Upstream::tls_offering(protocols, by_name);
        let outcome = check(&["good"], &["--online", "--upstream", &upstream.url(), "--upstream-ca", "ca.pem"]);
        assert_eq!(outcome.code, Some(1), "{}", outcome.stdout);
        assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
        let reason = "problem: [0] good: the upstream cannot be reached: it does not take HTTP/1.1 (ALPN)";
        assert!(outcome.stderr.contains(reason), "{}", outcome.stderr);
    }
    let plain = Upstream::plain(by_name);
    let outcome = check(&["good"], &["--online", "--upstream", &plain.url()]);
    assert!(outcome.code == Some(0) && !outcome.stdout.contains("ALPN"), "{}", outcome.stdout);
}

#[test]
fn more_credentials_than_are_tried_at_once_are_all_tried() {
    let upstream = Upstream::plain(by_name);
    let names: Vec<String> = (0..19).map(|index| format!("good-{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let outcome = check(&names, &["--online", "--upstream", &upstream.url()]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!(outcome.stdout.matches(": works (200)\n").count(), 19, "{}", outcome.stdout);
    assert_eq!(upstream.requests().len(), 19);
}

#[test]
fn no_network_is_touched_unless_all_else_is_good_and_it_was_asked_for() {
    let upstream = Upstream::plain(by_name);
    assert_eq!(check(&["good"], &["--upstream", &upstream.url()]).code, Some(0));
    assert_eq!(check(&["good"], &["--online", "--upstream", &upstream.url(), "--port", "x"]).code, Some(1));
    let absent = ["--online", "--upstream", &upstream.url(), "--secrets-file", "absent.json"];
    assert_eq!(check(&["good"], &absent).code, Some(1));
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn an_upstream_that_cannot_be_used_is_a_problem_that_says_why() {
    let closed = HeldPort::reserve();
    // Takes connections into its queue, and never a byte.
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("bound");
    let silent_address = silent.local_addr().expect("bound");
    let untrusted = Upstream::tls(by_name);
    let deaf = Upstream::plain(|peer| drop(peer.read_request()));
    let garbled = Upstream::plain(answer(format!("SMTP {UPSTREAM_TEXT}\r\n\r\n")));
    for (url, connect_timeout, told) in [
        (format!("http://{}", closed.address()), "600", "the upstream cannot be reached: Connection refused"),
        (
            format!("https://{silent_address}"),
            "0.3",
            "the upstream cannot be reached: no connection within 0.3 s (--connect-timeout)",
        ),
        (untrusted.url(), "600", "the upstream cannot be reached: its certificate was refused: "),
        (deaf.url(), "600", "the upstream gave no answer: the connection was closed"),
        (garbled.url(), "600", "the upstream gave no answer: "),
    ] {
        let outcome = check(&["good"], &["--online", "--connect-timeout", connect_timeout, "--upstream", &url]);
        assert_eq!(outcome.code, Some(1), "{url}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(&format!("problem: [0] good: {told}")), "{url}: {}", outcome.stderr);
    }
}
