//! One exchange of the admin listener: its request, the right to it, its reply.
//!
//! Invariant: whoever shows a wrong token waits for its answer, and nobody else does.

use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::access::{AdminAccess, Proof};
use super::page;
use super::pages::Pages;
use super::refusal::AdminRefusal;
use super::reply::AdminReply;
use super::route::{AdminPage, AdminRequest, route};
use super::stage::{Audience, FollowerSeat};
use crate::config::percent_decoded;
use crate::credentials::Secret;
use crate::http1::head::{HeadLimits, HeadScanner, HeadSpan, StartLine, with_request};
use crate::io::{Buffer, Deadline, Stream, pause};
use crate::proxy::guard::AccessRules;

/// The limits of a request head, several times what a browser or a scraper sends.
const HEAD: HeadLimits =
    HeadLimits { start_line: StartLine::Request, line_bytes_max: 4 * 1024, head_bytes_max: 8 * 1024, fields_max: 64 };

/// Room for one read of a head.
pub const READ_ROOM: usize = 4 * 1024;

/// The body of a log-in: a token is shorter.
const LOG_IN_BYTES_MAX: u64 = 4 * 1024;

/// The time for which a wrong token is let wait. A token is 16 characters at least, so this is against mistakes in loops
/// more than against guesses.
const WRONG_TOKEN_PAUSE: Duration = Duration::from_secs(1);

/// The time after which it is looked whether the connection has to make room meanwhile.
const WRONG_TOKEN_LOOK: Duration = Duration::from_millis(50);

/// Pages that follow the events at a time, at most: each costs a state a second.
const FOLLOWERS_MAX: usize = 16;

/// The pause between two events, and the limit on the write of one.
const EVENT_INTERVAL: Duration = Duration::from_secs(1);
const EVENT_WRITE_LIMIT: Duration = Duration::from_secs(5);

const EVENTS_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
    X-Content-Type-Options: nosniff\r\nX-Accel-Buffering: no\r\nConnection: close\r\n\r\n";

/// The policy of the live page: nothing from elsewhere, and nowhere else.
const PAGE_FIELDS: &str = "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' \
    data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'\r\n";

/// Answers the requests of all connections.
pub struct Desk {
    pub pages: Rc<Pages>,
    pub rules: AccessRules,
    pub access: AdminAccess,
    audience: Audience,
    /// The thread is to end.
    pub is_closing: Cell<bool>,
}

/// The answer to a request.
enum Answer {
    Whole(AdminReply),
    Events(FollowerSeat),
}

impl Desk {
    pub fn new(pages: Rc<Pages>, rules: AccessRules, access: AdminAccess, audience: Audience) -> Self {
        Desk { pages, rules, access, audience, is_closing: Cell::new(false) }
    }

    /// Reads a request, which is noted in `has_asked`, and answers it. Returns a seat if the client is to be sent the
    /// events from here on, and whether a reply was sent.
    pub async fn serve(&self, stream: &Stream, has_asked: &Cell<bool>, has_ended: &Cell<bool>) -> DeskOutcome {
        let mut proof = Proof::default();
        let (answer, is_head) = match read_request(stream).await {
            Ok(Some((mut input, span))) => {
                has_asked.set(true);
                // It may hold a token.
                input.mark_secret(input.len());
                let head = &input.filled()[span.start..span.end];
                let cookie = self.access.cookie_name();
                let routed = with_request(head, |head| route(head, &self.rules, cookie));
                match routed.map_err(AdminRefusal::from).flatten() {
                    Ok(request) => {
                        let body = Body { stream, input, start: span.end };
                        // Boxed: the task of a connection would else be as large as the largest page's future.
                        let answer = Box::pin(self.answer(&request, body)).await;
                        if let Err(AdminRefusal::TokenWrong) = answer {
                            pause_after_wrong_token(has_ended).await;
                        }
                        proof = request.proof;
                        (answer.unwrap_or_else(|refusal| Answer::Whole(refusal.into())), request.is_head)
                    }
                    Err(refusal) => (Answer::Whole(refusal.into()), false),
                }
            }
            Ok(None) => return DeskOutcome::Silent,
            Err(refusal) => (Answer::Whole(refusal.into()), false),
        };
        let mut out = Buffer::take();
        let served = match answer {
            Answer::Whole(reply) => {
                reply.write(out.tail(), is_head);
                DeskOutcome::Over
            }
            Answer::Events(seat) => {
                out.append(EVENTS_HEAD);
                if is_head { DeskOutcome::Over } else { DeskOutcome::Follows(seat, proof) }
            }
        };
        match stream.write_all(out, &Deadline::default(), EVENT_WRITE_LIMIT).await.0 {
            Ok(()) => served,
            Err(_) => DeskOutcome::Silent,
        }
    }

    async fn answer(&self, request: &AdminRequest, body: Body<'_>) -> Result<Answer, AdminRefusal> {
        let page = &request.page;
        self.access.check(page.need(), &request.proof)?;
        let pages = &self.pages;
        Ok(Answer::Whole(match page {
            AdminPage::Health => pages.health().await,
            AdminPage::Readiness => pages.readiness(),
            AdminPage::Metrics => pages.metrics().await,
            AdminPage::State => pages.state().await,
            AdminPage::Events => {
                let seat = self.audience.take_seat(FOLLOWERS_MAX).ok_or(AdminRefusal::TooManyFollowers)?;
                return Ok(Answer::Events(seat));
            }
            AdminPage::Usage { query } => pages.usage(query, request.wants_csv).await?,
            AdminPage::Wake { credential } => pages.wake(credential)?,
            AdminPage::LogIn => self.log_in(request, body).await?,
            AdminPage::LogOut => {
                let line = self.access.log_out(&request.proof);
                AdminReply::json(200, &json!({"logged_in": false})).with_fields(line)
            }
            AdminPage::Asset(place) => asset(*place, request.known_tags.as_deref()),
        }))
    }

