//! Errors inside a 200: an event stream's first events are held for a moment, and an error among them is tried again;
//! all else goes out unmodified and undelayed.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::support::{
    Client, Gate, Gateway, POST, Peer, Totals, Upstream, chunk, is_error_event, lines_saying, parse_events,
    repeat_until_undisturbed, secrets_json, shown,
};
use crate::table::{Gets, Part, Row, Step, check, says};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Accel-Buffering: no\r\n\
                       Transfer-Encoding: chunked\r\n\r\n";
const CONTENT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a word\"}}]}\n\n";

/// The longest that an event stream's beginning may be held.
const HELD_FOR_MAX: Duration = Duration::from_millis(250);
/// The pause between two parts of a stream, so that they are read one by one.
const APART: Duration = Duration::from_millis(10);

const RATE_LIMITS: [&str; 5] = [
    "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"wait\"}}\n\n",
    "data: {\"error\":{\"message\":\"Rate limit reached for requests\",\"type\":\"requests\"}}\n\n",
    "data: {\"error\":{\"message\":\"slow down\",\"code\":\"rate_limit_exceeded\"}}\n\n",
    "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"x\"}}}\n\n",
    "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"rate_limit_exceeded\"}}}\n\n",
];

const OTHER_ERRORS: [&str; 8] = [
    "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n",
    "event: error\ndata: it broke\n\n",
    "event:error\r\ndata:{}\r\n\r\n",
    "data: {\"type\":\"error\",\"error\":{\"type\":\"api_error\"}}\n\n",
    "data: {\"type\": \"error\", \"message\": \"it broke\"}\n\n",
    "data: {\"error\":{\"message\":\"it broke\",\"code\":500}}\n\n",
    "data: {\"error\": \"it broke\"}\n\n",
    "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"server_error\"}}}\n\n",
];

/// Bytes that may come before the first event.
const PREAMBLES: [&str; 6] = [
    ": a comment\n\n",
    "event: ping\ndata: {\"type\":\"ping\"}\n\n",
    "data: {\"type\": \"ping\"}\n\n",
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"1\",\"content\":[]}}\n\n",
    "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"error\":null}}\n\n",
    "data: {\"type\":\"response.in_progress\",\"response\":{\"error\":null,\"output\":[]}}\n\n",
];

/// A whole chunked event stream, one chunk for each of these.
fn stream(events: &[&str]) -> Step {
    let chunks: String = events.iter().map(|event| chunk(event)).collect();
    Step::Writes(vec![Part::Bytes(format!("{CHUNKED}{chunks}0\r\n\r\n"))])
}

/// The same on a connection that closes with it.
fn closing(events: &[&str]) -> Step {
    let Step::Writes(parts) = stream(events) else { unreachable!("it is written") };
    let close = |part| match part {
        Part::Bytes(bytes) => Part::Bytes(bytes.replacen("\r\n", "\r\nConnection: close\r\n", 1)),
        pause => pause,
    };
    Step::Writes(parts.into_iter().map(close).collect())
}

/// Head, then each of these after a pause.
fn paused(pause: Duration, events: &[&str]) -> Step {
    let mut parts = vec![Part::Bytes(CHUNKED.to_owned())];
    for event in events {
        parts.extend([Part::Pause(pause), Part::Bytes(chunk(event))]);
    }
    parts.push(Part::Bytes("0\r\n\r\n".to_owned()));
    Step::Writes(parts)
}

fn row(name: impl Into<String>) -> Row {
    Row { name: name.into(), patience: HELD_FOR_MAX, ..Row::default() }
}

/// An error that is tried again, and content then.
fn retried(name: impl Into<String>, first: Step, reason: &'static str) -> Row {
    let cools = if reason == "rate_limited" { vec![("a", "rate_limited", 30.0)] } else { Vec::new() };
    let content = stream(&[CONTENT, "data: [DONE]\n\n"]);
    let row = Row { steps: vec![first, content], tried: "ab", gets: Gets::Answer(1), ..row(name) };
    // Later than that the error is no longer held.
    Row { patience: HELD_FOR_MAX - row.delay(), reasons: vec![reason], cools, ..row }
}

#[test]
fn an_error_that_comes_first_is_tried_again_as_what_it_says() {
    let mut rows = Vec::new();
    for event in RATE_LIMITS {
        rows.push(retried(event, stream(&[event]), "rate_limited"));
    }
    for event in OTHER_ERRORS {
        rows.push(retried(event, stream(&[event]), "unavailable"));
    }
    check(&rows);
}

