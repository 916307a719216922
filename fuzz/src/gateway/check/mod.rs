//! The comparison of what both sides saw with what was logged.
//!
//! The gateway is free in much: when it notices something, whether it has time for another attempt. So nothing is
//! foreseen here: each thing that was seen has to have its cause in what the others saw.

mod exchange;

use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use tracing::Level;

use self::exchange::ExchangeCheck;
use crate::gateway::client::{Ended, Seen};
use crate::gateway::log::Line;
use crate::gateway::request::{KEY_MARK, RequestBytes, frame};
use crate::gateway::script::{Framing, Kind, Play, Script, Size, Surplus};
use crate::gateway::stage::{BASE_PATH, SECRETS};
use crate::gateway::tag::Tag;
use crate::gateway::upstream::{Attempt, BodyEnd};
use crate::gateway::wire::{self, Answer, AnswerEnd};
use crate::message::Head;

/// All that was seen of a play.
#[derive(Debug)]
pub struct Observed<'a> {
    pub run: u64,
    pub script: &'a Arc<Script>,
    pub clients: Vec<Seen>,
    pub attempts: Vec<Attempt>,
    pub lines: Vec<Line>,
    pub begun: Instant,
}

/// An answer that a client got.
pub struct Got<'a> {
    pub kind: Kind,
    pub seen: &'a Seen,
    pub request: &'a RequestBytes,
    pub answer: &'a Answer,
}

/// # Errors
/// The first thing that has no cause.
pub fn check(observed: &Observed<'_>) -> Result<(), String> {
    check_secrets(observed)?;
    if let Some(line) = observed.lines.iter().find(|line| line.level == Level::ERROR) {
        return Err(format!("an error is logged: {}", line.text));
    }
    for attempt in &observed.attempts {
        check_attempt(observed, attempt)?;
    }
    check_reuse(observed)?;
    let mut first = 0;
    for (seen, client) in observed.clients.iter().zip(&observed.script.clients) {
        if seen.ended == Ended::Overdue {
            return Err("a client waits for longer than a script may take".into());
        }
        let kinds: Vec<Kind> = client.exchanges.iter().map(|exchange| exchange.request.kind).collect();
        check_client(observed, seen, &kinds, first)?;
        first += kinds.len();
    }
    Ok(())
}

/// Nothing of a credential is in what clients got and in the log, nor of what a client showed in the log.
fn check_secrets(observed: &Observed<'_>) -> Result<(), String> {
    let mut traces: Vec<String> = SECRETS.iter().map(|secret| (*secret).to_owned()).collect();
    for attempt in &observed.attempts {
        // The header is the same for all tokens.
        let token = attempt.authorization.strip_prefix("Bearer ").unwrap_or_default();
        traces.extend(token.split('.').skip(1).filter(|part| part.len() >= 32).map(str::to_owned));
    }
    traces.sort();
    traces.dedup();
    let finds = |text: &[u8]| traces.iter().find(|trace| memchr::memmem::find(text, trace.as_bytes()).is_some());
    for (number, seen) in observed.clients.iter().enumerate() {
        if let Some(trace) = finds(&seen.received) {
            return Err(format!("client {number} got {} bytes of a credential", trace.len()));
        }
    }
    for line in &observed.lines {
        if finds(line.text.as_bytes()).is_some() || line.text.contains(KEY_MARK) {
            return Err("a secret is in the log".into());
        }
    }
    Ok(())
}

