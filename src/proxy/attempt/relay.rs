//! The answer on its way to the client: its head, then its body as the upstream sends it.
//!
//! Invariant: every byte that the upstream sent is on its way to the client before the next read, and a client that
//! reads slowly slows the upstream down, since nothing is read while a write is under way.

use std::time::Instant;

use crate::config::Pumping;
use crate::http1::framing::BodyLength;
use crate::io::clock;
use crate::io::{Buffer, Phase};
use crate::observability::Ending;
use crate::proxy::attempt::coded_error::{note_unknown_coding, search_coded};
use crate::proxy::attempt::downstream_side::DownstreamSide;
use crate::proxy::attempt::farewell::FAREWELL_LIMIT;
use crate::proxy::attempt::held::{Best, PendingAnswer};
use crate::proxy::attempt::interrupt::{Interruption, NoMore, guarded};
use crate::proxy::attempt::receive::{FinalHead, receive_head};
use crate::proxy::attempt::relayed::{BodyRelayed, NoAnswer, Over, Relayed};
use crate::proxy::attempt::upgrade::{is_of_upgrade, settle_upgrade};
use crate::proxy::attempt_class::AttemptClass;
use crate::proxy::counted::{note_told, wants_name};
use crate::proxy::error::GatewayError;
use crate::proxy::exchange::Progress;
use crate::proxy::failover::gate::{Gate, Verdict};
use crate::proxy::outcome::Outcome;
use crate::proxy::reply_shape::ReplyShape;
use crate::proxy::resources::Resources;
use crate::proxy::response::body::BodyRelay;
use crate::proxy::sse::dialect::EventDialect;
use crate::upstream::{Connection, Received};

/// Receives the answer and passes it on, if `gate` lets it through: then `best`, the best of the attempts before, is
/// let go of.
///
/// # Cancel safety
/// Not cancel safe: both connections can only be closed.
pub async fn relay_answer(
    connection: &Connection,
    side: DownstreamSide<'_>,
    mut gate: Gate<'_>,
    best: &mut Option<Best>,
) -> Relayed {
    let mut received = Buffer::none();
    let head = match receive_head(connection, side, &gate, &mut received).await {
        Ok(head) => head,
        Err(relayed) => return relayed,
    };
    if is_of_upgrade(&head.facts, &gate) {
        // Boxed: few requests are upgrades.
        return Box::pin(settle_upgrade(head, side, gate, best, received)).await;
    }
    gate.look_at_references(&head.facts).await;
    let retry_after = head.retry_after;
    gate.note_model(head.facts.status, &side.progress.usage).await;
    let mut answer = begin_answer(head, side, &mut gate);
    answer.body.push(received.filled());
    if answer.body.has_masked {
        received.mark_secret(received.len());
    }
    drop(received);
    let status = answer.facts.status;
    let class = match AttemptClass::of_status(status) {
        AttemptClass::Succeeded if answer.body.inspects_opening() => {
            answer.hold_opening(connection, side.outgoing.upstream_deadline).await
        }
        _ if answer.body.inspects_refusal() || answer.body.tap().is_some() && matches!(status, 400 | 403) => {
            let class = answer.hold_refusal(connection, side.outgoing.upstream_deadline).await;
            if gate.is_of_another(&answer.facts, answer.body.tap()) { AttemptClass::NotFound } else { class }
        }
        _ if status == 404 && gate.is_of_another(&answer.facts, None) => AttemptClass::NotFound,
        class => class,
    };
    // Nothing has gone downstream, so the client can be told.
    if let Some(error) = answer.body.error.filter(|_| !answer.body.turn_is_complete()) {
        return NoAnswer::malformed(GatewayError::UpstreamMalformed(error.as_str())).into();
    }
    answer.body.end_inspection();
    gate.look_at_subject(class).await;
    if gate.judge(class, retry_after) == Verdict::Hold {
        answer.take_what_came(connection);
        return Relayed::Held(Box::new(answer));
    }
    // What was kept in case of a worse one is let go of: the answer may take minutes.
    *best = None;
    gate.learn(&answer.facts);
    side.progress.usage.begin_answer(class, answer.facts.cost);
    answer.body.confirm_tap();
    match relay_body(Some(connection), side, &mut answer, RelayPart::Whole).await {
        BodyRelayed::Over(over) => {
            note_told(side.resources, &side.progress.usage, &answer.body);
            Relayed::Over(over)
        }
        BodyRelayed::Open => Relayed::Open(Box::new(answer)),
    }
}

