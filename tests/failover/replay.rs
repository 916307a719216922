//! Requests that are sent twice: which may be, and that the second time is the same, byte for byte.

use std::thread;

use crate::support::{Client, Gate, Gateway, Peer, Totals, Upstream, check_at_once, secrets_json, shown};
use crate::table::{Gets, Row, Step, check, says, tried};

const MIB: usize = 1024 * 1024;

fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

fn row(name: impl Into<String>, request: Vec<u8>) -> Row {
    Row { name: name.into(), request, ..Row::default() }
}

/// Bytes without a pattern, so that a part in the wrong place shows.
fn noise(length: usize) -> Vec<u8> {
    (0..length as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn posts_to_the_replayable_paths_and_idempotent_methods_are_tried_again() {
    let mut requests: Vec<(&str, &str)> = [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages?beta=true",
        "/v1/messages/count_tokens",
        "/v1/embeddings",
        "/v1/responses/compact",
        "/v1/responses/input_tokens?a=/1",
        "/v2/rerank",
        "/v1/moderations",
        "/gemini/v1beta/models/m:generateContent?key=k",
        "/v1beta/models/m:streamGenerateContent?alt=sse",
        "/flow-llm-proxy/gemini/v1beta/models/m%3AcountTokens?",
        "/vertex_ai/v1/projects/p/locations/l/publishers/anthropic/models/m@1:rawPredict",
        "/vertex_ai/v1/projects/p/locations/l/publishers/anthropic/models/m@1:streamRawPredict",
        "/bedrock/model/a.b%3A0/converse",
        "/bedrock/model/a.b%3A0/converse-stream",
        "/chat/completions",
        "/openai/deployments/gpt/chat/completions?api-version=1",
        "/flow-llm-proxy/v1/messages",
    ]
    .map(|path| ("POST", path))
    .into();
    requests.extend(["GET", "HEAD", "PUT", "DELETE", "OPTIONS"].map(|method| (method, "/v1/files/1")));
    let mut rows = Vec::new();
    for (method, path) in requests {
        for (first, reason) in [(says(503), "unavailable"), (Step::Closes, "upstream_closed")] {
            rows.push(Row {
                steps: vec![first.clone(), says(200)],
                tried: "ab",
                gets: Gets::Answer(1),
                reasons: vec![reason],
                ..row(
                    format!("{method} {path}: {first:?}"),
                    request(method, path, if matches!(method, "GET" | "HEAD") { "" } else { "{}" }),
                )
            });
        }
    }
    check(&rows);
}

#[test]
fn what_may_have_an_effect_is_not_tried_again_unless_it_was_refused() {
    let mut rows = Vec::new();
    for (method, path) in [
        ("POST", "/v1/batches"),
        ("POST", "/v1/files"),
        ("POST", "/v1/messages/batches"),
        ("POST", "/v1/threads/thread_1/messages"),
        ("POST", "/v1/chat/completions/1/cancel"),
        ("POST", "/v1/mycompletions"),
        ("POST", "/v1/responses/1"),
        ("POST", "/v1/x?to=/v1/messages"),
        ("POST", "/v1/x?to=m:generateContent"),
        ("POST", "/gemini/v1beta/models/m:batchGenerateContent?key=k"),
        ("POST", "/v1/images/generations"),
        ("PATCH", "/v1/chat/completions"),
        ("PATCH", "/v1/files/1"),
    ] {
        for status in [502, 503, 504] {
            rows.push(Row {
                steps: vec![says(status)],
                ..row(format!("{method} {path}: {status}"), request(method, path, "{}"))
            });
        }
        for step in [Step::Closes, Step::Resets] {
            rows.push(Row {
                steps: vec![step.clone()],
                gets: Gets::Own(502, "upstream_closed"),
                ..row(format!("{method} {path}: {step:?}"), request(method, path, "{}"))
            });
        }
        // A model that is named in the path is left alone for 10 minutes.
        let forbidden = path.contains("/models/m:").then_some(("forbidden", 600.0));
        for (status, reason, rest) in [
            (401, "refused", Some(("refused", 300.0))),
            (403, "refused", forbidden),
            (429, "rate_limited", Some(("rate_limited", 30.0))),
        ] {
            rows.push(Row {
                steps: vec![says(status), says(200)],
                tried: "ab",
                gets: Gets::Answer(1),
                reasons: vec![reason],
                cools: rest.map(|(reason, seconds)| ("a", reason, seconds)).into_iter().collect(),
                ..row(format!("{method} {path}: {status}"), request(method, path, "{}"))
            });
        }
    }
    check(&rows);
}

#[test]
fn a_body_that_is_too_large_to_be_kept_has_one_attempt() {
    let of = |length| request("POST", "/v1/messages", &"x".repeat(length));
    let mut rows = Vec::new();
    for status in [503, 401, 429] {
        rows.push(Row {
            flags: vec![("--replay-max", "1".into())],
            steps: vec![says(status)],
            copies_dropped: 1,
            ..row(format!("one byte too many: {status}"), of(MIB + 1))
        });
    }
    rows.push(Row {
        flags: vec![("--replay-max", "1".into())],
        steps: vec![Step::Closes],
        gets: Gets::Own(502, "upstream_closed"),
        copies_dropped: 1,
        ..row("one byte too many: closed", of(MIB + 1))
    });
    rows.push(Row {
        flags: vec![("--replay-max", "1".into())],
        steps: vec![says(503), says(200)],
        tried: "ab",
        gets: Gets::Answer(1),
        reasons: vec!["unavailable"],
        ..row("just fits", of(MIB))
    });
    check(&rows);
}

#[test]
fn chunks_their_extensions_and_trailers_are_sent_again_as_they_were() {
    let head =
        "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nX-One: 1\r\nTransfer-Encoding: chunked\r\nX-Two: 2\r\n\r\n";
    let body = "5;name=\"a;b\"\r\nhello\r\n00A ; y=z\r\n0123456789\r\n0;last\r\nX-Trailer: one\r\n\r\n";
    check(&[Row {
        steps: vec![says(401), says(503), says(200)],
        tried: "abc",
        gets: Gets::Answer(2),
        reasons: vec!["refused", "unavailable"],
        cools: vec![("a", "refused", 300.0)],
        ..row("chunked", format!("{head}{body}").into_bytes())
    }]);
}

/// The framing of a body that the client sends in two parts, and how the upstream reads its first part.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Framing {
    Length,
    Chunked,
}

impl Framing {
    fn field(self, length: usize) -> String {
        match self {
            Self::Length => format!("Content-Length: {length}"),
            Self::Chunked => "Transfer-Encoding: chunked".to_owned(),
        }
    }

    fn part(self, part: &[u8]) -> Vec<u8> {
        match self {
            Self::Length => part.to_vec(),
            Self::Chunked => [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat(),
        }
    }

    fn end(self) -> &'static [u8] {
        match self {
            Self::Length => b"",
            Self::Chunked => b"0\r\n\r\n",
        }
    }
}

/// An upstream whose first attempt gets its answer when half of the body has come, and whose second takes it whole.
fn answering_halfway(first: &'static str, half: usize, answered: Gate) -> Upstream {
    Upstream::plain(move |peer: &mut Peer| {
        if peer.number() > 0 {
            while peer.read_request().is_some() {
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
            return;
        }
        if peer.read_head().is_some() && peer.read_body_exact(half).is_some() {
            peer.write(first);
            answered.open();
            // What still comes is of no use to it, and closing too early would be a reset.
            peer.read_to_end();
        }
    })
}

const HALFWAY_503: &str = "HTTP/1.1 503 Later\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlater";
const HALFWAY_401: &str = "HTTP/1.1 401 Who\r\nContent-Length: 3\r\n\r\nwho";
const HALFWAY_EVENT: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: error\ndata: {\"type\":\"error\"}\n\n";

fn assert_replay_goes_on(name: &str, framing: Framing, first: &'static str, body: &[u8], begin_of_second: usize) {
    let (one, two) = body.split_at(body.len() / 2);
    let (one, two) = (framing.part(one), framing.part(two));
    let answered = Gate::new();
    let upstream = answering_halfway(first, one.len(), answered.clone());
    let secrets = secrets_json(&["a", "b", "c"]);
    let mut gateway = Gateway::builder().shards(1).secrets(secrets).upstream(&upstream).start();
    let mut client = Client::connect_unrecorded(gateway.port());
    let field = framing.field(body.len());
    client.send(format!("POST /v1/messages HTTP/1.1\r\nHost: localhost\r\n{field}\r\n\r\n"));
    client.send(&one);
    answered.pass();
    // The second attempt is there before the rest of the body is.
    client.send(&two[..begin_of_second]);
    let second = upstream.wait_for_requests(2).pop().expect("two");
    assert_eq!(second.credential(), "b", "{name}");
    client.send(&two[begin_of_second..]).send(framing.end());
    let response = client.read_response();
    assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{name}");
    let requests = upstream.requests();
    assert_eq!(tried(&requests), "ab", "{name}");
    assert_eq!(requests[1].body.len(), body.len(), "{name}");
    assert!(requests[1].body == body, "{name}: the body changed");
    let totals = Totals::at_the_end_of(&mut gateway);
    assert_eq!(["attempts", "copies_dropped"].map(|name| totals.of(name)), [2, 0], "{name}: {totals:?}");
}

#[test]
fn a_replay_while_the_body_still_arrives_sends_the_copy_and_goes_on() {
    check_at_once(
        [(HALFWAY_503, 100), (HALFWAY_503, 5 * MIB), (HALFWAY_401, 100), (HALFWAY_401, 5 * MIB), (HALFWAY_EVENT, MIB)],
        |(first, length)| {
            let body = noise(length);
            for framing in [Framing::Length, Framing::Chunked] {
                for begin_of_second in [0, 7] {
                    let name = format!("{first:?} halfway, {framing:?}, {length} bytes, {begin_of_second} more");
                    assert_replay_goes_on(&name, framing, first, &body, begin_of_second);
                }
            }
        },
    );
}

#[test]
fn a_body_that_outgrows_its_copy_during_the_replay_still_arrives_whole() {
    // The first answer comes when the copy is small; then more comes than may be kept.
    for status in ["200 OK", "503 Later"] {
        let (body, begin) = (noise(3 * MIB), 100_000);
        let one = Framing::Chunked.part(&body[..begin]);
        let answered = Gate::new();
        let (length, answering) = (one.len(), answered.clone());
        let upstream = Upstream::plain(move |peer: &mut Peer| {
            if peer.number() > 0 {
                if peer.read_request().is_some() {
                    peer.write(format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 4\r\n\r\nlast"));
                }
            } else if peer.read_head().is_some() && peer.read_body_exact(length).is_some() {
                peer.write(HALFWAY_503);
                answering.open();
                peer.read_to_end();
            }
        });
        let secrets = secrets_json(&["a", "b", "c"]);
        let mut gateway =
            Gateway::builder().shards(1).secrets(secrets).upstream(&upstream).arg("--replay-max", "1").start();
        let mut client = Client::connect_unrecorded(gateway.port());
        client.send("POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(one);
        answered.pass();
        upstream.wait_for_requests(2);
        for part in body[begin..].chunks(50_000) {
            client.send(Framing::Chunked.part(part));
        }
        let response = client.send(Framing::Chunked.end()).read_response();
        assert_eq!((response.head.start_line, response.body), (format!("HTTP/1.1 {status}"), b"last".to_vec()));
        let requests = upstream.requests();
        assert_eq!(tried(&requests), "ab", "{status}: without a copy there is no third");
        assert!(requests[1].body == body, "{status}: the body changed: {} bytes", requests[1].body.len());
        let totals = Totals::at_the_end_of(&mut gateway);
        assert_eq!(["attempts", "copies_dropped"].map(|name| totals.of(name)), [2, 1], "{status}: {totals:?}");
    }
}

#[test]
fn two_attempts_that_fail_halfway_are_followed_by_a_third() {
    let body = noise(400_000);
    let answered = Gate::new();
    let answering = answered.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        if peer.number() > 1 {
            if peer.read_request().is_some() {
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        } else if peer.read_head().is_some() && peer.read_body_exact(100_000 * (1 + peer.number())).is_some() {
            peer.write(HALFWAY_503);
            answering.open();
            peer.read_to_end();
        }
    });
    let secrets = secrets_json(&["a", "b", "c"]);
    let gateway = Gateway::builder().shards(1).secrets(secrets).upstream(&upstream).start();
    let mut client = Client::connect_unrecorded(gateway.port());
    let length = body.len();
    client.send(format!("POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"));
    for part in body[..200_000].chunks(100_000) {
        client.send(part);
        answered.pass();
    }
    assert_eq!(client.send(&body[200_000..]).read_response().text(), "ok");
    let requests = upstream.requests();
    assert_eq!(tried(&requests), "abc");
    assert!(requests[2].body == body, "the body changed");
}

#[test]
fn a_replay_of_what_came_in_many_small_parts_is_the_same() {
    let body = noise(1000);
    // A failure of the upstream is not tried again once the request has taken 15 seconds, a refusal is.
    let upstream = Upstream::plain(|peer: &mut Peer| {
        while peer.read_request().is_some() {
            let status = if peer.number() == 0 { "401 Who\r\nConnection: close" } else { "200 OK" };
            peer.write(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
            if peer.number() == 0 {
                return;
            }
        }
    });
    let gateway = Gateway::builder().shards(1).secrets(secrets_json(&["a", "b"])).upstream(&upstream).start();
    let mut client = Client::connect_unrecorded(gateway.port());
    client.send("POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for part in body.chunks(10) {
        client.send_slowly(Framing::Chunked.part(part));
    }
    client.send(Framing::Chunked.end());
    assert_eq!(client.read_response().status, 200);
    let requests = upstream.requests();
    assert_eq!(requests.len(), 2);
    for request in &requests {
        assert!(request.body == body, "the body changed: {}", shown(&request.body));
    }
    assert_eq!(shown(&requests[0].raw_body), shown(&requests[1].raw_body));
}

#[test]
fn a_body_that_was_asked_for_is_asked_for_once() {
    for first in [says(503), says(401), Step::Closes] {
        let upstream = crate::table::scripted(vec![first.clone(), says(200)], "", false);
        let secrets = secrets_json(&["a", "b"]);
        let gateway = Gateway::builder().shards(1).secrets(secrets).upstream(&upstream).start();
        let mut client = Client::connect(gateway.port());
        client.send(
            "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n",
        );
        let interim = client.read_head();
        assert!(interim.start_line.starts_with("HTTP/1.1 100"), "{interim:?}");
        client.send("hello world");
        let response = client.read_response();
        assert_eq!((response.status, response.interim.len()), (200, 0), "{first:?}: {response:?}");
        let requests = upstream.requests();
        assert_eq!(tried(&requests), "ab", "{first:?}");
        for request in requests {
            assert_eq!((request.body.as_slice(), request.head.field("expect")), (&b"hello world"[..], None));
        }
    }
}

#[test]
fn an_attempt_that_fails_before_an_expected_body_was_sent_loses_nothing() {
    // It answers the head alone, and has gone before the body comes.
    let answered = Gate::new();
    let answering = answered.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        if peer.number() == 0 {
            if peer.read_head().is_some() {
                peer.write(HALFWAY_503);
                answering.open();
                peer.read_to_end();
            }
            return;
        }
        while peer.read_request().is_some() {
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let gateway = Gateway::builder().shards(1).secrets(secrets_json(&["a", "b"])).upstream(&upstream).start();
    let mut client = Client::connect(gateway.port());
    client.send("POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    let interim = client.read_head();
    assert!(interim.start_line.starts_with("HTTP/1.1 100"), "{interim:?}");
    answered.pass();
    client.send("body");
    let response = client.read_response();
    assert_eq!((response.text().as_str(), response.interim.len()), ("ok", 0), "{response:?}");
    assert_eq!(upstream.requests().pop().expect("two").body, b"body");
}

#[test]
fn two_clients_with_slow_bodies_do_not_mix() {
    // Two exchanges of one shard are replayed at the same time.
    let both_have_come = Gate::new();
    let bodies = [noise(200_000), noise(300_000)[1000..].to_vec()];
    let waiting = both_have_come.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        if peer.number() < 2 {
            if peer.read_head().is_some() && peer.read_body_exact(50_000).is_some() {
                waiting.pass();
                peer.write(HALFWAY_503);
                peer.read_to_end();
            }
            return;
        }
        while peer.read_request().is_some() {
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let gateway = Gateway::builder().shards(1).secrets(secrets_json(&["a", "b"])).upstream(&upstream).start();
    let clients = bodies.each_ref().map(|body| {
        let mut client = Client::connect_unrecorded(gateway.port());
        let length = body.len();
        client.send(format!("PUT /v1/{length} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"));
        client.send(&body[..50_000]);
        client
    });
    upstream.wait_for_requests(2);
    both_have_come.open();
    both_have_come.open();
    upstream.wait_for_requests(4);
    thread::scope(|scope| {
        for (mut client, body) in clients.into_iter().zip(&bodies) {
            scope.spawn(move || {
                client.send(&body[50_000..]);
                assert_eq!(client.read_response().text(), "ok");
            });
        }
    });
    for request in upstream.requests().split_off(2) {
        let body = bodies.iter().find(|body| request.path().ends_with(&body.len().to_string())).expect("one of them");
        assert!(request.body == *body, "{}: the body changed", request.path());
    }
}

#[test]
fn the_copies_of_all_requests_together_are_bounded() {
    /// Below the limit of one request, and above that of the process nine times.
    const BODY: usize = 15 * MIB;
    const CLIENTS: usize = 9;
    let (arrived, gate) = (Gate::new(), Gate::new());
    let (arriving, passing) = (arrived.clone(), gate.clone());
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        if peer.read_head().is_some() && peer.discard(BODY) {
            if peer.number() < CLIENTS {
                arriving.open();
                passing.pass();
                peer.write("HTTP/1.1 401 Who\r\nConnection: close\r\nContent-Length: 3\r\n\r\nwho");
            } else {
                peer.write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
            }
        }
    });
    // Refusals, as they are followed by another credential however long the upload took; each client has one of its
    // own.
    let names: Vec<String> = (0..2 * CLIENTS).map(|number| format!("n{number}")).collect();
    let secrets = secrets_json(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let gateway = Gateway::builder().shards(1).secrets(secrets).upstream(&upstream);
    let mut gateway = gateway.arg("--retry-deadline", "600").start();
    let part = vec![b'x'; MIB];
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Client::connect_unrecorded(gateway.port());
        client.send(format!("POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: {BODY}\r\n\r\n"));
        for _ in 0..BODY / MIB {
            client.send(&part);
        }
        // One after the other, so that the last one is the one that does not fit.
        arrived.pass();
        clients.push(client);
    }
    let kept = gateway.rss_kib();
    for _ in 0..CLIENTS {
        gate.open();
    }
    let statuses: Vec<u16> = clients.iter_mut().map(|client| client.read_response().status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 200, 401]);
    assert!(kept < 170 * 1024, "{kept} KiB are more than the copies may take");
    let totals = Totals::at_the_end_of(&mut gateway);
    let counts = ["requests", "attempts", "refused", "copies_dropped"].map(|name| totals.of(name));
    assert_eq!(counts, [9, 17, 8, 1], "{totals:?}");
}

#[test]
fn a_client_whose_body_turns_out_malformed_during_the_replay_is_told_so() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        if peer.read_head().is_some() {
            if peer.number() == 0 {
                peer.write("HTTP/1.1 503 Later\r\nContent-Length: 5\r\n\r\nlater");
            }
            peer.wait_for_close();
        }
    });
    let gateway = Gateway::builder().shards(1).secrets(secrets_json(&["a", "b"])).upstream(&upstream).start();
    let mut client = Client::connect(gateway.port());
    client.send("POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n");
    upstream.wait_for_requests(2);
    client.send("no chunk\r\n");
    let response = client.read_response();
    assert_eq!((response.status, response.error_code()), (400, Some("bad_request")), "{response:?}");
    client.expect_close();
}
