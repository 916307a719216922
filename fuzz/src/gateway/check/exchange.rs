//! The causes of what a client got for one request, and of its line in the log.

use super::{Got, Observed};
use crate::gateway::client::{Ended, Seen};
use crate::gateway::log::Line;
use crate::gateway::script::{
    Change, Content, End, Framing, Interim, Key, Kind, Opening, Play, Request, Size, Surplus,
};
use crate::gateway::stage::TIMEOUTS;
use crate::gateway::tag::Tag;
use crate::gateway::upstream::{Attempt, BodyEnd};
use crate::gateway::wire::{self, Answer, AnswerEnd};

/// The marks of the errors that may end a stream (docs/user-guide.md).
const ERROR_MARKS: [&str; 3] = ["upstream_disconnected", "api_error", "UNAVAILABLE"];

/// All that is known of one exchange.
pub struct ExchangeCheck<'a> {
    observed: &'a Observed<'a>,
    attempts: Vec<&'a Attempt>,
    line: Option<&'a Line>,
    lines_count: usize,
    exchange: usize,
}

/// The answer that the upstream sent, and its end.
struct Sent {
    content: Vec<u8>,
    end: AnswerEnd,
    /// The end of the connection is that of its body, so that its end may be seen in more than one way.
    is_close_delimited: bool,
    /// All of it comes: the connection is not reset after it, as it also is where it is closed over unread bytes.
    arrives: bool,
}

impl<'a> ExchangeCheck<'a> {
    pub fn of(observed: &'a Observed<'a>, exchange: usize) -> Self {
        let id = Tag::request_id(observed.run, exchange);
        let is_own = |line: &&Line| line.is_of_exchange() && line.value("request_id") == Some(&id);
        let mut lines = observed.lines.iter().filter(is_own);
        let line = lines.next();
        let lines_count = usize::from(line.is_some()) + lines.count();
        let attempts = observed.attempts.iter().filter(|attempt| attempt.exchange == Some(exchange)).collect();
        ExchangeCheck { observed, attempts, line, lines_count, exchange }
    }

    /// A request without a whole head of an answer.
    pub fn check_unanswered(&self, seen: &Seen, place: usize) -> Result<(), String> {
        let Some(line) = self.line else {
            return if self.attempts.is_empty() { Ok(()) } else { Err("it went upstream, and is not logged".into()) };
        };
        self.check_line(line, seen, None)?;
        if place < seen.sent_count && !seen.has_left && line.value("end") == Some("ok") {
            return Err("it ended well, and its client got nothing".into());
        }
        Ok(())
    }

    /// A request with an answer.
    pub fn check(&self, got: &Got<'_>) -> Result<(), String> {
        if got.answer.value("x-flow-uring-error").as_deref() == Some("head_timeout") {
            return self.check_unread(got.answer);
        }
        let line = self.line.ok_or("it was answered, and is not logged")?;
        self.check_line(line, got.seen, Some(got.answer))?;
        let answer = got.answer;
        if answer.end == AnswerEnd::Broken {
            return Err("the framing of its answer is malformed".into());
        }
        self.check_interims(got)?;
        let ids = answer.values("x-request-id");
        if ids != [Tag::request_id(self.observed.run, self.exchange)] {
            return Err(format!("the answer has other ids: {ids:?}"));
        }
        if !answer.values("set-cookie").is_empty() {
            return Err("the answer has a cookie".into());
        }
        let own: Vec<Tag> = self.attempts.iter().map(|attempt| attempt.tag).collect();
        if let Some(foreign) = Tag::foreign_in(&answer.content, &own) {
            return Err(format!("the answer holds {foreign}"));
        }
        let code = answer.value("x-flow-uring-error");
        if line.value("code").map(str::to_owned) != code {
            return Err(format!("the answer has the code {code:?}"));
        }
        if code.is_some() || matches!(got.kind, Kind::Liveness | Kind::OptionsOfAll) {
            return self.check_local(got, code.as_deref());
        }
        let tag = answer.value("x-attempt").unwrap_or_default();
        let Some(attempt) = self.attempts.iter().find(|attempt| attempt.tag.to_string() == tag) else {
            let is_changed = self.attempts.iter().any(|attempt| attempt.play.change != Change::Nothing);
            return if is_changed { Ok(()) } else { Err(format!("the answer is of attempt {tag:?}")) };
        };
        if answer.status != attempt.play.status.code() && attempt.play.change == Change::Nothing {
            return Err(format!("its status is not that of {tag}"));
        }
        // A WebSocket has no content, but a tunnel.
        if answer.status == 101 { Ok(()) } else { self.check_content(got, attempt, line) }
    }

