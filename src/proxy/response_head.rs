//! The upstream's response head: what follows it, and how it reads when it is sent downstream.
//!
//! Invariant: status, reason and all fields are the upstream's, apart from those that are meant for its own hop,
//! `Set-Cookie`, the framing, and a `Location` that would lead past this program.

use super::access;
use super::target::{AbsoluteForm, is_bad_path, strip_base_path};
use crate::http1::fields::{self, ConnectionOptions, Known, NamedFields};
use crate::http1::framing::{self, BodyLength, LengthFields};
use crate::http1::head::{HeadError, ResponseHead, Version};

/// What a response says to whoever relays it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseFacts {
    pub status: u16,
    pub version: Version,
    pub body: BodyLength,
    /// What `Content-Length` says, also where there is no body (an answer to `HEAD`, a 304).
    pub content_length: Option<u64>,
    pub connection: ConnectionOptions,
    /// Whether the upstream keeps the connection, and its state after this response is certain.
    pub keep_alive: bool,
    pub is_event_stream: bool,
    /// Without a content coding: what is sent is what is meant.
    pub is_identity_coded: bool,
}

impl ResponseFacts {
    /// Whether a downstream of that version sees the end of the body by the close of its connection.
    pub fn is_close_delimited_for(&self, version: Version) -> bool {
        match self.body {
            BodyLength::UntilClose => true,
            BodyLength::Chunked => version == Version::Http10,
            BodyLength::None | BodyLength::Known(_) => false,
        }
    }
}

/// Checks what the fields say about the message itself, in one pass.
///
/// # Errors
/// Where the framing breaks RFC 9112 §6, or `Connection` lists too many options.
pub fn examine(head: &ResponseHead<'_>, request_was_head: bool) -> Result<ResponseFacts, HeadError> {
    let mut lengths = LengthFields::default();
    let mut connection = ConnectionOptions::default();
    let mut is_event_stream = false;
    let mut is_identity_coded = true;
    for field in head.fields {
        match fields::known(field.name) {
            Some(Known::ContentLength) => lengths.add_content_length(field.value),
            Some(Known::TransferEncoding) => lengths.add_transfer_encoding(field.value),
            Some(Known::Connection) => connection.add(field.value),
            Some(Known::ContentType) => is_event_stream |= names_event_stream(field.value),
            Some(Known::ContentEncoding) => is_identity_coded &= names_identity(field.value),
            _ => {}
        }
    }
    connection.check_count()?;
    let declared = lengths.declared(head.version)?;
    let body = framing::response_body_length(declared, head.status, request_was_head);
    // RFC 9110 §8.6, RFC 9112 §6.1: a 204 must not announce a body; who does may send one, too.
    let may_be_followed = head.status == 204 && !matches!(declared, None | Some(BodyLength::Known(0)));
    Ok(ResponseFacts {
        status: head.status,
        version: head.version,
        body,
        content_length: match declared {
            Some(BodyLength::Known(length)) => Some(length),
            _ => None,
        },
        connection,
        keep_alive: connection.keeps_alive(head.version) && body != BodyLength::UntilClose && !may_be_followed,
        is_event_stream,
        is_identity_coded,
    })
}

fn names_event_stream(content_type: &[u8]) -> bool {
    let media_type_end = memchr::memchr(b';', content_type).unwrap_or(content_type.len());
    fields::trim_whitespace(&content_type[..media_type_end]).eq_ignore_ascii_case(b"text/event-stream")
}

fn names_identity(content_encoding: &[u8]) -> bool {
    fields::list_members(content_encoding).all(|coding| coding.eq_ignore_ascii_case(b"identity"))
}

/// What the downstream is told about its connection, and about the page behind its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Downstream<'a> {
    pub version: Version,
    pub keep_alive: bool,
    /// The page's origin, which may read the answer whatever the upstream says.
    pub origin: Option<&'a str>,
}

/// The upstream's base URL, below which a `Location` is made to lead here.
#[derive(Debug, Clone, Copy)]
pub struct LocationRewrite<'a> {
    pub upstream_host: &'a str,
    pub upstream_port: u16,
    /// As in the rules of [`super::target`].
    pub base_path: &'a str,
}

/// Appends the head that goes downstream. `location` is `None` where the downstream itself named the upstream.
///
/// Where [`ResponseFacts::is_close_delimited_for`] holds, `Connection: close` is sent whatever `downstream` says.
pub fn write(
    out: &mut Vec<u8>,
    head: &ResponseHead<'_>,
    facts: &ResponseFacts,
    downstream: &Downstream<'_>,
    location: Option<&LocationRewrite<'_>>,
) {
    push_status_line(out, head);
    let named = facts.connection.named(head.fields);
    let is_decoded = facts.body == BodyLength::Chunked && downstream.version == Version::Http10;
    let mut is_buffering_told = false;
    for field in head.fields {
        match fields::known(field.name) {
            known if !is_forwarded(known, field.name, &named) => continue,
            // RFC 9112 §7.1.3: what announces trailers goes with them.
            Some(Known::Trailer) if is_decoded => continue,
            Some(Known::Location) => {
                push_location(out, field.name, field.value, location);
                continue;
            }
            Some(Known::XAccelBuffering) => is_buffering_told = true,
            None if downstream.origin.is_some() && access::is_page_field(field.name) => continue,
            _ => {}
        }
        fields::push_field(out, field.name, field.value);
    }
    if facts.is_event_stream && !is_buffering_told {
        fields::push_field(out, "X-Accel-Buffering", b"no");
    }
    if let Some(origin) = downstream.origin {
        access::push_page_fields(out, origin);
    }
    push_framing(out, facts, downstream.version);
    push_connection(out, facts, downstream);
    out.extend_from_slice(b"\r\n");
}

