//! The head of an answer, in whatever reads it comes: what is accepted is RFC 9112's, and what goes downstream for it
//! is the upstream's but for what is meant for its own hop.

#![no_main]

use flow_uring::fuzz::http1::{BodyLength, HeadLimits, ResponseHead, StartLine, Version, with_response};
use flow_uring::fuzz::response::{LocationRewrite, Recipient, ResponseFacts, examine, write, write_interim};
use flow_uring_fuzz::input::expanded;
use flow_uring_fuzz::message::{Announced, Field, HOP_BY_HOP, Head, is_websocket_alias, loosened, trimmed};
use flow_uring_fuzz::path::{is_bad, is_below};
use flow_uring_fuzz::scan;
use libfuzzer_sys::fuzz_target;

/// So small that few bytes are beyond them.
const SMALL: HeadLimits =
    HeadLimits { start_line: StartLine::Status, line_bytes_max: 40, head_bytes_max: 120, fields_max: 3 };

const BASE: LocationRewrite<'_> =
    LocationRewrite { upstream_host: "flow.ciandt.com", upstream_port: 443, base_path: "/flow-llm-proxy" };

fuzz_target!(|data: &[u8]| {
    let input = expanded(data);
    scan::assert_same_in_any_reads(&input, &SMALL);
    let Some(head) = scan::assert_same_in_any_reads(&input, &HeadLimits::RESPONSE) else { return };
    let reference = Head::read(head).filter(|reference| reference.status_line().is_some());
    let parsed = with_response(head, |parsed| {
        let reference = reference.as_ref().expect("a head that breaks the grammar is accepted");
        check_parsed(parsed, reference);
        for request_was_head in [false, true] {
            check_examined(parsed, reference, request_was_head);
        }
        check_interim(parsed, reference);
    });
    assert_eq!(parsed.is_ok(), reference.is_some(), "{parsed:?}");
});

fn check_parsed(parsed: &ResponseHead<'_>, reference: &Head<'_>) {
    let (version, status, reason) = reference.status_line().expect("a status line");
    assert_eq!((parsed.status, parsed.reason), (status, reason));
    assert_eq!(parsed.version == Version::Http10, version == "HTTP/1.0");
    let fields = parsed.fields.iter().map(|field| Field { name: field.name, value: field.value });
    assert!(fields.eq(reference.fields.iter().copied()));
}

fn check_examined(parsed: &ResponseHead<'_>, reference: &Head<'_>, request_was_head: bool) {
    let is_http10 = parsed.version == Version::Http10;
    let announced = reference.announced(is_http10);
    let Ok(facts) = examine(parsed, request_was_head) else {
        let is_plain = !matches!(announced, Announced::Unclear | Announced::Length(0x7fff_ffff_ffff_ffff..))
            && reference.connection_options().len() <= 32;
        return assert!(!is_plain);
    };
    // RFC 9112 §6.3.
    let has_no_body = request_was_head || matches!(facts.status, 100..200 | 204 | 304);
    let body = match announced {
        Announced::Unclear => panic!("readers could disagree about its body"),
        _ if has_no_body => BodyLength::None,
        Announced::Nothing => BodyLength::UntilClose,
        Announced::Length(length) => BodyLength::Known(length),
        Announced::Chunked => BodyLength::Chunked,
    };
    assert_eq!(facts.body, body);
    assert!(!facts.keep_alive || reference.keeps_alive(is_http10) && body != BodyLength::UntilClose);
    let is_stream = |value: &&[u8]| {
        trimmed(value.split(|byte| *byte == b';').next().unwrap_or_default()).eq_ignore_ascii_case(b"text/event-stream")
    };
    assert_eq!(facts.is_event_stream, reference.values("content-type").iter().any(is_stream));
    for version in [Version::Http11, Version::Http10] {
        for (keep_alive, origin) in [(true, None), (false, Some("https://page.example"))] {
            let recipient = Recipient { version, keep_alive, origin, request_id: "an-id" };
            for location in [None, Some(&BASE)] {
                let mut written = b"before".to_vec();
                write(&mut written, parsed, &facts, &recipient, location);
                let written = written.strip_prefix(b"before").expect("what was there is kept");
                check_written(written, parsed, &facts, &recipient, announced);
                check_fields(written, reference, &facts, &recipient, location.is_some());
            }
        }
    }
}

/// The status line is the upstream's, the framing and `Connection` are those of this hop.
fn check_written(
    written: &[u8],
    parsed: &ResponseHead<'_>,
    facts: &ResponseFacts,
    recipient: &Recipient<'_>,
    announced: Announced,
) {
    scan::assert_is_head(written, StartLine::Status);
    let head = Head::read(written).expect("a valid head");
    assert_eq!(head.status_line(), Some(("HTTP/1.1", parsed.status, parsed.reason)));
    let is_http10 = recipient.version == Version::Http10;
    let expected = match facts.body {
        BodyLength::Known(length) => Announced::Length(length),
        BodyLength::Chunked if !is_http10 => Announced::Chunked,
        BodyLength::Chunked | BodyLength::UntilClose => Announced::Nothing,
        // RFC 9110 §8.6: the length of the body of a GET; never in a 1xx or a 204.
        BodyLength::None => match announced {
            Announced::Length(length) if !matches!(facts.status, 100..200 | 204) => Announced::Length(length),
            _ => Announced::Nothing,
        },
    };
    assert_eq!(head.announced(false), expected);
    let ends_by_close = facts.body == BodyLength::UntilClose || facts.body == BodyLength::Chunked && is_http10;
    assert_eq!(facts.is_close_delimited_for(recipient.version), ends_by_close);
    assert_eq!(head.keeps_alive(is_http10), recipient.keep_alive && !ends_by_close);
    assert!(head.values("connection").len() <= 1);
    if facts.is_event_stream {
        assert!(!head.values("x-accel-buffering").is_empty());
    }
}

