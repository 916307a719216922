//! Sizes of bodies and of what frames them, in both directions.

use crate::support::{
    Client, EVENT_STREAM, Ended, Gate, Gateway, OK, Peer, Upstream, answer, is_error_event, parse_events, shown,
};
use crate::{CHUNK_EXTENSION_BYTES, DRIVERS, MIB, TRAILER_BYTES, builder};

const CHUNKED_POST: &str = "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
const CHUNKED_ANSWER: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// The limit that is set, in MiB.
const BODY_MAX: usize = 1;

/// The limit where none is set.
const BODY_BYTES_DEFAULT: usize = 256 * MIB;

/// Content of two bytes, whose chunk has an extension of so many bytes.
fn extended(bytes: usize) -> String {
    format!("2;{}\r\nok\r\n0\r\n\r\n", "x".repeat(bytes - 1))
}

/// The same with extensions of several chunks that have so many bytes together.
fn extended_in_parts(bytes: usize) -> String {
    const PART: usize = 64;
    let (chunk, rest) = (format!("1;{}\r\nx\r\n", "x".repeat(PART - 1)), bytes % PART + PART);
    format!("{}2;{}\r\nok\r\n0\r\n\r\n", chunk.repeat(bytes / PART - 1), "x".repeat(rest - 1))
}

/// Content of two bytes with trailers of so many bytes, the empty line included.
fn trailed(bytes: usize) -> String {
    let section = format!("X-Trailer: {}\r\n\r\n", "x".repeat(bytes - "X-Trailer: \r\n\r\n".len()));
    assert_eq!(section.len(), bytes);
    format!("2\r\nok\r\n0\r\n{section}")
}

