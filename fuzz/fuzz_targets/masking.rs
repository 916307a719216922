//! A body with pieces of the attempt's token in it, in whatever framing and reads: what must not go downstream is masked,
//! nothing else is, and hardly anything is held.

#![no_main]

use std::ops::Range;
use std::rc::Rc;

use flow_uring::credentials::TokenTraces;
use flow_uring::fuzz::http1::{Version, with_response};
use flow_uring::fuzz::response::{BodyRelay, Buffer, ResponseFacts, examine};
use flow_uring_fuzz::answer::{Answer, ErrorForm, Framing, Kind, Part, Passed};
use flow_uring_fuzz::body::{Chunked, End};
use flow_uring_fuzz::events::{self, Event};
use flow_uring_fuzz::input::ways_to_split;
use flow_uring_fuzz::json::Json;
use flow_uring_fuzz::token::{Token, marked};
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;

fuzz_target!(|data: &[u8]| {
    let Some((&[kind, framing, id, id_length, secret, secret_length, tenant, tenant_length], text)) =
        data.split_first_chunk()
    else {
        return;
    };
    let token = Token::of([[id, id_length], [secret, secret_length], [tenant, tenant_length]]);
    let case = Case::of(Answer::of([kind, framing], text, &token), token);
    let raw = case.answer.raw();
    let came = &raw[..case.answer.came];
    let mut ways = ways_to_split(came);
    ways.extend([vec![came], split_at(came, &case.answer.read_ends)]);
    for reads in &ways {
        let (out, has_masked) = relayed(&case, reads);
        check(&case, reads, &out, has_masked);
    }
});

fn split_at<'a>(mut bytes: &'a [u8], ends: &[usize]) -> Vec<&'a [u8]> {
    let (mut parts, mut start) = (Vec::new(), 0);
    for end in ends {
        let (part, rest) = bytes.split_at(end.saturating_sub(start).min(bytes.len()));
        start += part.len();
        parts.push(part);
        bytes = rest;
    }
    parts.push(bytes);
    parts
}

/// An answer, and what is known of it without regard to the reads.
struct Case {
    answer: Answer,
    token: Token,
    traces: Rc<TokenTraces>,
    passed_on: Vec<Passed>,
    /// The content of what came, and all runs in it.
    content: Vec<u8>,
    runs: Vec<Range<usize>>,
    is_run: Vec<bool>,
    has_run_in_framing: bool,
    is_cut: bool,
    units: Vec<Unit>,
}

impl Case {
    fn of(answer: Answer, token: Token) -> Self {
        let passed_on = answer.passed_on(&token);
        let content: Vec<u8> = passed_on.iter().filter(|at| at.masked.is_none()).map(|at| at.byte).collect();
        let runs = token.runs(&content);
        let whole = answer.parts.iter().map(|part| part.bytes().len()).sum();
        Case {
            traces: Rc::new(token.traces()),
            is_run: marked(content.len(), &runs),
            has_run_in_framing: passed_on.iter().any(|at| at.masked.is_some_and(|masked| masked != at.byte)),
            is_cut: answer.came < whole,
            units: if answer.kind == Kind::Events { Unit::all(&content) } else { Vec::new() },
            answer,
            token,
            passed_on,
            content,
            runs,
        }
    }

    fn facts(&self) -> ResponseFacts {
        let (status, form) = match self.answer.kind {
            Kind::Events => (200, ErrorForm::Stream),
            Kind::Error { status, form } => (status, form),
            Kind::Other => (200, ErrorForm::Json),
        };
        let content_bytes: usize = self
            .answer
            .parts
            .iter()
            .filter(|part| matches!(part, Part::Content(_)))
            .map(|part| part.bytes().len())
            .sum();
        let framing = match self.answer.framing {
            Framing::Length => format!("Content-Length: {content_bytes}\r\n"),
            Framing::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
            Framing::Close => String::new(),
        };
        let media_type = if form == ErrorForm::Stream { "text/event-stream" } else { "application/json" };
        let coding = if form == ErrorForm::Coded { "Content-Encoding: compress\r\n" } else { "" };
        let head = format!("HTTP/1.1 {status} x\r\nContent-Type: {media_type}\r\n{coding}{framing}\r\n");
        with_response(head.as_bytes(), |head| examine(head, false).expect("valid")).expect("a valid head")
    }
}

/// Returns what goes downstream, and whether it is said that something was masked.
fn relayed(case: &Case, reads: &[&[u8]]) -> (Vec<u8>, bool) {
    let version = if case.answer.is_for_http10 { Version::Http10 } else { Version::Http11 };
    let mut relay = BodyRelay::new(&case.facts(), version, Buffer::none(), Rc::clone(&case.traces));
    let mut came = 0;
    for read in reads {
        relay.push(read);
        came += read.len();
        assert_eq!(relay.error, None, "the framing is valid");
        check_held(case, &relay, came);
    }
    if !relay.reader.is_complete() {
        relay.end(case.is_cut);
    }
    (relay.out.filled().to_vec(), relay.has_masked)
}

