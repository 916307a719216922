use proptest::prelude::*;

use super::*;
use crate::http1::head::{HeadLimits, HeadScanner, with_response};

const ID: &str = "id-1";
const KEEP: Recipient<'_> = Recipient { version: Version::Http11, keep_alive: true, origin: None, request_id: ID };
const OLD: Recipient<'_> = Recipient { version: Version::Http10, ..KEEP };

fn facts_of(head: &str, request_was_head: bool) -> Result<ResponseFacts, HeadError> {
    with_response(head.as_bytes(), |head| examine(head, request_was_head)).unwrap()
}

/// The head that goes downstream, without the request id, which each of these has.
fn rewrite(head: &[u8], downstream: Recipient<'_>, location: Option<&LocationRewrite<'_>>) -> String {
    let rewritten = rewrite_whole(head, downstream, location);
    let line = format!("x-request-id: {ID}\r\n");
    assert_eq!(rewritten.matches(&line).count(), 1, "{rewritten}");
    rewritten.replace(&line, "")
}

fn rewrite_whole(head: &[u8], downstream: Recipient<'_>, location: Option<&LocationRewrite<'_>>) -> String {
    with_response(head, |head| {
        let mut out = b"before".to_vec();
        write(&mut out, head, &examine(head, false).unwrap(), &downstream, location);
        String::from_utf8_lossy(&out).strip_prefix("before").expect("appends").to_owned()
    })
    .unwrap()
}

#[test]
fn what_follows_a_head_is_found_in_its_fields() {
    let facts =
        facts_of("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n", false);
    let expected = ResponseFacts {
        status: 200,
        version: Version::Http11,
        body: BodyLength::Chunked,
        content_length: None,
        connection: ConnectionOptions::default(),
        keep_alive: true,
        rest_limit: None,
        is_event_stream: true,
        is_json: false,
        coding: ContentCoding::Identity,
        cost: None,
    };
    assert_eq!(facts, Ok(expected));
}

#[test]
fn event_streams_are_known_by_their_media_type() {
    let rows = [
        ("text/event-stream", true),
        ("Text/Event-Stream; charset=utf-8", true),
        ("text/event-stream ;x", true),
        ("text/event-streams", false),
        ("text/plain; text/event-stream", false),
        ("application/json", false),
        ("", false),
    ];
    for (media_type, expected) in rows {
        let facts = facts_of(&format!("HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\n\r\n"), false).unwrap();
        assert_eq!(facts.is_event_stream, expected, "{media_type}");
    }
    assert!(!facts_of("HTTP/1.1 200 OK\r\n\r\n", false).unwrap().is_event_stream);
}

#[test]
fn an_upstream_says_for_how_long_its_connection_may_rest() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (fields, keep_alive, rest_limit) in [
        ("", true, None),
        ("Keep-Alive: timeout=5, max=100\r\n", true, seconds(4)),
        ("keep-alive: timeout=30\r\nConnection: keep-alive\r\n", true, seconds(29)),
        ("Keep-Alive: timeout=30\r\nConnection: close\r\n", false, seconds(29)),
        ("Keep-Alive: timeout=1\r\n", false, seconds(0)),
        ("Keep-Alive: timeout=0\r\n", false, seconds(0)),
        ("Keep-Alive: timeout=-1\r\n", true, None),
        ("Keep_Alive: timeout=5\r\n", true, None),
    ] {
        let facts = facts_of(&format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{fields}\r\n"), false).unwrap();
        assert_eq!((facts.keep_alive, facts.rest_limit), (keep_alive, rest_limit), "{fields}");
    }
}

#[test]
fn content_codings_other_than_identity_are_seen() {
    let rows = [
        ("", true),
        ("Content-Encoding: identity\r\n", true),
        ("Content-Encoding: Identity, \r\n", true),
        ("Content-Encoding: gzip\r\n", false),
        ("Content-Encoding: identity, br\r\n", false),
        ("Content-Encoding: identity\r\ncontent-encoding: zstd\r\nContent-Encoding: identity\r\n", false),
    ];
    for (field_lines, expected) in rows {
        let facts = facts_of(&format!("HTTP/1.1 200 OK\r\n{field_lines}\r\n"), false).unwrap();
        assert_eq!(facts.is_identity_coded(), expected, "{field_lines:?}");
    }
}

