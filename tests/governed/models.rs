//! The models that a key may use.

use crate::support::{Client, Upstream, secrets_json};
use crate::{CHAT, Files, answering, before, entry, post, post_with, telling};

#[test]
fn a_request_passes_only_with_models_that_its_key_may_use_wherever_it_names_them() {
    let upstream = Upstream::plain(answering(telling(2)));
    let files = Files::new();
    let gateway = before(&upstream, &files, &[entry("ana", r#""models":["claude-*","gpt-4o"]"#)]).start();
    let ask = |path: &str, body: &str| Client::connect(gateway.port()).ask(post("ana", path, body));
    for (path, body, is_allowed) in [
        (CHAT, r#"{"model":"claude-sonnet-4-5"}"#, true),
        ("/v1/messages", r#"{"messages":[{"model":"x"}],"model":"gpt-4o"}"#, true),
        (CHAT, r#"{"model":"claude-a, gpt-4o"}"#, true),
        (CHAT, r#"{"model":"gpt-4o-mini"}"#, false),
        (CHAT, r#"{"model":"gpt-4o","model":"gpt-5"}"#, false),
        (CHAT, r#"{"model":"gpt-4o","mod\u0065l":"gpt-5"}"#, false),
        (CHAT, r#"{"model":"claude-a,gpt-5"}"#, false),
        (CHAT, r#"{"model":["gpt-4o"]}"#, false),
        (CHAT, r#"{"model":"gpt-4o","fallbacks":["gpt-5"]}"#, false),
        (CHAT, r#"{"model":"gpt-4o"} "#, true),
        (CHAT, r#"{"model":"gpt-4o"}x"#, false),
        (CHAT, "{}", false),
        (CHAT, "", false),
        ("/openai/deployments/gpt-4o/chat/completions", r#"{"model":"gpt-4o"}"#, true),
        ("/openai/deployments/gpt-5/chat/completions", r#"{"model":"gpt-4o"}"#, false),
        ("/openai/deployments/gpt%2D4o/chat/completions", "{}", true),
        ("/openai/d%65ployments/gpt-5/chat/completions", r#"{"model":"gpt-4o"}"#, false),
        ("/v1beta/mod%65ls/gpt-5:generateContent", r#"{"model":"gpt-4o"}"#, false),
        (CHAT, r#"{"model":"gpt-4o","extra_body":{"model":"gpt-5"}}"#, false),
        ("/v1/batches", r#"{"model":"gpt-4o","input_file_id":"f"}"#, false),
        ("/v1/threads/t/runs", r#"{"model":"gpt-4o"}"#, true),
        ("/v1beta/models/claude-x:generateContent", "{}", true),
        ("/v1beta/models/gemini-2.5-pro:generateContent", "{}", false),
        ("/v1/chat/completions?model=gpt-5", r#"{"model":"gpt-4o"}"#, false),
        ("/v1/images/generations", r#"{"prompt":"x"}"#, false),
        ("/v1/batches", r#"{"input_file_id":"f"}"#, false),
        ("/v1/files", "x", true),
    ] {
        let answer = ask(path, body);
        let expected = if is_allowed { (200, None) } else { (403, Some("model_not_allowed")) };
        assert_eq!((answer.status, answer.error_code()), expected, "{path} {body}: {}", answer.text());
    }
    for (fields, body) in [
        ("Content-Encoding: gzip\r\n", r#"{"model":"gpt-4o"}"#),
        ("Content-Type: application/x-www-Form-urlencoded\r\n", r#"{"model":"gpt-4o","a":"&model=gpt-5&x="}"#),
        ("Content-Type: multipart/form-data; boundary=x\r\n", r#"{"model":"gpt-4o"}"#),
    ] {
        let refused = Client::connect(gateway.port()).ask(post_with("ana", CHAT, fields, body));
        assert_eq!(refused.error_code(), Some("model_not_allowed"), "{fields}");
    }
    let models = Client::connect(gateway.port())
        .ask(format!("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nx-api-key: {}\r\n\r\n", crate::key_of("ana")));
    assert_eq!(models.status, 200);
}

#[test]
fn the_refusal_is_in_the_dialect_of_the_path_and_the_connection_goes_on() {
    let upstream = Upstream::plain(answering(telling(2)));
    let files = Files::new();
    let gateway = before(&upstream, &files, &[entry("ana", r#""models":["a"]"#)]).start();
    let mut client = Client::connect(gateway.port());
    let refused = client.ask(post("ana", "/v1/messages", r#"{"model":"b"}"#));
    assert_eq!(refused.json()["error"]["type"], "permission_error");
    let refused = client.ask(post("ana", CHAT, r#"{"model":"b"}"#));
    assert_eq!(refused.json()["error"]["code"], "model_not_allowed");
    assert_eq!(client.ask(post("ana", CHAT, r#"{"model":"a"}"#)).status, 200);
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_body_in_chunks_is_held_until_its_model_is_known() {
    let upstream = Upstream::plain(answering(telling(2)));
    let files = Files::new();
    let gateway = before(&upstream, &files, &[entry("ana", r#""models":["a"]"#)]).start();
    for (model, status) in [("a", 200), ("b", 403)] {
        let key = crate::key_of("ana");
        let mut client = Client::connect(gateway.port());
        client.send(format!(
            "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nx-api-key: {key}\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        for part in [r#"{"messages":["#, r#"],"mod"#, r#"el":""#, model, r#""}"#] {
            client.send(crate::support::chunk(part));
        }
        client.send("0\r\n\r\n");
        assert_eq!(client.read_response().status, status, "{model}");
    }
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn requests_that_are_read_first_take_their_turns_as_all_others_do() {
    let upstream = Upstream::plain(answering(telling(2)));
    let files = Files::new();
    let entries = [entry("ana", r#""models":["a"]"#), entry("ben", r#""models":["a"],"credentials":["b","c"]"#)];
    let gateway = before(&upstream, &files, &entries).secrets(secrets_json(&["a", "b", "c"])).shards(1).start();
    for (name, expected) in [("ana", &["a", "a", "b", "b", "c", "c"][..]), ("ben", &["b", "b", "b", "c", "c", "c"])] {
        let known = upstream.requests().len();
        for _ in 0..6 {
            assert_eq!(Client::connect(gateway.port()).ask(post(name, CHAT, r#"{"model":"a"}"#)).status, 200);
        }
        let mut used: Vec<String> = upstream.requests()[known..].iter().map(|request| request.credential()).collect();
        used.sort();
        assert_eq!(used, expected, "{name}");
    }
}

#[test]
fn requests_that_are_read_first_leave_those_alone_that_rest_and_find_what_others_own() {
    let upstream = Upstream::plain(|peer| {
        while let Some(request) = peer.read_request() {
            let answer = match (request.credential().as_str(), request.path().contains("/responses/resp_1")) {
                ("a", _) => "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}",
                ("c", true) => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
                (_, true) => "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            };
            peer.write(answer);
        }
    });
    let files = Files::new();
    let entries = [entry("ana", r#""models":["a"]"#), entry("ben", "")];
    let gateway = before(&upstream, &files, &entries).secrets(secrets_json(&["a", "b", "c"])).shards(1).start();
    let ask = |name| Client::connect(gateway.port()).ask(post(name, CHAT, r#"{"model":"a"}"#)).status;
    assert!((0..6).all(|_| ask("ben") == 200));
    gateway.wait_for_log("cools down");
    let known = upstream.requests().len();
    assert!((0..6).all(|_| ask("ana") == 200));
    let used: Vec<String> = upstream.requests()[known..].iter().map(|request| request.credential()).collect();
    assert!(!used.contains(&"a".to_owned()), "{used:?}");
    let look =
        format!("GET /v1/responses/resp_1 HTTP/1.1\r\nHost: localhost\r\nx-api-key: {}\r\n\r\n", crate::key_of("ana"));
    for _ in 0..4 {
        assert_eq!(Client::connect(gateway.port()).ask(&look).status, 200);
    }
    // Once its owner is known nobody else is asked.
    let last: Vec<String> = upstream.requests().iter().rev().take(3).map(|request| request.credential()).collect();
    assert_eq!(last, ["c", "c", "c"]);
}
