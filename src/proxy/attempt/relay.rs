//! The answer on its way to the client: its head, then its body as the upstream sends it.
//!
//! Invariant: every byte that the upstream sent is on its way to the client before the next read, and a client that
//! reads slowly slows the upstream down, since nothing is read while a write is under way.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use pin_project_lite::pin_project;

use crate::config::Timeouts;
use crate::http1::framing::BodyLength;
use crate::http1::head::{HeadError, HeadLimits, HeadScanner, ResponseHead, with_response};
use crate::io::{Buffer, Deadline, Lifecycle, Phase, Stream, Turns, WriteError};
use crate::observability::Ending;
use crate::proxy::attempt::Outcome;
use crate::proxy::attempt::held::Answer;
use crate::proxy::error::{GatewayError, UpstreamPhase};
use crate::proxy::failover::Gate;
use crate::proxy::failover::table::Finding;
use crate::proxy::request::plan::{Client, Rules};
use crate::proxy::response;
use crate::proxy::response::body::BodyRelay;
use crate::proxy::response::head::{LocationRewrite, ResponseFacts};
use crate::proxy::retry_after::retry_after;
use crate::upstream::{Connection, Received, TransportError};

/// How long an answer may still take to begin when the upstream has stopped taking the request: one that refuses an
/// upload early has sent its answer already.
const EARLY_ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// What becomes known while an exchange goes on, shared by its two directions and its line in the log.
#[derive(Debug, Default)]
pub struct Progress {
    /// When the response head must be there; unknown while the request is being sent.
    head_due: Cell<Option<Instant>>,
    request_is_whole: Cell<bool>,
    pub status: Cell<Option<u16>>,
    pub first_byte: Cell<Option<Instant>>,
    pub response_bytes: Cell<u64>,
    pub turns: Turns,
}

impl Progress {
    /// Another attempt begins: nothing of it is known yet.
    pub fn begin_attempt(&self) {
        self.head_due.set(None);
        self.request_is_whole.set(false);
    }

    /// The last request byte is written.
    pub fn request_was_sent(&self, timeouts: &Timeouts) {
        self.request_is_whole.set(true);
        self.head_due.set(Some(Instant::now() + timeouts.client));
    }

    /// The upstream takes no more of the request.
    pub fn request_was_cut(&self) {
        self.head_due.set(Some(Instant::now() + EARLY_ANSWER_LIMIT));
    }

    pub fn request_is_whole(&self) -> bool {
        self.request_is_whole.get()
    }

    /// Whether anything of the final answer went downstream.
    pub fn has_begun_answer(&self) -> bool {
        self.first_byte.get().is_some()
    }

    /// Resolves when the response head is overdue.
    async fn head_is_overdue(&self, deadline: &Deadline) {
        // No waker is left: the upload, which sets the time, is polled by the same task just before.
        let due = poll_fn(|_| self.head_due.get().map_or(Poll::Pending, Poll::Ready)).await;
        deadline.reached(due).await;
    }
}

/// The client's side, as far as an answer needs it.
#[derive(Clone, Copy)]
pub struct ClientSide<'a> {
    pub stream: &'a Stream,
    pub write_progress: &'a Deadline,
    pub upstream_deadline: &'a Deadline,
    pub client: Client,
    /// Whether a `Location` below the upstream's base URL is made to lead here: not for a client that named the upstream
    /// itself.
    pub leads_here: bool,
    pub rules: &'a Rules,
    pub progress: &'a Progress,
    pub timeouts: &'a Timeouts,
    pub lifecycle: &'a Lifecycle,
}

/// How the answer ended.
pub enum Relayed {
    Over(Over),
    /// Nothing went downstream, since another answer may be better.
    Held(Box<Answer>),
    /// Nothing went downstream.
    NoAnswer(NoAnswer),
}

/// The end of an answer that went downstream, or of its client.
#[derive(Debug)]
pub struct Over {
    pub outcome: Outcome,
    /// Whether the upstream connection can serve another exchange.
    pub upstream_is_reusable: bool,
}

impl From<Outcome> for Over {
    fn from(outcome: Outcome) -> Self {
        Over { outcome, upstream_is_reusable: false }
    }
}

