//! Open answers in the pump of a shard: however the bytes come and whenever a client takes them, what it gets is what
//! the upstream sent, the end is told for what it is, and no answer has a part in another.

#![no_main]

use flow_uring::fuzz::pump::{AnswerEnd, AnswerOutcome, Ending, PumpStep, PumpedAnswer, pump};
use flow_uring_fuzz::body::{Chunked, End};
use flow_uring_fuzz::events;
use flow_uring_fuzz::input::{Random, expanded};
use libfuzzer_sys::fuzz_target;

/// Divides the answers of one input.
const DIVIDER: u8 = 0xFE;
const ANSWERS_MAX: usize = 3;

fuzz_target!(|data: &[u8]| {
    let cases: Vec<Case> = data.split(|byte| *byte == DIVIDER).take(ANSWERS_MAX).filter_map(Case::of).collect();
    if cases.is_empty() {
        return;
    }
    let answers = || -> Vec<PumpedAnswer<'_>> { cases.iter().map(Case::answer).collect() };
    let at_once = pump(answers(), &at_once(&cases));
    cases.iter().zip(&at_once).for_each(|(case, end)| check(case, end));
    let mut random = Random::of(data);
    let in_pieces = pump(answers(), &in_pieces(&cases, &mut random, None));
    for ((case, whole), pieces) in cases.iter().zip(&at_once).zip(&in_pieces) {
        // Their sockets may have had no room.
        if whole.sent_bytes == case.body.len() && pieces.sent_bytes == case.body.len() {
            check_same(case, whole, pieces);
        } else {
            check(case, pieces);
        }
    }
    let leaver = random.below(cases.len());
    let with_leaver = pump(answers(), &in_pieces_of(&cases, &mut random, leaver));
    for (number, (case, end)) in cases.iter().zip(&with_leaver).enumerate() {
        if number == leaver { check_left(&at_once[number], end) } else { check(case, end) }
    }
});

/// An answer, and what becomes of its upstream.
#[derive(Debug)]
struct Case {
    framing: Framing,
    is_stream: bool,
    is_for_http10: bool,
    is_reset: bool,
    path: &'static str,
    body: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

impl Case {
    /// Reads one: a byte for its kind, one for its end, and the body.
    fn of(part: &[u8]) -> Option<Self> {
        let (&[kind, end], text) = part.split_first_chunk()?;
        let text = expanded(text);
        let (framing, body) = match kind % 4 {
            0 => (Framing::Length(text.len().saturating_sub(usize::from(end & 7))), text),
            1 => (Framing::Chunked, in_chunks(&text, end)),
            // As it is.
            2 => (Framing::Chunked, text),
            _ => (Framing::UntilClose, text),
        };
        let paths = ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/other"];
        Some(Case {
            framing,
            is_stream: kind & 0x10 != 0,
            is_for_http10: kind & 0x20 != 0,
            is_reset: kind & 0x40 != 0,
            path: paths[usize::from(end >> 6)],
            body,
        })
    }

    fn answer(&self) -> PumpedAnswer<'_> {
        let framing = match self.framing {
            Framing::Length(length) => format!("Content-Length: {length}\r\n"),
            Framing::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
            Framing::UntilClose => String::new(),
        };
        let media_type = if self.is_stream { "text/event-stream" } else { "application/json" };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\n{framing}\r\n").into_bytes();
        PumpedAnswer { head, path: self.path, is_for_http10: self.is_for_http10, tls: None }
    }

