//! The filter `anthropic-compat`: what clients of Anthropic's Messages API ask for and the upstream does not know.
//!
//! A request that it is for is held until its body is whole, then its head loses `anthropic-beta` and its body the
//! member that goes with it. Invariant: both go or neither does, all other bytes are the client's, and a request that
//! is not filtered goes upstream as without the filter. Held bodies are part of the copy that is kept for a second
//! attempt and within its limits. Off, the filter costs a request one comparison (see `plan`).

pub mod json_edit;

use crate::http1::body::{BodyReader, Piece};
use crate::http1::framing::BodyLength;
use crate::observability::{Count, ExchangeId};
use crate::proxy::attempt::request_body::hold_body::hold_body;
use crate::proxy::downstream::Downstream;
use crate::proxy::outcome::Outcome;
use crate::proxy::replay::budget::ReplayBudget;
use crate::proxy::replay::buffer::ReplayBuffer;
use crate::proxy::request::head::FilterableHead;
use crate::proxy::request::plan::UpstreamRequest;
use crate::proxy::resources::Resources;

/// The member of the body that an `anthropic-beta` feature stands for.
const MEMBER: &str = "context_management";

/// Reasons why a request that the filter is for goes upstream as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unfiltered {
    /// It has a `Content-Encoding`.
    Encoded,
    /// It is longer than what is kept of a request, or all that the process keeps is too much already.
    TooLarge,
    /// It is not one valid JSON object.
    NotAnObject,
}

impl Unfiltered {
    fn as_str(self) -> &'static str {
        match self {
            Unfiltered::Encoded => "it has a Content-Encoding",
            Unfiltered::TooLarge => "it is too large to be kept",
            Unfiltered::NotAnObject => "it is not a JSON object",
        }
    }
}

/// Holds the request, whose head stands in the copy, until its body is whole, and filters it. One that cannot be
/// filtered is as it was afterwards.
///
/// # Errors
/// The end of the exchange, if the body does not come whole.
pub async fn filter(
    resources: &Resources,
    id: ExchangeId,
    downstream: &mut Downstream,
    body: &mut BodyReader,
    request: &mut UpstreamRequest,
) -> Result<(), Outcome> {
    let facts = &request.traits.facts;
    let unfiltered = match request.filterable_head.take() {
        None => Some(Unfiltered::Encoded),
        Some(_) if !fits(resources, downstream, body, facts.body) => Some(Unfiltered::TooLarge),
        Some(head) => {
            if hold_body(resources, downstream, body, facts, None, |_| true).await?.is_whole {
                let replay = downstream.replay.get_mut();
                edit(replay, &head, request, &resources.budget).err()
            } else {
                Some(Unfiltered::TooLarge)
            }
        }
    };
    if let Some(unfiltered) = unfiltered {
        resources.activity.counters.add(Count::Unfiltered);
        tracing::debug!(%id, reason = unfiltered.as_str(), "a request is not filtered");
    }
    Ok(())
}

/// Tells whether a body of known length can be held, from what has come of it.
fn fits(resources: &Resources, downstream: &mut Downstream, body: &BodyReader, length: BodyLength) -> bool {
    let missing = match length {
        BodyLength::Known(length) => length - body.data_bytes(),
        BodyLength::None | BodyLength::Chunked | BodyLength::UntilClose => 0,
    };
    let Resources { limits, budget, .. } = resources;
    let replay = downstream.replay.get_mut();
    usize::try_from(missing).is_ok_and(|missing| replay.has_room_for(missing, limits.replay_bytes_max, budget))
}

/// Filters a request that is whole in its copy. A body that came in chunks is then framed by its length; its trailers
/// are not kept (RFC 9110 §6.5.1).
///
/// Needs the body in one piece as long as it takes, so a shard holds one such piece at a time beside what the budget
/// counts. It is done in one turn: 1 to 2 ms a MiB.
fn edit(
    replay: &mut ReplayBuffer,
    head: &FilterableHead,
    request: &mut UpstreamRequest,
    budget: &ReplayBudget,
) -> Result<(), Unfiltered> {
    let length = request.traits.facts.body;
    let mut body = content_of(replay, request.head_bytes, length).ok_or(Unfiltered::NotAnObject)?;
    let cuts = json_edit::cuts(&body, MEMBER).ok_or(Unfiltered::NotAnObject)?;
    json_edit::cut(&mut body, &cuts);
    // The head is in the first part.
    let written =
        replay.parts().next().and_then(|part| part.get(..request.head_bytes)).ok_or(Unfiltered::NotAnObject)?;
    let (head, token) = head.filtered(written, &request.token, body.len() as u64);
    replay.rewrite(&head, &body, budget);
    request.token = token;
    Ok(())
}

/// Returns the content of the body, which stands after a head of `head_bytes` in the copy, without its framing.
fn content_of(replay: &ReplayBuffer, head_bytes: usize, length: BodyLength) -> Option<Vec<u8>> {
    let mut skipped = head_bytes;
    let mut content = Vec::with_capacity(replay.parts().map(<[u8]>::len).sum());
    let mut reader = BodyReader::new(length);
    for part in replay.parts() {
        // The head is in the first part.
        let read = reader.read(part.get(skipped..)?, |piece| {
            if let Piece::Data(bytes) = piece {
                content.extend_from_slice(bytes);
            }
        });
        read.ok()?;
        skipped = 0;
    }
    Some(content)
}
