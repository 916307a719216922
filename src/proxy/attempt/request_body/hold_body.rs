//! The body of a request, held before the first attempt.

use std::cell::RefCell;
use std::future::pending;
use std::time::Duration;

use crate::http1::body::BodyReader;
use crate::io::{Either, Phase, Turns, race};
use crate::proxy::attempt::request_body::ask::ask_for_body;
use crate::proxy::attempt::request_body::upload::{UploadError, hold};
use crate::proxy::downstream::Downstream;
use crate::proxy::error::GatewayError;
use crate::proxy::outcome::Outcome;
use crate::proxy::replay::buffer::ReplayBuffer;
use crate::proxy::request::head::RequestFacts;
use crate::proxy::resources::Resources;

/// The state of a body that was held.
pub struct HeldBody {
    /// All of it is in the copy.
    pub is_whole: bool,
    /// The client was told to go on with it.
    pub has_been_asked_for: bool,
}

/// Reads the body into the copy, as long as `wants_more` and for `limit` at most. What has come by then is in the copy,
/// as far as there is room for it.
///
/// # Errors
/// The end of the exchange, if the client goes meanwhile or what it sends is no body.
pub async fn hold_body(
    resources: &Resources,
    downstream: &mut Downstream,
    body: &mut BodyReader,
    facts: &RequestFacts,
    limit: Option<Duration>,
    wants_more: impl AsyncFnMut(&RefCell<ReplayBuffer>) -> bool,
) -> Result<HeldBody, Outcome> {
    let has_been_asked_for = ask_for_body(resources, downstream, body, facts).await?;
    let (mut incoming, outgoing) = downstream.split(body);
    let turns = Turns::default();
    // The interruptions come first: an attempt must not start for a client that has gone.
    let interrupted = race(outgoing.departed(), resources.lifecycle.reached(Phase::Expired));
    let over = async {
        match limit {
            Some(limit) => outgoing.upstream_deadline.passed(limit).await,
            None => pending().await,
        }
    };
    let held = race(hold(&mut incoming, resources, &turns, wants_more), over);
    match race(interrupted, held).await {
        Either::Second(Either::First(Ok(is_whole))) => Ok(HeldBody { is_whole, has_been_asked_for }),
        Either::Second(Either::Second(())) => Ok(HeldBody { is_whole: false, has_been_asked_for }),
        Either::Second(Either::First(Err(UploadError::Refused(error)))) => Err(Outcome::Failed(error)),
        Either::Second(Either::First(Err(UploadError::ClientGone | UploadError::Upstream(_))))
        | Either::First(Either::First(())) => Err(Outcome::CLIENT_GONE),
        Either::First(Either::Second(())) => Err(Outcome::Failed(GatewayError::Draining)),
    }
}
