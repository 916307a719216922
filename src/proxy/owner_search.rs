//! The search for the owner of what a request names in its body, before the first attempt.
//!
//! Invariant: a request waits for it at most [`WAIT_MAX`], and only while an owner is known of any object; what has
//! come of its body by then goes upstream as it came.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::credentials::{Choice, Shelf, Turn};
use crate::http1::body::BodyReader;
use crate::proxy::attempt::request_body::hold_body::hold_body;
use crate::proxy::downstream::Downstream;
use crate::proxy::failover::ownership::known_owner;
use crate::proxy::outcome::Outcome;
use crate::proxy::replay::buffer::ReplayBuffer;
use crate::proxy::request::plan::UpstreamRequest;
use crate::proxy::request::stored::references::{ReferenceSearch, Searched};
use crate::proxy::resources::Resources;
use crate::proxy::snapshot::Snapshot;

/// The longest wait for a body: many times what a client on this machine takes for the part that is searched.
const WAIT_MAX: Duration = Duration::from_millis(250);

/// The result of a search.
pub struct FirstChoice {
    pub choice: Choice,
    /// The client was told to go on with the body.
    pub has_asked_for_body: bool,
}

/// Chooses the owner of the first object in the body whose owner is known, else takes the next turn.
///
/// # Errors
/// The end of the exchange, if the client goes meanwhile or what it sends is no body.
pub async fn choose(
    resources: &Resources,
    snapshot: &Snapshot,
    downstream: &mut Downstream,
    body: &mut BodyReader,
    request: &mut UpstreamRequest,
) -> Result<FirstChoice, Outcome> {
    let mut owner = None;
    let mut has_asked_for_body = false;
    let facts = &request.traits.facts;
    if let Some(objects) = &mut request.objects {
        let has_conversations = resources.owners.has_entries_of(Shelf::Others);
        let mut search =
            ReferenceSearch::new(&downstream.replay.borrow(), objects.body, objects.shelf, has_conversations);
        let mut unknown = None;
        let mut is_owned = |shelf, object| {
            if owner.is_none() {
                owner = known_owner(&resources.owners, &snapshot.credentials, shelf, object);
                unknown.get_or_insert((shelf, object));
            }
            owner.is_some()
        };
        let wants_more =
            async |replay: &RefCell<ReplayBuffer>| search.advance(replay, &mut is_owned).await == Searched::GoesOn;
        // Where the time is up before all that came was searched, an answer that there is no such object leads to it.
        let held = hold_body(resources, downstream, body, facts, Some(WAIT_MAX), wants_more).await?;
        has_asked_for_body = held.has_been_asked_for;
        objects.owner = owner;
        objects.unknown_reference = unknown;
    }
    let choice = match owner {
        Some(credential) => Choice::Use(Turn::of(credential)),
        None => resources.round_robin.next(&snapshot.credentials, Instant::now()),
    };
    Ok(FirstChoice { choice, has_asked_for_body })
}
