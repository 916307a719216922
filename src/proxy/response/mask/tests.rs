use proptest::prelude::*;

use super::masked_text::tests::{contents, lengths, masked, split, traces};
use super::*;
use crate::credentials::Secret;
use crate::http1::fields::ConnectionOptions;
use crate::http1::framing::BodyLength;
use crate::http1::head::Version;
use crate::proxy::response::body::BodyRelay;
use crate::proxy::response::mask::coded::CodedVerdict;
use crate::proxy::sse::ending::append_chunk;
use crate::proxy::sse::reference::dechunked;

fn facts(status: u16, body: BodyLength) -> ResponseFacts {
    ResponseFacts {
        status,
        version: Version::Http11,
        body,
        content_length: None,
        connection: ConnectionOptions::default(),
        keep_alive: true,
        rest_limit: None,
        is_event_stream: status == 200,
        is_json: false,
        coding: ContentCoding::Identity,
        cost: None,
    }
}

fn relay(facts: &ResponseFacts, version: Version) -> BodyRelay {
    BodyRelay::new(facts, version, Buffer::none(), Rc::new(traces()))
}

/// Frames a content as chunks of these lengths.
fn chunked(content: &[u8], lengths: &[usize]) -> Vec<u8> {
    let mut raw = Vec::new();
    split(content, lengths).into_iter().for_each(|chunk| append_chunk(&mut raw, chunk));
    raw.extend_from_slice(b"0\r\n\r\n");
    raw
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Returns the text of an event with this content, and whether it is an error.
fn event(index: usize, content: &[u8]) -> (Vec<u8>, bool) {
    const EVENTS: [(&str, &str, bool); 5] = [
        ("event: error\ndata: {\"m\":\"", "\"}\n\n", true),
        ("data: {\"error\":{\"m\":\"", "\"}}\n\n", true),
        ("event: response.failed\ndata: {\"m\":\"", "\"}\n\n", true),
        ("data: {\"choices\":[\"", "\"]}\n\n", false),
        (": ", "\ndata: {\"error\":null}\n\n", false),
    ];
    let (before, after, is_error) = EVENTS[index];
    let content: Vec<u8> = content.iter().map(|&byte| if byte == b'"' { b' ' } else { byte }).collect();
    ([before.as_bytes(), &content, after.as_bytes()].concat(), is_error)
}

fn events() -> impl Strategy<Value = Vec<(Vec<u8>, bool)>> {
    prop::collection::vec((0_usize..5, contents()).prop_map(|(index, content)| event(index, &content)), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn an_error_is_masked_in_every_framing(content in contents(), chunks in lengths(), reads in lengths()) {
        let expected = masked(&content);
        for (body, raw) in [
            (BodyLength::Known(content.len() as u64), content.clone()),
            (BodyLength::UntilClose, content.clone()),
            (BodyLength::Chunked, chunked(&content, &chunks)),
        ] {
            for version in [Version::Http10, Version::Http11] {
                let mut relay = relay(&facts(401, body), version);
                split(&raw, &reads).into_iter().for_each(|read| relay.push(read));
                if body == BodyLength::UntilClose {
                    relay.end(false);
                }
                let has_chunks = body == BodyLength::Chunked && version == Version::Http11;
                let framed = if has_chunks { chunked(&expected, &chunks) } else { expected.clone() };
                prop_assert_eq!(shown(relay.out.filled()), shown(&framed));
                prop_assert_eq!(relay.has_masked, expected != content);
            }
        }
    }

    #[test]
    fn of_events_that_come_whole_the_errors_are_masked(events in events()) {
        let mut relay = relay(&facts(200, BodyLength::UntilClose), Version::Http11);
        for (event, is_error) in &events {
            relay.out.clear();
            relay.push(event);
            let expected = if *is_error { masked(event) } else { event.clone() };
            prop_assert_eq!(shown(relay.out.filled()), shown(&expected));
        }
    }

    #[test]
    fn however_a_stream_is_split_its_errors_are_masked_and_no_event_is_held(
        events in events(),
        chunks in lengths(),
        reads in lengths(),
    ) {
        let stream: Vec<u8> = events.iter().flat_map(|(event, _)| event.clone()).collect();
        let mut relay = relay(&facts(200, BodyLength::Chunked), Version::Http11);
        let raw = chunked(&stream, &chunks);
        split(&raw, &reads).into_iter().for_each(|read| relay.push(read));
        let out = dechunked(relay.out.filled());
        prop_assert_eq!(out.len(), stream.len());
        let mut at = 0;
        for (event, is_error) in &events {
            let (got, expected) = (&out[at..at + event.len()], masked(event));
            let is_known = got == expected || !is_error;
            prop_assert!(is_known && shows_part(got, event, &expected), "{}", shown(got));
            at += event.len();
        }
    }

    #[test]
    fn all_of_a_whole_event_has_gone_out(events in events(), reads in lengths()) {
        let mut relay = relay(&facts(200, BodyLength::UntilClose), Version::Http11);
        let mut bytes = 0;
        for (event, _) in &events {
            split(event, &reads).into_iter().for_each(|read| relay.push(read));
            bytes += event.len();
            prop_assert_eq!(relay.out.len(), bytes);
        }
    }
}

/// Returns whether each byte is the event's or the masked one's.
fn shows_part(got: &[u8], event: &[u8], masked: &[u8]) -> bool {
    got.iter().zip(event.iter().zip(masked)).all(|(byte, (plain, star))| byte == plain || byte == star)
}

/// A token's payload and its secret, as in [`traces`].
fn whole() -> Vec<u8> {
    let content = b"see a-payload-of-more-than-32-bytes-of-which, a-payload's own secret";
    assert_ne!(masked(content), content);
    content.to_vec()
}

#[test]
fn the_body_of_an_answer_that_is_no_error_stays() {
    for (status, is_event_stream, coding) in
        [(200, false, ContentCoding::Identity), (399, false, ContentCoding::Identity), (200, true, ContentCoding::Gzip)]
    {
        let facts = ResponseFacts { is_event_stream, coding, ..facts(status, BodyLength::UntilClose) };
        let mut relay = relay(&facts, Version::Http11);
        relay.push(&whole());
        relay.end(false);
        assert_eq!(relay.out.filled(), whole(), "{status}");
    }
}

#[test]
fn trailers_and_chunk_extensions_of_every_answer_are_masked() {
    let whole = String::from_utf8(whole()).expect("text");
    let stars = String::from_utf8(masked(whole.as_bytes())).expect("text");
    for status in [200, 401] {
        let raw =
            |extension: &str, trailer: &str| format!("1;a=\"{extension}\"\r\na\r\n0\r\nX-Trailer: {trailer}\r\n\r\n");
        let mut relay = relay(&facts(status, BodyLength::Chunked), Version::Http11);
        raw(&whole, &whole).bytes().for_each(|byte| relay.push(&[byte]));
        assert_eq!(shown(relay.out.filled()), shown(raw(&stars, &stars).as_bytes()), "{status}");
        assert!(relay.has_masked && relay.reader.is_complete());
    }
}

#[test]
fn a_stream_that_breaks_within_an_error_is_ended_after_what_was_held() {
    let mut relay = relay(&facts(200, BodyLength::Chunked), Version::Http11);
    relay.push(b"100\r\nevent: error\ndata: {\"type\":\"error\",\"m\":\"a-payload-of-more");
    assert!(relay.out.filled().ends_with(b"\"m\":\""));
    relay.end(true);
    assert!(relay.out.filled().ends_with(b"\"m\":\"*****************"), "{}", shown(relay.out.filled()));
}

#[test]
fn of_an_event_that_shows_late_that_it_is_an_error_no_more_than_seven_bytes_of_a_run_go_out() {
    let event = b"data: {\"m\":\"a-signature-of-43-bytes-abcdefghijklmnop\",\"error\":{}}\n\n";
    let mut relay = relay(&facts(200, BodyLength::UntilClose), Version::Http11);
    event.iter().for_each(|byte| relay.push(&[*byte]));
    let expected = format!("data: {{\"m\":\"a-signa{}\",\"error\":{{}}}}\n\n", "*".repeat(33));
    assert_eq!(shown(relay.out.filled()), shown(expected.as_bytes()));
    relay.out.clear();
    relay.push(event);
    assert_eq!(shown(relay.out.filled()), shown(&masked(event)), "in one piece");
}

#[test]
fn an_error_of_an_unknown_coding_is_masked_as_it_comes() {
    let facts = ResponseFacts { coding: ContentCoding::Other, ..facts(401, BodyLength::UntilClose) };
    let mut relay = relay(&facts, Version::Http11);
    assert!(!relay.is_coded_error());
    relay.push(&whole());
    relay.end(false);
    assert_eq!(shown(relay.out.filled()), shown(&masked(&whole())));
}

#[test]
fn a_coded_error_is_not_masked_but_judged() {
    let facts = ResponseFacts { coding: ContentCoding::Gzip, ..facts(401, BodyLength::UntilClose) };
    let mut relay = relay(&facts, Version::Http11);
    assert!(relay.wants_coded());
    relay.push(&whole());
    assert_eq!(relay.judge_coded(true), Some(CodedVerdict::Leaks));
    assert!(!relay.wants_coded());
}

#[test]
fn no_heartbeat_stands_before_what_is_held() {
    let facts = ResponseFacts { is_event_stream: true, ..facts(503, BodyLength::Chunked) };
    let traces = TokenTraces::new("a.b.c", &Secret::new("\n\nin lines".to_owned()));
    let mut relay = BodyRelay::new(&facts, Version::Http11, Buffer::none(), Rc::new(traces));
    relay.push(b"6\r\n: hi\n\n\r\n");
    assert_eq!(shown(relay.out.filled()), "6\\r\\n: hi");
    assert!(relay.heartbeat(None).is_none(), "within a chunk");
    relay.push(b"6\r\n: hi\n!\r\n");
    assert!(relay.out.filled().ends_with(b"!\r\n"), "{}", shown(relay.out.filled()));
}