/// Checks that no more is held than may become a run.
fn check_held(case: &Case, relay: &BodyRelay, came: usize) {
    let due = case.passed_on.partition_point(|at| at.due <= came);
    let out = relay.out.filled().len();
    assert!(out <= due, "more goes out than came");
    let content_bytes = |passed: &[Passed]| passed.iter().filter(|at| at.masked.is_none()).count();
    if out < due {
        let held = content_bytes(&case.passed_on[out..due]);
        assert!(held > 0, "framing is held for nothing");
        assert!(held < case.token.run_bytes_max(), "{held} bytes are held");
        assert!(case.answer.kind != Kind::Other, "nothing of it is searched");
        let came = content_bytes(&case.passed_on[..due]);
        assert!(!case.units.iter().any(|unit| unit.complete_at == Some(came)), "a whole event is held");
        assert!(relay.heartbeat(None).is_none(), "a heartbeat would stand before what is held");
    }
}

fn check(case: &Case, reads: &[&[u8]], out: &[u8], has_masked: bool) {
    assert_eq!(out.len(), case.passed_on.len(), "nothing is lost or added");
    let (mut content, mut is_changed) = (Vec::new(), false);
    for (byte, passed) in out.iter().zip(&case.passed_on) {
        match passed.masked {
            Some(masked) => assert_eq!(*byte, masked, "framing"),
            None => content.push(*byte),
        }
        is_changed |= *byte != passed.byte;
    }
    assert!(has_masked || !is_changed, "it is not said");
    if case.answer.framing == Framing::Chunked && !case.answer.is_for_http10 && !case.is_cut {
        let read = Chunked::read(out);
        assert!(matches!(read.end, End::Whole { body_bytes, .. } if body_bytes == out.len()), "the framing is broken");
        assert_eq!(read.content, content);
    }
    match case.answer.kind {
        Kind::Events => check_events(case, reads, &content),
        Kind::Error { .. } => {
            let is_masked = masked_of_error(case);
            check_content(case, &content, &is_masked, &is_masked);
            assert!(!has_masked || is_masked.contains(&true) || has_framing_run(case));
        }
        Kind::Other => {
            assert_eq!(content, case.content);
            assert!(!has_masked || has_framing_run(case));
        }
    }
}

/// Tells whether a run may be said to be in the framing: one of structure only changes nothing.
fn has_framing_run(case: &Case) -> bool {
    let has_run = |part: &Part| matches!(part, Part::Framing(framing) if !case.token.runs(framing).is_empty());
    case.has_run_in_framing || case.answer.parts.iter().any(has_run)
}

fn check_content(case: &Case, content: &[u8], must: &[bool], may: &[bool]) {
    for (at, (byte, came)) in content.iter().zip(&case.content).enumerate() {
        assert!(*byte == *came || *byte == b'*' && may[at], "the byte at {at} is changed: {}", content.escape_ascii());
        assert!(*byte == b'*' || !must[at], "the byte at {at} goes out: {}", content.escape_ascii());
    }
}

/// Tells of each byte of an error whether it is masked, which no read changes.
fn masked_of_error(case: &Case) -> Vec<bool> {
    let mut masked = case.is_run.clone();
    if case.is_cut {
        masked[case.token.cut_suffix(&case.content).start..].fill(true);
    }
    masked
}

/// The bytes of one event, or of the beginning of one.
#[derive(Debug)]
struct Unit {
    /// With the comments before it.
    start: usize,
    /// The first line that is no comment.
    core: usize,
    /// The end of the blank line, without the LF of a CRLF. `None` if it has not come.
    complete_at: Option<usize>,
    verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Error,
    Harmless,
    /// Readers may differ.
    Unsure,
}

impl Unit {
    fn all(content: &[u8]) -> Vec<Self> {
        const MARK: &[u8] = b"\xEF\xBB\xBF";
        let (mut units, mut start, mut core) = (Vec::new(), 0, content.starts_with(MARK).then_some(0));
        let mut line_start = core.map_or(0, |_| MARK.len());
        while let Some(length) = content[line_start..].iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
            let line = &content[line_start..line_start + length];
            let complete_at = line_start + length + 1;
            let end = if content[complete_at - 1..].starts_with(b"\r\n") { complete_at + 1 } else { complete_at };
            if !line.is_empty() && !line.starts_with(b":") {
                core = core.or(Some(line_start));
            }
            if line.is_empty() {
                let verdict = Verdict::on(start == 0, &content[start..complete_at]);
                let core = core.take().unwrap_or(complete_at);
                units.push(Unit { start, core, complete_at: Some(complete_at), verdict });
                start = end;
            }
            line_start = end;
        }
        let core = core.unwrap_or(line_start);
        units.push(Unit { start, core, complete_at: None, verdict: Verdict::Unsure });
        units
    }
}