/// Fields that no `Connection` takes away.
const ALWAYS_PASSED_ON: [&str; 4] = ["content-type", "x-request-id", "traceparent", "tracestate"];

/// All of the upstream's fields that are not to be removed are there, in their order, before ours.
fn check_fields(
    written: &[u8],
    came: &Head<'_>,
    facts: &ResponseFacts,
    recipient: &Recipient<'_>,
    rewrites_location: bool,
) {
    let head = Head::read(written).expect("a valid head");
    let named = came.connection_options();
    let is_decoded = facts.body == BodyLength::Chunked && recipient.version == Version::Http10;
    let mut passed_on = head.fields.iter().peekable();
    for field in &came.fields {
        let name = field.name.to_ascii_lowercase();
        let is_named = named.iter().any(|option| *option == name.as_bytes()) && !ALWAYS_PASSED_ON.contains(&&*name);
        let is_of_pages = recipient.origin.is_some() && name.starts_with("access-control-");
        let is_lost = is_removed(&name) || is_named || is_of_pages || is_decoded && name == "trailer";
        if is_lost {
            continue;
        }
        let is_same = |passed: &&Field<'_>| {
            let is_location = rewrites_location && name == "location" && passed.name == field.name;
            **passed == *field || is_location && is_led_here(field.value, passed.value)
        };
        let may_be_lost =
            is_removed(&loosened(&name)) || is_websocket_alias(&name) || loosened(&name) == "x-flow-uring-error";
        assert!(passed_on.next_if(is_same).is_some() || may_be_lost, "{name} is lost");
    }
    const OURS: [&str; 8] = [
        "x-accel-buffering",
        "access-control-allow-origin",
        "access-control-expose-headers",
        "vary",
        "content-length",
        "transfer-encoding",
        "connection",
        "x-request-id",
    ];
    assert!(passed_on.all(|field| OURS.contains(&&*field.name.to_ascii_lowercase())), "nothing else is added");
    let count = |name: &str| head.values(name).len();
    assert!(head.fields.iter().all(|field| !is_removed(&field.name.to_ascii_lowercase()) || is_framing(field.name)));
    assert!(count("content-length") + count("transfer-encoding") <= 1);
    assert!(count("x-request-id") > 0);
    if let Some(origin) = recipient.origin {
        assert_eq!(head.values("access-control-allow-origin"), [origin.as_bytes()]);
    }
}

fn is_framing(name: &str) -> bool {
    ["content-length", "transfer-encoding", "connection"].iter().any(|framing| name.eq_ignore_ascii_case(framing))
}

fn is_removed(name: &str) -> bool {
    HOP_BY_HOP.contains(&name) || name == "set-cookie"
}

/// A `Location` below the base URL becomes a path here: of this host, below its root, and nothing but the end of it.
fn is_led_here(came: &[u8], passed_on: &[u8]) -> bool {
    let (Ok(came), Ok(passed_on)) = (std::str::from_utf8(came), std::str::from_utf8(passed_on)) else { return false };
    let Some((_, after_scheme)) = came.split_once("://") else { return false };
    let path = after_scheme.find(['/', '?', '#']).map_or("", |at| &after_scheme[at..]);
    let path_end = passed_on.find(['?', '#']).unwrap_or(passed_on.len());
    let is_of_upstream = after_scheme.to_ascii_lowercase().starts_with("flow.ciandt.com");
    let rest = passed_on.strip_prefix('/').unwrap_or(passed_on);
    is_of_upstream
        && is_below(&path.replace('#', "?"), BASE.base_path)
        && passed_on.starts_with('/')
        && !passed_on.starts_with("//")
        && !is_bad(&passed_on[..path_end])
        && path[BASE.base_path.len()..].trim_start_matches('/') == rest
}

/// A 1xx that goes on says nothing of a body or of this hop.
fn check_interim(parsed: &ResponseHead<'_>, came: &Head<'_>) {
    let mut written = Vec::new();
    write_interim(&mut written, parsed);
    scan::assert_is_head(&written, StartLine::Status);
    let head = Head::read(&written).expect("a valid head");
    assert_eq!(head.status_line(), Some(("HTTP/1.1", parsed.status, parsed.reason)));
    assert_eq!(head.announced(false), Announced::Nothing);
    assert!(head.fields.iter().all(|field| !is_removed(&field.name.to_ascii_lowercase())));
    let mut came = came.fields.iter();
    assert!(head.fields.iter().all(|field| came.any(|came| came == field)), "nothing is added, and the order stays");
}