/// Makes what follows an answer from its first byte on. A function of its own: what it needs is not kept while the
/// answer is relayed.
fn begin_answer(head: FinalHead, side: DownstreamSide<'_>, gate: &mut Gate<'_>) -> PendingAnswer {
    let FinalHead { facts, keep_alive, out, .. } = head;
    let mut body = BodyRelay::new(&facts, side.reply.version, out, gate.traces());
    if gate.holds_opening(&facts) {
        body.inspect_opening();
    }
    if gate.holds_refusal(&facts) {
        body.inspect_refusal();
    }
    body.set_tap(gate.tap(&facts));
    if gate.resources.usage.is_some() && AttemptClass::of_status(facts.status) == AttemptClass::Succeeded {
        body.count_usage(&facts, wants_name(gate.resources, &side.progress.usage));
    }
    PendingAnswer::new(facts, keep_alive, body)
}

/// The part of an answer that is still to be passed on.
pub enum RelayPart {
    Whole,
    /// The rest of one that has begun. For a client that takes no more it is read until `farewell_until`.
    Rest {
        farewell_until: Option<Instant>,
    },
}

/// Passes the answer on. Without a connection all of it is here.
pub async fn relay_body(
    connection: Option<&Connection>,
    side: DownstreamSide<'_>,
    answer: &mut PendingAnswer,
    part: RelayPart,
) -> BodyRelayed {
    let mut farewell_until = match part {
        RelayPart::Rest { farewell_until } => farewell_until,
        RelayPart::Whole => {
            // Boxed: hardly any answer needs it.
            if answer.body.is_coded_error()
                && let Some(over) = Box::pin(search_coded(connection, side, answer)).await
            {
                return over.into();
            }
            note_unknown_coding(side, answer);
            answer.body.record(&side.outgoing.trail.recording);
            side.progress.answer_begins(answer.facts.status);
            None
        }
    };
    loop {
        let body = &mut answer.body;
        if let Err(outcome) = write_out(side, body, &mut farewell_until).await {
            return outcome.into();
        }
        if body.reader.is_complete() {
            let upstream_is_reusable = answer.is_reusable_after(side.progress);
            let outcome = match farewell_until {
                None => Outcome::Answered { ending: Ending::Ok, keep_alive: answer.keep_alive },
                Some(_) => Outcome::after_departure(side.progress),
            };
            return Over { outcome, upstream_is_reusable }.into();
        }
        if body.error.is_some() && farewell_until.is_none() {
            return end_broken(side, answer, Ending::UpstreamInvalid).await.into();
        }
        let Some(connection) = connection else { return cut(Ending::UpstreamClosed, answer, &side.reply).into() };
        let read = match answer.last_read.take() {
            Some(read) => read,
            None if farewell_until.is_none() && may_be_pumped(connection, side, answer) => return BodyRelayed::Open,
            None => read_more(connection, side, &mut answer.body, farewell_until).await,
        };
        let Some(ending) = ending_of(read, answer, side.outgoing.path) else { continue };
        answer.body.end(ending != Ending::Ok);
        if let Err(outcome) = write_out(side, &mut answer.body, &mut farewell_until).await {
            return outcome.into();
        }
        return match ending {
            _ if farewell_until.is_some() => Outcome::after_departure(side.progress),
            Ending::Ok => Outcome::Answered { ending, keep_alive: answer.keep_alive },
            Ending::ClientDisconnected => Outcome::CLIENT_GONE,
            _ => end_broken(side, answer, ending).await,
        }
        .into();
    }
}

/// Returns how the body ends with a read; `None`: it goes on.
fn ending_of(read: Result<Received, NoMore>, answer: &PendingAnswer, path: &str) -> Option<Ending> {
    Some(match read {
        Ok(Received::Data) => return None,
        Ok(Received::End { is_clean: true }) if may_end(answer, path) => Ending::Ok,
        Ok(Received::End { .. }) => Ending::UpstreamClosed,
        Err(NoMore::Broken(error)) => {
            tracing::warn!(%error, "the upstream connection broke in mid-answer");
            Ending::UpstreamClosed
        }
        Err(NoMore::Interrupted(Interruption::Overdue)) => Ending::Timeout,
        Err(NoMore::Interrupted(Interruption::Expired)) => Ending::Shutdown,
        Err(NoMore::ClientGone) => Ending::ClientDisconnected,
    })
}

/// Tells whether the rest of the answer only has to be relayed: nothing of it is known to be its end, the request is
/// whole, and no phase of the shard ends it.
fn may_be_pumped(connection: &Connection, side: DownstreamSide<'_>, answer: &PendingAnswer) -> bool {
    let DownstreamSide { progress, resources, .. } = side;
    let is_wanted = match resources.pumping {
        Pumping::Never => false,
        Pumping::Auto => answer.facts.is_event_stream || answer.facts.body.is_open_ended(),
        Pumping::Always => true,
    };
    is_wanted
        && answer.may_be_pumped
        && progress.request_is_whole()
        && !connection.has_known_end()
        && !side.outgoing.stream.has_read_goodbye()
        && resources.lifecycle.phase() != Phase::Expired
}