    fn last(&self, number: usize) -> PumpStep<'_> {
        if self.is_reset { PumpStep::Reset(number) } else { PumpStep::End(number) }
    }

    /// The content of the body, and how it ends, by itself.
    fn read(&self) -> (Vec<u8>, BodyEnd) {
        match self.framing {
            Framing::Length(length) if self.body.len() < length => (self.body.clone(), BodyEnd::Missing),
            Framing::Length(length) => (self.body[..length].to_vec(), BodyEnd::Whole(length)),
            Framing::UntilClose => (self.body.clone(), BodyEnd::Missing),
            Framing::Chunked => {
                let read = Chunked::read(&self.body);
                let end = match read.end {
                    End::Whole { body_bytes, .. } => BodyEnd::Whole(body_bytes),
                    End::Missing => BodyEnd::Missing,
                    End::Broken => BodyEnd::Broken,
                };
                (read.content, end)
            }
        }
    }

    /// The content of what a client has received, and whether its framing says that it is all.
    fn received(&self, received: &[u8]) -> (Vec<u8>, bool) {
        if self.framing != Framing::Chunked || self.is_for_http10 {
            return (received.to_vec(), false);
        }
        let read = Chunked::read(received);
        let is_whole = matches!(read.end, End::Whole { body_bytes, .. } if body_bytes == received.len());
        assert!(is_whole || !matches!(read.end, End::Whole { .. }), "bytes follow a whole body");
        (read.content, is_whole)
    }

    fn ends_by_close(&self) -> bool {
        self.framing == Framing::UntilClose || self.framing == Framing::Chunked && self.is_for_http10
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyEnd {
    /// After so many bytes.
    Whole(usize),
    Missing,
    Broken,
}

/// Frames a text in chunks, whose end is missing where a bit of `end` says so.
fn in_chunks(text: &[u8], end: u8) -> Vec<u8> {
    let size = [1, 7, 100, 5000][usize::from(end & 3)];
    let chunk = |part: &[u8]| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
    let mut body: Vec<u8> = text.chunks(size.max(text.len() / 64)).flat_map(chunk).collect();
    match end >> 2 & 3 {
        0 => {}
        1 => body.extend_from_slice(b"0\r\nX-Trailer: t\r\n\r\n"),
        2 => body.extend_from_slice(b"0\r\n\r\n"),
        _ => body.truncate(body.len().saturating_sub(usize::from(end & 0x1f))),
    }
    body
}

/// All comes in one piece, and the clients take nothing before the end.
fn at_once(cases: &[Case]) -> Vec<PumpStep<'_>> {
    let mut steps = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        steps.extend([PumpStep::Send(number, &case.body), case.last(number)]);
    }
    steps
}

/// The answers come in pieces and at one time, with turns anywhere, and clients take what they like.
fn in_pieces<'a>(cases: &'a [Case], random: &mut Random, leaver: Option<usize>) -> Vec<PumpStep<'a>> {
    let mut rests: Vec<&[u8]> = cases.iter().map(|case| &case.body[..]).collect();
    let mut open: Vec<usize> = (0..cases.len()).collect();
    let mut steps = Vec::new();
    // Some take nothing for long, so that what comes for them has to wait.
    let slow = random.below(2 * cases.len());
    let piece_max = [2, 40, 1000, 40_000][random.below(4)];
    while !open.is_empty() {
        let place = random.below(open.len());
        let number = open[place];
        let rest = &mut rests[number];
        // Most pieces have a length, so that a long body does not take long.
        let length = (1 + random.below(piece_max.max(rest.len() / 50 + 1))).min(rest.len());
        if length > 0 {
            let (piece, after) = rest.split_at(length);
            steps.push(PumpStep::Send(number, piece));
            *rest = after;
        } else {
            steps.push(cases[number].last(number));
            open.swap_remove(place);
        }
        if random.below(3) > 0 {
            steps.push(PumpStep::Turn);
        }
        let taker = random.below(cases.len());
        if taker != slow {
            steps.push(PumpStep::Take(taker, [1, 100, 10_000][random.below(3)]));
        }
    }
    if let Some(leaver) = leaver {
        steps.insert(random.below(steps.len() + 1), PumpStep::Leave(leaver));
    }
    steps
}

fn in_pieces_of<'a>(cases: &'a [Case], random: &mut Random, leaver: usize) -> Vec<PumpStep<'a>> {
    in_pieces(cases, random, Some(leaver))
}

/// What the sockets make of it does not depend on the pieces, but for what follows a body: the pump may not have seen it
/// when it let go of the connection, whose next user would.
fn check_same(case: &Case, whole: &AnswerEnd, pieces: &AnswerEnd) {
    let has_surplus = matches!(case.read().1, BodyEnd::Whole(body_bytes) if body_bytes < case.body.len());
    let reusable = if has_surplus { whole.upstream_is_reusable } else { pieces.upstream_is_reusable };
    assert_eq!(AnswerEnd { upstream_is_reusable: reusable, ..pieces.clone() }, *whole, "however it comes: {case:?}");
}

