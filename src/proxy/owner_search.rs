//! The search for the owner of what a request names, before the first attempt: in its target at once, in its body as
//! that comes; and the choice by what was found, both times by [`Selector::first`].
//!
//! Invariant: a request waits for its body at most [`WAIT_MAX`], and only while an owner is known of any object; what
//! has come of its body by then goes upstream as it came.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::credentials::{Choice, OwnedByOthers, Owner, Owners, Selector, Shelf, Turn};
use crate::http1::body::BodyReader;
use crate::io::clock;
use crate::proxy::attempt::request_body::hold_body::hold_body;
use crate::proxy::downstream::Downstream;
use crate::proxy::error::GatewayError;
use crate::proxy::failover::ownership::{is_outside_by_query, known_owner, owner_in_path};
use crate::proxy::outcome::Outcome;
use crate::proxy::replay::buffer::ReplayBuffer;
use crate::proxy::request::path::UpstreamPath;
use crate::proxy::request::plan::UpstreamRequest;
use crate::proxy::request::stored::objects::{BodySearch, Objects};
use crate::proxy::request::stored::references::{ReferenceSearch, Searched};
use crate::proxy::resources::Resources;
use crate::proxy::snapshot::Snapshot;

/// The longest wait for a body: many times what a client on this machine takes for the part that is searched.
const WAIT_MAX: Duration = Duration::from_millis(250);

/// Notes whom the objects in path and query belong to.
///
/// # Errors
/// They name an object of a credential that the request may not use.
pub fn note_owner(
    owners: &Owners,
    selector: Selector<'_>,
    path: UpstreamPath<'_>,
    objects: &mut Objects,
) -> Result<(), GatewayError> {
    let owner = owner_in_path(owners, selector, objects);
    if owner == Owner::Outside || is_outside_by_query(owners, selector, path.query()) {
        return Err(OwnedByOthers.into());
    }
    objects.owner = owner.within();
    Ok(())
}

/// Chooses by [what was noted](note_owner). No turn is taken yet where the body is still to be searched for an owner:
/// the choice is then made by [`choose_by_body`].
///
/// # Errors
/// As [`Selector::first`].
pub fn choose_by_target(
    owners: &Owners,
    selector: Selector<'_>,
    objects: Option<&mut Objects>,
) -> Result<Choice, GatewayError> {
    let mut owner = Owner::Unknown;
    if let Some(objects) = objects {
        if objects.may_refer() && owners.has_entries() {
            objects.body_search = BodySearch::BeforeTurn;
            return Ok(Choice::Use(Turn::of(selector.likely())));
        }
        owner = objects.owner.map_or(owner, Owner::Within);
    }
    Ok(selector.first(owner, clock::now())?)
}

/// The result of a search.
pub struct ChoiceByBody {
    pub choice: Choice,
    /// The client was told to go on with the body.
    pub has_asked_for_body: bool,
}

/// Chooses by the first object in the body whose owner is known.
///
/// # Errors
/// The end of the exchange, if the request may not use that owner, the client goes meanwhile or what it sends is no
/// body.
pub async fn choose_by_body(
    resources: &Resources,
    snapshot: &Snapshot,
    downstream: &mut Downstream,
    body: &mut BodyReader,
    request: &mut UpstreamRequest,
) -> Result<ChoiceByBody, Outcome> {
    let selector = snapshot.selector(request.selection);
    let mut owner = Owner::Unknown;
    let mut has_asked_for_body = false;
    let facts = &request.traits.facts;
    if let Some(objects) = &mut request.objects {
        let has_conversations = resources.owners.has_entries_of(Shelf::Others);
        let mut search =
            ReferenceSearch::new(&downstream.replay.borrow(), objects.body, objects.shelf, has_conversations);
        let mut unknown = None;
        let mut is_owned = |shelf, object| {
            if owner == Owner::Unknown {
                owner = known_owner(&resources.owners, selector, shelf, object);
                unknown.get_or_insert((shelf, object));
            }
            owner != Owner::Unknown
        };
        let wants_more =
            async |replay: &RefCell<ReplayBuffer>| search.advance(replay, &mut is_owned).await == Searched::GoesOn;
        // Where the time is up before all that came was searched, an answer that there is no such object leads to it.
        let held = hold_body(resources, downstream, body, facts, Some(WAIT_MAX), wants_more).await?;
        has_asked_for_body = held.has_been_asked_for;
        objects.owner = owner.within();
        objects.unknown_reference = unknown;
    }
    let choice = selector.first(owner, Instant::now()).map_err(GatewayError::from).map_err(Outcome::Failed)?;
    Ok(ChoiceByBody { choice, has_asked_for_body })
}