#[test]
fn an_upstream_connection_is_kept_only_where_its_state_is_certain() {
    let sized = "Content-Length: 5\r\n";
    let rows = [
        ("HTTP/1.1 200 OK", sized, false, true),
        ("HTTP/1.1 200 OK", "", false, false),
        ("HTTP/1.1 200 OK", "", true, true),
        ("HTTP/1.1 200 OK", "Content-Length: 5\r\nConnection: close\r\n", false, false),
        ("HTTP/1.0 200 OK", sized, false, false),
        ("HTTP/1.0 200 OK", "Content-Length: 5\r\nConnection: keep-alive\r\n", false, true),
        ("HTTP/1.1 204 No Content", "", false, true),
        ("HTTP/1.1 204 No Content", "Content-Length: 0\r\n", false, true),
        ("HTTP/1.1 204 No Content", sized, false, false),
        ("HTTP/1.1 204 No Content", "Transfer-Encoding: chunked\r\n", false, false),
        ("HTTP/1.1 304 Not Modified", sized, false, true),
    ];
    for (line, field_lines, request_was_head, expected) in rows {
        let facts = facts_of(&format!("{line}\r\n{field_lines}\r\n"), request_was_head).unwrap();
        assert_eq!(facts.keep_alive, expected, "{line} {field_lines:?} {request_was_head}");
    }
}

#[test]
fn a_response_that_breaks_the_framing_rules_is_refused() {
    let options = format!("Connection: {}\r\n", vec!["x"; fields::CONNECTION_OPTIONS_MAX + 1].join(","));
    for field_lines in ["Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Content-Length: 5, 5\r\n", &options] {
        let facts = facts_of(&format!("HTTP/1.1 200 OK\r\n{field_lines}\r\n"), false);
        assert!(matches!(facts, Err(HeadError::Malformed(_))), "{field_lines:?}: {facts:?}");
    }
}

#[test]
fn a_head_goes_downstream_as_it_came_without_the_fields_of_its_hop() {
    let head = b"HTTP/1.0 429 Slow d\xf6wn \r\nConnection: keep-alive, X-Hop, content-type, content-length\r\nX-One:  1\r\n\
        Keep-Alive: timeout=5\r\nProxy-Connection: x\r\nTE: x\r\nUpgrade: h2c\r\nSet-Cookie: a=b\r\nx-hop: 1\r\n\
        content-type: text/plain\r\nset-cookie: c=d\r\nContent-Length: 05\r\nRetry-After: 3\r\nProxy-Authorization: x\r\nX-ONE: 2\r\n\r\n";
    let expected = "HTTP/1.1 429 Slow d\u{fffd}wn \r\nX-One: 1\r\ncontent-type: text/plain\r\nRetry-After: 3\r\nX-ONE: 2\r\n\
        Content-Length: 5\r\n\r\n";
    assert_eq!(rewrite(head, KEEP, None), expected);
}

#[test]
fn no_field_of_the_upstream_makes_its_answer_look_like_one_made_here() {
    for name in ["X-Flow-Uring-Error", "x-flow-uring-error", "X_Flow_Uring_Error", "X.FLOW.URING-ERROR"] {
        let answer = format!("HTTP/1.1 503 X\r\nX-One: 1\r\n{name}: draining\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(rewrite(answer.as_bytes(), KEEP, None), "HTTP/1.1 503 X\r\nX-One: 1\r\nContent-Length: 5\r\n\r\n");
        let interim = format!("HTTP/1.1 103 X\r\n{name}: draining\r\nX-One: 1\r\n\r\n");
        let mut out = Vec::new();
        with_response(interim.as_bytes(), |head| write_interim(&mut out, head)).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "HTTP/1.1 103 X\r\nX-One: 1\r\n\r\n");
    }
}

#[test]
fn an_answer_keeps_its_request_id_and_gets_that_of_the_request_where_it_has_none() {
    for (given, sent) in [
        ("X-Request-ID: theirs\r\n", "X-Request-ID: theirs\r\n"),
        ("x-request-id: a\r\nx-request-id: b\r\n", "x-request-id: a\r\nx-request-id: b\r\n"),
        (
            "Connection: x-request-id, traceparent\r\nx-request-id: a\r\ntraceparent: b\r\n",
            "x-request-id: a\r\ntraceparent: b\r\n",
        ),
        ("x-request-ids: a\r\n", "x-request-ids: a\r\nx-request-id: id-1\r\n"),
        ("", "x-request-id: id-1\r\n"),
    ] {
        let rewritten = rewrite_whole(format!("HTTP/1.1 204 X\r\n{given}\r\n").as_bytes(), KEEP, None);
        assert_eq!(rewritten, format!("HTTP/1.1 204 X\r\n{sent}\r\n"), "{given:?}");
    }
}

#[test]
fn what_is_taken_for_a_field_of_the_hop_or_a_cookie_stays_here() {
    let head =
        b"HTTP/1.1 200 OK\r\nContent_Length: 9\r\nTransfer.Encoding: chunked\r\nKeep_Alive: x\r\nSet_Cookie: a\r\n\
        X_One.b: 1\r\nX_Accel_Buffering: no\r\nContent_Type: text/plain\r\nContent-Length: 5\r\n\r\n";
    let expected = "HTTP/1.1 200 OK\r\nX_One.b: 1\r\nX_Accel_Buffering: no\r\nContent_Type: text/plain\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(rewrite(head, KEEP, None), expected);
}