/// Appends a 1xx other than 100 and 101 as it goes to an HTTP/1.1 downstream.
pub fn write_interim(out: &mut Vec<u8>, head: &ResponseHead<'_>) {
    push_status_line(out, head);
    // They are rare, and nothing else of them is looked at.
    let named = NamedFields::gather(head.fields);
    for field in head.fields {
        if is_forwarded(fields::known(field.name), field.name, &named) {
            fields::push_field(out, field.name, field.value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// RFC 9112 §4. The space before the reason is sent also where there is none.
fn push_status_line(out: &mut Vec<u8>, head: &ResponseHead<'_>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    fields::push_decimal(out, u64::from(head.status));
    out.push(b' ');
    out.extend_from_slice(head.reason);
    out.extend_from_slice(b"\r\n");
}

fn is_forwarded(known: Option<Known>, name: &str, named: &NamedFields<'_>) -> bool {
    match known {
        Some(Known::SetCookie | Known::ContentLength) => false,
        Some(Known::ContentType) => true,
        Some(known) if known.is_hop_by_hop() => false,
        _ => !named.contain(name),
    }
}

fn push_framing(out: &mut Vec<u8>, facts: &ResponseFacts, version: Version) {
    let length = match facts.body {
        BodyLength::Known(length) => Some(length),
        // RFC 9110 §8.6: an answer to HEAD and a 304 say what a GET would get; a 1xx and a 204 must not.
        BodyLength::None if !matches!(facts.status, 100..=199 | 204) => facts.content_length,
        _ => None,
    };
    if let Some(length) = length {
        fields::push_content_length(out, length);
    }
    if facts.body == BodyLength::Chunked && version == Version::Http11 {
        fields::push_field(out, "Transfer-Encoding", b"chunked");
    }
}

/// RFC 9112 §9.3 and §9.6.
fn push_connection(out: &mut Vec<u8>, facts: &ResponseFacts, downstream: &Downstream<'_>) {
    if !downstream.keep_alive || facts.is_close_delimited_for(downstream.version) {
        fields::push_field(out, "Connection", b"close");
    } else if downstream.version == Version::Http10 {
        fields::push_field(out, "Connection", b"keep-alive");
    }
}

fn push_location(out: &mut Vec<u8>, name: &str, value: &[u8], rewrite: Option<&LocationRewrite<'_>>) {
    let Some(rest) = rewrite.and_then(|rewrite| path_below(value, rewrite)) else {
        return fields::push_field(out, name, value);
    };
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(if rest.starts_with('/') { b": " } else { b": /" });
    out.extend_from_slice(rest.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// What follows the base URL in a `Location` below it, where that can stand alone: `//host` would lead to another host
/// (RFC 3986 §4.2), and dot segments out of the base path.
fn path_below<'a>(location: &'a [u8], rewrite: &LocationRewrite<'_>) -> Option<&'a str> {
    let url = AbsoluteForm::parse(std::str::from_utf8(location).ok()?).ok().flatten()?;
    let rest = strip_base_path(url.path_and_query, rewrite.base_path)?;
    let path_end = rest.find(['?', '#']).unwrap_or(rest.len());
    let can_stand_alone = !rest.starts_with("//") && !is_bad_path(&rest[..path_end]);
    (url.names_upstream(rewrite.upstream_host, rewrite.upstream_port) && can_stand_alone).then_some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http1::head::{HeadLimits, HeadScanner, with_response};

    const KEEP: Downstream<'_> = Downstream { version: Version::Http11, keep_alive: true, origin: None };
    const OLD: Downstream<'_> = Downstream { version: Version::Http10, keep_alive: true, origin: None };

    fn facts_of(head: &str, request_was_head: bool) -> Result<ResponseFacts, HeadError> {
        with_response(head.as_bytes(), |head| examine(head, request_was_head)).unwrap()
    }

    fn rewrite(head: &[u8], downstream: Downstream<'_>, location: Option<&LocationRewrite<'_>>) -> String {
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
            is_event_stream: true,
            is_identity_coded: true,
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
            assert_eq!(facts.is_identity_coded, expected, "{field_lines:?}");
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
        for field_lines in ["Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Content-Length: 5, 5\r\n", &options]
        {
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
    fn each_framing_reaches_each_version_in_a_form_it_reads() {
        let sized = "Content-Length: 5\r\n";
        let chunked = "Transfer-Encoding: chunked\r\n";
        let close = Downstream { keep_alive: false, ..KEEP };
        let old_close = Downstream { keep_alive: false, ..OLD };
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
        let rows = [
            ("Content-Length: 5\r\n", false, false),
            ("Transfer-Encoding: chunked\r\n", false, true),
            ("", true, true),
        ];
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
            assert_eq!(rewritten, Ok(format!("HTTP/1.1 {status} X\r\n{sent}\r\n")), "{rule}");
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
    fn interim_answers_lose_their_framing_and_their_hop() {
        let head = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nX: y\r\nSet-Cookie: a\r\nContent-Length: 5\r\n\r\n";
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
                write(&mut out, head, &facts, &Downstream { version, keep_alive, origin: None }, Some(&location));
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
}
