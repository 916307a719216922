//! A connection as two parsers read it that share no code: the same messages, with the same ends, so that nothing can
//! be hidden in what one of them takes for a body. What only one of them accepts has a reason in `differences`.

#![no_main]

use std::sync::LazyLock;

use flow_uring::fuzz::http1::{
    BodyLength, BodyReader, Field, HeadLimits, HeadScanner, Piece, StartLine, Version, with_request, with_response,
};
use flow_uring::fuzz::request::{self, Caller, Destination, Rules, route};
use flow_uring::fuzz::{response, rules};
use flow_uring_fuzz::body::{Chunked, End as BodyEnd};
use flow_uring_fuzz::differences::{Parser, explains, without_empty_lines, without_extensions};
use flow_uring_fuzz::input::expanded;
use flow_uring_fuzz::kawa_reading;
use flow_uring_fuzz::message::Head;
use flow_uring_fuzz::wire::{End, FieldReading, FirstLine, Framing, HeadReading, Reading, Wire};
use libfuzzer_sys::fuzz_target;

/// Messages that are read of one connection.
const MESSAGES_MAX: usize = 8;

static RULES: LazyLock<Rules> = LazyLock::new(|| rules("/flow-llm-proxy"));

fuzz_target!(|data: &[u8]| {
    let input = expanded(data);
    let is_request = !input.starts_with(b"HTTP/");
    let mut rest = &input[..];
    for _ in 0..MESSAGES_MAX {
        let bytes = if is_request { without_empty_lines(rest) } else { rest };
        let Some(length) = compare(&Wire { bytes, is_request }) else { return };
        rest = &bytes[length..];
        if rest.is_empty() {
            return;
        }
    }
});

/// Reads the first message twice. Returns its length, if both have come to its end.
fn compare(wire: &Wire<'_>) -> Option<usize> {
    let own = read(wire);
    let other = read_by_kawa(wire, &own);
    match (&own.head, &other.head) {
        (None, None) => return None,
        (Some(_), None) => return assert_explained(Parser::Own, wire, &own, &other),
        (None, Some(_)) => return assert_explained(Parser::Other, wire, &own, &other),
        (Some(head), Some(other_head)) => assert_eq!(head, other_head),
    }
    let (shorter, longer) = if own.content.len() <= other.content.len() { (&own, &other) } else { (&other, &own) };
    assert!(longer.content.starts_with(&shorter.content), "the content: {own:?} {other:?}");
    match (own.end, other.end) {
        (End::At(end), End::At(other_end)) => {
            assert_eq!(end, other_end, "another message begins elsewhere");
            assert_eq!(own.content, other.content);
            let mut all = other.trailers.iter();
            assert!(own.trailers.iter().all(|trailer| all.any(|other| other == trailer)), "{own:?} {other:?}");
            Some(end)
        }
        (End::At(_), _) => assert_explained(Parser::Own, wire, &own, &other),
        (_, End::At(_)) => assert_explained(Parser::Other, wire, &own, &other),
        (End::Missing, End::Missing) => {
            assert_eq!(own.content, other.content);
            None
        }
        _ => None,
    }
}

fn assert_explained(accepted_by: Parser, wire: &Wire<'_>, own: &Reading, other: &Reading) -> Option<usize> {
    let Some(difference) = explains(accepted_by, wire) else {
        panic!("accepted by one alone, {accepted_by:?}: {own:?} {other:?}");
    };
    if difference.name == "a target in no form"
        && let Some(HeadReading { first_line: FirstLine::Request { method, target }, .. }) = &own.head
    {
        let [method, target] = [method, target].map(|text| std::str::from_utf8(text).expect("ASCII"));
        let routed = route(method, target, &RULES.target);
        assert!(!matches!(routed, Ok(Destination::Forward(_))), "{target} goes upstream");
    }
    None
}