#[test]
fn each_framing_reaches_each_version_in_a_form_it_reads() {
    let sized = "Content-Length: 5\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let close = Recipient { keep_alive: false, ..KEEP };
    let old_close = Recipient { keep_alive: false, ..OLD };
    let rows = [
        (sized, KEEP, "Content-Length: 5\r\n"),
        (sized, close, "Content-Length: 5\r\nConnection: close\r\n"),
        (sized, OLD, "Content-Length: 5\r\nConnection: keep-alive\r\n"),
        (sized, old_close, "Content-Length: 5\r\nConnection: close\r\n"),
        (chunked, KEEP, "Transfer-Encoding: chunked\r\n"),
        (chunked, close, "Transfer-Encoding: chunked\r\nConnection: close\r\n"),
        (chunked, OLD, "Connection: close\r\n"),
        (chunked, old_close, "Connection: close\r\n"),
        ("", KEEP, "Connection: close\r\n"),
        ("", OLD, "Connection: close\r\n"),
    ];
    for (given, downstream, sent) in rows {
        let rewritten = rewrite(format!("HTTP/1.1 200 OK\r\n{given}\r\n").as_bytes(), downstream, None);
        assert_eq!(rewritten, format!("HTTP/1.1 200 OK\r\n{sent}\r\n"), "{given:?} {downstream:?}");
    }
}

#[test]
fn whoever_relays_can_ask_whether_the_close_ends_the_body() {
    let rows =
        [("Content-Length: 5\r\n", false, false), ("Transfer-Encoding: chunked\r\n", false, true), ("", true, true)];
    for (field_lines, for_http11, for_http10) in rows {
        let facts = facts_of(&format!("HTTP/1.1 200 OK\r\n{field_lines}\r\n"), false).unwrap();
        assert_eq!(facts.is_close_delimited_for(Version::Http11), for_http11, "{field_lines:?}");
        assert_eq!(facts.is_close_delimited_for(Version::Http10), for_http10, "{field_lines:?}");
    }
}

#[test]
fn trailers_are_announced_only_where_they_follow() {
    let head = b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(rewrite(head, KEEP, None).contains("Trailer: X-Sum\r\n"));
    assert!(!rewrite(head, OLD, None).contains("Trailer"));
}

#[test]
fn a_length_without_a_body_is_a_plain_field_except_where_it_must_not_be() {
    let rows = [
        ("RFC 9110 §8.6: HEAD", 200, true, "Content-Length: 5\r\n"),
        ("RFC 9110 §8.6: 304", 304, false, "Content-Length: 5\r\n"),
        ("RFC 9110 §8.6: 204", 204, false, ""),
    ];
    for (rule, status, request_was_head, sent) in rows {
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n");
        let rewritten = with_response(head.as_bytes(), |head| {
            let mut out = Vec::new();
            write(&mut out, head, &examine(head, request_was_head).unwrap(), &KEEP, None);
            String::from_utf8(out).unwrap()
        });
        assert_eq!(rewritten, Ok(format!("HTTP/1.1 {status} X\r\nx-request-id: {ID}\r\n{sent}\r\n")), "{rule}");
    }
}

#[test]
fn event_streams_are_not_to_be_buffered() {
    let rows = [
        ("Content-Type: text/event-stream\r\n", "Content-Type: text/event-stream\r\nX-Accel-Buffering: no\r\n"),
        (
            "x-accel-buffering: yes\r\nContent-Type: text/event-stream\r\n",
            "x-accel-buffering: yes\r\nContent-Type: text/event-stream\r\n",
        ),
        (
            "X-Accel-Buffering: yes\r\nContent-Type: text/event-stream\r\nConnection: x-accel-buffering\r\n",
            "Content-Type: text/event-stream\r\nX-Accel-Buffering: no\r\n",
        ),
        ("Content-Type: text/plain\r\n", "Content-Type: text/plain\r\n"),
    ];
    for (given, sent) in rows {
        let head = format!("HTTP/1.1 200 OK\r\n{given}Content-Length: 5\r\n\r\n");
        let expected = format!("HTTP/1.1 200 OK\r\n{sent}Content-Length: 5\r\n\r\n");
        assert_eq!(rewrite(head.as_bytes(), KEEP, None), expected);
    }
}

