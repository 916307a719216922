//! Stored objects (responses, files, batches and the like) go back to the credential that made them, and an id that
//! nobody knows is found by asking.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Client, Gateway, Peer, Request, Upstream, chunk, secrets_json};

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

/// The number of objects that were made.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// The objects that an upstream stores, and whose each is.
pub type Store = Arc<Mutex<HashMap<String, String>>>;

/// An upstream that keeps objects by key, as LiteLLM does: for all others there is no such object.
pub fn keeper(store: &Store) -> Upstream {
    let store = store.clone();
    Upstream::plain(move |peer| {
        while let Some(request) = peer.read_request() {
            let is_open = answer(peer, &request, &store);
            if !is_open {
                return;
            }
        }
    })
}

fn answer(peer: &mut Peer, request: &Request, store: &Store) -> bool {
    let owner = request.credential();
    let path = request.path().split('?').next().unwrap_or_default();
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let mut store = store.lock().expect("not poisoned");
    let knows = |store: &HashMap<String, String>, id: &str| store.get(id) == Some(&owner);
    for member in ["previous_response_id", "conversation", "input_file_id"] {
        if let Some(id) = body[member].as_str()
            && !knows(&store, id)
        {
            let error = format!(r#"{{"error":{{"message":"no {id}","code":"{member}_not_found"}}}}"#);
            return reply(peer, "400 Bad Request", &error);
        }
    }
    let segments: Vec<&str> = path.split('/').skip_while(|segment| !is_collection(segment)).skip(1).collect();
    if let Some(id) = segments.first().filter(|id| !id.is_empty()) {
        if !knows(&store, id) {
            return reply(peer, "404 Not Found", r#"{"error":{"message":"no such object","code":"404"}}"#);
        }
        if request.line().starts_with("DELETE") {
            store.remove(*id);
        }
        return reply(peer, "200 OK", &format!(r#"{{"id":"{id}"}}"#));
    }
    if !request.line().starts_with("POST") {
        return reply(peer, "200 OK", r#"{"data":[]}"#);
    }
    let id = format!("object_{}", MADE.fetch_add(1, Ordering::Relaxed));
    store.insert(id.clone(), owner);
    drop(store);
    if body["stream"] == true {
        let created = format!(
            "event: response.created\ndata: {{\"type\":\"response.created\",\"response\":{{\"id\":\"{id}\"}}}}\n\n"
        );
        let stream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let completed = "event: response.completed\ndata: {\"type\":\"response.completed\"}\n\n";
        return peer.write(format!("{stream}{}{}0\r\n\r\n", chunk(&created), chunk(completed)));
    }
    reply(peer, "200 OK", &format!(r#"{{"object":"stored","id":"{id}"}}"#))
}

fn is_collection(segment: &str) -> bool {
    ["responses", "files", "batches", "uploads", "vector_stores", "containers", "conversations", "threads", "videos"]
        .contains(&segment)
}

fn reply(peer: &mut Peer, status: &str, body: &str) -> bool {
    let length = body.len();
    peer.write(format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"))
}

/// Asks on a connection of its own, which any shard may get. Returns the status and the body.
fn ask(gateway: &Gateway, method: &str, path: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n");
    let response = Client::connect(gateway.port()).ask(format!("{head}Content-Length: {length}\r\n\r\n{body}"));
    (response.status, response.text())
}

/// Makes an object and returns its id.
pub fn make(gateway: &Gateway, path: &str, body: &str) -> String {
    let (status, text) = ask(gateway, "POST", path, body);
    assert_eq!(status, 200, "{text}");
    let start = text.find("object_").expect("an id");
    text[start..].split('"').next().expect("its end").to_owned()
}

fn gateway(upstream: &Upstream) -> Gateway {
    Gateway::builder().upstream(upstream).secrets(secrets_json(&NAMES)).shards(2).start()
}

#[test]
fn what_a_credential_made_is_found_at_once_on_every_path_and_shard() {
    let upstream = keeper(&Store::default());
    let gateway = gateway(&upstream);
    let paths = [
        "/v1/responses",
        "/responses",
        "/openai/v1/responses",
        "/v1/files",
        "/v1/batches",
        "/v1/messages/batches",
        "/v1/uploads",
        "/v1/vector_stores",
        "/v1/containers",
        "/v1/conversations",
        "/v1/threads",
        "/v1/videos",
    ];
    for path in paths {
        let made: Vec<String> = (0..4).map(|_| make(&gateway, path, "{}")).collect();
        for id in &made {
            for (method, below) in
                [("GET", ""), ("GET", "/content"), ("POST", "/cancel"), ("POST", "/more"), ("DELETE", "")]
            {
                let (status, text) = ask(&gateway, method, &format!("{path}/{id}{below}?a=b"), "{}");
                assert_eq!(status, 200, "{method} {path}/{id}{below}: {text}");
            }
        }
    }
    // Four objects each, five requests for each of them, and none that had to be tried again.
    assert_eq!(upstream.requests().len(), paths.len() * 4 * (1 + 5));
    // The order of turns is that of the requests without an owner.
    let makers: Vec<String> = upstream
        .requests()
        .iter()
        .filter(|request| request.line().starts_with("POST") && request.path().ends_with('s'))
        .map(Request::credential)
        .collect();
    assert!(makers.chunks(3).all(|three| three == NAMES), "{makers:?}");
}

#[test]
fn a_stream_tells_the_id_in_its_first_event() {
    let upstream = keeper(&Store::default());
    let gateway = gateway(&upstream);
    for _ in 0..6 {
        let id = make(&gateway, "/v1/responses", r#"{"stream":true}"#);
        assert_eq!(ask(&gateway, "GET", &format!("/v1/responses/{id}"), "").0, 200);
    }
    assert_eq!(upstream.requests().len(), 12);
}

#[test]
fn a_body_that_names_an_object_goes_to_its_owner_wherever_in_it_and_however_it_comes() {
    let upstream = keeper(&Store::default());
    let gateway = gateway(&upstream);
    let text = "word \\n".repeat(15_000);
    for _ in 0..4 {
        let mut id = make(&gateway, "/v1/responses", "{}");
        for body in [
            format!(r#"{{"previous_response_id":"{id}"}}"#),
            format!(r#"{{"input":"{text}","previous_response_id":"{id}"}}"#),
        ] {
            id = make(&gateway, "/v1/responses", &body);
        }
        let body = format!(r#"{{"metadata":{{"previous_response_id":"x"}},"previous_response_id":"{id}"}}"#);
        let head = "POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunks: String =
            body.as_bytes().chunks(5).map(|part| chunk(std::str::from_utf8(part).expect("text"))).collect();
        assert_eq!(Client::connect(gateway.port()).ask(format!("{head}{chunks}0\r\n\r\n")).status, 200);
        let head = format!("Content-Length: {}\r\nExpect: 100-continue\r\n\r\n", body.len());
        let mut client = Client::connect(gateway.port());
        client.send(format!("POST /v1/responses HTTP/1.1\r\nHost: localhost\r\n{head}"));
        assert_eq!(client.read_until("\r\n\r\n"), b"HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(client.send(&body).read_response().status, 200);
        let conversation = make(&gateway, "/v1/conversations", "{}");
        make(&gateway, "/v1/responses", &format!(r#"{{"conversation":"{conversation}"}}"#));
        let file = make(&gateway, "/v1/files", "{}");
        make(&gateway, "/v1/batches", &format!(r#"{{"input_file_id":"{file}"}}"#));
    }
    assert_eq!(upstream.requests().len(), 4 * 9);
}

#[test]
fn a_body_that_does_not_come_goes_by_turn() {
    let upstream = keeper(&Store::default());
    let gateway = gateway(&upstream);
    make(&gateway, "/v1/responses", "{}");
    let mut client = Client::connect(gateway.port());
    client.send("POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\n{\"stream\"");
    // Its head goes upstream although the rest of the body has not come.
    upstream.wait_for_requests(2);
    assert_eq!(client.send(":    false}").read_response().status, 200);
    assert_eq!(upstream.requests()[1].credential(), "beta");
}

#[test]
fn a_body_that_was_searched_for_an_owner_keeps_away_from_who_rests_for_its_model() {
    let upstream = Upstream::plain(|peer| {
        while let Some(request) = peer.read_request() {
            let is_limited = request.credential() == "beta" && request.body.windows(3).any(|part| part == b"\"m\"");
            let (status, body) = if is_limited { ("429 Limited", "{}") } else { ("200 OK", r#"{"id":"resp_1"}"#) };
            if !reply(peer, status, body) {
                return;
            }
        }
    });
    let gateway = Gateway::builder().upstream(&upstream).secrets(secrets_json(&NAMES)).shards(1).start();
    for _ in 0..3 {
        assert_eq!(ask(&gateway, "POST", "/v1/responses", r#"{"model":"m"}"#).0, 200);
    }
    let asked = |name: &str| upstream.requests().iter().filter(|request| request.credential() == name).count();
    assert_eq!(asked("beta"), 1);
    let body = r#"{"input":"x","model":"m"}"#;
    for _ in 0..4 {
        let mut client = Client::connect(gateway.port());
        let head = format!("Content-Length: {}\r\nExpect: 100-continue\r\n\r\n", body.len());
        client.send(format!("POST /v1/responses HTTP/1.1\r\nHost: localhost\r\n{head}"));
        assert_eq!(client.read_until("\r\n\r\n"), b"HTTP/1.1 100 Continue\r\n\r\n");
        // After the search, and within the wait for the model: it is not asked for twice.
        assert!(client.is_quiet_for(Duration::from_millis(350)));
        assert_eq!(client.send(body).read_response().status, 200);
    }
    assert_eq!(asked("beta"), 1);
}

#[test]
fn an_object_that_is_found_late_is_asked_for_with_its_owner() {
    let upstream = keeper(&Store::default());
    let names = ["a", "b", "c", "d", "e"];
    let gateway = Gateway::builder().upstream(&upstream).secrets(secrets_json(&names)).shards(1).start();
    let made: Vec<String> = names.iter().map(|_| make(&gateway, "/v1/responses", "{}")).collect();
    let body = format!(r#"{{"previous_response_id":"{}"}}"#, made[4]);
    let mut client = Client::connect(gateway.port());
    let head = format!("Content-Length: {}\r\n\r\n", body.len());
    client.send(format!("POST /v1/responses HTTP/1.1\r\nHost: localhost\r\n{head}"));
    // The search for an owner is over, and its head went by turn.
    assert!(client.is_quiet_for(Duration::from_millis(500)));
    assert_eq!(client.send(body).read_response().status, 200);
    let asked: Vec<String> = upstream.requests()[5..].iter().map(Request::credential).collect();
    assert_eq!(asked, ["a", "e"]);
}

#[test]
fn an_id_that_nobody_knows_is_found_by_asking_and_known_then() {
    let store = Store::default();
    let upstream = keeper(&store);
    let gateway = gateway(&upstream);
    for (index, (method, path, body)) in [
        ("GET", "/v1/responses/ID", ""),
        ("DELETE", "/v1/files/ID", ""),
        ("POST", "/v1/batches/ID/cancel", "{}"),
        ("POST", "/v1/responses", r#"{"input":"x","previous_response_id":"ID"}"#),
        ("POST", "/v1/responses", r#"{"input":"x","conversation":"ID"}"#),
    ]
    .into_iter()
    .enumerate()
    {
        // Against the order of turns.
        for owner in NAMES.into_iter().rev() {
            let id = format!("old_{index}_{owner}");
            store.lock().expect("not poisoned").insert(id.clone(), owner.to_owned());
            let before = upstream.requests().len();
            let (status, text) = ask(&gateway, method, &path.replace("ID", &id), &body.replace("ID", &id));
            assert_eq!(status, 200, "{method} {path} of {owner}: {text}");
            let requests = upstream.requests();
            assert!(requests.len() - before <= 3);
            assert_eq!(requests.last().expect("a request").credential(), owner);
            if path.starts_with("/v1/responses") && !body.contains("conversation") {
                assert_eq!(ask(&gateway, "GET", &format!("/v1/responses/{id}"), "").0, 200);
                assert_eq!(upstream.requests().len(), requests.len() + 1, "known now");
            }
        }
    }
    // Nobody has it: each is asked once, and the client gets what the upstream says.
    let before = upstream.requests().len();
    let (status, text) = ask(&gateway, "GET", "/v1/responses/none", "");
    assert_eq!((status, text.contains("no such object")), (404, true), "{text}");
    assert_eq!(upstream.requests().len() - before, 3);
    // What cannot be sent twice goes once, and what names no object too.
    for (method, path, body) in
        [("POST", "/v1/threads/none/messages", "{}"), ("POST", "/v1/batches", r#"{"input_file_id":"none"}"#)]
    {
        let before = upstream.requests().len();
        assert!(matches!(ask(&gateway, method, path, body).0, 400 | 404));
        assert_eq!(upstream.requests().len() - before, 1, "{path}");
    }
    // None of it was about the credentials.
    assert_eq!(gateway.count_log("cools down"), 0);
}

#[test]
fn the_owner_is_asked_alone_whatever_it_answers() {
    let upstream = Upstream::plain(|peer| {
        while let Some(request) = peer.read_request() {
            let is_open = match (request.line().starts_with("POST"), request.credential().as_str()) {
                (true, _) => reply(peer, "200 OK", r#"{"id":"resp_1"}"#),
                (false, "alpha") => reply(peer, "429 Too Many Requests", r#"{"error":{"message":"limited"}}"#),
                (false, _) => reply(peer, "404 Not Found", "{}"),
            };
            if !is_open {
                return;
            }
        }
    });
    let gateway = gateway(&upstream);
    assert_eq!(ask(&gateway, "POST", "/v1/responses", "{}").0, 200);
    for _ in 0..3 {
        assert_eq!(ask(&gateway, "GET", "/v1/responses/resp_1", "").0, 429);
    }
    assert_eq!(upstream.requests().len(), 4);
}

#[test]
fn an_owner_that_rests_is_asked_all_the_same_and_a_background_response_is_polled_until_it_is_done() {
    let polls = AtomicUsize::new(0);
    let upstream = Upstream::plain(move |peer| {
        while let Some(request) = peer.read_request() {
            let is_open = match (request.path(), request.credential().as_str()) {
                ("/flow-llm-proxy/v1/responses", "beta") => {
                    reply(peer, "200 OK", r#"{"id":"resp_1","status":"queued"}"#)
                }
                ("/flow-llm-proxy/v1/responses/resp_1", "beta") => {
                    let is_done = polls.fetch_add(1, Ordering::Relaxed) == 5;
                    let status = if is_done { "completed" } else { "in_progress" };
                    reply(peer, "200 OK", &format!(r#"{{"id":"resp_1","status":"{status}"}}"#))
                }
                (_, "beta") => {
                    let head = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n";
                    peer.write(head)
                }
                ("/flow-llm-proxy/v1/chat/completions", _) => reply(peer, "200 OK", "{}"),
                _ => reply(peer, "404 Not Found", "{}"),
            };
            if !is_open {
                return;
            }
        }
    });
    let gateway = gateway(&upstream);
    assert_eq!(ask(&gateway, "POST", "/v1/chat/completions", "{}").0, 200);
    assert_eq!(ask(&gateway, "POST", "/v1/responses", r#"{"background":true}"#).0, 200);
    // The third of these would be beta's turn.
    (0..3).for_each(|_| assert_eq!(ask(&gateway, "POST", "/v1/chat/completions", "{}").0, 200));
    let statuses: Vec<String> = (0..6).map(|_| ask(&gateway, "GET", "/v1/responses/resp_1", "").1).collect();
    assert!(statuses.iter().take(5).all(|status| status.contains("in_progress")), "{statuses:?}");
    assert!(statuses[5].contains("completed"), "{statuses:?}");
}

#[test]
fn an_error_whose_code_does_not_come_goes_on_as_it_comes() {
    let upstream = Upstream::plain(|peer| {
        while let Some(request) = peer.read_request() {
            if request.credential() != "alpha" {
                return;
            }
            peer.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 39\r\n\r\n{\"error\":{");
            peer.sleep(Duration::from_millis(600));
            peer.write(r#""code":"response_not_found"}}"#);
        }
    });
    let gateway = gateway(&upstream);
    let (status, text) = ask(&gateway, "POST", "/v1/responses", r#"{"previous_response_id":"resp_1"}"#);
    assert_eq!((status, text.as_str()), (400, r#"{"error":{"code":"response_not_found"}}"#));
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn owners_outlive_a_reload_of_other_credentials_and_a_new_order() {
    let upstream = keeper(&Store::default());
    let mut gateway = gateway(&upstream);
    let made: Vec<String> = (0..6).map(|_| make(&gateway, "/v1/responses", "{}")).collect();
    gateway.replace_secrets(&secrets_json(&["delta", "gamma", "beta"]));
    gateway.signal(libc::SIGHUP);
    gateway.wait_for_log("the secrets file was loaded anew");
    let before = upstream.requests();
    let makers: Vec<String> = before.iter().map(Request::credential).collect();
    for (id, maker) in made.iter().zip(&makers) {
        let (status, _) = ask(&gateway, "GET", &format!("/v1/responses/{id}"), "");
        // What a credential made that is gone, nobody can find.
        assert_eq!(status, if maker == "alpha" { 404 } else { 200 });
    }
}

#[test]
fn a_single_credential_asks_once() {
    let upstream = keeper(&Store::default());
    let gateway = Gateway::before(&upstream);
    let id = make(&gateway, "/v1/responses", "{}");
    assert_eq!(ask(&gateway, "GET", &format!("/v1/responses/{id}"), "").0, 200);
    assert_eq!(ask(&gateway, "GET", "/v1/responses/none", "").0, 404);
    assert_eq!(upstream.requests().len(), 3);
}
