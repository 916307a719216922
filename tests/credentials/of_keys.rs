//! The credentials that a key may use: its requests use no other, and find no object of another.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::stored_objects::{Store, keeper};
use crate::support::{Client, Gateway, Peer, Request, Response, Upstream, secrets_json, wait_until};

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];
/// The keys, and the credentials that each may use; the first one all.
const ANYBODY: &str = "the-key-of-anybody-0123456789";
const GAMMA: &str = "the-key-of-the-gamma-team-0123456789";
const PAIR: &str = "the-key-of-the-pair-0123456789";

struct Place {
    gateway: Gateway,
    _directory: TempDir,
}

fn keys_file(directory: &TempDir) -> PathBuf {
    let keys = json!([
        {"name": "anybody", "key": ANYBODY},
        {"name": "gamma-team", "key": GAMMA, "credentials": ["gamma"]},
        {"name": "pair", "key": PAIR, "credentials": ["beta", "alpha"]},
    ]);
    let path = directory.path().join("keys.json");
    fs::write(&path, keys.to_string()).expect("a file in the temporary directory");
    path
}

fn start(upstream: &Upstream) -> Place {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let keys = keys_file(&directory);
    let builder = Gateway::builder().upstream(upstream).secrets(secrets_json(&NAMES)).shards(1).patient();
    let gateway = builder.arg("--api-keys-file", keys.to_str().expect("a readable path")).start();
    Place { gateway, _directory: directory }
}

impl Place {
    fn ask(&self, key: &str, method: &str, path: &str, body: &str) -> Response {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        Client::connect(self.gateway.port()).ask(head)
    }

    fn make(&self, key: &str, path: &str) -> String {
        let response = self.ask(key, "POST", path, "{}");
        assert_eq!(response.status, 200, "{response:?}");
        response.json()["id"].as_str().expect("an id").to_owned()
    }
}

fn credentials_of(requests: &[Request]) -> Vec<String> {
    requests.iter().map(Request::credential).collect()
}

/// Answers with a status for each credential, and the rest of the head.
fn answers(answer: impl Fn(&str) -> (u16, &'static str) + Send + Sync + 'static) -> Upstream {
    Upstream::plain(move |peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            let (status, fields) = answer(&request.credential());
            if !peer.write(format!("HTTP/1.1 {status} Answer\r\n{fields}Content-Length: 2\r\n\r\n{{}}")) {
                return;
            }
        }
    })
}

const CHAT: &str = "/v1/chat/completions";
const MODEL_M: &str = r#"{"model":"m","messages":[]}"#;

#[test]
fn a_keys_requests_take_turns_among_its_credentials_in_an_order_of_their_own() {
    let upstream = answers(|_| (200, ""));
    let place = start(&upstream);
    for key in [PAIR, GAMMA, ANYBODY, PAIR, ANYBODY, GAMMA, PAIR, PAIR, ANYBODY] {
        assert_eq!(place.ask(key, "POST", CHAT, MODEL_M).status, 200);
    }
    assert_eq!(
        credentials_of(&upstream.requests()),
        ["alpha", "gamma", "alpha", "beta", "beta", "gamma", "alpha", "beta", "gamma"]
    );
}

#[test]
fn whatever_fails_a_keys_requests_use_no_other_credential() {
    for status in [401, 402, 403, 429, 503] {
        let upstream = answers(move |name| if name == "gamma" { (200, "") } else { (status, "Retry-After: 1\r\n") });
        let place = start(&upstream);
        for _ in 0..4 {
            assert_eq!(place.ask(PAIR, "POST", CHAT, MODEL_M).status, status);
        }
        let used = credentials_of(&upstream.requests());
        assert!(used.iter().all(|name| name != "gamma"), "{status}: {used:?}");
        assert!(used.iter().any(|name| name == "alpha") && used.iter().any(|name| name == "beta"), "{status}");
        // Those of others find out that the two are at fault, and it stays so.
        for _ in 0..3 {
            let by_gamma = place.ask(ANYBODY, "POST", CHAT, MODEL_M).status;
            assert!(by_gamma == 200 || status == 503, "{status}: {by_gamma}");
        }
        let before = upstream.requests().len();
        assert_eq!(place.ask(PAIR, "POST", CHAT, MODEL_M).status, status);
        // Not the check in the background of who got a 403, which asks with gamma too.
        let mut asked = upstream.requests()[before..].to_vec();
        asked.retain(|request| request.path().ends_with(CHAT));
        assert!(credentials_of(&asked).iter().all(|name| name != "gamma"), "{status}");
    }
}