impl Relayed {
    pub fn client_gone(ending: Ending) -> Self {
        Relayed::Over(Outcome::ClientGone(ending).into())
    }
}

/// Why there is no answer to pass on.
#[derive(Debug)]
pub struct NoAnswer {
    pub error: GatewayError,
    /// Whether the upstream sent anything at all.
    pub has_received: bool,
    /// What the operating system or TLS said, for the log.
    pub cause: Option<TransportError>,
}

/// Receives the answer and passes it on, if `gate` lets it through.
///
/// # Cancel safety
/// Not cancel safe: both connections can only be closed.
pub async fn relay_answer(connection: &Connection, side: ClientSide<'_>, mut gate: Gate<'_, '_>) -> Relayed {
    let mut received = Buffer::none();
    let FinalHead { facts, keep_alive, retry_after, out } = match receive_head(connection, side, &mut received).await {
        Ok(head) => head,
        Err(relayed) => return relayed,
    };
    // RFC 9110 §15.5.9: sent by itself, just before the request came, on a connection that idled for too long.
    if facts.status == 408 && gate.is_stale() {
        return no_answer(GatewayError::UpstreamClosed, false, None);
    }
    let holds_opening = gate.holds_opening(&facts);
    let mut answer = Answer::new(facts, keep_alive, BodyRelay::new(&facts, side.client.version, out));
    if holds_opening {
        answer.body.inspect_opening();
    }
    answer.body.push(received.filled());
    drop(received);
    let finding = match Finding::of_status(facts.status) {
        Finding::Settled if holds_opening => answer.listen_to_opening(connection, side.upstream_deadline).await,
        finding => finding,
    };
    // Nothing has gone downstream, so the client can be told.
    if let Some(error) = answer.body.error {
        return no_answer(GatewayError::UpstreamMalformed(error.as_str()), true, None);
    }
    answer.body.end_inspection();
    if !gate.passes(finding, retry_after) {
        answer.take_what_came(connection);
        return Relayed::Held(Box::new(answer));
    }
    Relayed::Over(relay_body(Some(connection), side, &mut answer).await)
}

/// Passes the answer on. Without a connection all of it is here.
pub async fn relay_body(connection: Option<&Connection>, side: ClientSide<'_>, answer: &mut Answer) -> Over {
    let Answer { facts, keep_alive, .. } = *answer;
    side.progress.status.set(Some(facts.status));
    loop {
        let body = &mut answer.body;
        if !body.out.is_empty() {
            let out = std::mem::take(&mut body.out);
            if side.progress.first_byte.get().is_none() {
                side.progress.first_byte.set(Some(Instant::now()));
            }
            if side.write(out).await.is_err() {
                return Outcome::ClientGone(Ending::ClientDisconnected).into();
            }
            side.progress.response_bytes.set(body.reader.data_bytes());
        }
        if body.reader.is_complete() {
            let upstream_is_reusable = answer.is_reusable_after(side.progress);
            return Over { outcome: Outcome::Answered { keep_alive }, upstream_is_reusable };
        }
        if body.error.is_some() {
            return cut(Ending::UpstreamInvalid, &facts, side.client).into();
        }
        let Some(connection) = connection else { return cut(Ending::UpstreamClosed, &facts, side.client).into() };
        let read = match answer.last_read.take() {
            Some(read) => Ok(read),
            None => read_more(connection, side, body).await,
        };
        let ending = match read {
            Ok(Ok(Received::Data)) => continue,
            Ok(Ok(Received::End { is_clean: true })) if facts.body == BodyLength::UntilClose => {
                return Outcome::Answered { keep_alive }.into();
            }
            Ok(Ok(Received::End { .. })) => Ending::UpstreamClosed,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the upstream connection broke in mid-answer");
                Ending::UpstreamClosed
            }
            Err(Interruption::Overdue) => Ending::Timeout,
            Err(Interruption::Expired) => Ending::Shutdown,
            Err(Interruption::ClientGone) => return Outcome::ClientGone(Ending::ClientDisconnected).into(),
        };
        return end_broken(side, &facts, body, (ending, keep_alive)).await.into();
    }
}

