use proptest::prelude::*;

use super::*;
use crate::http1::head::{HeadLimits, HeadScanner, with_request};

const OURS: &[u8] = b"Bearer ours";

fn upstream() -> UpstreamIdentity {
    UpstreamIdentity { base_path: "/base".to_owned(), authority: "flow.example:8443".to_owned() }
}

fn facts(head: &str) -> Result<RequestFacts, RequestError> {
    with_request(head.as_bytes(), |head| examine(head, &mut Caller::default())).unwrap()
}

fn http11(field_lines: &str) -> Result<RequestFacts, RequestError> {
    facts(&format!("POST / HTTP/1.1\r\nHost: a\r\n{field_lines}\r\n"))
}

fn write(
    out: &mut Vec<u8>,
    head: &RequestHead<'_>,
    path: UpstreamPath<'_>,
    upstream: &UpstreamIdentity,
    authorization: &[u8],
    facts: &RequestFacts,
) -> TokenPlace {
    UpstreamHead { head, path, upstream, authorization, facts, own_id: None, is_identity_asked: false }.write(out)
}

/// The head that goes upstream.
fn rewrite(head: &[u8]) -> Result<String, RequestError> {
    let path = UpstreamPath { needs_base: true, path_and_query: "/v1?x=1", base_bytes: 0 };
    with_request(head, |head| {
        let mut out = b"before".to_vec();
        write(&mut out, head, path, &upstream(), OURS, &examine(head, &mut Caller::default())?);
        Ok(String::from_utf8_lossy(&out).strip_prefix("before").expect("appends").to_owned())
    })?
}

#[test]
fn what_a_request_asks_for_is_found_in_its_fields() {
    let facts = facts(
        "POST /v1 HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 5\r\nUpgrade: h2c, WebSocket/13\r\n\r\n",
    );
    let expected = RequestFacts {
        method: Method::Post,
        version: Version::Http11,
        body: BodyLength::Known(5),
        connection: ConnectionOptions::default(),
        keep_alive: true,
        expects_continue: true,
        wants_websocket: true,
    };
    assert_eq!(facts, Ok(expected));
}

