//! The head of a request, in whatever reads it comes: what is accepted is RFC 9112's, and what goes upstream for it is
//! ours where it must be, and the client's everywhere else.

#![no_main]

use std::sync::LazyLock;

use flow_uring::fuzz::http1::{BodyLength, HeadLimits, RequestHead, StartLine, Version, with_request};
use flow_uring::fuzz::request::{
    Action, Caller, Destination, Forward, RequestFacts, Rules, UpstreamHead, UpstreamPath, examine, path_of, plan,
    route,
};
use flow_uring::fuzz::rules;
use flow_uring_fuzz::input::expanded;
use flow_uring_fuzz::message::{Announced, Field, HOP_BY_HOP, Head, KEYS, is_websocket_alias, loosened};
use flow_uring_fuzz::path::{decoded, split_query};
use flow_uring_fuzz::scan;
use libfuzzer_sys::fuzz_target;

const AUTHORIZATION: &str = "Bearer aaaa.bbbb.cccc";
const TOKEN: &[u8] = b"aaaa.bbbb.cccc";

/// So small that few bytes are beyond them.
const SMALL: HeadLimits =
    HeadLimits { start_line: StartLine::Request, line_bytes_max: 40, head_bytes_max: 120, fields_max: 3 };

static RULES: LazyLock<Rules> = LazyLock::new(|| rules("/flow-llm-proxy"));

fuzz_target!(|data: &[u8]| {
    let input = expanded(data);
    scan::assert_same_in_any_reads(&input, &SMALL);
    let Some(head) = scan::assert_same_in_any_reads(&input, &HeadLimits::REQUEST) else { return };
    let reference = Head::read(head).filter(|reference| reference.request_line().is_some());
    let parsed = with_request(head, |parsed| {
        let reference = reference.as_ref().expect("a head that breaks the grammar is accepted");
        check_parsed(parsed, reference);
        check_examined(parsed, reference);
    });
    assert_eq!(parsed.is_ok(), reference.is_some(), "{parsed:?}");
});

fn check_parsed(parsed: &RequestHead<'_>, reference: &Head<'_>) {
    let (method, target, version) = reference.request_line().expect("a request line");
    assert_eq!((parsed.method, parsed.target), (method, target));
    assert_eq!(parsed.version == Version::Http10, version == "HTTP/1.0");
    let fields = parsed.fields.iter().map(|field| Field { name: field.name, value: field.value });
    assert!(fields.eq(reference.fields.iter().copied()));
}

fn check_examined(parsed: &RequestHead<'_>, reference: &Head<'_>) {
    let examined = examine(parsed, &mut Caller::default());
    let is_http10 = parsed.version == Version::Http10;
    let hosts = reference.values("host");
    match &examined {
        Ok(facts) => {
            assert_eq!(facts.body, expected_body(reference.announced(is_http10)).expect("clear framing"));
            assert_eq!(facts.keep_alive, reference.keeps_alive(is_http10));
            assert!(hosts.len() == 1 || hosts.is_empty() && is_http10, "{} hosts", hosts.len());
            assert!(hosts.iter().all(|host| is_host_like(host)));
            let expectations = reference.values("expect").concat();
            assert!(
                is_http10 || expectations.iter().all(|byte| b"100-continue, \t".contains(&byte.to_ascii_lowercase()))
            );
            check_routed(parsed, reference, facts);
        }
        Err(error) => {
            let is_plain = hosts == [b"127.0.0.1:8899"]
                && !matches!(
                    reference.announced(is_http10),
                    Announced::Unclear | Announced::Length(0x7fff_ffff_ffff_ffff..)
                )
                && reference.values("expect").is_empty()
                && reference.connection_options().len() <= 32;
            assert!(!is_plain, "{error}");
        }
    }
    check_plan(parsed, &examined.ok());
}

fn expected_body(announced: Announced) -> Option<BodyLength> {
    match announced {
        Announced::Nothing => Some(BodyLength::None),
        Announced::Length(length) => Some(BodyLength::Known(length)),
        Announced::Chunked => Some(BodyLength::Chunked),
        Announced::Unclear => None,
    }
}