/// Checks an answer whose client has taken all.
fn check(case: &Case, end: &AnswerEnd) {
    let came = Case { body: case.body[..end.sent_bytes].to_vec(), ..*case };
    let (content, body_end) = came.read();
    let (received, is_whole) = came.received(&end.received);
    let told = AnswerOutcome::Answered { ending: Ending::Ok, keep_alive: !case.ends_by_close() };
    assert!(received.starts_with(&content), "the content is not as it came: {case:?} {end:?}");
    let added = &received[content.len()..];
    let needs_reset = case.ends_by_close();
    match body_end {
        BodyEnd::Whole(body_bytes) => {
            assert_eq!(end.outcome, told);
            assert!(added.is_empty() && (is_whole || case.framing != Framing::Chunked || case.is_for_http10));
            assert_eq!(end.response_bytes, content.len() as u64);
            // Bytes of nobody came with the end.
            assert!(end.upstream_is_reusable || body_bytes < came.body.len());
        }
        BodyEnd::Broken => {
            assert!(!end.upstream_is_reusable);
            match end.outcome {
                AnswerOutcome::Aborted { ending: Ending::UpstreamInvalid, needs_reset: reset } => {
                    assert!(!is_whole && added.is_empty());
                    assert_eq!(reset, needs_reset);
                }
                // Its turn was complete.
                outcome => {
                    assert_eq!(outcome, told);
                    assert!(case.is_stream, "{case:?} {end:?}");
                    check_filled(&content, added);
                }
            }
        }
        BodyEnd::Missing => {
            assert!(!end.upstream_is_reusable);
            check_broken(case, end, &content, added, is_whole);
        }
    }
}

/// Checks an answer whose upstream has ended before its body had, as far as is known.
fn check_broken(case: &Case, end: &AnswerEnd, content: &[u8], added: &[u8], is_whole: bool) {
    let keep_alive = !case.ends_by_close();
    let may_end = case.framing == Framing::UntilClose && !case.is_reset;
    match end.outcome {
        AnswerOutcome::Aborted { ending: Ending::UpstreamClosed, needs_reset } => {
            assert!(added.is_empty() && !is_whole && (case.is_stream || !may_end), "{case:?} {end:?}");
            assert_eq!(needs_reset, !keep_alive);
        }
        AnswerOutcome::Answered { ending: Ending::Ok, keep_alive: told } => {
            // The end of the connection is that of the body, or the turn of the stream was complete.
            assert!(may_end || case.is_stream, "a broken answer is told as whole: {case:?} {end:?}");
            assert_eq!(told, keep_alive);
            check_filled(content, added);
        }
        AnswerOutcome::Answered { ending: Ending::UpstreamClosed, keep_alive: told } => {
            assert!(case.is_stream, "only a stream can be ended with an event");
            assert_eq!(told, keep_alive);
            let events = events::whole(&[content, added].concat());
            assert!(events.last().is_some_and(|last| last.json().is_some_and(|json| json.has("error"))));
            assert!(is_whole || case.framing != Framing::Chunked || case.is_for_http10);
        }
        outcome => panic!("{outcome:?} of {case:?} {end:?}"),
    }
}

/// Checks what was added to a stream whose turn was complete: what had come whole stays, and at most half an event is
/// ended, with no error.
fn check_filled(content: &[u8], added: &[u8]) {
    let (came, all) = (events::whole(content), events::whole(&[content, added].concat()));
    assert_eq!(&all[..came.len()], came, "what came whole");
    assert!(all.len() <= came.len() + 1, "events are added");
    let is_error = all.get(came.len()).and_then(|last| last.json()).is_some_and(|json| json.has("error"));
    assert!(!is_error || content.windows(5).any(|bytes| bytes == b"error"), "an error after a complete turn");
}

/// Checks an answer whose client has left: it had a beginning of what it would have got.
fn check_left(whole: &AnswerEnd, end: &AnswerEnd) {
    assert!(whole.received.starts_with(&end.received), "another answer");
    let is_known =
        matches!(end.outcome, AnswerOutcome::Aborted { ending: Ending::ClientDisconnected | Ending::Ok, .. });
    // It may have left after all that it asked for, or after what the sockets could hold.
    assert!(is_known || end.outcome == whole.outcome || end.sent_bytes < whole.sent_bytes, "{end:?}, not {whole:?}");
    assert!(end.response_bytes <= whole.response_bytes, "more went downstream than there was");
}
