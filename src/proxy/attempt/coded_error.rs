//! An error whose content coding hides what it says: it is held as a whole and searched for the token.
//!
//! Invariant: nothing of it goes downstream unless all of it was searched; one of an unknown coding is masked as it comes
//! instead, since there may be none. Not here: the search (`response::mask`).

use std::time::{Duration, Instant};

use crate::http1::framing::BodyLength;
use crate::io::turns::spend;
use crate::observability::Count;
use crate::proxy::attempt::downstream_side::DownstreamSide;
use crate::proxy::attempt::held::PendingAnswer;
use crate::proxy::attempt::interrupt::{Interruption, NoMore, guarded};
use crate::proxy::attempt::relayed::Over;
use crate::proxy::error::GatewayError;
use crate::proxy::outcome::Outcome;
use crate::proxy::response::coding::ContentCoding;
use crate::proxy::response::mask::coded::CodedVerdict;
use crate::upstream::{Connection, Received};

/// The time in which all of the error has to come. The 64 KiB that are searched need no more than 13 KiB a second, and
/// the client waits for its first byte meanwhile.
const HELD_CODED_LIMIT: Duration = Duration::from_secs(5);

/// Searches an error with a content coding for the token. If it has one, or not all of it can be searched, an error made
/// here is answered in its place. Without a connection all of it is here.
///
/// # Cancel safety
/// Not cancel safe: the connection can only be closed.
pub async fn search_coded(
    connection: Option<&Connection>,
    side: DownstreamSide<'_>,
    answer: &mut PendingAnswer,
) -> Option<Over> {
    if let Some(connection) = connection
        && let Err(error) = hold(connection, side, answer).await
    {
        return Some(Outcome::Failed(error).into());
    }
    let status = answer.facts.status;
    let is_complete = is_complete(answer);
    let error = match spend(|| answer.body.judge_coded(is_complete)).await? {
        CodedVerdict::Clean => return None,
        CodedVerdict::Leaks => {
            side.progress.note_token_seen(true);
            let out = &mut answer.body.out;
            out.mark_secret(out.len());
            GatewayError::UpstreamLeaksToken { status }
        }
        CodedVerdict::Unsearched => {
            note_unsearched(side, answer);
            GatewayError::UpstreamUnsearchable { status }
        }
    };
    let upstream_is_reusable = answer.leaves_reusable(side.progress);
    Some(Over { outcome: Outcome::Failed(error), upstream_is_reusable })
}

/// Counts an error of a coding that is not known: it is masked as it comes, but a coding may hide more.
pub fn note_unknown_coding(side: DownstreamSide<'_>, answer: &PendingAnswer) {
    let facts = &answer.facts;
    if facts.coding == ContentCoding::Other && facts.status >= 400 && !facts.body.is_empty() {
        note_unsearched(side, answer);
    }
}

#[cold]
fn note_unsearched(side: DownstreamSide<'_>, answer: &PendingAnswer) {
    let (status, coding) = (answer.facts.status, answer.facts.coding);
    side.resources.activity.counters.add(Count::Unsearched);
    tracing::warn!(status, ?coding, "an error could not be searched for the token");
}

/// Takes in as much of the error as is searched, as far as it comes in time.
///
/// # Errors
/// The drain has expired.
async fn hold(
    connection: &Connection,
    side: DownstreamSide<'_>,
    answer: &mut PendingAnswer,
) -> Result<(), GatewayError> {
    let due = Instant::now() + HELD_CODED_LIMIT.min(side.resources.timeouts.client);
    while answer.body.wants_coded() && answer.goes_on() {
        side.progress.turns.take().await;
        let overdue = side.outgoing.upstream_deadline.reached(due);
        let read = connection.read(|bytes| answer.body.push(bytes));
        match guarded(read, overdue, &side.resources.lifecycle).await {
            Ok(Ok(Received::Data)) => {}
            Ok(end) => answer.last_read = Some(end.map_err(NoMore::Broken)),
            Err(Interruption::Overdue) => break,
            Err(Interruption::Expired) => return Err(GatewayError::Draining),
        }
    }
    Ok(())
}

/// Tells whether all of the error is here, by its framing.
fn is_complete(answer: &PendingAnswer) -> bool {
    let has_ended = matches!(answer.last_read, Some(Ok(Received::End { is_clean: true })));
    answer.body.reader.is_complete() || has_ended && answer.facts.body == BodyLength::UntilClose
}