fn is_host_like(host: &[u8]) -> bool {
    const MARKS: &[u8] = b"-._~!$&'()*+,;=%:[]";
    !host.is_empty() && host.iter().all(|byte| byte.is_ascii_alphanumeric() || MARKS.contains(byte))
}

/// Checks that a request which is forwarded has passed every single check.
fn check_plan(parsed: &RequestHead<'_>, examined: &Option<RequestFacts>) {
    let planned = plan(parsed, path_of(parsed.target), &RULES, None);
    let Action::Forward(Forward { path, traits }) = planned.action else { return };
    assert_eq!(Some(traits.facts), *examined);
    assert_eq!(route(parsed.method, parsed.target, &RULES.target), Ok(Destination::Forward(path)));
    let mut page = parsed.fields.iter().filter(|field| {
        field.name.eq_ignore_ascii_case("origin")
            || field.name.eq_ignore_ascii_case("sec-fetch-site") && !matches!(field.value, b"none" | b"same-origin")
    });
    assert!(page.next().is_none(), "a page spends tokens");
    if parsed.target.starts_with('/') {
        let mut hosts = parsed.fields.iter().filter(|field| field.name.eq_ignore_ascii_case("host"));
        assert!(hosts.all(|host| is_own_host(host.value)), "another name leads here");
    }
}

fn is_own_host(host: &[u8]) -> bool {
    let host = String::from_utf8_lossy(host).to_ascii_lowercase();
    let is_loopback = host.contains("localhost") || host.starts_with("127.") || host.starts_with('[');
    is_loopback || host.starts_with("flow.ciandt.com") || host.starts_with("host.docker.internal")
}

fn check_routed(parsed: &RequestHead<'_>, reference: &Head<'_>, facts: &RequestFacts) {
    let Ok(Destination::Forward(path)) = route(parsed.method, parsed.target, &RULES.target) else { return };
    if facts.wants_websocket {
        // The head of an upgrade has fields of its own, which `tests/websocket` holds.
        return;
    }
    let own_id = (!has_usable_id(reference)).then_some(OWN_ID);
    let authorization = AUTHORIZATION.as_bytes();
    let head = UpstreamHead {
        head: parsed,
        path,
        upstream: &RULES.upstream,
        authorization,
        facts,
        own_id,
        is_identity_asked: false,
    };
    let mut written = b"before".to_vec();
    head.write(&mut written);
    let written = written.strip_prefix(b"before").expect("what was there is kept");
    check_written(written, parsed, path, reference, facts.body);

    let mut filterable = Vec::new();
    let (token, places) = head.write_filterable(&mut filterable);
    assert_eq!(filterable, written);
    let is_encoded = reference.fields.iter().any(|field| field.name.eq_ignore_ascii_case("content-encoding"));
    let Some(places) = places else { return assert!(is_encoded) };
    let (filtered, _) = places.filtered(&filterable, &token, 7);
    let filtered = Head::read(&filtered).expect("a valid head");
    assert_eq!(filtered.announced(false), Announced::Length(7));
    let is_kept = |field: &&Field<'_>| {
        let name = field.name.to_ascii_lowercase();
        !["anthropic-beta", "trailer", "content-length", "transfer-encoding"].contains(&&*name)
    };
    let written = Head::read(written).expect("a valid head");
    let (before, after) = (written.fields.iter().filter(is_kept), filtered.fields.iter().filter(is_kept));
    assert!(after.eq(before));
    assert!(!filtered.fields.iter().any(|field| field.name.eq_ignore_ascii_case("anthropic-beta")));
}

/// An id of the gateway's own.
const OWN_ID: &str = "00000000000000ff-3-1a";

/// Fields that no `Connection` takes away.
const ALWAYS_PASSED_ON: [&str; 4] = ["content-type", "x-request-id", "traceparent", "tracestate"];

