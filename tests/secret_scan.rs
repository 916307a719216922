//! No output of any test's gateway holds a secret. Each gateway is searched as it ends; this searches all that the
//! whole run has recorded, so it is worth running last, too.

#![expect(clippy::disallowed_methods, reason = "a test writes files; no shard runs here")]

mod support;

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use support::{Client, Credential, Gateway, Upstream, json, observed_directory, scan_directory};

#[test]
fn no_output_of_any_test_holds_a_secret() {
    let leaks = scan_directory(&observed_directory());
    assert!(leaks.is_empty(), "{leaks:#?}");
}

#[test]
fn a_planted_secret_is_found_in_every_form() {
    let secret = Credential::named("alpha").client_secret;
    let mut planted = vec![format!("a line\nkey={secret}\n")];
    for before in ["", "x", "xy", "{\"clientSecret\":\""] {
        planted.push(format!("Bearer abc.{}.def", URL_SAFE_NO_PAD.encode(format!("{before}{secret}\"}}"))));
    }
    for text in planted {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("innocent.log"), "all is well\n").expect("a file");
        assert!(scan_directory(directory.path()).is_empty());
        fs::write(directory.path().join("planted.log"), &text).expect("a file");
        let leaks = scan_directory(directory.path());
        assert_eq!(leaks.len(), 1, "not found in {text:?}");
        assert!(!leaks[0].contains(&secret), "the report lets it out once more");
    }
}

#[test]
fn the_token_goes_to_the_upstream_alone() {
    let upstream = Upstream::tls(json(200, "{}"));
    let gateway = Gateway::before(&upstream);
    let response = Client::connect(gateway.port()).ask("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(response.status, 200);
    let sent = Credential::of_authorization(upstream.request().authorization());
    assert_eq!(sent, Credential::named("alpha"));
}