    /// An answer to a head that did not come whole in time, whose own id nobody knows.
    fn check_unread(&self, answer: &Answer) -> Result<(), String> {
        let id = answer.value("x-request-id");
        let is_its = |line: &&Line| line.is_of_exchange() && line.value("request_id").map(str::to_owned) == id;
        let lines: Vec<&Line> = self.observed.lines.iter().filter(is_its).collect();
        match lines[..] {
            [line] if line.value("code") == Some("head_timeout") && self.attempts.is_empty() => Ok(()),
            _ => Err(format!("{} lines are logged of a head that came too late", lines.len())),
        }
    }

    /// Interim answers: one 100 at most, where it was asked for, and else those of the upstream.
    fn check_interims(&self, got: &Got<'_>) -> Result<(), String> {
        let request = self.request();
        let asks = request.expects_continue && !request.is_http10 && !got.request.content.is_empty();
        let is_sent = |attempt: &&Attempt| !matches!(attempt.play.interim, Interim::Nothing | Interim::Continue);
        let hints = self.attempts.iter().any(|attempt| is_sent(attempt) || attempt.play.change != Change::Nothing);
        let count = got.answer.interims.iter().filter(|status| **status == 100).count();
        let has_others = got.answer.interims.len() > count;
        if count > usize::from(asks) || has_others && (!hints || request.is_http10) {
            return Err(format!("nothing is the cause of the interim answers {:?}", got.answer.interims));
        }
        Ok(())
    }

    /// An answer that was made here.
    fn check_local(&self, got: &Got<'_>, code: Option<&str>) -> Result<(), String> {
        let (answer, is_bodiless) = (got.answer, got.request.is_head || got.answer.status == 204);
        if answer.end != AnswerEnd::Whole && !got.seen.has_left {
            return Err("an answer of the gateway is cut".into());
        }
        let json = serde_json::from_slice::<serde_json::Value>(&answer.content);
        if !is_bodiless && answer.end == AnswerEnd::Whole && json.is_err() {
            return Err("an answer of the gateway is no JSON".into());
        }
        match code {
            None if matches!(answer.status, 200 | 204) => Ok(()),
            Some("api_key_unknown") if self.key() == Key::Unknown => Ok(()),
            // Of the time that it took the line tells.
            Some("upstream_timeout") => Ok(()),
            Some("upstream_closed" | "upstream_malformed" | "upstream_switched_protocols")
                if !self.attempts.is_empty() || self.may_be_swallowed() =>
            {
                Ok(())
            }
            Some("websocket_not_supported" | "websocket_version_not_supported") if got.kind == Kind::Upgrade => Ok(()),
            Some("model_not_allowed" | "use_not_counted" | "no_room_to_read") if self.key() == Key::Picky => Ok(()),
            Some("limit_reached") if matches!(self.key(), Key::Picky | Key::Narrow) => Ok(()),
            Some("head_timeout" | "body_timeout") => Ok(()),
            Some("upstream_leaks_token") if self.tells_token() => Ok(()),
            other => Err(format!("nothing is the cause of {} {other:?}", answer.status)),
        }
    }

    /// It may have gone out on a connection of which the upstream reads no more, though the request before it was taken
    /// by the kernel.
    fn may_be_swallowed(&self) -> bool {
        self.observed.attempts.iter().any(|attempt| attempt.play.opening == Opening::IgnoresBody)
    }

    fn key(&self) -> Key {
        self.request().key
    }