/// Bodies whose framing is as long as it may be, and by one byte longer.
fn framings(excess: usize) -> [(&'static str, String); 3] {
    [
        ("one extension", extended(CHUNK_EXTENSION_BYTES + excess)),
        ("several extensions", extended_in_parts(CHUNK_EXTENSION_BYTES + excess)),
        ("trailers", trailed(TRAILER_BYTES + excess)),
    ]
}

#[test]
fn the_framing_of_a_request_passes_up_to_its_last_byte() {
    for driver in DRIVERS {
        let upstream = Upstream::plain(answer(OK));
        let gateway = builder(driver, &upstream).start();
        for (what, body) in framings(0) {
            assert_eq!(Client::connect(gateway.port()).ask(format!("{CHUNKED_POST}{body}")).text(), "ok", "{what}");
            assert_eq!(shown(&upstream.requests().last().expect("a request").raw_body), shown(body.as_bytes()));
        }
        let upstream = Upstream::plain(|peer: &mut Peer| {
            peer.read_to_end();
        });
        let gateway = builder(driver, &upstream).start();
        for (what, body) in framings(1) {
            let mut client = Client::connect(gateway.port());
            let refusal = client.ask(format!("{CHUNKED_POST}{body}"));
            assert_eq!((refusal.status, refusal.error_code()), (400, Some("bad_request")), "{driver}, {what}");
            assert_eq!(client.expect_close(), Ended::Eof, "{driver}, {what}");
        }
        gateway.wait_for_log_count("end=refused code=bad_request", 3);
        assert!(upstream.requests().iter().all(|request| !request.raw_body.ends_with(b"0\r\n\r\n")), "{driver}");
    }
}

#[test]
fn the_framing_of_an_answer_passes_up_to_its_last_byte() {
    for driver in DRIVERS {
        for (excess, (what, body)) in [0, 1].into_iter().flat_map(|excess| framings(excess).map(|row| (excess, row))) {
            let begun = Gate::new();
            let (seen, script) = (begun.clone(), body.clone());
            let upstream = Upstream::plain(move |peer: &mut Peer| {
                if peer.read_request().is_some() && peer.write(format!("{CHUNKED_ANSWER}2\r\nok\r\n")) {
                    seen.pass();
                    peer.write(&script);
                    peer.wait_for_close();
                }
            });
            let gateway = builder(driver, &upstream).start();
            let mut client = Client::connect(gateway.port());
            client.send("GET /v1/x HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\n\r\n");
            let response = client.read_response_after(b"2\r\nok\r\n", || begun.open());
            assert_eq!(response.is_whole, excess == 0, "{driver}, {what}: {response:?}");
            if excess == 0 {
                assert_eq!(
                    shown(&response.raw_body),
                    shown(format!("2\r\nok\r\n{body}").as_bytes()),
                    "{driver}, {what}"
                );
            } else {
                upstream.wait_for_close(0);
                gateway.wait_for_log("end=upstream_invalid");
            }
        }
    }
}

/// The head of a request for a body of so many bytes, and the body in chunks or without.
fn request(length: usize, chunks: Option<usize>) -> String {
    let Some(chunk) = chunks else {
        let head = format!("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
        return head + &"x".repeat(length);
    };
    let mut request = CHUNKED_POST.to_owned();
    let (mut left, content) = (length, "x".repeat(chunk));
    while left > 0 {
        let size = left.min(chunk);
        request += &format!("{size:x}\r\n{}\r\n", &content[..size]);
        left -= size;
    }
    request + "0\r\n\r\n"
}

#[test]
fn a_request_body_passes_up_to_its_last_byte_however_it_is_framed() {
    for driver in DRIVERS {
        for chunks in [None, Some(BODY_MAX * MIB + 1), Some(64 * 1024), Some(1000)] {
            let upstream = Upstream::plain(answer(OK));
            let gateway = builder(driver, &upstream).arg("--body-max", BODY_MAX.to_string()).start();
            let what = format!("{driver}, chunks of {chunks:?}");
            let response = Client::connect_unrecorded(gateway.port()).ask(request(BODY_MAX * MIB, chunks));
            assert_eq!(response.text(), "ok", "{what}");
            assert_eq!(upstream.request().body.len(), BODY_MAX * MIB, "{what}");

            let mut client = Client::connect_unrecorded(gateway.port());
            client.send(request(BODY_MAX * MIB + 1, chunks));
            let refusal = client.read_response();
            assert_eq!((refusal.status, refusal.error_code()), (413, Some("body_too_large")), "{what}");
            assert_eq!(client.expect_close(), Ended::Eof, "{what}");
            gateway.wait_for_log("end=refused code=body_too_large");
            let refused: Vec<_> = upstream.requests().into_iter().skip(1).collect();
            assert!(refused.iter().all(|request| request.body.len() < BODY_MAX * MIB + 1), "{what}");
            assert!(chunks.is_some() || refused.is_empty(), "{what}: a length counts before anything goes upstream");
        }
    }
}

#[test]
fn by_default_a_body_of_256_mib_is_wanted_and_one_byte_more_is_not() {
    let arrived = Gate::new();
    let has_arrived = arrived.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        if peer.read_head().is_some() && peer.read_until(format!("\r\n{:x}\r\nx", BODY_BYTES_DEFAULT - 1)).is_some() {
            has_arrived.open();
            peer.read_to_end();
        }
    });
    let gateway = Gateway::builder().upstream(&upstream).shards(1).patient().start();
    let head =
        |framing: &str| format!("POST /v1/x HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n{framing}\r\n\r\n");
    let of_length = |length: usize| head(&format!("Content-Length: {length}"));
    Client::connect(gateway.port()).send(of_length(BODY_BYTES_DEFAULT)).read_until("100 Continue\r\n\r\n");
    assert_eq!(Client::connect(gateway.port()).ask(of_length(BODY_BYTES_DEFAULT + 1)).status, 413);

    let begun = |size: usize| {
        let mut client = Client::connect(gateway.port());
        client.send(head("Transfer-Encoding: chunked")).read_until("100 Continue\r\n\r\n");
        client.send(format!("1\r\nx\r\n{size:x}\r\nx"));
        client
    };
    // One byte has come before.
    let mut refused = begun(BODY_BYTES_DEFAULT);
    assert_eq!(refused.read_response().status, 413);
    let _wanted = begun(BODY_BYTES_DEFAULT - 1);
    arrived.pass();
}

/// An event stream that breaks in an open chunk is ended well where no more than 64 KiB are missing.
#[test]
fn an_open_chunk_is_filled_up_to_its_last_byte() {
    const FILL_BYTES: usize = 64 * 1024;
    const BEGUN: &str = "data: {\"choices\":1}\n\n";
    for (missing, is_filled) in [(FILL_BYTES, true), (FILL_BYTES + 1, false)] {
        let upstream = Upstream::plain(move |peer: &mut Peer| {
            peer.read_request();
            peer.write(format!("{EVENT_STREAM}{:x}\r\n{BEGUN}", BEGUN.len() + missing));
        });
        let gateway = Gateway::before(&upstream);
        let path = "/v1/chat/completions";
        let request = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}");
        let response = Client::connect(gateway.port()).ask(request);
        assert_eq!(response.is_whole, is_filled, "{missing}: {response:?}");
        let events = parse_events(&response.body);
        let has_error_event = events.last().is_some_and(|event| is_error_event(event, path));
        assert_eq!(has_error_event, is_filled, "{missing}: {response:?}");
    }
}
