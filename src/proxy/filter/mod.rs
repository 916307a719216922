//! The filter `anthropic-compat`: what clients of Anthropic's Messages API ask for and the upstream does not know.
//!
//! A request that it is for is held until its body is whole, then its head loses `anthropic-beta` and its body the
//! member that goes with it. Invariant: both go or neither does, all other bytes are the client's, and a request that
//! is not filtered goes upstream as without the filter. Held bodies are part of the copy that is kept for a second
//! attempt and within its limits. Off, the filter costs a request one comparison (see `plan`).

pub mod member_cuts;

use std::cell::RefCell;
use std::ops::Range;

use self::member_cuts::{MemberCuts, NoCuts};
use crate::http1::body::BodyReader;
use crate::http1::framing::BodyLength;
use crate::io::turns::spend;
use crate::observability::{Count, ExchangeId};
use crate::proxy::attempt::request_body::hold_body::hold_body;
use crate::proxy::downstream::Downstream;
use crate::proxy::outcome::Outcome;
use crate::proxy::replay::budget::ReplayBudget;
use crate::proxy::replay::buffer::ReplayBuffer;
use crate::proxy::replay::content::ContentCursor;
use crate::proxy::replay::rewrite::Rewrite;
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
    /// Its member is repeated more often than is kept in mind.
    TooManyMembers,
}

impl Unfiltered {
    fn as_str(self) -> &'static str {
        match self {
            Unfiltered::Encoded => "it has a Content-Encoding",
            Unfiltered::TooLarge => "it is too large to be kept",
            Unfiltered::NotAnObject => "it is not a JSON object",
            Unfiltered::TooManyMembers => "it repeats the member too often",
        }
    }
}

impl From<NoCuts> for Unfiltered {
    fn from(reason: NoCuts) -> Self {
        match reason {
            NoCuts::NotAnObject => Unfiltered::NotAnObject,
            NoCuts::TooMany => Unfiltered::TooManyMembers,
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
            let mut search = CutSearch::new(request.head_bytes, facts.body);
            // A read takes up to 0.3 ms.
            let wants_more = async |replay: &RefCell<ReplayBuffer>| spend(|| search.advance(&replay.borrow())).await;
            let held = hold_body(resources, downstream, body, facts, None, wants_more).await?;
            match search.end(held.is_whole) {
                Ok(cuts) => {
                    let replay = downstream.replay.get_mut();
                    edit(replay, &head, request, body.data_bytes(), cuts, &resources.budget).await;
                    None
                }
                Err(unfiltered) => Some(unfiltered),
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

/// Looks through a body for what is to be cut out, part by part as it comes: when the last part is there, little is
/// left to be done.
struct CutSearch {
    cursor: ContentCursor,
    cuts: MemberCuts,
}

impl CutSearch {
    /// Begins after a head of `head_bytes` in a copy, before a body of this length.
    fn new(head_bytes: usize, length: BodyLength) -> Self {
        CutSearch { cursor: ContentCursor::new(head_bytes, length), cuts: MemberCuts::new(MEMBER) }
    }

    /// Looks through what has come since the last call. Returns whether there is a point in more: a body that is no
    /// object is held no longer.
    fn advance(&mut self, replay: &ReplayBuffer) -> bool {
        let CutSearch { cursor, cuts } = self;
        while cuts.failure().is_none() && cursor.read_part(replay, |content| cuts.read(content)) {}
        cuts.failure().is_none()
    }

    /// Returns what to cut out of the content, if all of it `is_held`.
    fn end(self, is_held: bool) -> Result<Vec<Range<usize>>, Unfiltered> {
        match self.cuts.failure() {
            None if !is_held => Err(Unfiltered::TooLarge),
            _ => Ok(self.cuts.end()?),
        }
    }
}

/// Filters a request that is whole in its copy, with a content of `content_bytes`. A body that came in chunks is then
/// framed by its length; its trailers are not kept (RFC 9110 §6.5.1).
async fn edit(
    replay: &mut ReplayBuffer,
    head: &FilterableHead,
    request: &mut UpstreamRequest,
    content_bytes: u64,
    cuts: Vec<Range<usize>>,
    budget: &ReplayBudget,
) {
    // The head is in the first part.
    let Some(written) = replay.part(0).and_then(|part| part.get(..request.head_bytes)) else { return };
    let cut_bytes: u64 = cuts.iter().map(|cut| cut.len() as u64).sum();
    let length = content_bytes - cut_bytes;
    let (head, token) = head.filtered(written, &request.token, length);
    let came = std::mem::replace(&mut request.traits.facts.body, BodyLength::Known(length));
    let mut rewrite = Rewrite::begin(replay, request.head_bytes, &head, came, cuts);
    (request.head_bytes, request.token) = (head.len(), token);
    drop(head);
    while spend(|| rewrite.step()).await {}
    rewrite.end(budget);
}
