//! The start of a request that is to go upstream: what has come of its body, and the limits of its key that it has to
//! wait for, or is read for.

use std::time::Instant;

use super::body_check::check_body;
use super::place::wait_for_place;
use crate::http1::body::BodyReader;
use crate::io::clock;
use crate::proxy::attempt::request_body::upload::take_body;
use crate::proxy::downstream::Downstream;
use crate::proxy::error::GatewayError;
use crate::proxy::exchange::Exchange;
use crate::proxy::key_accounts::Governed;
use crate::proxy::outcome::Outcome;
use crate::proxy::owner_search;
use crate::proxy::request::plan::{LateAdmission, UpstreamRequest};
use crate::proxy::resources::Resources;

/// The result of the admission.
pub struct LetIn {
    /// The time from which on it is tried.
    pub at: Instant,
    /// The client was told to go on with the body.
    pub has_asked_for_body: bool,
}

impl LetIn {
    pub fn at(at: Instant) -> Self {
        LetIn { at, has_asked_for_body: false }
    }
}

/// Takes what has come of the body: it follows the head in one write.
///
/// # Errors
/// The end of the exchange: it is no body.
pub fn take_start(
    resources: &Resources,
    exchange: &mut Exchange,
    downstream: &mut Downstream,
    body: &mut BodyReader,
    request: &mut UpstreamRequest,
) -> Result<(), Outcome> {
    exchange.place = exchange.place.take().or(request.place.take());
    take_body(&mut downstream.split(body).0, resources).map_err(Outcome::Failed)
}

/// Lets a request pass the limits of its key that has to wait, or is read first.
///
/// # Errors
/// The end of the exchange; nothing went upstream.
pub async fn admit(
    resources: &Resources,
    exchange: &mut Exchange,
    downstream: &mut Downstream,
    body: &mut BodyReader,
    request: &mut UpstreamRequest,
    late: LateAdmission,
) -> Result<LetIn, Outcome> {
    let mut let_in = LetIn::at(exchange.began);
    if late.waits {
        exchange.place = wait_for_place(resources, exchange, downstream).await?;
        let_in.at = Instant::now();
    }
    take_start(resources, exchange, downstream, body, request)?;
    if late.needs_body {
        let checked = check_body(resources, exchange, downstream, body, request, late.unreadable);
        let_in.has_asked_for_body = checked.await?;
    }
    let governed = exchange.snapshot.governed(exchange.key);
    governed.map_or(Ok(()), enter_again).map_err(Outcome::Failed)?;
    let selector = exchange.snapshot.selector(request.selection);
    let choice = owner_search::first_choice(selector, late.owner, request.objects.as_deref());
    request.choice = choice.map_err(Outcome::Failed)?;
    Ok(let_in)
}

/// Lets in once more a request that has waited: what others used meanwhile counts.
///
/// # Errors
/// [`GatewayError::LimitReached`].
fn enter_again(governed: &Governed) -> Result<(), GatewayError> {
    let Some(account) = &governed.account else { return Ok(()) };
    account.check(&governed.limits, clock::now()).map_err(GatewayError::LimitReached)
}