#[test]
fn a_limit_of_a_keys_credentials_is_none_of_all() {
    let upstream = answers(|name| if name == "gamma" { (200, "") } else { (429, "Retry-After: 30\r\n") });
    let place = start(&upstream);
    for _ in 0..3 {
        let before = upstream.requests().len();
        assert_eq!(place.ask(PAIR, "POST", CHAT, MODEL_M).status, 429);
        // One attempt alone would mean that the model is taken to be limited for everybody.
        assert!(upstream.requests().len() > before);
    }
    assert_eq!(place.gateway.count_log("limited for all credentials"), 0);
    assert_eq!(place.ask(ANYBODY, "POST", CHAT, MODEL_M).status, 200);
    assert_eq!(place.ask(GAMMA, "POST", CHAT, MODEL_M).status, 200);
}

#[test]
fn what_all_have_said_is_a_limit_of_all_also_for_a_key_with_credentials_of_its_own() {
    let upstream = answers(|_| (429, "Retry-After: 30\r\n"));
    let place = start(&upstream);
    assert_eq!(place.ask(ANYBODY, "POST", CHAT, MODEL_M).status, 429);
    assert_eq!(upstream.requests().len(), 3);
    place.gateway.wait_for_log("limited for all credentials");
    assert_eq!(place.ask(PAIR, "POST", CHAT, MODEL_M).status, 429);
    assert_eq!(upstream.requests().len(), 4, "one attempt");
}

