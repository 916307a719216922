//! LiteLLM's pass-through to Gemini, which reads no `Authorization`: the token in `X-Goog-Api-Key`, in every attempt.

use crate::ask;
use crate::support::{Credential, Gateway, Peer, Request, Upstream, json, secrets_json};

const THEIRS: &str = "the-key-of-the-client";

/// Checks that both fields carry the token of one credential and that nothing else of the request carries one, and
/// returns whose it is.
fn credential_of(request: &Request) -> String {
    let token = request.authorization().strip_prefix("Bearer ").expect("a bearer token");
    assert_eq!(request.head.all("x-goog-api-key"), [token], "not the token alone, once");
    let raw = String::from_utf8(request.head.raw.clone()).expect("text");
    assert_eq!(raw.matches("eyJ").count(), 2 * token.matches("eyJ").count(), "a further token");
    assert!(!raw.contains(THEIRS), "a key of the client's");
    request.credential()
}

#[test]
fn the_token_stands_in_the_fields_of_the_pass_through_and_no_key_of_the_client_goes_on() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = Gateway::before(&upstream);
    let authority = upstream.authority();
    for (index, (target, expected)) in [
        ("/gemini/v1beta/models?key=K", "/gemini/v1beta/models"),
        (
            "/gemini/v1beta/models/m:streamGenerateContent?alt=sse&key=K",
            "/gemini/v1beta/models/m:streamGenerateContent?alt=sse",
        ),
        ("/gemini/v1beta/models?%6bey=K&pageSize=%31&key=K&keys=1", "/gemini/v1beta/models?pageSize=%31&keys=1"),
        ("/flow-llm-proxy/gemini/v1beta/models?k%65y=K&key=K", "/gemini/v1beta/models"),
        ("/%67emini/v1beta/models?key=K&a=b", "/%67emini/v1beta/models?a=b"),
        ("http://UPSTREAM/flow-llm-proxy/gemini/v1beta/models?key=K&", "/gemini/v1beta/models?"),
    ]
    .into_iter()
    .enumerate()
    {
        let target = target.replace('K', THEIRS).replace("UPSTREAM", &authority);
        let response = ask(
            &gateway,
            format!(
                "GET {target} HTTP/1.1\r\nHost: localhost\r\nx-goog-api-key: {THEIRS}\r\nAuthorization: Bearer {THEIRS}\r\n\
                 x-goog-api-client: sdk\r\n\r\n"
            ),
        );
        assert_eq!(response.status, 200, "{target}: {}", response.text());
        let request = upstream.wait_for_requests(index + 1).remove(index);
        assert_eq!(request.path(), format!("/flow-llm-proxy{expected}"), "{target}");
        assert_eq!(request.head.field("x-goog-api-client"), Some("sdk"));
        assert_eq!(credential_of(&request), "alpha");
    }
    assert_eq!(gateway.count_log(THEIRS), 0, "a key is in the log");
}

#[test]
fn elsewhere_the_field_carries_nothing_and_the_query_is_as_it_came() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = Gateway::before(&upstream);
    for (index, target) in
        ["/v1/models?key=k&a=1", "/v1/gemini/models?key=k", "/geminis/x?key=k"].into_iter().enumerate()
    {
        let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nX-Goog-Api-Key: theirs\r\n\r\n");
        assert_eq!(ask(&gateway, head).status, 200, "{target}");
        let request = upstream.wait_for_requests(index + 1).remove(index);
        assert_eq!(request.path(), format!("/flow-llm-proxy{target}"));
        assert_eq!(request.head.field("x-goog-api-key"), None, "{target}");
    }
}

#[test]
fn each_attempt_carries_the_token_of_its_own_credential_alone() {
    // Names of different lengths: no token has the length of another.
    let names = ["a", "the-second-of-them", "third"];
    let body = r#"{"contents":[]}"#;
    for status in [401, 403, 429, 503] {
        let upstream = Upstream::plain(move |peer: &mut Peer| {
            while let Some(request) = peer.read_request() {
                // A 403 is looked into in the background, by a request for the models.
                assert!(request.body == body.as_bytes() || request.path().ends_with("/v1/models"));
                let status = if request.credential() == "third" { 200 } else { status };
                peer.write(format!("HTTP/1.1 {status} So\r\nContent-Length: 2\r\n\r\n{{}}"));
            }
        });
        let gateway = Gateway::builder().upstream(&upstream).secrets(secrets_json(&names)).patient().start();
        let length = body.len();
        let response = ask(
            &gateway,
            format!(
                "POST /gemini/v1beta/models/m:generateContent?key={THEIRS}&$alt=json HTTP/1.1\r\nHost: localhost\r\n\
                 X-Goog-Api-Key: {THEIRS}\r\nContent-Length: {length}\r\n\r\n{body}"
            ),
        );
        assert_eq!(response.status, 200, "{status}");
        let requests = upstream.wait_for_requests(names.len());
        let attempts = &requests[..names.len()];
        let asked: Vec<String> = attempts.iter().map(credential_of).collect();
        assert_eq!(asked, names, "after {status}");
        for request in attempts {
            assert_eq!(request.path(), "/flow-llm-proxy/gemini/v1beta/models/m:generateContent?$alt=json");
            // The field is the token alone: what LiteLLM puts `Bearer ` before.
            let key = request.head.field("x-goog-api-key").expect("the token");
            let owner = Credential::of_authorization(&format!("Bearer {key}")).client_id;
            assert_eq!(owner.trim_end_matches("-client-id"), request.credential());
        }
        assert_eq!(gateway.count_log(THEIRS), 0, "a key is in the log");
    }
}
