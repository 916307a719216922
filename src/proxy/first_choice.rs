//! The way into the first attempt: what its credential is chosen by, and which one it is in the end.
//!
//! The order of precedence is that of [`Selector::first`](crate::credentials::Selector::first). Not here: the search for
//! the owner of what a request names (`owner_search`), and who follows when an attempt fails (`failover`).

use crate::config::Affinity;
use crate::credentials::{ApiKeyId, Choice, Selection, Turn};
use crate::http1::body::BodyReader;
use crate::http1::head::RequestHead;
use crate::proxy::attempt::request_body::subject_wait::wait_for_subject;
use crate::proxy::downstream::Downstream;
use crate::proxy::error::GatewayError;
use crate::proxy::exchange::Exchange;
use crate::proxy::failover::subject::Subject;
use crate::proxy::failover::wait::settle_turn;
use crate::proxy::outcome::Outcome;
use crate::proxy::owner_search::{ChoiceByBody, choose_by_body};
use crate::proxy::request::plan::UpstreamRequest;
use crate::proxy::request::rules::Rules;
use crate::proxy::request::session::session_of;
use crate::proxy::request::stored::objects::BodySearch;
use crate::proxy::resources::Resources;
use crate::proxy::snapshot::Snapshot;

/// The first attempt, before it begins.
pub struct FirstTurn {
    pub turn: Turn,
    pub subject: Option<Box<Subject>>,
    /// The client was told to go on with the body.
    pub has_asked_for_body: bool,
}

/// Returns what the credential of a request with this key and this head is chosen by.
///
/// # Errors
/// There is no credential that the key may use.
pub fn selection(
    rules: &Rules,
    snapshot: &Snapshot,
    key: Option<ApiKeyId>,
    head: &RequestHead<'_>,
) -> Result<Selection, GatewayError> {
    let session = match rules.affinity {
        Affinity::None => None,
        Affinity::Session => session_of(head),
    };
    snapshot.rotations.selection(key, session).ok_or(GatewayError::NoCredential)
}

/// Settles whose name the first attempt uses: the owner's of what the body names, else that of the choice that was made
/// by the head, once it is clear what the request is about.
///
/// # Errors
/// The end of the exchange; nothing went upstream.
pub async fn settle(
    resources: &Resources,
    exchange: &Exchange,
    downstream: &mut Downstream,
    body: &mut BodyReader,
    request: &mut UpstreamRequest,
    has_asked_for_body: bool,
) -> Result<FirstTurn, Outcome> {
    let snapshot = &*exchange.snapshot;
    let mut choice = request.choice;
    let mut has_asked_for_body = has_asked_for_body;
    if request.objects.as_ref().is_some_and(|objects| objects.body_search == BodySearch::BeforeTurn) {
        // Boxed: few requests need it, and the task of the connection would keep room for it all its life.
        let searched = Box::pin(choose_by_body(resources, snapshot, downstream, body, request)).await?;
        let ChoiceByBody { choice: by_body, has_asked_for_body: has_asked } = searched;
        choice = by_body;
        has_asked_for_body |= has_asked;
    }
    let mut subject = None;
    if matches!(choice, Choice::Open { .. }) {
        let facts = &request.traits.facts;
        // Boxed: hardly any exchange needs it.
        let waited = Box::pin(wait_for_subject(resources, downstream, body, facts, has_asked_for_body)).await?;
        (subject, has_asked_for_body) = (waited.0.map(Box::new), waited.1);
    }
    let scope = subject.as_deref().map(|subject: &Subject| &subject.scope);
    let selector = snapshot.selector(request.selection);
    let turn = settle_turn(resources, downstream, selector, choice, scope).await?;
    Ok(FirstTurn { turn, subject, has_asked_for_body })
}
