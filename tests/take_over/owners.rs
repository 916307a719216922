//! What a gateway knows of the owners of stored objects goes to its successor; what nobody handed over is found by
//! asking.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::Place;
use crate::support::{Client, Gateway, Upstream, secrets_json};

/// Enough for sets that are nearly full, and few enough for a test.
const OBJECTS: usize = 10_000;
const CONNECTIONS: usize = 8;

/// An upstream that keeps responses by key.
fn keeper() -> Upstream {
    let store: Arc<Mutex<HashMap<String, String>>> = Arc::default();
    Upstream::plain(move |peer| {
        while let Some(request) = peer.read_request() {
            let mut store = store.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let id = request.path().rsplit('/').next().unwrap_or_default().to_owned();
            let (status, id) = if request.line().starts_with("POST") {
                let id = format!("resp_{}", store.len());
                store.insert(id.clone(), request.credential());
                ("200 OK", id)
            } else if store.get(&id) == Some(&request.credential()) {
                ("200 OK", id)
            } else {
                ("404 Not Found", id)
            };
            drop(store);
            let body = format!(r#"{{"id":"{id}"}}"#);
            if !peer.write(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())) {
                return;
            }
        }
    })
}

/// Asks for what `requests` say, over some connections at once. Returns how many answers were a 200.
fn ask_all(gateway: &Gateway, requests: impl Fn(usize) -> String + Sync) -> usize {
    thread::scope(|scope| {
        let requests = &requests;
        let ask = |start: usize| {
            move || {
                let mut client = Client::connect_unrecorded(gateway.port());
                let numbers = (start..OBJECTS).step_by(CONNECTIONS);
                numbers.filter(|number| client.ask(requests(*number)).status == 200).count()
            }
        };
        let asking: Vec<_> = (0..CONNECTIONS).map(|start| scope.spawn(ask(start))).collect();
        asking.into_iter().map(|asking| asking.join().expect("no panic")).sum()
    })
}

fn get_all(gateway: &Gateway) -> usize {
    ask_all(gateway, |number| format!("GET /v1/responses/resp_{number} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
}

#[test]
fn ten_thousand_responses_are_found_by_two_shards_by_a_successor_and_after_a_restart() {
    let place = Place::before(keeper());
    let build = || place.builder().secrets(secrets_json(&["alpha", "beta", "gamma"])).shards(2);
    let mut running = build().start();
    let post = "POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
    let asked = || place.upstream.requests().len();
    assert_eq!(ask_all(&running, |_| post.to_owned()), OBJECTS);
    assert_eq!((get_all(&running), asked()), (OBJECTS, 2 * OBJECTS), "each at its first attempt");
    let port = running.port().to_string();
    let mut successor = place.start(|| build().arg("--port", port.clone()).switch("--take-over"));
    assert_eq!(running.wait().code(), Some(0));
    assert_eq!((get_all(&successor), asked()), (OBJECTS, 3 * OBJECTS), "all were handed over");
    successor.terminate();
    assert_eq!(successor.wait().code(), Some(0));
    let restarted = build().start();
    assert_eq!(get_all(&restarted), OBJECTS);
    assert!(asked() > 4 * OBJECTS + OBJECTS / 3, "they were found by asking: {}", asked());
}