/// The request as the upstream got it.
fn check_attempt(observed: &Observed<'_>, attempt: &Attempt) -> Result<(), String> {
    let fault = |what: &str| Err(format!("the upstream's attempt {}: {what}", attempt.tag));
    let Some(head) = Head::read(&attempt.head) else { return fault("its head is malformed") };
    if attempt.body_end == BodyEnd::Broken {
        return fault("its body is malformed");
    }
    if memchr::memmem::find(&attempt.head, KEY_MARK.as_bytes()).is_some() {
        return fault("the client's key went upstream");
    }
    if head.values("host").len() != 1 || head.values("authorization").len() != 1 {
        return fault("not one Host and one Authorization");
    }
    let mut first = 0;
    for seen in &observed.clients {
        let numbers = first..first + seen.requests.len();
        first = numbers.end;
        let Some(exchange) = attempt.exchange.filter(|exchange| numbers.contains(exchange)) else { continue };
        let place = exchange - numbers.start;
        let own: Vec<Tag> = if is_sure(seen, place) {
            vec![Tag { run: observed.run, exchange, attempt: None }]
        } else {
            numbers.map(|exchange| Tag { run: observed.run, exchange, attempt: None }).collect()
        };
        if let Some(foreign) = Tag::foreign_in(&attempt.content, &own) {
            return fault(&format!("its body holds {foreign}"));
        }
        if is_sure(seen, place) {
            return check_request(attempt, &head, &seen.requests[place]).or_else(fault);
        }
        return Ok(());
    }
    let has_changed = observed.clients.iter().any(|seen| seen.requests.iter().any(|request| request.is_changed));
    let is_own_check = head
        .request_line()
        .is_some_and(|(method, target, _)| method == "GET" && target.strip_prefix(BASE_PATH) == Some("/v1/models"));
    if has_changed || is_own_check { Ok(()) } else { fault("nobody has sent it") }
}

/// No connection is used again after an answer with bytes beyond its end, which came in one piece with it.
fn check_reuse(observed: &Observed<'_>) -> Result<(), String> {
    let mut spoiled = Vec::new();
    for attempt in &observed.attempts {
        if spoiled.contains(&attempt.connection) {
            return Err(format!("attempt {} came on a connection with bytes that nobody asked for", attempt.tag));
        }
        let Play { surplus, split, size, change, missing, cut, .. } = attempt.play;
        let is_seen_at_once = split.pieces == 0 && matches!(size, Size::Tiny | Size::Small);
        let is_closing = attempt.play.framing == Framing::Close || attempt.play.framing == Framing::Old;
        // Else it may take the place of what is missing.
        let is_beyond = surplus != Surplus::Nothing && change == Default::default() && missing <= 1 && cut.is_none();
        if is_beyond && is_seen_at_once && !is_closing {
            spoiled.push(attempt.connection);
        }
    }
    Ok(())
}