#[test]
fn an_error_after_a_preamble_is_tried_again() {
    let mut rows: Vec<Row> = PREAMBLES
        .iter()
        .map(|preamble| retried(*preamble, stream(&[preamble, OTHER_ERRORS[0]]), "unavailable"))
        .collect();
    let all: Vec<&str> = PREAMBLES.iter().copied().chain([RATE_LIMITS[0]]).collect();
    rows.push(retried("all preambles", stream(&all), "rate_limited"));
    rows.push(retried("all in one chunk", stream(&[&all.concat()]), "rate_limited"));
    rows.push(retried("in time", paused(APART, &[PREAMBLES[1], OTHER_ERRORS[0]]), "unavailable"));
    let (begin, end) = OTHER_ERRORS[0].split_at(9);
    rows.push(retried("in two parts", paused(APART, &[begin, end]), "unavailable"));
    let crlf = OTHER_ERRORS[0].replace('\n', "\r\n");
    rows.push(retried("with CRLF", stream(&[&crlf]), "unavailable"));
    let bom = format!("\u{feff}{}", OTHER_ERRORS[0]);
    rows.push(retried("after a byte order mark", stream(&[&bom]), "unavailable"));
    check(&rows);
}

#[test]
fn an_error_is_found_however_the_stream_is_framed_and_named() {
    let error = OTHER_ERRORS[0];
    let framed = |fields: &str, body: &str| {
        Step::Writes(vec![Part::Bytes(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{body}"))])
    };
    let length = error.len();
    check(&[
        retried(
            "by length",
            framed(&format!("Content-Type: text/event-stream\r\nContent-Length: {length}"), error),
            "unavailable",
        ),
        retried(
            "a parameter and another case",
            framed(&format!("content-type: Text/Event-Stream; charset=utf-8\r\nContent-Length: {length}"), error),
            "unavailable",
        ),
        retried(
            "coded as identity",
            framed(
                &format!("Content-Type: text/event-stream\r\nContent-Encoding: identity\r\nContent-Length: {length}"),
                error,
            ),
            "unavailable",
        ),
    ]);
}

#[test]
fn an_error_is_found_over_tls_too() {
    let first = paused(APART, &[PREAMBLES[0], OTHER_ERRORS[0]]);
    check(&[Row { is_tls: true, ..retried("over TLS", first, "unavailable") }]);
}

#[test]
fn a_close_delimited_stream_is_looked_into_too() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        if let Some(request) = peer.read_request() {
            let event = if request.credential() == "a" { OTHER_ERRORS[0] } else { CONTENT };
            peer.write(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n{event}"
            ));
        }
    });
    let gateway = Gateway::builder().secrets(secrets_json(&["a", "b"])).upstream(&upstream).start();
    let response = Client::connect(gateway.port()).ask(POST);
    assert!(response.text().starts_with(CONTENT), "{response:?}");
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn an_error_that_is_not_tried_again_goes_out_unmodified() {
    let limited = stream(&[PREAMBLES[0], PREAMBLES[3], RATE_LIMITS[0]]);
    let broken = |number: usize| stream(&[PREAMBLES[4], OTHER_ERRORS[number]]);
    check(&[
        Row {
            steps: vec![broken(0), broken(3), broken(5)],
            tried: "abc",
            gets: Gets::Answer(2),
            reasons: vec!["unavailable"; 2],
            ..row("all attempts end in an error: the last one")
        },
        Row {
            steps: vec![limited.clone(), limited.clone(), limited.clone()],
            tried: "abc",
            gets: Gets::Answer(2),
            reasons: vec!["rate_limited"; 2],
            ..row("all are rate limited")
        },
        Row {
            secrets: secrets_json(&["a"]),
            steps: vec![limited.clone()],
            ..row("the only credential is rate limited")
        },
        Row {
            request: POST.replace("/v1/chat/completions", "/v1/batches").into_bytes(),
            steps: vec![broken(0)],
            ..row("what may have an effect")
        },
        Row {
            steps: vec![broken(0), says(500)],
            tried: "ab",
            gets: Gets::Answer(1),
            reasons: vec!["unavailable"],
            ..row("an error event, then another status")
        },
        Row {
            steps: vec![closing(&[PREAMBLES[4], OTHER_ERRORS[0]]), Step::Closes, Step::Closes],
            tried: "abc",
            gets: Gets::Answer(0),
            reasons: vec!["unavailable", "upstream_closed"],
            ..row("an error event is an answer, and the last one there was")
        },
    ]);
}