#[test]
fn an_object_of_a_credential_that_the_key_may_not_use_is_not_found_and_nothing_goes_upstream() {
    let upstream = keeper(&Store::default());
    let place = start(&upstream);
    let [response, batch, file] =
        ["/v1/responses", "/v1/messages/batches", "/v1/files"].map(|path| place.make(PAIR, path));
    let before = upstream.requests().len();
    for (method, path, body) in [
        ("GET", format!("/v1/responses/{response}"), String::new()),
        ("DELETE", format!("/v1/files/{file}"), String::new()),
        ("POST", format!("/v1/responses/{response}/cancel"), "{}".to_owned()),
        ("GET", format!("/v1/files?limit=2&after={file}"), String::new()),
        ("POST", "/v1/responses".to_owned(), format!(r#"{{"input":"x","previous_response_id":"{response}"}}"#)),
        ("POST", "/v1/batches".to_owned(), format!(r#"{{"input_file_id":"{file}"}}"#)),
    ] {
        let answer = place.ask(GAMMA, method, &path, &body);
        assert_eq!((answer.status, answer.error_code()), (404, Some("object_not_found")), "{method} {path} {body}");
        assert_eq!(answer.json()["error"]["code"], "object_not_found");
    }
    let answer = place.ask(GAMMA, "GET", &format!("/v1/messages/batches/{batch}"), "");
    let error: Value = answer.json();
    assert_eq!(
        (answer.status, &error["type"], &error["error"]["type"]),
        (404, &json!("error"), &json!("not_found_error"))
    );
    assert_eq!(upstream.requests().len(), before, "nothing went upstream");
    // Those who may use the owner find it.
    for key in [PAIR, ANYBODY] {
        assert_eq!(place.ask(key, "GET", &format!("/v1/responses/{response}"), "").status, 200);
    }
    // And the other way round.
    let own = place.make(GAMMA, "/v1/responses");
    assert_eq!(place.ask(GAMMA, "GET", &format!("/v1/responses/{own}"), "").status, 200);
    assert_eq!(place.ask(PAIR, "GET", &format!("/v1/responses/{own}"), "").status, 404);
}

#[test]
fn an_object_of_another_is_not_found_whatever_own_object_the_body_names_before_it() {
    let upstream = keeper(&Store::default());
    let place = start(&upstream);
    let (own, own_file) = (place.make(GAMMA, "/v1/responses"), place.make(GAMMA, "/v1/files"));
    let [response, file] = ["/v1/responses", "/v1/files"].map(|path| place.make(PAIR, path));
    let before = upstream.requests().len();
    let long = "x".repeat(500);
    for (path, body) in [
        ("/v1/responses", format!(r#"{{"previous_response_id":"{own}","conversation":"{file}"}}"#)),
        ("/v1/responses", format!(r#"{{"input":"{long}","previous_response_id":"{own}","conversation":"{file}"}}"#)),
        ("/v1/responses", format!(r#"{{"previous_response_id":"{own}","previous_response_id":"{response}"}}"#)),
        ("/v1/batches", format!(r#"{{"input_file_id":"{own_file}","file_id":"{file}"}}"#)),
    ] {
        let answer = place.ask(GAMMA, "POST", path, &body);
        assert_eq!((answer.status, answer.error_code()), (404, Some("object_not_found")), "{path} {body}");
    }
    assert_eq!(upstream.requests().len(), before, "nothing went upstream");
    // Own ones alone are found, and whoever may use all goes by the first.
    for (key, body) in [
        (GAMMA, format!(r#"{{"previous_response_id":"{own}","conversation":"{own_file}"}}"#)),
        (ANYBODY, format!(r#"{{"previous_response_id":"{own}","conversation":"{file}"}}"#)),
    ] {
        assert_ne!(place.ask(key, "POST", "/v1/responses", &body).status, 404, "{body}");
        assert_eq!(credentials_of(&upstream.requests()).last().map(String::as_str), Some("gamma"));
    }
}

#[test]
fn an_object_that_nobody_knows_is_looked_for_among_the_keys_credentials_alone() {
    let store = Store::default();
    let upstream = keeper(&store);
    let place = start(&upstream);
    store.lock().expect("not poisoned").insert("old".to_owned(), "gamma".to_owned());
    let answer = place.ask(PAIR, "GET", "/v1/responses/old", "");
    assert_eq!((answer.status, answer.error_code()), (404, None), "the upstream's own");
    assert_eq!(credentials_of(&upstream.requests()), ["alpha", "beta"]);
    assert_eq!(place.ask(ANYBODY, "GET", "/v1/responses/old", "").status, 200);
    assert_eq!(place.ask(PAIR, "GET", "/v1/responses/old", "").error_code(), Some("object_not_found"), "known now");
}

#[test]
fn an_owner_that_is_found_late_and_may_not_be_used_is_not_asked() {
    let upstream = keeper(&Store::default());
    let place = start(&upstream);
    let id = place.make(GAMMA, "/v1/responses");
    let body = format!(r#"{{"previous_response_id":"{id}"}}"#);
    let mut client = Client::connect(place.gateway.port());
    let length = body.len();
    client.send(format!(
        "POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {PAIR}\r\n\
         Content-Length: {length}\r\n\r\n"
    ));
    // The search for an owner is over, and its head went by turn.
    assert!(client.is_quiet_for(Duration::from_millis(500)));
    assert_eq!(client.send(body).read_response().status, 400);
    assert_eq!(credentials_of(&upstream.requests()), ["gamma", "alpha"]);
}

#[test]
fn a_key_without_any_of_its_credentials_is_told_so_until_one_is_back() {
    let upstream = answers(|_| (200, ""));
    let mut place = start(&upstream);
    let reload = |place: &mut Place, names: &[&str], count| {
        place.gateway.replace_secrets(&secrets_json(names));
        place.gateway.signal(libc::SIGHUP);
        place.gateway.wait_for_log_count("the secrets file was loaded anew", count);
    };
    reload(&mut place, &["alpha", "beta"], 1);
    let is_told = Arc::new(AtomicBool::new(false));
    // The shard learns of it some time after the log line.
    wait_until("the key has no credential", || {
        let answer = place.ask(GAMMA, "POST", CHAT, MODEL_M);
        is_told.store(answer.error_code() == Some("no_credential"), Ordering::SeqCst);
        assert!(answer.status == 200 || answer.field("retry-after").is_some(), "{answer:?}");
        answer.status == 503
    });
    assert!(is_told.load(Ordering::SeqCst));
    assert_eq!(place.ask(PAIR, "POST", CHAT, MODEL_M).status, 200);
    reload(&mut place, &NAMES, 2);
    wait_until("the key has its credential", || place.ask(GAMMA, "POST", CHAT, MODEL_M).status == 200);
}
