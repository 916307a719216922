//! The answer to an upgrade, where it is about the upgrade itself: the upstream has switched, or has no WebSocket.
//!
//! All other answers go their ordinary way: an error is followed by another attempt, and a success that switches nothing
//! is passed on as one. Invariant: what was kept of the attempts before is let go of, since a tunnel may last for hours.

use std::future::poll_fn;
use std::task::Poll;

use crate::io::{Buffer, Either, clock, race};
use crate::observability::Shortened;
use crate::proxy::attempt::downstream_side::DownstreamSide;
use crate::proxy::attempt::held::Best;
use crate::proxy::attempt::receive::FinalHead;
use crate::proxy::attempt::relayed::{NoAnswer, Relayed, SwitchingAnswer};
use crate::proxy::attempt_class::AttemptClass;
use crate::proxy::counted::note_named;
use crate::proxy::error::GatewayError;
use crate::proxy::failover::gate::Gate;
use crate::proxy::response::head::ResponseFacts;

const SWITCHING_PROTOCOLS: u16 = 101;

/// Tells whether an answer is about the upgrade that was asked for.
pub fn is_of_upgrade(facts: &ResponseFacts, gate: &Gate<'_>) -> bool {
    gate.upgrade().is_some() && (facts.status == SWITCHING_PROTOCOLS || says_no_websocket(facts.status))
}

/// Tells whether a status means that there is no WebSocket: no such path, none for this method, another protocol is
/// needed, or not implemented.
fn says_no_websocket(status: u16) -> bool {
    matches!(status, 404 | 405 | 426 | 501)
}

/// Settles such an answer.
pub async fn settle_upgrade(
    head: FinalHead,
    side: DownstreamSide<'_>,
    mut gate: Gate<'_>,
    best: &mut Option<Best>,
    received: Buffer,
) -> Relayed {
    let (request, upgrades) = (gate.request, &side.resources.upgrades);
    let Some(upgrade) = request.upgrade.as_deref() else {
        return NoAnswer::malformed(GatewayError::UpstreamSwitchedProtocols).into();
    };
    if head.facts.status != SWITCHING_PROTOCOLS {
        if upgrades.note_refused(&upgrade.path, clock::now()) {
            tracing::info!(
                path = display(Shortened(&upgrade.path)),
                status = head.facts.status,
                "the upstream has no WebSocket on this path and is not asked again for 10 minutes; clients get a 426"
            );
        }
        return NoAnswer::malformed(GatewayError::WebsocketRefused).into();
    }
    // It may have answered before it had all of the head. The upload is polled by the same task, just before.
    let is_whole = poll_fn(|_| if side.progress.request_is_whole() { Poll::Ready(()) } else { Poll::Pending });
    // An upload that failed is never whole.
    let overdue = side.progress.head_is_overdue(side.outgoing.upstream_deadline);
    if let Either::Second(()) = race(is_whole, overdue).await {
        return NoAnswer::malformed(GatewayError::UpstreamClosed).into();
    }
    gate.judge(AttemptClass::Succeeded, None);
    *best = None;
    upgrades.note_accepted(&upgrade.path);
    note_named(side.resources, &side.progress.usage, upgrade);
    Relayed::Switched(Box::new(SwitchingAnswer { head: head.out, received }))
}
