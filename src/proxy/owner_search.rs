//! The choice of the credential of the first attempt, with the search for the owner of what the request names: in its
//! target at once, in its body as that comes.
//!
//! Both go by [`Selector::first`]. Invariant: a request waits for its body at most [`WAIT_MAX`], and only while an owner
//! is known of any object; what has come of its body by then goes upstream as it came.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::credentials::{Choice, Owner, Owners, Selector, Shelf, Turn};
use crate::http1::body::BodyReader;
use crate::io::clock;
use crate::proxy::attempt::request_body::hold_body::hold_body;
use crate::proxy::attempt::request_body::subject_wait::wait_for_subject;
use crate::proxy::downstream::Downstream;
use crate::proxy::error::GatewayError;
use crate::proxy::failover::ownership::{is_outside_by_query, is_settled, known_owner, owner_in_path};
use crate::proxy::failover::subject::Subject;
use crate::proxy::failover::wait::settle_turn;
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

/// Returns the owner of what path and query name, and notes in `objects` whether the body is to be searched for one.
pub fn owner_of_target(
    owners: &Owners,
    selector: Selector<'_>,
    path: UpstreamPath<'_>,
    objects: Option<&mut Objects>,
) -> Owner {
    let Some(objects) = objects else { return Owner::Unknown };
    let mut owner = owner_in_path(owners, selector, objects);
    if is_outside_by_query(owners, selector, path.query()) {
        owner = Owner::Outside;
    }
    objects.owner = owner.within();
    if owner == Owner::Unknown && objects.may_refer() && owners.has_entries() {
        objects.body_search = BodySearch::BeforeTurn;
    }
    owner
}

/// Chooses by that owner. No turn is taken yet where the body is still to be searched for one: the choice is then made
/// by [`choose_by_body`].
///
/// # Errors
/// The request names an object of a credential that it may not use.
pub fn first_choice(selector: Selector<'_>, owner: Owner, objects: Option<&Objects>) -> Result<Choice, GatewayError> {
    if objects.is_some_and(|objects| objects.body_search == BodySearch::BeforeTurn) {
        return Ok(Choice::Use(Turn::of(selector.likely())));
    }
    Ok(selector.first(owner, clock::now())?)
}

/// The result of a search.
struct ChoiceByBody {
    choice: Choice,
    /// The client was told to go on with the body.
    has_asked_for_body: bool,
}

/// Chooses by the first object in the body whose owner is known. Where the request may not use all credentials, all
/// objects count: none may be of another's.
///
/// # Errors
/// The end of the exchange, if the request may not use that owner, the client goes meanwhile or what it sends is no
/// body.
async fn choose_by_body(
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
                unknown.get_or_insert((shelf, object));
            }
            owner = owner.or(known_owner(&resources.owners, selector, shelf, object));
            is_settled(owner, selector)
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

/// The way into the first attempt.
pub struct FirstTurn {
    pub turn: Turn,
    pub subject: Option<Box<Subject>>,
    /// The client was told to go on with the body.
    pub has_asked_for_body: bool,
}

/// Settles whose name the first attempt uses: the owner's of what the body names, else that of the turn, once it is
/// clear what the request is about.
///
/// # Errors
/// The end of the exchange, as of [`choose_by_body`].
pub async fn first_turn(
    resources: &Resources,
    snapshot: &Snapshot,
    downstream: &mut Downstream,
    body: &mut BodyReader,
    request: &mut UpstreamRequest,
    has_asked_for_body: bool,
) -> Result<FirstTurn, Outcome> {
    let mut choice = request.take_choice();
    let mut has_asked_for_body = has_asked_for_body;
    if request.objects.as_ref().is_some_and(|objects| objects.body_search == BodySearch::BeforeTurn) {
        // Boxed: few requests need it, and the task of the connection would keep room for it all its life.
        let searched = choose_by_body(resources, snapshot, downstream, body, request);
        let searched = Box::pin(searched).await?;
        choice = searched.choice;
        has_asked_for_body |= searched.has_asked_for_body;
    }
    let mut subject = None;
    if matches!(choice, Choice::Open { .. }) {
        let facts = &request.traits.facts;
        // Boxed: hardly any exchange needs it.
        let waited = Box::pin(wait_for_subject(resources, downstream, body, facts, has_asked_for_body)).await?;
        (subject, has_asked_for_body) = (waited.0.map(Box::new), waited.1);
    }
    let scope = subject.as_deref().map(|subject: &Subject| &subject.scope);
    let turn = settle_turn(resources, downstream, snapshot.selector(request.selection), choice, scope).await?;
    Ok(FirstTurn { turn, subject, has_asked_for_body })
}