#[test]
fn a_location_below_the_base_url_leads_here_and_any_other_stays() {
    let below_base = LocationRewrite { upstream_host: "flow.ciandt.com", upstream_port: 8443, base_path: "/base" };
    let without_base = LocationRewrite { base_path: "", ..below_base };
    let rows = [
        (below_base, "https://flow.ciandt.com/base/v1/x?y=1#z", "/v1/x?y=1#z"),
        (below_base, "http://FLOW.ciandt.com:8443/base/v1/", "/v1/"),
        (below_base, "https://flow.ciandt.com:443/base", "/"),
        (below_base, "https://flow.ciandt.com/base?x", "/?x"),
        (below_base, "https://flow.ciandt.com/base#x", "/#x"),
        (below_base, "https://flow.ciandt.com/base/", "/"),
        (without_base, "https://flow.ciandt.com/v1", "/v1"),
        (without_base, "https://flow.ciandt.com", "/"),
    ];
    let kept = [
        "https://flow.ciandt.com/other",
        "https://flow.ciandt.com/basement",
        "https://flow.ciandt.com/",
        "https://flow.ciandt.com:9/base/v1",
        "https://evil.example/base/v1",
        "https://user@flow.ciandt.com/base/v1",
        "https://flow.ciandt.com@evil.example/base/v1",
        "https://flow.ciandt.com/base//evil.example/",
        "https://flow.ciandt.com/base/\\evil.example/",
        "https://flow.ciandt.com/base/../admin",
        "https://flow.ciandt.com/base/%2e%2e/admin",
        "/base/v1",
        "//flow.ciandt.com/base/v1",
        "v1/x",
        "",
        "ftp://flow.ciandt.com/base/v1",
        "\u{e9}",
    ];
    let kept = kept.map(|location| (below_base, location, location));
    for (rewrite_to, given, sent) in rows.into_iter().chain(kept) {
        let head = |location: &str| format!("HTTP/1.1 307 X\r\nlocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let rewritten = rewrite(head(given).as_bytes(), KEEP, Some(&rewrite_to));
        assert_eq!(rewritten, head(sent), "{given}");
        assert_eq!(rewrite(head(given).as_bytes(), KEEP, None), head(given), "forward mode: {given}");
    }
    let not_text = b"HTTP/1.1 307 X\r\nLocation: https://flow.ciandt.com/base/\xff\r\nContent-Length: 0\r\n\r\n";
    assert!(rewrite(not_text, KEEP, Some(&below_base)).contains("https://flow.ciandt.com/base/\u{fffd}\r\n"));
}

#[test]
fn interim_answers_lose_their_cookies_and_their_hop() {
    let head =
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nX: y\r\nSet-Cookie: a\r\nKeep-Alive: x\r\n\r\n";
    let mut out = b"before".to_vec();
    with_response(head, |head| write_interim(&mut out, head)).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), "beforeHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
}

fn field_lines() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "Content-Length",
        "content-length",
        "Transfer-Encoding",
        "Connection",
        "Set-Cookie",
        "Location",
        "Content-Type",
        "Trailer",
        "X-Accel-Buffering",
        "X",
        "Keep-Alive",
    ]);
    let value = prop::sample::select(vec![
        "5",
        "chunked",
        "gzip",
        "close",
        "x, content-length",
        "text/event-stream",
        "https://a/base/",
        "",
        "a=b",
        "\u{e9}",
    ]);
    prop::collection::vec((name, value).prop_map(|(name, value)| format!("{name}: {value}\r\n")), 0..6)
        .prop_map(|lines| lines.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn what_goes_downstream_is_one_head_with_the_same_body(lines in field_lines(), status in 100u16..600, was_head: bool, keep_alive: bool, is_old: bool) {
        let head = format!("HTTP/1.1 {status} X\r\n{lines}\r\n");
        let version = if is_old { Version::Http10 } else { Version::Http11 };
        let location = LocationRewrite { upstream_host: "a", upstream_port: 443, base_path: "/base" };
        let mut out = Vec::new();
        let facts = with_response(head.as_bytes(), |head| {
            let facts = examine(head, was_head)?;
            write(&mut out, head, &facts, &Recipient { version, keep_alive, ..KEEP }, Some(&location));
            Ok::<_, HeadError>(facts)
        }).unwrap();
        if let Ok(facts) = facts {
            let span = HeadScanner::default().scan(&out, &HeadLimits::RESPONSE).unwrap().unwrap();
            prop_assert_eq!((span.start, span.end), (0, out.len()));
            let sent = with_response(&out, |head| {
                assert!(head.fields.iter().all(|field| !field.name.eq_ignore_ascii_case("set-cookie")));
                examine(head, was_head)
            }).unwrap().unwrap();
            let is_close_delimited = facts.is_close_delimited_for(version);
            prop_assert_eq!(sent.body, if is_close_delimited { BodyLength::UntilClose } else { facts.body });
            if !is_close_delimited && status != 204 {
                prop_assert_eq!(sent.keep_alive, keep_alive);
            }
            prop_assert_eq!(sent.is_event_stream, facts.is_event_stream);
        }
    }
}
