//! Answers that are kept while another credential is tried: how much of them is read, and how long they are kept.

use crate::support::{Client, Gate, Gateway, POST, Peer, Upstream, secrets_json, unread_from, wait_until};
use crate::table::{Gets, Part, Row, Step, check, says, tried};

#[test]
fn a_first_answer_that_is_kept_is_passed_on_whole_however_long_it_is() {
    let text = "why not, ".repeat(40_000);
    let chunks: String =
        text.as_bytes().chunks(1000).map(|part| format!("3e8;x=y\r\n{}\r\n", part.escape_ascii())).collect();
    let with = |field: &str, body: &str| {
        let head = format!("HTTP/1.1 401 No\r\nContent-Type: text/plain\r\n{field}\r\n\r\n");
        Step::Writes(vec![Part::Bytes(head + body)])
    };
    let long = Row {
        steps: vec![with(&format!("Content-Length: {}", text.len()), &text), says(401), says(401)],
        tried: "abc",
        gets: Gets::Answer(0),
        reasons: vec!["refused"; 2],
        name: "360 KB by length".into(),
        ..Row::default()
    };
    let in_chunks = with("Transfer-Encoding: chunked", &format!("{chunks}0\r\nX-Trailer: t\r\n\r\n"));
    let steps = vec![in_chunks, says(403), says(401)];
    check(&[Row { name: "360 KB in chunks".into(), steps, ..long.clone() }, long]);
}

#[test]
fn the_next_credential_is_tried_at_once_though_the_answer_is_not_whole_yet() {
    for status in [401, 429] {
        let gate = Gate::new();
        let passing = gate.clone();
        let upstream = Upstream::plain(move |peer: &mut Peer| {
            while let Some(request) = peer.read_request() {
                if request.credential() == "a" {
                    peer.write(format!("HTTP/1.1 {status} No\r\nContent-Length: 100\r\n\r\nbecause"));
                    return peer.wait_for_close();
                }
                passing.pass();
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        });
        let gateway = Gateway::builder().shards(1).secrets(secrets_json(&["a", "b"])).upstream(&upstream).start();
        let mut client = Client::connect(gateway.port());
        client.send(POST);
        assert_eq!(tried(&upstream.wait_for_requests(2)), "ab", "{status}");
        assert_eq!(upstream.closes(), 0, "{status}: the first answer was given up too early");
        assert!(gateway.wait_for_log("another attempt").contains(" pause_ms=0"), "{status}");
        gate.open();
        let response = client.read_response();
        assert_eq!(response.text(), "ok", "{status}: {response:?}");
    }
}

#[test]
fn an_answer_that_has_come_whole_leaves_its_connection_to_the_next_attempt_however_it_came() {
    let (begun, written) = (Gate::new(), Gate::new());
    let (beginning, writing) = (begun.clone(), written.clone());
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            if request.credential() == "a" {
                beginning.pass();
                // More than one read brings.
                peer.write(format!("HTTP/1.1 401 No\r\nContent-Length: 50000\r\n\r\n{}", "x".repeat(50_000)));
                writing.open();
            } else {
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        }
    });
    let gateway = Gateway::builder().shards(1).secrets(secrets_json(&["a", "b"])).upstream(&upstream).start();
    let mut client = Client::connect(gateway.port());
    client.send(POST);
    upstream.wait_for_requests(1);
    // All of it is there when the gateway looks.
    gateway.freeze();
    begun.open();
    written.pass();
    wait_until("the answer has arrived", || unread_from(upstream.port()) > 50_000);
    gateway.signal(libc::SIGCONT);
    assert_eq!(client.read_response().text(), "ok");
    assert_eq!(tried(&upstream.requests()), "ab");
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn an_answer_that_was_kept_is_let_go_of_once_a_better_one_is_passed_on() {
    let gate = Gate::new();
    let passing = gate.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            if request.credential() == "a" {
                peer.write("HTTP/1.1 503 Later\r\nContent-Length: 100\r\n\r\nbecause");
                return peer.wait_for_close();
            }
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no");
            passing.pass();
            peer.write("k");
        }
    });
    let gateway = Gateway::builder().shards(1).secrets(secrets_json(&["a", "b"])).upstream(&upstream).start();
    let mut client = Client::connect(gateway.port());
    client.send(POST);
    // The stream may go on for minutes; the other connection must not.
    let response = client.read_response_after(b"\r\n\r\no", || {
        upstream.wait_for_close(0);
        gate.open();
    });
    assert_eq!(response.text(), "ok");
}

#[test]
fn a_kept_answer_that_is_passed_on_to_its_end_leaves_its_connection_to_the_next_exchange() {
    let gate = Gate::new();
    let passing = gate.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            if request.credential() == "a" {
                peer.write("HTTP/1.1 401 No\r\nContent-Length: 10\r\n\r\nbecause");
                passing.pass();
                peer.write(" so");
            } else {
                peer.write("HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno");
            }
        }
    });
    let gateway = Gateway::builder().shards(1).secrets(secrets_json(&["a", "b"])).upstream(&upstream).start();
    let mut client = Client::connect(gateway.port());
    client.send(POST);
    upstream.wait_for_requests(2);
    gate.open();
    assert_eq!(client.read_response().text(), "because so");
    // Once this is answered, whatever the first exchange leaves is done with.
    assert_eq!(client.ask(POST).status, 401);
    assert_eq!((upstream.connections(), upstream.closes()), (2, 0));
}