    async fn log_in(&self, request: &AdminRequest, body: Body<'_>) -> Result<AdminReply, AdminRefusal> {
        let length = request.body_bytes.filter(|length| (1..=LOG_IN_BYTES_MAX).contains(length));
        let body = body.read(length.ok_or(AdminRefusal::LogInMalformed)? as usize).await;
        let shown = body.as_deref().and_then(|body| token_of(body)).ok_or(AdminRefusal::LogInMalformed)?;
        let line = self.access.log_in(&shown)?;
        Ok(AdminReply::json(200, &json!({"logged_in": true})).with_fields(line.unwrap_or_default()))
    }

    /// Sends an event a second until the client leaves or has no right any more, the gateway drains or the thread ends.
    pub async fn follow(&self, stream: &Stream, _seat: FollowerSeat, proof: &Proof) {
        let may_go_on = || self.access.check(AdminPage::Events.need(), proof).is_ok();
        while !self.is_closing.get() && !self.pages.is_draining() && may_go_on() {
            let mut out = Buffer::take();
            out.append(&self.pages.event().await);
            if stream.write_all(out, &Deadline::default(), EVENT_WRITE_LIMIT).await.0.is_err() {
                return;
            }
            pause(EVENT_INTERVAL).await;
        }
    }
}

/// The outcome of an exchange.
pub enum DeskOutcome {
    /// The client sent no request, or took no reply.
    Silent,
    Over,
    /// With what gives it the right to.
    Follows(FollowerSeat, Proof),
}

/// Lets who has shown a wrong token wait, unless the connection has to make room.
async fn pause_after_wrong_token(has_ended: &Cell<bool>) {
    let due = Instant::now() + WRONG_TOKEN_PAUSE;
    while Instant::now() < due && !has_ended.get() {
        pause(WRONG_TOKEN_LOOK).await;
    }
}

/// A file of the live page. Its name stays when it changes, so each use asks whether it did.
fn asset(place: usize, known_tags: Option<&str>) -> AdminReply {
    let (path, content_type, bytes) = page::ASSETS[place];
    let tag = page::tag(place);
    let is_known = known_tags.is_some_and(|known| known.contains(tag));
    let (status, bytes) = if is_known { (304, &[][..]) } else { (200, bytes) };
    let mut reply = AdminReply::new(status, content_type, Cow::Borrowed(bytes));
    if path == "/" {
        return AdminReply { status: 200, body: Cow::Borrowed(page::ASSETS[place].2), ..reply }
            .with_fields(PAGE_FIELDS);
    }
    reply.caching = "Cache-Control: no-cache\r\n";
    reply.with_fields(format!("ETag: {tag}\r\n{PAGE_FIELDS}"))
}

/// The body of a request, of which a part may have come with the head.
struct Body<'a> {
    stream: &'a Stream,
    input: Buffer,
    start: usize,
}

impl Body<'_> {
    /// Reads so much of it; `None` if the client closes before.
    async fn read(mut self, length: usize) -> Option<Zeroizing<Vec<u8>>> {
        while self.input.len() < self.start + length {
            self.input.reserve(READ_ROOM);
            let (result, filled) = self.stream.read(self.input).await;
            self.input = filled;
            self.input.mark_secret(self.input.len());
            result.ok().filter(|count| *count > 0)?;
        }
        Some(Zeroizing::new(self.input.filled()[self.start..self.start + length].to_vec()))
    }
}

/// A log-in as JSON.
#[derive(Deserialize)]
struct LogInBody {
    token: String,
}

/// Finds the token of a log-in, which is JSON or a form (URL Standard §5.1).
fn token_of(body: &[u8]) -> Option<Secret> {
    if let Ok(LogInBody { token }) = serde_json::from_slice(body) {
        return Some(Secret::new(token));
    }
    let form = std::str::from_utf8(body).ok()?;
    let token = form.split('&').find_map(|field| field.strip_prefix("token="))?;
    let token = Zeroizing::new(token.trim_end().replace('+', " "));
    Some(Secret::new(std::str::from_utf8(&percent_decoded(&token)?).ok()?.to_owned()))
}

/// Reads a request head; `None` if the client has closed before it was complete.
async fn read_request(stream: &Stream) -> Result<Option<(Buffer, HeadSpan)>, AdminRefusal> {
    let mut scanner = HeadScanner::default();
    let mut input = Buffer::take();
    loop {
        if let Some(span) = scanner.scan(input.filled(), &HEAD).map_err(AdminRefusal::from)? {
            return Ok(Some((input, span)));
        }
        input.reserve(READ_ROOM);
        let (result, filled) = stream.read(input).await;
        input = filled;
        if !result.is_ok_and(|count| count > 0) {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_in_is_json_or_a_form() {
        for (body, token) in [
            (r#"{"token":"a-b"}"#, Some("a-b")),
            (r#"{"token":"a\u002db","more":1}"#, Some("a-b")),
            ("token=a%2Bb%25", Some("a+b%")),
            ("x=1&token=a-b\r\n", Some("a-b")),
            (r#"{"token":1}"#, None),
            ("token", None),
            ("token=%zz", None),
            ("", None),
        ] {
            assert_eq!(token_of(body.as_bytes()).as_ref().map(Secret::expose), token, "{body}");
        }
    }
}