fn check_request(attempt: &Attempt, head: &Head<'_>, request: &RequestBytes) -> Result<(), &'static str> {
    let (_, target, version) = head.request_line().ok_or("its request line is malformed")?;
    if target.strip_prefix(BASE_PATH) != Some(&request.path) || version != "HTTP/1.1" {
        return Err("its request line is not the client's");
    }
    if !request.content.starts_with(&attempt.content) {
        return Err("its body is not what the client sent");
    }
    if attempt.body_end == BodyEnd::Whole && request.content != attempt.content {
        return Err("its body ends before the client's");
    }
    Ok(())
}

/// A request and all before it on its connection are as they were meant.
fn is_sure(seen: &Seen, place: usize) -> bool {
    seen.requests[..=place].iter().all(|request| !request.is_changed)
}

fn check_client(observed: &Observed<'_>, seen: &Seen, kinds: &[Kind], first: usize) -> Result<(), String> {
    let mut rest = &seen.received[..];
    let mut closes = false;
    let mut count = 0;
    for (place, request) in seen.requests.iter().enumerate() {
        let exchange = first + place;
        if !is_sure(seen, place) {
            return check_unsure(observed, rest, first..first + seen.requests.len());
        }
        let fault = |what: String| format!("exchange {exchange}: {what}");
        let (answer, length) = match wire::read(rest, request.is_head, seen.ended == Ended::Eof) {
            wire::Read::Broken(what) => return Err(fault(format!("the answer is malformed: {what}"))),
            wire::Read::Nothing => {
                ExchangeCheck::of(observed, exchange).check_unanswered(seen, place).map_err(fault)?;
                continue;
            }
            wire::Read::Answer(answer, length) => (answer, length),
        };
        if closes {
            return Err(fault("an answer after one that closes the connection".into()));
        }
        count += 1;
        closes = answer.value("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
            || answer.end != AnswerEnd::Whole
            || answer.is_close_delimited;
        rest = &rest[length..];
        let got = Got { kind: kinds[place], seen, request, answer: &answer };
        ExchangeCheck::of(observed, exchange).check(&got).map_err(fault)?;
        if answer.status == 101 {
            return check_tunnel(observed, seen, exchange, rest).map_err(fault);
        }
    }
    if !rest.is_empty() && count == seen.requests.len() {
        return Err(format!("{} bytes after the last answer", rest.len()));
    }
    let is_old = observed.script.clients.iter().flat_map(|client| &client.exchanges).skip(first);
    let is_old = is_old.take(count).any(|exchange| exchange.request.is_http10);
    if count < seen.sent_count && !seen.has_left && !closes && !is_old && seen.ended != Ended::Left {
        return Err(format!("{} requests were sent, and {count} answered", seen.sent_count));
    }
    Ok(())
}

/// Answers to bytes that may be any requests.
fn check_unsure(observed: &Observed<'_>, rest: &[u8], exchanges: std::ops::Range<usize>) -> Result<(), String> {
    let known = |attempt: &&Attempt| attempt.exchange.is_none_or(|exchange| exchanges.contains(&exchange));
    let own: Vec<Tag> = observed.attempts.iter().filter(known).map(|attempt| attempt.tag).collect();
    let own: Vec<Tag> = own.into_iter().chain(exchanges.map(|exchange| tag_of(observed, exchange))).collect();
    match Tag::foreign_in(rest, &own) {
        Some(foreign) => Err(format!("{foreign} is in the answers to a client that did not ask for it")),
        None => Ok(()),
    }
}

fn tag_of(observed: &Observed<'_>, exchange: usize) -> Tag {
    Tag { run: observed.run, exchange, attempt: None }
}

/// The bytes of a WebSocket, which go both ways as they are.
fn check_tunnel(observed: &Observed<'_>, seen: &Seen, exchange: usize, rest: &[u8]) -> Result<(), String> {
    let switched = observed.attempts.iter().rfind(|attempt| attempt.exchange == Some(exchange));
    let attempt = switched.filter(|attempt| attempt.answer.switches).ok_or("a 101 that the upstream did not send")?;
    let wire::Read::Answer(_, head_bytes) = wire::read(&attempt.answer.wire, false, false) else {
        return if attempt.answer.is_odd { Ok(()) } else { Err("a 101 that the upstream did not send".into()) };
    };
    let after = attempt.answer.wire.get(head_bytes..attempt.sent).unwrap_or_default();
    if attempt.play.change == Default::default() && !after.starts_with(rest) {
        return Err("the client got other bytes of the WebSocket than the upstream sent".into());
    }
    let sent = frame(&seen.tunnelled, true);
    if !sent.starts_with(&attempt.tunnelled) {
        return Err("the upstream got other bytes of the WebSocket than the client sent".into());
    }
    Ok(())
}

impl Observed<'_> {
    /// Writes what was seen, as far as people can read it.
    pub fn describe(&self) -> String {
        let mut text = format!("after {:?}\n", self.begun.elapsed());
        for (number, seen) in self.clients.iter().enumerate() {
            let Seen { sent_count, ended, has_left, received, .. } = seen;
            let _ = writeln!(
                text,
                "client {number}: {sent_count} sent, {ended:?}, has left: {has_left}, got {} bytes:\n{}",
                received.len(),
                shown(received)
            );
        }
        for attempt in &self.attempts {
            let Attempt { tag, body_end, content, sent, has_left, answer, .. } = attempt;
            let _ = writeln!(
                text,
                "attempt {tag} of {:?}: body {body_end:?} with {} bytes, {sent} of {} sent, has left: {has_left}\n{}\n{}",
                attempt.exchange,
                content.len(),
                answer.wire.len(),
                shown(&masked(&attempt.head, &attempt.authorization)),
                shown(&masked(&answer.wire[..*sent], &attempt.authorization)),
            );
        }
        for line in &self.lines {
            let _ = writeln!(text, "{} {}", line.level, line.text);
        }
        text
    }
}

fn masked(bytes: &[u8], authorization: &str) -> Vec<u8> {
    String::from_utf8_lossy(bytes).replace(authorization, "[TOKEN]").into_bytes()
}

/// The beginning and the end of bytes.
fn shown(bytes: &[u8]) -> String {
    const SHOWN: usize = 700;
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string().replace("\\r\\n", "\n    ");
    if bytes.len() <= 2 * SHOWN {
        return format!("    {}", text(bytes));
    }
    format!("    {} […] {}", text(&bytes[..SHOWN]), text(&bytes[bytes.len() - SHOWN..]))
}
