//! What is in a capture: each way to fail, whoever relays the answer, and no credential.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::{
    Client, Credential, EVENT_STREAM, Peer, Upstream, check_at_once, json as answer_json, secrets_json,
};
use crate::{builder, files, post, wait_for};

const KEY: &str = "key-of-alice-0123456789";

fn field<'a>(head: &'a Value, name: &str) -> Option<&'a str> {
    let fields = head["fields"].as_array().expect("fields");
    fields.iter().find(|field| field[0].as_str().is_some_and(|found| found.eq_ignore_ascii_case(name)))?[1].as_str()
}

#[test]
fn an_error_of_the_upstream_is_kept_with_heads_bodies_and_attempts() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let captures = directory.path().join("new/captures");
    let upstream = Upstream::plain(|peer: &mut Peer| {
        while let Some(asked) = peer.read_request() {
            let status = if asked.credential() == "a" { 429 } else { 404 };
            peer.write(format!(
                "HTTP/1.1 {status} No\r\nSet-Cookie: a=hunter2\r\nX-Up: 1\r\nContent-Length: 6\r\n\r\nno/\u{e9}!"
            ));
        }
    });
    let gateway = builder(&upstream, &captures).secrets(secrets_json(&["a", "bb"])).shards(1).start();
    let request = post(
        "/v1/chat/completions?api_key=hunter2&x=1",
        "x-request-id: r-1\r\nX-Api-Key: hunter2-and-more\r\n",
        "{\"model\":\"m\"}",
    );
    assert_eq!(Client::connect(gateway.port()).ask(request).status, 404);
    let capture = &wait_for(&captures, 1)[0];
    for (name, expected) in [
        ("request_id", json!("r-1")),
        ("method", json!("POST")),
        ("path", json!("/v1/chat/completions")),
        ("status", json!(404)),
        ("end", json!("ok")),
        ("credential", json!("bb")),
    ] {
        assert_eq!(capture[name], expected, "{name}");
    }
    let (request, answer) = (&capture["request"], &capture["answer"]);
    assert_eq!(request["head"]["line"], "POST /v1/chat/completions?api_key=[masked]&x=1 HTTP/1.1");
    assert_eq!(field(&request["head"], "x-api-key"), Some("[masked]"));
    assert_eq!(request["body"], json!({"bytes": 13, "text": "{\"model\":\"m\"}", "base64": null}));
    assert_eq!(answer["head"]["line"], "HTTP/1.1 404 No");
    assert_eq!((field(&answer["head"], "x-up"), field(&answer["head"], "set-cookie")), (Some("1"), None));
    assert_eq!(answer["body"], json!({"bytes": 6, "text": "no/\u{e9}!", "base64": null}));
    let attempts: Vec<_> = capture["attempts"].as_array().expect("attempts").iter().collect();
    let told: Vec<_> = attempts.iter().map(|attempt| (&attempt["credential"], &attempt["status"])).collect();
    assert_eq!(told, [(&json!("a"), &json!(429)), (&json!("bb"), &json!(404))]);
    assert_eq!(field(&attempts[0]["head"], "set-cookie"), Some("[masked]"));
    assert_eq!(attempts[0]["decision"], "another attempt was made");
    let mode = |path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(captures.clone()), mode(files(&captures)[0].clone())), (0o700, 0o600));
    let text = fs::read_to_string(&files(&captures)[0]).expect("text");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn it_is_kept_whose_answer_was_passed_on_after_several_refusals() {
    for (statuses, number, decisions) in [
        // Of refusals the first says best what was wrong.
        (
            [403, 403],
            json!(1),
            ["another attempt was made, and in the end this answer was passed on", "no further attempt was made"],
        ),
        // The last is not held back.
        ([429, 429], Value::Null, ["another attempt was made", "its answer was passed on"]),
    ] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let upstream = Upstream::plain(move |peer: &mut Peer| {
            while let Some(asked) = peer.read_request() {
                let status = if asked.credential() == "a" { statuses[0] } else { statuses[1] };
                peer.write(format!("HTTP/1.1 {status} No\r\nContent-Length: 2\r\n\r\nno"));
            }
        });
        let gateway = builder(&upstream, directory.path()).secrets(secrets_json(&["a", "bb"])).shards(1).start();
        Client::connect(gateway.port()).ask(post("/v1/chat/completions", "", "{}"));
        let capture = &wait_for(directory.path(), 1)[0];
        let told: Vec<_> = capture["attempts"].as_array().expect("attempts").iter().collect();
        assert_eq!(told.iter().map(|attempt| &attempt["decision"]).collect::<Vec<_>>(), decisions, "{statuses:?}");
        assert_eq!((&capture["passed_on"], &capture["attempts_left_out"]), (&number, &json!(0)));
    }
}