/// The next bytes of the body, with a comment to the client now and then where a silent stream is kept alive.
async fn read_more(
    connection: &Connection,
    side: ClientSide<'_>,
    body: &mut BodyRelay,
) -> Result<Result<Received, TransportError>, Interruption> {
    side.progress.turns.take().await;
    let due = Instant::now() + side.timeouts.client;
    if let Some(silence) = side.timeouts.heartbeat {
        loop {
            let beat = (Instant::now() + silence).min(due);
            let silent = side.upstream_deadline.reached(beat);
            match guarded(connection.readable(), silent, side.lifecycle).await {
                Err(Interruption::Overdue) if beat < due => {}
                Ok(()) | Err(_) => break,
            }
            if let Some(comment) = body.heartbeat()
                && side.write(comment).await.is_err()
            {
                return Err(Interruption::ClientGone);
            }
        }
    }
    let overdue = side.upstream_deadline.reached(due);
    guarded(connection.read(|bytes| body.push(bytes)), overdue, side.lifecycle).await
}

/// Ends an answer that broke off: an event stream with an event that says so, any other visibly cut.
async fn end_broken(
    side: ClientSide<'_>,
    facts: &ResponseFacts,
    body: &mut BodyRelay,
    (ending, keep_alive): (Ending, bool),
) -> Outcome {
    let Some(out) = body.ending(side.client.dialect, message(ending)) else {
        return cut(ending, facts, side.client);
    };
    if side.write(out).await.is_err() {
        return Outcome::ClientGone(Ending::ClientDisconnected);
    }
    let ending = if body.turn_is_complete() { Ending::Ok } else { ending };
    Outcome::EndedWell { ending, keep_alive }
}

fn cut(ending: Ending, facts: &ResponseFacts, client: Client) -> Outcome {
    Outcome::Cut { ending, needs_reset: facts.is_close_delimited_for(client.version) }
}

/// What the error event of a stream that ended like this says.
fn message(ending: Ending) -> &'static str {
    match ending {
        Ending::Timeout => "The upstream stopped sending before its answer was complete; try again.",
        Ending::Shutdown => "The gateway is shutting down and could not wait for the rest of the answer; try again.",
        Ending::Ok
        | Ending::ClientDisconnected
        | Ending::UpstreamClosed
        | Ending::Refused
        | Ending::UpstreamUnreachable
        | Ending::UpstreamInvalid
        | Ending::Internal => "The upstream closed the connection before its answer was complete; try again.",
    }
}

impl ClientSide<'_> {
    async fn write(&self, bytes: Buffer) -> Result<(), WriteError> {
        self.stream.write_all(bytes, self.write_progress, self.timeouts.downstream_write).await.0
    }
}

/// A response head that is passed on.
struct FinalHead {
    facts: ResponseFacts,
    /// What the client is told of its connection.
    keep_alive: bool,
    /// How long a 429 asks to be left alone.
    retry_after: Option<Duration>,
    /// The head as it goes downstream.
    out: Buffer,
}

/// Receives until the final response head is there; interim ones are passed on or swallowed on the way. What was
/// received behind it stays in `received`.
async fn receive_head(
    connection: &Connection,
    side: ClientSide<'_>,
    received: &mut Buffer,
) -> Result<FinalHead, Relayed> {
    let mut scanner = HeadScanner::default();
    let mut has_received = false;
    loop {
        let scanned = scanner.scan(received.filled(), &HeadLimits::RESPONSE);
        if let Some(span) = scanned.map_err(|error| no_answer(malformed(error), true, None))? {
            let head = read_head(&received.filled()[span.start..span.end], side)?;
            received.consume(span.end);
            match head {
                HeadKind::Final(head) => return Ok(head),
                HeadKind::Interim(out) => {
                    scanner = HeadScanner::default();
                    if !out.is_empty() && side.write(out).await.is_err() {
                        return Err(Relayed::client_gone(Ending::ClientDisconnected));
                    }
                    continue;
                }
            }
        }
        let read = connection.read(|bytes| received.append(bytes));
        let overdue = side.progress.head_is_overdue(side.upstream_deadline);
        let (error, cause) = match guarded(read, overdue, side.lifecycle).await {
            Ok(Ok(Received::Data)) => {
                has_received = true;
                continue;
            }
            Ok(Ok(Received::End { .. })) => (GatewayError::UpstreamClosed, None),
            Ok(Err(cause)) => (GatewayError::UpstreamClosed, Some(cause)),
            Err(Interruption::Overdue) if side.progress.request_is_whole() => {
                (GatewayError::UpstreamTimeout { phase: UpstreamPhase::ResponseHead }, None)
            }
            // It takes no more of the request and has nothing to say about it.
            Err(Interruption::Overdue) => (GatewayError::UpstreamClosed, None),
            Err(Interruption::Expired | Interruption::ClientGone) => (GatewayError::Draining, None),
        };
        return Err(no_answer(error, has_received, cause));
    }
}