#[test]
fn http_1_0_may_lack_a_host_and_closes() {
    let facts = facts("GET / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!((facts.version, facts.keep_alive, facts.body), (Version::Http10, false, BodyLength::None));
}

#[test]
fn requests_whose_host_is_in_doubt_are_refused() {
    let rows = [
        ("RFC 9112 §3.2: missing", "GET / HTTP/1.1\r\n\r\n"),
        ("RFC 9112 §3.2: missing", "GET http://a/ HTTP/1.1\r\n\r\n"),
        ("RFC 9112 §3.2: repeated", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        ("RFC 9112 §3.2: repeated, even if equal", "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nhost: a\r\n\r\n"),
        ("RFC 9112 §3.2: repeated in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"),
        ("RFC 9112 §3.2: invalid", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        ("RFC 9112 §3.2: invalid", "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n"),
        ("RFC 9112 §3.2: invalid in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a/b\r\n\r\n"),
        ("RFC 9110 §4.2.1: empty", "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    ];
    for (rule, head) in rows {
        let facts = facts(head);
        assert!(matches!(facts, Err(RequestError::Head(HeadError::Malformed(_)))), "{rule}: {head:?}: {facts:?}");
    }
}

#[test]
fn framing_errors_come_through() {
    let refused = http11("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n");
    assert!(matches!(refused, Err(RequestError::Head(HeadError::Malformed(_)))), "{refused:?}");
    let unsupported = http11("Transfer-Encoding: gzip, chunked\r\n");
    assert_eq!(unsupported, Err(RequestError::Head(HeadError::UnsupportedTransferCoding)));
    let options = vec!["x"; fields::CONNECTION_OPTIONS_MAX + 1].join(",");
    let refused = http11(&format!("Connection: {options}\r\n"));
    assert!(matches!(refused, Err(RequestError::Head(HeadError::Malformed(_)))), "{refused:?}");
}

#[test]
fn only_100_continue_is_expected() {
    let body = "Content-Length: 5\r\n";
    let rows = [
        ("RFC 9110 §10.1.1", "Expect: 100-continue\r\n", body, Ok(true)),
        ("RFC 9110 §10.1.1", "Expect: 100-continue\r\n", "Transfer-Encoding: chunked\r\n", Ok(true)),
        ("RFC 9110 §10.1.1: twice", "Expect: 100-continue, 100-CONTINUE\r\n", body, Ok(true)),
        ("RFC 9110 §10.1.1: no content", "Expect: 100-continue\r\n", "", Ok(false)),
        ("RFC 9110 §10.1.1: no content", "Expect: 100-continue\r\n", "Content-Length: 0\r\n", Ok(false)),
        ("RFC 9110 §10.1.1: empty list", "Expect:\r\n", body, Ok(false)),
        ("ours: any other", "Expect: 200-ok\r\n", body, Err(RequestError::UnsupportedExpectation)),
        ("ours: any other", "Expect: 100-continue;x=y\r\n", body, Err(RequestError::UnsupportedExpectation)),
        ("ours: any other", "Expect: 100-continue\r\nExpect: x\r\n", "", Err(RequestError::UnsupportedExpectation)),
        ("ours: any other", "Expect: x, 100-continue\r\n", "", Err(RequestError::UnsupportedExpectation)),
    ];
    for (rule, expect, framing, expected) in rows {
        let found = http11(&format!("{expect}{framing}")).map(|facts| facts.expects_continue);
        assert_eq!(found, expected, "{rule}: {expect:?} {framing:?}");
    }
    for expect in ["100-continue", "x"] {
        let found = facts(&format!("POST / HTTP/1.0\r\nExpect: {expect}\r\nContent-Length: 5\r\n\r\n"));
        assert_eq!(found.map(|facts| facts.expects_continue), Ok(false), "RFC 9110 §10.1.1: HTTP/1.0, {expect}");
    }
}

#[test]
fn a_websocket_is_wanted_where_upgrade_lists_it() {
    let rows = [
        ("Upgrade: websocket\r\n", true),
        ("upgrade: h2c\r\nUpgrade: WEBSOCKET\r\n", true),
        ("Upgrade: h2c\r\n", false),
        ("Upgrade: websocketx, x/websocket\r\n", false),
        ("Connection: upgrade, websocket\r\n", false),
    ];
    for (field_lines, expected) in rows {
        assert_eq!(http11(field_lines).map(|facts| facts.wants_websocket), Ok(expected), "{field_lines:?}");
    }
    let in_http10 = facts("GET / HTTP/1.0\r\nUpgrade: websocket\r\n\r\n").unwrap();
    assert!(!in_http10.wants_websocket, "RFC 9110 §7.8");
}

#[test]
fn methods_are_idempotent_as_rfc_9110_section_9_2_2_says() {
    let idempotent = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"];
    for method in idempotent {
        assert!(Method::of(method).is_idempotent(), "{method}");
    }
    for method in ["POST", "PATCH", "CONNECT", "get", "QUERY", ""] {
        assert!(!Method::of(method).is_idempotent(), "{method}");
    }
}

#[test]
fn a_head_goes_upstream_with_our_fields_and_otherwise_as_it_came() {
    let head =
        b"POST /ignored HTTP/1.0\r\nhost: a\r\nX-One:  1 \r\nauthorization: Bearer theirs\r\nAccept-Encoding: br\r\n\
        content-type: application/json\r\nContent-Length: 007\r\nX-Empty:\r\nX-ONE: \xff\r\n\r\n";
    let expected = "POST /base/v1?x=1 HTTP/1.1\r\nHost: flow.example:8443\r\nX-One: 1\r\nAccept-Encoding: br\r\n\
        content-type: application/json\r\nX-Empty: \r\nX-ONE: \u{fffd}\r\nAuthorization: Bearer ours\r\n\
        Content-Length: 7\r\n\r\n";
    assert_eq!(rewrite(head).unwrap(), expected);
}

#[test]
fn fields_of_this_hop_and_keys_of_the_downstream_stay_here() {
    let lines = [
        "Authorization: x",
        "X-Api-Key: x",
        "API-KEY: x",
        "x-litellm-api-key: x",
        "X-Goog-Api-Key: x",
        "Ocp-Apim-Subscription-Key: x",
        "Cookie: x",
        "Connection: x",
        "Keep-Alive: x",
        "Proxy-Connection: x",
        "Proxy-Authorization: x",
        "TE: trailers",
        "Upgrade: x",
        "Expect: 100-continue",
        "Connection: keep-alive",
    ];
    for line in lines {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\n{line}\r\nB: 2\r\n\r\n");
        let expected = "GET /base/v1?x=1 HTTP/1.1\r\nHost: flow.example:8443\r\nA: 1\r\nB: 2\r\n\
            Authorization: Bearer ours\r\n\r\n";
        assert_eq!(rewrite(head.as_bytes()).unwrap(), expected, "{line}");
    }
}

#[test]
fn what_a_server_takes_for_such_a_field_stays_here_too() {
    for name in [
        "X-Api-Key",
        "Api-Key",
        "X-Litellm-Api-Key",
        "X-Goog-Api-Key",
        "Ocp-Apim-Subscription-Key",
        "Proxy-Authorization",
        "Content-Length",
        "Transfer-Encoding",
        "Keep-Alive",
        "Proxy-Connection",
    ] {
        for alias in [name.replace('-', "_"), name.replace('-', "."), name.to_lowercase().replacen('-', "_", 1)] {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\nA_b.c: 1\r\n{alias}: 5\r\nContent-Length: 2\r\n\r\n");
            let expected = "POST /base/v1?x=1 HTTP/1.1\r\nHost: flow.example:8443\r\nA_b.c: 1\r\n\
                Authorization: Bearer ours\r\nContent-Length: 2\r\n\r\n";
            assert_eq!(rewrite(head.as_bytes()).unwrap(), expected, "{alias}");
        }
    }
}

#[test]
fn connection_names_fields_by_their_own_names() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-One, x_two\r\nX_One: 1\r\nX-Two: 2\r\nX_Two: 3\r\n\r\n";
    let expected = "GET /base/v1?x=1 HTTP/1.1\r\nHost: flow.example:8443\r\nX_One: 1\r\nX-Two: 2\r\n\
        Authorization: Bearer ours\r\n\r\n";
    assert_eq!(rewrite(head.as_bytes()).unwrap(), expected);
}

#[test]
fn connection_removes_what_it_names_but_nothing_of_ours_and_not_the_content_type() {
    let head = "POST / HTTP/1.1\r\nX-Before: 1\r\nHost: a\r\nConnection: host, authorization, content-length, content-type\r\n\
        Content-Type: text/plain\r\nContent-Length: 5\r\nconnection: X-BEFORE,x-after, transfer-encoding\r\nX-After: 2\r\nX-Kept: 3\r\n\r\n";
    let expected = "POST /base/v1?x=1 HTTP/1.1\r\nHost: flow.example:8443\r\nContent-Type: text/plain\r\nX-Kept: 3\r\n\
        Authorization: Bearer ours\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(rewrite(head.as_bytes()).unwrap(), expected);
}

#[test]
fn an_id_of_ours_takes_the_place_of_any_other_and_traces_are_passed_on_whatever_connection_names() {
    let lines = "Connection: X-Request-Id, traceparent, tracestate\r\nX-Request-Id: a\r\nx-request-id: b\r\n\
        traceparent: c\r\nTraceState: d\r\n";
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let path = UpstreamPath { needs_base: true, path_and_query: "/", base_bytes: 0 };
    for (own_id, expected) in [
        (Some("ours"), "traceparent: c\r\nTraceState: d\r\nx-request-id: ours\r\n"),
        (None, "X-Request-Id: a\r\nx-request-id: b\r\ntraceparent: c\r\nTraceState: d\r\n"),
    ] {
        let mut out = Vec::new();
        with_request(head.as_bytes(), |head| {
            let facts = examine(head, &mut Caller::default()).expect("valid");
            UpstreamHead {
                head,
                path,
                upstream: &upstream(),
                authorization: OURS,
                facts: &facts,
                own_id,
                is_identity_asked: false,
            }
            .write(&mut out);
        })
        .expect("a head");
        let expected =
            format!("GET /base/ HTTP/1.1\r\nHost: flow.example:8443\r\n{expected}Authorization: Bearer ours\r\n\r\n");
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }
}

#[test]
fn the_body_is_framed_upstream_as_it_is_here() {
    let rows = [
        ("POST", "Transfer-Encoding: Chunked\r\n", "Transfer-Encoding: chunked\r\n"),
        ("GET", "Content-Length: 5\r\n", "Content-Length: 5\r\n"),
        ("GET", "Content-Length: 0\r\n", "Content-Length: 0\r\n"),
        ("GET", "", ""),
        ("DELETE", "", ""),
        ("POST", "", "Content-Length: 0\r\n"),
        ("PUT", "", "Content-Length: 0\r\n"),
        ("PATCH", "", "Content-Length: 0\r\n"),
    ];
    for (method, given, sent) in rows {
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n{given}\r\n");
        let expected = format!(
            "{method} /base/v1?x=1 HTTP/1.1\r\nHost: flow.example:8443\r\nAuthorization: Bearer ours\r\n{sent}\r\n"
        );
        assert_eq!(rewrite(head.as_bytes()).unwrap(), expected, "{method} {given:?}");
    }
}

/// Asserts what must hold of every head that goes upstream, however odd the one that was received.
fn check_rewritten(rewritten: &[u8]) {
    let span = HeadScanner::default().scan(rewritten, &HeadLimits::REQUEST).unwrap().unwrap();
    assert_eq!((span.start, span.end), (0, rewritten.len()), "one head and nothing after it");
    with_request(rewritten, |head| {
        let facts = examine(head, &mut Caller::default()).unwrap();
        assert_eq!(facts.version, Version::Http11);
        let values = |wanted: &[Known]| -> Vec<&[u8]> {
            let is_wanted = |name| fields::known(name).is_some_and(|known| wanted.contains(&known));
            head.fields.iter().filter(|field| is_wanted(field.name)).map(|field| field.value).collect()
        };
        assert_eq!(values(&[Known::Authorization]), [OURS]);
        assert_eq!(values(&[Known::Host]), [b"flow.example:8443"]);
        assert_eq!(values(&[Known::DownstreamKey, Known::ProxyAuthorization, Known::Expect]), [b""; 0]);
        assert_eq!(values(&[Known::Connection, Known::Te, Known::Upgrade, Known::KeepAlive]), [b""; 0]);
    })
    .unwrap();
}

#[derive(Debug, Clone)]
enum Mutation {
    Replace(prop::sample::Index, u8),
    Insert(prop::sample::Index, &'static str),
    Delete(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let end = |at: usize, count: usize| (at + count).min(bytes.len());
        match self {
            Mutation::Replace(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Mutation::Insert(at, text) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, text.bytes());
            }
            Mutation::Delete(at, count) if bytes.len() > 40 => {
                let at = at.index(bytes.len());
                bytes.drain(at..end(at, *count));
            }
            Mutation::Delete(..) => {}
            Mutation::Repeat(at, count) => {
                let at = at.index(bytes.len());
                let repeated = bytes[at..end(at, *count)].to_vec();
                bytes.splice(at..at, repeated);
            }
        }
    }
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let text = prop::sample::select(vec![
        "\r\n",
        "\n",
        "\r",
        " ",
        "\t",
        ":",
        ",",
        "\0",
        "Connection: host\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\n",
        "authorization: x\r\n",
        "x-api-key : x\r\n",
        "x_api.key: x\r\n",
        "X: \u{e9}\r\n",
    ]);
    let index = any::<prop::sample::Index>;
    let byte = prop_oneof![any::<u8>(), prop::sample::select(b"\r\n\t :,\0AaHh0".to_vec())];
    prop::collection::vec(
        prop_oneof![
            (index(), byte).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
            (index(), text).prop_map(|(at, text)| Mutation::Insert(at, text)),
            (index(), 1usize..20).prop_map(|(at, count)| Mutation::Delete(at, count)),
            (index(), 1usize..30).prop_map(|(at, count)| Mutation::Repeat(at, count)),
        ],
        0..5,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn a_damaged_head_is_refused_or_goes_upstream_as_one_sound_head(mutations in mutations(), which in 0usize..3) {
        let mut bytes = [
            &b"POST /v1/messages HTTP/1.1\r\nHost: localhost:8899\r\nAuthorization: Bearer theirs\r\nX-Api-Key: k\r\nConnection: keep-alive, x-a\r\nX-A: b\r\nContent-Length: 12\r\n\r\n"[..],
            b"POST /v1/responses HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\nCookie: a=b\r\nTE: trailers\r\n\r\n",
            b"GET /v1/models HTTP/1.0\r\nUpgrade: x\r\nX: y\r\n\r\n",
        ][which].to_vec();
        for mutation in &mutations {
            mutation.apply(&mut bytes);
        }
        if let Ok(Some(span)) = HeadScanner::default().scan(&bytes, &HeadLimits::REQUEST) {
            let path = UpstreamPath { needs_base: true, path_and_query: "/v1?x=1", base_bytes: 0 };
            let mut out = Vec::new();
            let written = with_request(&bytes[span.start..span.end], |head| {
                examine(head, &mut Caller::default()).map(|facts| write(&mut out, head, path, &upstream(), OURS, &facts))
            });
            if let Ok(Ok(_)) = written {
                check_rewritten(&out);
            }
        }
    }
}

#[test]
fn the_pass_through_of_gemini_gets_the_token_in_two_fields_and_no_key_of_the_clients() {
    let head = b"POST /gemini/m?key=theirs HTTP/1.1\r\nHost: h\r\nX-Goog-Api-Key: theirs\r\nx-goog-api-client: sdk\r\n\
        Authorization: Bearer theirs\r\nConnection: x-goog-api-key, authorization\r\nContent-Length: 2\r\n\r\n";
    let path_and_query = "/gemini/m?key=theirs&alt=sse&%6bey=theirs";
    let path = UpstreamPath { needs_base: true, path_and_query, base_bytes: 0 };
    let mut out = Vec::new();
    let token = with_request(head, |head| {
        let facts = examine(head, &mut Caller::default()).expect("valid");
        write(&mut out, head, path, &upstream(), OURS, &facts)
    })
    .expect("a valid head");
    let expected = "POST /base/gemini/m?alt=sse HTTP/1.1\r\nHost: flow.example:8443\r\nx-goog-api-client: sdk\r\n\
        X-Goog-Api-Key: ours\r\nAuthorization: Bearer ours\r\nContent-Length: 2\r\n\r\n";
    assert_eq!(String::from_utf8(out.clone()).expect("text"), expected);
    assert_eq!(token.values(&out), b"ours\r\nAuthorization: Bearer ours");
}

#[test]
fn the_head_of_a_filtered_request_loses_the_field_and_gets_the_length() {
    for (framing, beta) in [
        ("Content-Length: 100", "anthropic-beta: a\r\n"),
        ("Transfer-Encoding: chunked", "Anthropic-Beta: a,b\r\nANTHROPIC-BETA: \r\nTrailer: x\r\n"),
        ("Content-Length: 1", ""),
    ] {
        let others = "X-Anthropic-Beta: x\r\nanthropic-beta2: y\r\nanthropic-version: z\r\n";
        let head = format!("POST /v1/messages HTTP/1.1\r\nHost: h\r\n{beta}{others}{framing}\r\n\r\n");
        let path = UpstreamPath { needs_base: false, path_and_query: "/v1/messages", base_bytes: 0 };
        let (written, token) = with_request(head.as_bytes(), |head| {
            let facts = examine(head, &mut Caller::default()).expect("valid");
            let mut out = Vec::new();
            let upstream = &upstream();
            let head = UpstreamHead {
                head,
                path,
                upstream,
                authorization: OURS,
                facts: &facts,
                own_id: None,
                is_identity_asked: false,
            };
            let (token, filterable) = head.write_filterable(&mut out);
            filterable.expect("not encoded").filtered(&out, &token, 99)
        })
        .expect("a valid head");
        let expected = format!(
            "POST /v1/messages HTTP/1.1\r\nHost: flow.example:8443\r\n{others}Authorization: Bearer ours\r\n\
             Content-Length: 99\r\n\r\n"
        );
        assert_eq!(String::from_utf8(written.to_vec()).expect("text"), expected, "{head}");
        assert_eq!(token.values(&written), OURS, "{head}");
    }
}