#[test]
fn what_only_looks_like_an_error_is_passed_on() {
    let ok = |name: &str, step: Step| Row { steps: vec![step], ..row(name) };
    let json = "{\"error\":{\"type\":\"rate_limit_error\"}}";
    let other_type = |kind: &str, coding: &str| {
        let body = if kind == "text/event-stream" { OTHER_ERRORS[0] } else { json };
        let length = body.len();
        Step::Writes(vec![Part::Bytes(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{coding}X-Accel-Buffering: no\r\nContent-Length: {length}\r\n\r\n{body}"
        ))])
    };
    check(&[
        ok("an error of null", stream(&["data: {\"error\":null,\"choices\":[]}\n\n", CONTENT])),
        ok("an error within a choice", stream(&["data: {\"choices\":[{\"error\":{\"code\":1}}]}\n\n"])),
        ok("an error in a text", stream(&["data: {\"choices\":[{\"delta\":{\"content\":\"\\\"error\\\":{}\"}}]}\n\n"])),
        ok("content before the error", stream(&[CONTENT, OTHER_ERRORS[0]])),
        ok("an error that is no event", stream(&[": event: error\n\n", CONTENT])),
        ok("an unknown event before the error", stream(&["event: other\ndata: {}\n\n", OTHER_ERRORS[0]])),
        ok("an error without its end", stream(&["event: error\ndata: {\"type\":\"err"])),
        ok("done at once", stream(&["data: [DONE]\n\n"])),
        ok("an empty stream", stream(&[])),
        ok("JSON", other_type("application/json", "")),
        ok("a stream in gzip", other_type("text/event-stream", "Content-Encoding: gzip\r\n")),
    ]);
}

#[test]
fn beyond_16_kib_nothing_is_held() {
    let comment = format!(": {}\n\n", "x".repeat(997));
    let mut large: Vec<&str> = vec![&comment; 20];
    large.push(OTHER_ERRORS[0]);
    let mut small: Vec<&str> = vec![&comment; 14];
    small.push(OTHER_ERRORS[0]);
    let long_line = format!(": {}\n\n", "x".repeat(20_000));
    check(&[
        Row { steps: vec![stream(&large)], ..row("20 KB of comments") },
        Row { steps: vec![stream(&[&long_line, OTHER_ERRORS[0]])], ..row("one comment of 20 KB") },
        retried("14 KB of comments", stream(&small), "unavailable"),
    ]);
}

/// An upstream that writes the head, then these parts with pauses, and then waits until the test has seen enough.
fn stalling(head: &'static str, parts: Vec<(Duration, String)>, seen: Gate) -> Upstream {
    Upstream::plain(move |peer: &mut Peer| {
        if peer.read_request().is_some() && peer.write(head) {
            for (pause, part) in &parts {
                peer.sleep(*pause);
                peer.write(part);
            }
            seen.pass();
            peer.write(chunk(OTHER_ERRORS[0]));
            peer.write("0\r\n\r\n");
            peer.read_request();
        }
    })
}

/// Checks how long after the request the head comes: never too early, and too late only while the machine is busy.
fn assert_begins(name: &str, head: &'static str, parts: &[(u64, &str)], within: Range<Duration>) {
    repeat_until_undisturbed(|| {
        let took = time_to_head(name, head, parts);
        println!("{name}: the head came after {took:?}, to be within {within:?}");
        assert!(took >= within.start, "{name}: the head came after {took:?}, not within {within:?}");
        took < within.end
    });
}

/// Checks that the answer goes out as it is, with an error after its `parts`, and returns how long its head took.
fn time_to_head(name: &str, head: &'static str, parts: &[(u64, &str)]) -> Duration {
    let seen = Gate::new();
    let timed = parts.iter().map(|(pause, part)| (Duration::from_millis(*pause), chunk(part))).collect();
    let upstream = stalling(head, timed, seen.clone());
    let mut gateway = Gateway::builder().shards(1).secrets(secrets_json(&["a", "b"])).upstream(&upstream).start();
    let mut client = Client::connect(gateway.port());
    let asked = Instant::now();
    client.send(POST);
    let answered = client.read_head();
    let took = asked.elapsed();
    assert!(answered.start_line.starts_with("HTTP/1.1 200"), "{name}: {answered:?}");
    let sent: String = parts.iter().map(|(_, part)| chunk(part)).collect();
    if !sent.is_empty() {
        assert_eq!(shown(&client.read_until(&sent)), shown(sent.as_bytes()), "{name}");
    }
    seen.open();
    // It has begun: an error that comes now is the client's to read.
    let error = format!("{}0\r\n\r\n", chunk(OTHER_ERRORS[0]));
    assert_eq!(shown(&client.read_until("0\r\n\r\n")), shown(error.as_bytes()), "{name}");
    let totals = Totals::at_the_end_of(&mut gateway);
    assert_eq!((totals.of("attempts"), upstream.requests().len()), (1, 1), "{name}: {totals:?}");
    assert!(lines_saying(&gateway.log(), "another attempt").is_empty(), "{name}");
    took
}