impl Verdict {
    fn on(is_first: bool, event: &[u8]) -> Self {
        // A mark is one only where the stream begins.
        let line_before: &[u8] = if is_first { b"" } else { b"\n" };
        events::whole(&[line_before, event].concat()).first().map_or(Verdict::Harmless, Verdict::by)
    }

    fn by(event: &Event) -> Self {
        let is_error = |name: &[u8]| matches!(name, b"error" | b"response.failed");
        if is_error(&event.name) {
            return Verdict::Error;
        }
        if !event.data.trim_ascii_start().starts_with(b"{") {
            return Verdict::Harmless;
        }
        if serde_json::from_slice::<IgnoredAny>(&event.data).is_err() {
            // It may be one that is not understood.
            return Verdict::Error;
        }
        let Some(json) = event.json().filter(|json| !json.is_ambiguous()) else { return Verdict::Unsure };
        match json.get("type") {
            _ if json.has("error") => Verdict::Error,
            Some(Json::Text(text)) if is_error(text.as_bytes()) => Verdict::Error,
            None | Some(Json::Null | Json::Text(_)) => Verdict::Harmless,
            Some(_) => Verdict::Unsure,
        }
    }
}

/// Checks a stream: what is masked of an event depends on whether it came whole.
fn check_events(case: &Case, reads: &[&[u8]], content: &[u8]) {
    let pieces = pieces(case, reads);
    let (mut must, mut harmless) = (vec![false; case.content.len()], Vec::new());
    for unit in &case.units {
        let end = unit.complete_at.unwrap_or(case.content.len());
        let runs = case.runs.iter().filter(|run| unit.core <= run.start && run.end <= end);
        let is_whole = unit.complete_at.is_some() && pieces.iter().any(|piece| holds(piece, &(unit.core..end)));
        match unit.verdict {
            Verdict::Error if is_whole => runs.for_each(|run| must[run.clone()].fill(true)),
            Verdict::Harmless if is_whole => {
                harmless.extend(Some(unit.start..end).filter(|all| pieces.iter().any(|piece| holds(piece, all))));
            }
            Verdict::Unsure if is_whole => {}
            _ => runs.for_each(|run| {
                let is_in_one_piece = pieces.iter().any(|piece| holds(piece, run));
                let gone_bytes =
                    if is_in_one_piece { 0 } else { case.token.gone_bytes_max(&case.content[run.clone()]) };
                must[run.start + gone_bytes..run.end].fill(true);
            }),
        }
    }
    let mut may = marked(case.content.len(), &blocks(&case.is_run, &harmless));
    if case.is_cut {
        may[case.token.open_suffix(&case.content)..].fill(true);
        if let Some(half) = case.units.last().filter(|unit| unit.core < case.content.len()) {
            let cut = case.token.cut_suffix(&case.content[half.core..]);
            (half.core + cut.start + cut.gone_bytes_max..case.content.len()).for_each(|at| must[at] = true);
        }
    }
    check_content(case, content, &must, &may);
}

fn holds(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// The ranges of the content that come in one piece: of one chunk, in one read.
fn pieces(case: &Case, reads: &[&[u8]]) -> Vec<Range<usize>> {
    let (mut pieces, mut read_end) = (Vec::<Range<usize>>::new(), 0);
    let mut reads = reads.iter();
    let mut last_due = 0;
    for (at, passed) in case.passed_on.iter().filter(|passed| passed.masked.is_none()).enumerate() {
        let is_next_read = passed.due > read_end;
        while passed.due > read_end {
            read_end += reads.next().map_or(usize::MAX - read_end, |read| read.len());
        }
        match pieces.last_mut() {
            Some(piece) if !is_next_read && passed.due == last_due + 1 => piece.end = at + 1,
            _ => pieces.push(at..at + 1),
        }
        last_due = passed.due;
    }
    pieces
}

/// The ranges of bytes in a row that are of runs, but for those within one of the `harmless` ranges.
fn blocks(is_run: &[bool], harmless: &[Range<usize>]) -> Vec<Range<usize>> {
    let (mut blocks, mut at) = (Vec::new(), 0);
    for block in is_run.chunk_by(|one, other| one == other) {
        let range = at..at + block.len();
        at = range.end;
        if block[0] && !harmless.iter().any(|harmless| holds(harmless, &range)) {
            blocks.push(range);
        }
    }
    blocks
}
