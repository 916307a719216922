//! The response head: received, read, and written for the client.

use std::time::{Duration, SystemTime};

use crate::credentials::TokenTraces;
use crate::http1::head::{HeadError, HeadLimits, HeadScanner, ResponseHead, with_response};
use crate::http1::retry_after::retry_after;
use crate::io::Buffer;
use crate::proxy::attempt::downstream_side::DownstreamSide;
use crate::proxy::attempt::interrupt::{Interruption, guarded};
use crate::proxy::attempt::relayed::{NoAnswer, Relayed};
use crate::proxy::error::{GatewayError, UpstreamPhase};
use crate::proxy::failover::gate::Gate;
use crate::proxy::outcome::{Outcome, keeps_alive};
use crate::proxy::request::rules::Rules;
use crate::proxy::request::upgrade::Upgrade;
use crate::proxy::response;
use crate::proxy::response::head::ResponseFacts;
use crate::proxy::response::location::LocationRewrite;
use crate::proxy::response::mask::lines::mask_head;
use crate::proxy::response::switching;
use crate::upstream::{Connection, Received};

/// A response head that is passed on.
pub struct FinalHead {
    pub facts: ResponseFacts,
    /// Told to the client of its connection.
    pub keep_alive: bool,
    /// The time for which a 429 asks to be left alone.
    pub retry_after: Option<Duration>,
    /// The head as it goes downstream.
    pub out: Buffer,
}

/// Receives until the final response head is there; interim ones are passed on or swallowed on the way. What was
/// received after it stays in `received`. `gate` knows the token that was sent.
pub async fn receive_head(
    connection: &Connection,
    side: DownstreamSide<'_>,
    gate: &Gate<'_>,
    received: &mut Buffer,
) -> Result<FinalHead, Relayed> {
    let mut scanner = HeadScanner::default();
    let mut has_received = false;
    loop {
        let scanned = scanner.scan(received.filled(), &HeadLimits::RESPONSE);
        if let Some(span) = scanned.map_err(|error| NoAnswer::malformed(malformed(error)))? {
            let head = read_head(&received.filled()[span.start..span.end], side, &gate.traces(), gate.upgrade())?;
            if side.progress.token_was_seen() {
                received.mark_secret(span.end);
            }
            received.consume(span.end);
            match head {
                // RFC 9110 §15.5.9: sent by itself, just before the request came, on a connection that idled for too long.
                HeadKind::Final(head) if head.facts.status == 408 && gate.is_stale() => {
                    return Err(NoAnswer::silent(GatewayError::UpstreamClosed).into());
                }
                HeadKind::Final(head) => {
                    connection.limit_rest(head.facts.rest_limit);
                    return Ok(head);
                }
                HeadKind::Interim(out) => {
                    scanner = HeadScanner::default();
                    if !out.is_empty() && side.write(out).await.is_err() {
                        return Err(Outcome::CLIENT_GONE.into());
                    }
                    continue;
                }
            }
        }
        let read = connection.read(|bytes| received.append(bytes));
        let overdue = side.progress.head_is_overdue(side.outgoing.upstream_deadline);
        let (error, cause) = match guarded(read, overdue, &side.resources.lifecycle).await {
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
            Err(Interruption::Expired) => (GatewayError::Draining, None),
        };
        return Err(NoAnswer { error, has_received, cause }.into());
    }
}

enum HeadKind {
    Final(FinalHead),
    /// Goes to the client, unless it is empty.
    Interim(Buffer),
}

fn read_head(
    head: &[u8],
    side: DownstreamSide<'_>,
    traces: &TokenTraces,
    upgrade: Option<&Upgrade>,
) -> Result<HeadKind, NoAnswer> {
    let kind = with_response(head, |parsed| {
        Ok(match parsed.status {
            101 => {
                let upgrade = upgrade.ok_or(GatewayError::UpstreamSwitchedProtocols)?;
                switching::check(parsed, upgrade)?;
                HeadKind::Final(switching_head(parsed, side, traces)?)
            }
            100..=199 => {
                side.progress.admit_interim(parsed, head.len()).map_err(malformed)?;
                // RFC 9110 §15.2: HTTP/1.0 knows no interim responses. The 100 answers an expectation that was ours.
                let is_swallowed = parsed.status == 100 || side.reply.is_http10();
                HeadKind::Interim(if is_swallowed { Buffer::none() } else { interim_head(parsed, side, traces) })
            }
            _ => {
                let mut head = final_head(parsed, side, traces)?;
                // It was asked to end HTTP on it, and may take what follows for something else.
                head.facts.keep_alive &= upgrade.is_none();
                HeadKind::Final(head)
            }
        })
    });
    kind.unwrap_or_else(|error| Err(malformed(error))).map_err(NoAnswer::malformed)
}

fn interim_head(head: &ResponseHead<'_>, side: DownstreamSide<'_>, traces: &TokenTraces) -> Buffer {
    let mut out = Buffer::take();
    response::head::write_interim(out.tail(), head);
    side.progress.note_token_seen(mask_head(traces, out.filled_mut()));
    out
}

/// Makes the head for a client whose upgrade the upstream has accepted.
fn switching_head(
    head: &ResponseHead<'_>,
    side: DownstreamSide<'_>,
    traces: &TokenTraces,
) -> Result<FinalHead, GatewayError> {
    let facts = response::head::examine(head, false).map_err(malformed)?;
    if let Some(recording) = &side.outgoing.trail.recording {
        recording.note_upstream(head);
    }
    let origin = side.reply.origin.map(|origin| side.resources.rules.access.origin_text(origin));
    let request_id = side.outgoing.trail.ids.request_id();
    let recipient = response::head::Recipient { version: side.reply.version, keep_alive: false, origin, request_id };
    let mut out = Buffer::take();
    let upstream_bytes = switching::write(out.tail(), head, &recipient);
    side.progress.note_token_seen(mask_head(traces, &mut out.filled_mut()[..upstream_bytes]));
    Ok(FinalHead { facts, keep_alive: false, retry_after: None, out })
}

fn final_head(
    head: &ResponseHead<'_>,
    side: DownstreamSide<'_>,
    traces: &TokenTraces,
) -> Result<FinalHead, GatewayError> {
    let facts = response::head::examine(head, side.reply.is_head).map_err(malformed)?;
    if let Some(recording) = &side.outgoing.trail.recording {
        recording.note_upstream(head);
    }
    let is_delimited = !facts.is_close_delimited_for(side.reply.version);
    let keep_alive =
        keeps_alive(&side.reply, side.progress.request_is_whole(), is_delimited, &side.resources.lifecycle);
    let Rules { access, target, .. } = &side.resources.rules;
    let origin = side.reply.origin.map(|origin| access.origin_text(origin));
    let downstream = response::head::Recipient {
        version: side.reply.version,
        keep_alive,
        origin,
        request_id: side.outgoing.trail.ids.request_id(),
    };
    let location = LocationRewrite {
        upstream_host: &target.upstream_host,
        upstream_port: target.upstream_port,
        base_path: &target.base_path,
    };
    let mut out = Buffer::take();
    let location = side.rewrites_location.then_some(&location);
    let upstream_bytes = response::head::write(out.tail(), head, &facts, &downstream, location);
    side.progress.note_token_seen(mask_head(traces, &mut out.filled_mut()[..upstream_bytes]));
    let retry_after = (facts.status == 429).then(|| retry_after(head, SystemTime::now())).flatten();
    Ok(FinalHead { facts, keep_alive, retry_after, out })
}

fn malformed(error: HeadError) -> GatewayError {
    GatewayError::UpstreamMalformed(error.as_str())
}