#[test]
fn a_stream_that_says_nothing_is_held_for_a_quarter_of_a_second() {
    let held = HELD_FOR_MAX - Duration::from_millis(20)..2 * HELD_FOR_MAX;
    assert_begins("the head alone", CHUNKED, &[], Duration::ZERO..held.end);
    assert_begins("the head and a comment", CHUNKED, &[(0, PREAMBLES[0])], held.clone());
    assert_begins("a message start", CHUNKED, &[(0, PREAMBLES[3])], held.clone());
    let pings: Vec<(u64, &str)> = vec![(80, PREAMBLES[1]); 6];
    assert_begins("pings for longer than that", CHUNKED, &pings, held);
}

#[test]
fn a_stream_that_begins_with_content_is_not_held() {
    const GZIP: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\
                        Transfer-Encoding: chunked\r\n\r\n";
    // A beginning that is held takes longer.
    let soon = Duration::ZERO..HELD_FOR_MAX - Duration::from_millis(20);
    assert_begins("content", CHUNKED, &[(0, CONTENT)], soon.clone());
    assert_begins(
        "a delta of Anthropic's",
        CHUNKED,
        &[(0, PREAMBLES[3]), (0, "event: content_block_start\ndata: {}\n\n")],
        soon.clone(),
    );
    assert_begins(
        "a delta of OpenAI's responses",
        CHUNKED,
        &[(0, PREAMBLES[4]), (0, "data: {\"type\":\"response.output_text.delta\"}\n\n")],
        soon.clone(),
    );
    assert_begins("content soon after the head", CHUNKED, &[(40, CONTENT)], soon.clone());
    assert_begins("gzip, whatever is in it", GZIP, &[], soon.clone());
    assert_begins("gzip, whatever comes first", GZIP, &[(0, PREAMBLES[0])], soon.clone());
    assert_begins(
        "another type",
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n",
        &[],
        soon,
    );
}

#[test]
fn a_stream_that_is_held_is_still_a_stream_when_the_client_goes() {
    repeat_until_undisturbed(|| {
        let upstream = Upstream::plain(|peer: &mut Peer| {
            if peer.read_request().is_some() && peer.write(CHUNKED) {
                while peer.write(chunk(PREAMBLES[1])) {
                    peer.sleep(Duration::from_millis(10));
                }
            }
        });
        let gateway = Gateway::builder().shards(1).secrets(secrets_json(&["a", "b"])).upstream(&upstream).start();
        let mut client = Client::connect(gateway.port());
        let asked = Instant::now();
        client.send(POST);
        upstream.wait_for_requests(1);
        client.reset();
        let closed = upstream.wait_for_close(0) - asked;
        // Else it may have been held until its time was over.
        if closed >= HELD_FOR_MAX {
            return false;
        }
        assert!(upstream.is_left_alone_for(Duration::from_millis(500)), "another attempt for a client that had gone");
        assert_eq!(upstream.requests().len(), 1, "another attempt for a client that had gone");
        true
    });
}

#[test]
fn a_stream_that_breaks_the_protocol_while_it_is_held_is_a_502() {
    repeat_until_undisturbed(|| {
        let upstream = Upstream::plain(|peer: &mut Peer| {
            if peer.read_request().is_some() {
                peer.write(CHUNKED);
                peer.write(chunk(PREAMBLES[1]));
                peer.sleep(APART);
                peer.write("no chunk\r\n");
                peer.wait_for_close();
            }
        });
        let gateway = Gateway::builder().shards(1).secrets(secrets_json(&["a", "b"])).upstream(&upstream).start();
        let mut client = Client::connect(gateway.port());
        let asked = Instant::now();
        let response = client.ask(POST);
        // Else it may no longer have been held.
        if asked.elapsed() >= HELD_FOR_MAX {
            return false;
        }
        assert_eq!((response.status, response.error_code()), (502, Some("upstream_malformed")), "{response:?}");
        assert_eq!(upstream.requests().len(), 1);
        true
    });
}

#[test]
fn a_stream_that_breaks_while_it_is_held_ends_as_any_broken_stream() {
    // Its head has come, and nothing in it was an error.
    let upstream = Upstream::plain(|peer: &mut Peer| {
        if peer.read_request().is_some() && peer.write(CHUNKED) {
            peer.write(chunk(PREAMBLES[1]));
        }
    });
    let gateway = Gateway::builder().shards(1).secrets(secrets_json(&["a", "b"])).upstream(&upstream).start();
    let response = Client::connect(gateway.port()).ask(POST);
    assert!(response.is_whole && response.text().starts_with(PREAMBLES[1]), "{response:?}");
    let events = parse_events(&response.body);
    assert!(events.len() == 2 && is_error_event(&events[1], "/v1/messages"), "{response:?}");
    assert_eq!(upstream.requests().len(), 1);
}