/// Writes what is to go out. To a client that has all it asked for and takes no more it is not written; what is left of
/// the body is then read until `farewell_until`, so that its connection can be kept.
async fn write_out(
    side: DownstreamSide<'_>,
    body: &mut BodyRelay,
    farewell_until: &mut Option<Instant>,
) -> Result<(), Outcome> {
    let out = std::mem::take(&mut body.out);
    if farewell_until.is_some() || out.is_empty() {
        return Ok(());
    }
    if side.write(out).await.is_ok() {
        note_written(side.resources, side.progress, body);
        return Ok(());
    }
    *farewell_until = Some(after_lost_write(side.progress)?);
    Ok(())
}

/// Notes that all that has come of the body was written.
pub fn note_written(resources: &Resources, progress: &Progress, body: &BodyRelay) {
    progress.response_bytes.set(body.reader.data_bytes());
    progress.note_turn(body.turn_is_complete());
    progress.note_token_seen(body.has_masked);
    progress.usage.text.set(body.streamed_text());
    // The client may leave from here on, and nothing more is needed of the answer.
    if body.turn_is_complete() {
        note_told(resources, &progress.usage, body);
    }
}

/// Returns until when the rest of the body is read for a client that takes no more.
///
/// # Errors
/// The client has left before it had all that it asked for.
pub fn after_lost_write(progress: &Progress) -> Result<Instant, Outcome> {
    if progress.turn_was_written() { Ok(clock::now() + FAREWELL_LIMIT) } else { Err(Outcome::CLIENT_GONE) }
}

/// Reads the next bytes of the body, with a comment to the client now and then where a silent stream is kept alive.
async fn read_more(
    connection: &Connection,
    side: DownstreamSide<'_>,
    body: &mut BodyRelay,
    farewell_until: Option<Instant>,
) -> Result<Received, NoMore> {
    side.progress.turns.take().await;
    let due = farewell_until.unwrap_or_else(|| clock::now() + side.resources.timeouts.client);
    if let Some(silence) = side.resources.timeouts.heartbeat {
        loop {
            let beat = (Instant::now() + silence).min(due);
            let silent = side.outgoing.upstream_deadline.reached(beat);
            match guarded(connection.readable(), silent, &side.resources.lifecycle).await {
                Err(Interruption::Overdue) if beat < due => {}
                Ok(()) | Err(_) => break,
            }
            if let Some(comment) = body.heartbeat(EventDialect::of_path(side.outgoing.path))
                && side.write(comment).await.is_err()
            {
                return Err(NoMore::ClientGone);
            }
        }
    }
    let overdue = side.outgoing.upstream_deadline.reached(due);
    let read = guarded(connection.read(|bytes| body.push(bytes)), overdue, &side.resources.lifecycle).await;
    read.map_err(NoMore::Interrupted)?.map_err(NoMore::Broken)
}

/// Returns whether an orderly end of the connection may be the end of the answer.
fn may_end(answer: &PendingAnswer, path: &str) -> bool {
    // An error is often told in no events at all, whatever its head says.
    let by_path = if answer.facts.status == 200 { EventDialect::of_path(path) } else { None };
    answer.facts.body == BodyLength::UntilClose && answer.body.may_end(by_path)
}

/// Ends an answer that broke off: an event stream with an event that says so, any other visibly cut, and also one whose
/// framing is malformed before its turn is complete.
async fn end_broken(side: DownstreamSide<'_>, answer: &mut PendingAnswer, ending: Ending) -> Outcome {
    if ending == Ending::UpstreamInvalid && !answer.body.turn_is_complete() {
        return cut(ending, answer, &side.reply);
    }
    let Some(out) = answer.body.ending(EventDialect::of_path(side.outgoing.path), message(ending)) else {
        return cut(ending, answer, &side.reply);
    };
    side.outgoing.trail.note_answer(out.filled());
    if side.write(out).await.is_err() {
        return Outcome::after_departure(side.progress);
    }
    let ending = if answer.body.turn_is_complete() { Ending::Ok } else { ending };
    Outcome::Answered { ending, keep_alive: answer.keep_alive }
}

fn cut(ending: Ending, answer: &PendingAnswer, reply: &ReplyShape) -> Outcome {
    Outcome::Aborted { ending, needs_reset: answer.facts.is_close_delimited_for(reply.version) }
}

/// Returns the message of the error event of a stream that ended like this.
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