#[test]
fn a_stream_that_breaks_is_kept_whoever_relays_it() {
    check_at_once(
        [("auto", "never"), ("epoll", "never"), ("auto", "always"), ("epoll", "always")],
        |(driver, pump)| {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let upstream = Upstream::plain(|peer: &mut Peer| {
                peer.read_request();
                peer.write(EVENT_STREAM);
                for index in 0..3 {
                    let event = format!("data: {{\"choices\":[],\"n\":{index}}}\n\n");
                    peer.write(format!("{:x}\r\n{event}\r\n", event.len()));
                }
                peer.close();
            });
            let gateway =
                builder(&upstream, directory.path()).arg("--io-driver", driver).env("FLOW_PROXY_PUMP", pump).start();
            let response = Client::connect(gateway.port()).ask(post("/v1/chat/completions", "", "{}"));
            let capture = &wait_for(directory.path(), 1)[0];
            assert_eq!((&capture["status"], &capture["end"]), (&json!(200), &json!("upstream_closed")), "{pump}");
            assert_eq!(capture["answer"]["body"]["text"], response.text(), "{driver} {pump}");
            assert!(response.text().contains("upstream_disconnected"));
            assert_eq!(capture["attempts"][0]["status"], 200);
        },
    );
}

#[test]
fn errors_made_here_are_kept_and_what_succeeds_is_not() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let upstream = Upstream::plain(|peer: &mut Peer| {
        while let Some(asked) = peer.read_request() {
            if asked.path().ends_with("/broken") {
                return peer.close();
            }
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let gateway =
        builder(&upstream, directory.path()).env("FLOW_PROXY_API_KEYS", format!("alice:{KEY}")).shards(1).start();
    let key = format!("Authorization: Bearer {KEY}\r\n");
    let ask = |path: &str, field_lines: &str| Client::connect(gateway.port()).ask(post(path, field_lines, KEY)).status;
    assert_eq!(ask("/v1/ok", &key), 200);
    assert_eq!(ask("/v1/x", "X-Wrong-Place: key-of-alice-0123456789\r\n"), 401);
    assert_eq!(ask("/v1/x", "Authorization: Bearer sk-somebody-elses\r\nX-Seen: sk-somebody-elses\r\n"), 401);
    assert_eq!(ask("/v1/x", "Origin: https://evil.example\r\n"), 403);
    assert_eq!(ask("/v1/broken", &key), 502);
    assert_eq!(Client::connect(gateway.port()).ask("no request at all\r\n\r\n").status, 400);
    let captures = wait_for(directory.path(), 5);
    let told: Vec<_> =
        captures.iter().map(|capture| (&capture["status"], capture["code"].as_str().unwrap_or(""))).collect();
    let expected = [
        (&json!(401), "api_key_missing"),
        (&json!(401), "api_key_unknown"),
        (&json!(403), "origin_not_allowed"),
        (&json!(502), "upstream_closed"),
        (&json!(400), "bad_request"),
    ];
    assert_eq!(told, expected);
    assert_eq!(captures[3]["key"], "alice");
    assert_eq!(captures[3]["request"]["body"]["text"], "*".repeat(KEY.len()));
    assert_eq!(captures[4]["request"]["head"], Value::Null);
    assert!(captures[0]["answer"]["body"]["text"].as_str().expect("text").contains("flow_uring_error"));
    for file in files(directory.path()) {
        let text = fs::read_to_string(file).expect("text");
        assert!(!text.contains(KEY) && !text.contains("somebody-elses"), "{text}");
    }
}

#[test]
fn a_token_is_masked_in_a_capture_wherever_somebody_put_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let upstream = Upstream::plain(answer_json(500, "{}"));
    let gateway = builder(&upstream, directory.path()).secrets(secrets_json(&["alpha"])).start();
    // The token is known once it was sent.
    Client::connect(gateway.port()).ask(post("/v1/x", "", ""));
    let token = upstream.request().authorization().strip_prefix("Bearer ").expect("a token").to_owned();
    let secret = Credential::named("alpha").client_secret;
    let body = format!("{{\"k\":\"{token}\",\"s\":\"{secret}\"}}");
    Client::connect(gateway.port()).ask(post("/v1/x", &format!("X-Mine: {token}\r\nX-Too: a {secret}\r\n"), &body));
    wait_for(directory.path(), 2);
    for file in files(directory.path()) {
        let text = fs::read_to_string(file).expect("text");
        let parts = token.split('.').skip(1).map(|part| &part[..32]);
        assert!(parts.chain([secret.as_str()]).all(|part| !text.contains(part)), "{text}");
    }
}

#[test]
fn a_body_that_is_no_text_is_kept_in_base64() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let upstream =
        Upstream::plain(crate::support::answer(&b"HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08"[..]));
    let gateway = builder(&upstream, directory.path()).start();
    Client::connect(gateway.port()).ask(post("/v1/x", "", "a"));
    let capture = &wait_for(directory.path(), 1)[0];
    assert_eq!(capture["answer"]["body"], json!({"bytes": 3, "text": null, "base64": "H4sI"}));
}
