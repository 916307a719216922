//! The wait of a request for the part of its body that tells who is to make it: for its model, where a credential rests
//! for one, and for an object that it names. Both end with so many bytes, pieces and milliseconds.

use crate::stored_objects::{Store, keeper, make};
use crate::support::{Client, Gateway, Upstream, chunk, secrets_json};

/// More of a body than is looked at.
const FAR_BYTES: usize = 1024 * 1024 + 64 * 1024;

/// More pieces of a body than are looked at, and one part of the copy more, which is read as a whole.
const FAR_PIECES: usize = 16 * 1024 + 8 * 1024;

/// An upstream at which `b` has used up its quota for the model `m`, and a gateway that has been told so.
fn where_b_rests() -> (Upstream, Gateway) {
    let upstream = Upstream::plain(|peer| {
        while let Some(request) = peer.read_request() {
            let is_limited = request.credential() == "b" && request.body.ends_with(b"\"m\"}");
            let head = if is_limited { "429 Limited\r\nRetry-After: 600" } else { "200 OK" };
            if !peer.write(format!("HTTP/1.1 {head}\r\nContent-Length: 2\r\n\r\n{{}}")) {
                return;
            }
        }
    });
    let gateway = Gateway::builder().upstream(&upstream).secrets(secrets_json(&["a", "b", "c"])).shards(1).start();
    for _ in 0..3 {
        assert_eq!(Client::connect(gateway.port()).ask(post(r#"{"model":"m"}"#)).status, 200);
    }
    gateway.wait_for_log("credential cools down");
    assert_eq!(asked_of_b(&upstream), 1);
    (upstream, gateway)
}

fn asked_of_b(upstream: &Upstream) -> usize {
    upstream.requests().iter().filter(|request| request.credential() == "b").count()
}

fn post(body: &str) -> String {
    let length = body.len();
    format!("POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn in_tiny_chunks(path: &str, body: &str) -> String {
    let chunks: String = body.chars().map(|letter| chunk(&letter.to_string())).collect();
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
}

#[test]
fn a_model_that_is_named_too_far_in_a_body_keeps_away_from_nobody() {
    let naming_after = |count| format!(r#"{{"messages":"{}","model":"m"}}"#, "x".repeat(count));
    for (case, request, expected) in [
        ("near", post(&naming_after(1000)), 1),
        ("far in bytes", post(&naming_after(FAR_BYTES)), 2),
        ("far in pieces", in_tiny_chunks("/v1/messages", &naming_after(FAR_PIECES)), 2),
    ] {
        let (upstream, gateway) = where_b_rests();
        // A turn of each.
        for _ in 0..3 {
            assert_eq!(Client::connect(gateway.port()).ask(&request).status, 200, "{case}");
        }
        assert_eq!(asked_of_b(&upstream), expected, "{case}");
    }
}

#[test]
fn a_model_that_does_not_come_is_not_waited_for() {
    let (upstream, gateway) = where_b_rests();
    let request = post(r#"{"messages":[],"model":"m"}"#);
    let (first, rest) = request.split_at(request.len() - "\"m\"}".len());
    for _ in 0..3 {
        let before = upstream.requests().len();
        let mut client = Client::connect(gateway.port());
        client.send(first);
        // Its head goes upstream although the model has not come.
        upstream.wait_for_requests(before + 1);
        assert_eq!(client.send(rest).read_response().status, 200);
    }
    assert_eq!(asked_of_b(&upstream), 2);
}

#[test]
fn an_object_that_is_named_too_far_in_a_body_is_not_looked_for_after_the_answer_either() {
    let upstream = keeper(&Store::default());
    let secrets = secrets_json(&["a", "b", "c", "d", "e"]);
    let gateway = Gateway::builder().upstream(&upstream).secrets(secrets).shards(1).start();
    let id = make(&gateway, "/v1/responses", "{}");
    let naming_after = |count| format!(r#"{{"input":"{}","previous_response_id":"{id}"}}"#, "x".repeat(count));
    let path = "/v1/responses";
    for (case, request, expected) in [
        ("near", in_tiny_chunks(path, &naming_after(1000)), 200),
        ("far in pieces", in_tiny_chunks(path, &naming_after(FAR_PIECES)), 400),
        ("far in bytes", post(&naming_after(FAR_BYTES)).replacen("/v1/messages", path, 1), 400),
    ] {
        let before = upstream.requests().len();
        assert_eq!(Client::connect(gateway.port()).ask(&request).status, expected, "{case}");
        if expected == 400 {
            assert_eq!(upstream.requests().len(), before + 1, "{case}: it was tried by others");
        }
    }
}