/// Reads as the program does.
fn read(wire: &Wire<'_>) -> Reading {
    let limits = if wire.is_request { HeadLimits::REQUEST } else { HeadLimits::RESPONSE };
    let span = match HeadScanner::default().scan(wire.bytes, &limits) {
        Ok(Some(span)) if span.start == 0 => span,
        // A third empty line.
        Ok(Some(_)) | Err(_) => return Reading::refused(),
        Ok(None) => return Reading::default(),
    };
    let bytes = &wire.bytes[..span.end];
    let read = match limits.start_line {
        StartLine::Request => with_request(bytes, |head| {
            let facts = request::examine(head, &mut Caller::default()).ok()?;
            let line = FirstLine::Request { method: head.method.into(), target: head.target.into() };
            Some((head_reading(line, head.version, facts.body, head.fields), facts.body))
        }),
        StartLine::Status => with_response(bytes, |head| {
            let facts = response::examine(head, false).ok()?;
            let line = FirstLine::Status { status: head.status, reason: head.reason.into() };
            Some((head_reading(line, head.version, facts.body, head.fields), facts.body))
        }),
    };
    match read {
        Ok(Some((head, length))) => read_body(wire, span.end, head, length),
        Ok(None) | Err(_) => Reading::refused(),
    }
}

fn head_reading(first_line: FirstLine, version: Version, body: BodyLength, fields: &[Field<'_>]) -> HeadReading {
    let mut fields: Vec<FieldReading> =
        fields.iter().map(|field| (field.name.to_ascii_lowercase().into_bytes(), field.value.to_vec())).collect();
    let has_path = first_line.has_path();
    let host = fields.iter().find(|(name, _)| has_path && name == b"host").map(|(_, host)| host.clone());
    fields.retain(|(name, _)| name != b"host" && name != b"cookie");
    let framing = match body {
        BodyLength::None => Framing::Length(0),
        BodyLength::Known(length) => Framing::Length(length),
        BodyLength::Chunked => Framing::Chunked,
        BodyLength::UntilClose => Framing::UntilClose,
    };
    HeadReading { first_line, is_http10: version == Version::Http10, host, fields, framing }
}

fn read_body(wire: &Wire<'_>, start: usize, head: HeadReading, length: BodyLength) -> Reading {
    let mut reader = BodyReader::new(length);
    let (mut content, mut passed_on) = (Vec::new(), Vec::new());
    let read = reader.read(&wire.bytes[start..], |piece| {
        let (Piece::Data(bytes) | Piece::Framing(bytes)) = piece;
        passed_on.extend_from_slice(bytes);
        if matches!(piece, Piece::Data(_)) {
            content.extend_from_slice(bytes);
        }
    });
    let end = match read {
        Ok(consumed) if reader.is_complete() => End::At(start + consumed),
        Ok(_) => End::Missing,
        Err(_) => End::Refused,
    };
    let trailers = match end {
        End::At(_) if length == BodyLength::Chunked => trailers(&passed_on),
        _ => Vec::new(),
    };
    Reading { head: Some(head), content, trailers, end }
}

fn trailers(body: &[u8]) -> Vec<FieldReading> {
    let BodyEnd::Whole { trailers, .. } = Chunked::read(body).end else { panic!("a valid body is passed on") };
    let as_head = [b"x\r\n", trailers, b"\r\n"].concat();
    let fields = Head::read(&as_head).expect("trailers").fields;
    fields.iter().map(|field| (field.name.to_ascii_lowercase().into_bytes(), field.value.to_vec())).collect()
}

/// Reads as kawa does, which knows no extensions of chunks.
fn read_by_kawa(wire: &Wire<'_>, own: &Reading) -> Reading {
    let head_bytes = wire.head_bytes();
    let is_chunked = own.head.as_ref().is_some_and(|head| head.framing == Framing::Chunked);
    let (body, left_out) = if is_chunked { without_extensions(wire.body()) } else { (wire.body().to_vec(), 0) };
    let bytes = [&wire.bytes[..head_bytes], &body].concat();
    let mut reading = kawa_reading::read(&Wire { bytes: &bytes, is_request: wire.is_request });
    // Beyond the end nothing is left out.
    if let End::At(end) = &mut reading.end {
        *end += left_out;
    }
    if let Some(head) = &mut reading.head {
        head.host = head.host.take().filter(|_| head.first_line.has_path());
        head.fields.retain(|(name, _)| name != b"host" && name != b"cookie");
    }
    reading
}