    fn request(&self) -> &Request {
        let mut exchanges = self.observed.script.clients.iter().flat_map(|client| &client.exchanges);
        &exchanges.nth(self.exchange).expect("it is of the script").request
    }

    fn tells_token(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.play.tells_token)
    }

    /// The content of an answer against that of the upstream.
    fn check_content(&self, got: &Got<'_>, attempt: &Attempt, line: &Line) -> Result<(), String> {
        let Some(sent) = Sent::of(attempt) else { return Ok(()) };
        let (answer, is_masked) = (got.answer, attempt.play.tells_token);
        let is_same = |(one, other): &(&u8, &u8)| one == other || is_masked && **one == b'*';
        let common = answer.content.iter().zip(&sent.content).take_while(is_same).count();
        let (added, lacking) = (&answer.content[common..], sent.content.len() - common);
        let end = line.value("end").unwrap_or_default();
        if attempt.play.change != Change::Nothing {
            return Ok(());
        }
        let stays = !got.seen.has_left && got.seen.ended != Ended::Left && !may_lose_answers(got.seen);
        if !added.is_empty() {
            let is_broken = !sent.is_whole_for_sure() || end == "timeout";
            if !attempt.play.is_stream() || !is_broken {
                return Err(format!("{} bytes of the answer are not the upstream's", added.len()));
            }
            return self.check_added(&answer.content, added, answer.end);
        }
        if answer.end == AnswerEnd::Missing && stays && is_owed_an_event(attempt, &answer.content, end) {
            return Err("a broken stream was cut, and not ended by an event".into());
        }
        match answer.end {
            AnswerEnd::Whole if lacking > 0 && !ends_turn(&answer.content) => {
                Err(format!("{lacking} bytes of the upstream's answer are not in one that looks whole"))
            }
            AnswerEnd::Whole
                if sent.end == AnswerEnd::Missing && !sent.is_close_delimited && !ends_turn(&answer.content) =>
            {
                Err("an answer that broke looks whole".into())
            }
            AnswerEnd::Missing if stays && sent.is_whole_for_sure() && end != "timeout" => {
                Err("a whole answer was cut".into())
            }
            AnswerEnd::Whole if end == "ok" && !is_masked => self.check_bytes(line, got, attempt),
            _ => Ok(()),
        }
    }

    /// The end that was written to a stream that broke.
    fn check_added(&self, content: &[u8], added: &[u8], end: AnswerEnd) -> Result<(), String> {
        let text = String::from_utf8_lossy(added);
        let is_error = ERROR_MARKS.iter().any(|mark| text.contains(mark));
        let is_filling = text.chars().all(|char| matches!(char, '\r' | '\n' | ':' | ' '));
        if is_error || is_filling && ends_turn(content) || end == AnswerEnd::Missing {
            return Ok(());
        }
        Err(format!("a broken stream was ended by {text:?}"))
    }

    /// The counts of an exchange that ended well.
    fn check_bytes(&self, line: &Line, got: &Got<'_>, attempt: &Attempt) -> Result<(), String> {
        let out = line.number("bytes_out").unwrap_or(-1.0);
        if out != got.answer.content.len() as f64 && attempt.play.surplus == Surplus::Nothing {
            return Err(format!("{out} bytes are logged of an answer of {}", got.answer.content.len()));
        }
        let taken = line.number("bytes_in").unwrap_or(-1.0);
        let whole = got.request.content.len() as f64;
        if taken > whole || attempt.body_end == BodyEnd::Whole && taken != whole {
            return Err(format!("{taken} bytes are logged of a request of {whole}"));
        }
        Ok(())
    }

    /// The line in the log, and the cause of the end that it tells.
    fn check_line(&self, line: &Line, seen: &Seen, answer: Option<&Answer>) -> Result<(), String> {
        let fault = |what: &str| Err(format!("{what}: {}", line.text));
        if self.lines_count > 1 {
            return fault("it is logged more than once");
        }
        let (status, attempts) = (line.number("status"), line.number("attempts").unwrap_or_default());
        if answer.is_some_and(|answer| status != Some(f64::from(answer.status))) {
            return fault("the client got another status");
        }
        // One attempt may have gone out twice: over a connection that was closed, and over a fresh one.
        if self.attempts.len() as f64 > 2.0 * attempts {
            return fault("the upstream saw more attempts");
        }
        let any = |is: fn(&Attempt) -> bool| self.attempts.iter().any(|attempt| is(attempt));
        let has_cause = match line.value("end").unwrap_or_default() {
            "ok" => {
                answer.is_none_or(|answer| seen.has_left || may_lose_answers(seen) || answer.end == AnswerEnd::Whole)
            }
            "client_disconnected" => seen.has_left || seen.ended == Ended::Left,
            "upstream_closed" => any(may_close) || attempts > self.attempts.len() as f64,
            "upstream_invalid" => any(may_be_invalid),
            "timeout" => line.number("duration_ms").unwrap_or_default() >= shortest_limit_ms(),
            "refused" => line.value("code").is_some(),
            _ => false,
        };
        if has_cause { Ok(()) } else { fault("nothing is the cause of its end") }
    }
}