/// Tells whether the client's request id is used: one alone, of 1 to 128 visible characters.
fn has_usable_id(came: &Head<'_>) -> bool {
    let ids = came.values("x-request-id");
    matches!(&ids[..], [id] if (1..=128).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic))
}

fn check_written(written: &[u8], parsed: &RequestHead<'_>, path: UpstreamPath<'_>, came: &Head<'_>, body: BodyLength) {
    scan::assert_is_head(written, StartLine::Request);
    let head = Head::read(written).expect("a valid head");
    let (method, target, version) = head.request_line().expect("a request line");
    assert_eq!((method, version), (parsed.method, "HTTP/1.1"));
    let mut upstream_path = Vec::new();
    path.push_to(&mut upstream_path, &RULES.upstream.base_path);
    let is_gemini = check_target(target, std::str::from_utf8(&upstream_path).expect("text"));

    assert_eq!(head.values("host"), [RULES.upstream.authority.as_bytes()]);
    assert_eq!(head.values("authorization"), [AUTHORIZATION.as_bytes()]);
    let google: &[&[u8]] = if is_gemini { &[TOKEN] } else { &[] };
    assert_eq!(head.values("x-goog-api-key"), google);
    let needs_length = ["POST", "PUT", "PATCH"].contains(&method) && body == BodyLength::None;
    let announced = if needs_length { Some(BodyLength::Known(0)) } else { expected_body(head.announced(false)) };
    assert_eq!(announced, Some(if needs_length { BodyLength::Known(0) } else { body }));
    check_fields(&head, came);
}

/// All of the client's fields that are not to be removed are there, in their order, between ours.
fn check_fields(head: &Head<'_>, came: &Head<'_>) {
    let keeps_id = has_usable_id(came);
    assert!(keeps_id || head.values("x-request-id") == [OWN_ID.as_bytes()]);
    let is_ours = |field: &&Field<'_>| {
        let name = field.name.to_ascii_lowercase();
        let ours = ["host", "authorization", "x-goog-api-key", "content-length", "transfer-encoding"];
        ours.contains(&&*name) || name == "x-request-id" && !keeps_id
    };
    let mut passed_on = head.fields.iter().filter(|field| !is_ours(field)).peekable();
    let named = came.connection_options();
    for field in &came.fields {
        let name = field.name.to_ascii_lowercase();
        let is_named = named.iter().any(|option| *option == name.as_bytes());
        let is_named = is_named && !ALWAYS_PASSED_ON.contains(&&*name);
        let is_id = name == "x-request-id";
        let is_removed =
            |name: &str| KEYS.contains(&name) || HOP_BY_HOP.contains(&name) || ["host", "expect"].contains(&name);
        match passed_on.next_if_eq(&field) {
            Some(_) => assert!(!is_removed(&name) && !is_named && (keeps_id || !is_id), "{name} goes upstream"),
            None => {
                let may_go = is_removed(&loosened(&name)) || is_websocket_alias(&name);
                assert!(may_go || is_named || is_id && !keeps_id, "{name} is lost");
            }
        }
    }
    assert_eq!(passed_on.next(), None, "nothing else is added");
}

/// Tells whether it goes to Google's pass-through, where no key of the client's may be in the query.
fn check_target(target: &str, path: &str) -> bool {
    let below = path.strip_prefix("/flow-llm-proxy").expect("below the base path");
    let name = decoded(split_query(below).0.as_bytes());
    let is_gemini = name.iter().skip_while(|byte| **byte == b'/').take(7).eq(b"gemini/");
    if !is_gemini {
        assert_eq!(target, path);
        return false;
    }
    let (before, query) = split_query(target);
    assert_eq!(before, split_query(path).0);
    let parameters =
        |query: &str| -> Vec<String> { query.get(1..).unwrap_or_default().split('&').map(str::to_owned).collect() };
    let is_key = |parameter: &String| decoded(parameter.split('=').next().unwrap_or_default().as_bytes()) == b"key";
    let mut kept = parameters(split_query(path).1);
    kept.retain(|parameter| !is_key(parameter));
    assert_eq!(parameters(query).join("&"), kept.join("&"));
    true
}