enum HeadKind {
    Final(FinalHead),
    /// What goes to the client, if anything.
    Interim(Buffer),
}

fn read_head(head: &[u8], side: ClientSide<'_>) -> Result<HeadKind, Relayed> {
    let kind = with_response(head, |parsed| {
        Ok(match parsed.status {
            101 => return Err(GatewayError::UpstreamSwitchedProtocols),
            // RFC 9110 §15.2: HTTP/1.0 knows no interim responses. The 100 answers an expectation that was ours.
            100..=199 if parsed.status == 100 || side.client.is_http10() => HeadKind::Interim(Buffer::none()),
            100..=199 => {
                let mut out = Buffer::take();
                response::head::write_interim(out.tail(), parsed);
                HeadKind::Interim(out)
            }
            _ => HeadKind::Final(final_head(parsed, side)?),
        })
    });
    kind.unwrap_or_else(|error| Err(malformed(error))).map_err(|error| no_answer(error, true, None))
}

fn final_head(head: &ResponseHead<'_>, side: ClientSide<'_>) -> Result<FinalHead, GatewayError> {
    let facts = response::head::examine(head, side.client.is_head).map_err(malformed)?;
    let keep_alive = side.client.keep_alive
        && side.progress.request_is_whole()
        && side.lifecycle.phase() == Phase::Serving
        && !facts.is_close_delimited_for(side.client.version);
    let Rules { access, target, .. } = side.rules;
    let origin = side.client.origin.map(|origin| access.origin_text(origin));
    let downstream = response::head::Downstream { version: side.client.version, keep_alive, origin };
    let location = LocationRewrite {
        upstream_host: &target.upstream_host,
        upstream_port: target.upstream_port,
        base_path: &target.base_path,
    };
    let mut out = Buffer::take();
    response::head::write(out.tail(), head, &facts, &downstream, side.leads_here.then_some(&location));
    let retry_after = (facts.status == 429).then(|| retry_after(head, SystemTime::now())).flatten();
    Ok(FinalHead { facts, keep_alive, retry_after, out })
}

fn malformed(error: HeadError) -> GatewayError {
    GatewayError::UpstreamMalformed(error.as_str())
}

fn no_answer(error: GatewayError, has_received: bool, cause: Option<TransportError>) -> Relayed {
    Relayed::NoAnswer(NoAnswer { error, has_received, cause })
}

/// Why a wait for the upstream was given up.
enum Interruption {
    Overdue,
    Expired,
    ClientGone,
}

pin_project! {
    /// A read from the upstream that is given up when it is overdue or the drain has expired.
    struct Guarded<R, O, E> {
        #[pin]
        read: R,
        #[pin]
        overdue: O,
        #[pin]
        expired: E,
    }
}

fn guarded<'a, R: Future + 'a>(
    read: R,
    overdue: impl Future<Output = ()> + 'a,
    lifecycle: &'a Lifecycle,
) -> impl Future<Output = Result<R::Output, Interruption>> + 'a {
    Guarded { read, overdue, expired: lifecycle.reached(Phase::Expired) }
}

impl<R: Future, O: Future<Output = ()>, E: Future<Output = ()>> Future for Guarded<R, O, E> {
    type Output = Result<R::Output, Interruption>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let guarded = self.project();
        if let Poll::Ready(output) = guarded.read.poll(context) {
            return Poll::Ready(Ok(output));
        }
        if guarded.overdue.poll(context).is_ready() {
            return Poll::Ready(Err(Interruption::Overdue));
        }
        guarded.expired.poll(context).map(|()| Err(Interruption::Expired))
    }
}