impl Sent {
    fn is_whole_for_sure(&self) -> bool {
        self.end == AnswerEnd::Whole && !self.is_close_delimited && self.arrives
    }

    /// `None` of what is no answer.
    fn of(attempt: &Attempt) -> Option<Self> {
        let sent = &attempt.answer.wire[..attempt.sent];
        match wire::read(sent, attempt.is_head, attempt.has_left) {
            wire::Read::Answer(answer, _) => {
                let arrives =
                    !attempt.has_left || attempt.play.end != End::Resets && attempt.body_end == BodyEnd::Whole;
                let wire::Answer { content, end, is_close_delimited, .. } = answer;
                Some(Sent { content, end, is_close_delimited, arrives })
            }
            _ => None,
        }
    }
}

/// The upstream may be seen to close before its answer is whole.
fn may_close(attempt: &Attempt) -> bool {
    attempt.has_left
        || attempt.sent < attempt.answer.wire.len()
        || attempt.play.opening != Opening::Reads
        || attempt.play.end != End::Keeps
        || attempt.answer.is_odd
}

fn may_be_invalid(attempt: &Attempt) -> bool {
    attempt.answer.is_odd || attempt.play.status.code() == 101 || attempt.play.interim == Interim::TooMany
}

/// The stream can be ended by an event that its client knows as an error: whole events of a known kind have come, and
/// where a chunk is open, little of it is missing.
fn is_owed_an_event(attempt: &Attempt, content: &[u8], end: &str) -> bool {
    let Play { content: kind, framing, size, .. } = attempt.play;
    matches!(kind, Content::Chat | Content::Messages | Content::Responses | Content::Gemini)
        && matches!(framing, Framing::Chunked | Framing::Close | Framing::Old)
        && matches!(size, Size::Tiny | Size::Small | Size::Large)
        && memchr::memmem::find(content, b"\n\n").is_some()
        && matches!(end, "upstream_closed" | "timeout")
}

/// It has sent more requests, and one of them met a connection that was closed after an answer: the reset that the kernel
/// sends for it takes away what was not read of the answer.
fn may_lose_answers(seen: &Seen) -> bool {
    seen.ended == Ended::Reset && seen.requests.len() > 1
}

/// The content of a stream holds an event that ends the turn.
fn ends_turn(content: &[u8]) -> bool {
    ["[DONE]", "message_stop", "response.completed", "finishReason"]
        .iter()
        .any(|mark| memchr::memmem::find(content, mark.as_bytes()).is_some())
}

fn shortest_limit_ms() -> f64 {
    let limits = [TIMEOUTS.head, TIMEOUTS.body, TIMEOUTS.client, TIMEOUTS.upstream_write, TIMEOUTS.downstream_write];
    // The sweep of the deadlines may be early by its tick.
    limits.into_iter().min().unwrap_or_default().as_secs_f64() * 1000.0 * 0.9
}
