//! The way of a request past what its caller's key may not do, between the guards and its first attempt.
//!
//! In this order: the limits of the last minute, of the day and of the month, and the places for requests under way
//! ([`enter`], with the head alone), a wait for such a place (`place`), and what the body says (`body_check`): its model
//! must be one that the key may use and, where cost is limited, have a price. Invariant: a key without limits and
//! permissions costs a request one look into a table; nothing of a request that is refused here goes upstream; and what
//! is refused here is refused before a turn is taken. A limit that could be walked around is none, so what cannot be
//! checked or counted is refused. The counts themselves are in `key_accounts`, what an answer cost is added by
//! `counted`. Before all of it, whoever makes the request, it may be refused for want of time (`shedding`).

mod body_check;
mod place;
mod prices;
pub mod shedding;
mod start;

use std::time::Instant;

pub use self::start::{LetIn, admit, take_start};
use crate::credentials::Owner;
use crate::http1::head::RequestHead;
use crate::io::clock;
use crate::observability::Count;
use crate::proxy::error::GatewayError;
use crate::proxy::key_accounts::{BodyReading, Governed, Passage};
use crate::proxy::request::model::asked::begins_work;
use crate::proxy::request::plan::{Forward, LateAdmission};
use crate::proxy::resources::Resources;

/// Lets a request in by its key, or sees that it has to wait.
///
/// # Errors
/// [`GatewayError::LimitReached`].
pub fn enter(governed: &Governed, now: Instant) -> Result<Passage, GatewayError> {
    let Some(account) = &governed.account else { return Ok(Passage::Open) };
    account.admit(&governed.limits, now).map_err(GatewayError::LimitReached)?;
    if governed.limits.parallel.is_none() {
        return Ok(Passage::Open);
    }
    Ok(account.parallel.try_take().map_or(Passage::Waits, Passage::Admitted))
}

/// Refuses an upgrade to WebSocket where the upstream has said lately that it has none.
///
/// # Errors
/// [`GatewayError::WebsocketRefused`].
pub fn check_upgrade(resources: &Resources, forward: &Forward<'_>) -> Result<(), GatewayError> {
    let Resources { upgrades, activity, .. } = resources;
    if forward.traits.facts.wants_websocket && upgrades.are_refused(forward.path.path(), clock::now()) {
        activity.counters.add(Count::UpgradesRefused);
        return Err(GatewayError::WebsocketRefused);
    }
    Ok(())
}

/// Returns the way that a request with this head and path has yet to go; `None`: none. `owner`: of what its target names.
pub fn late(
    governed: &Governed,
    passage: &Passage,
    head: &RequestHead<'_>,
    path: &str,
    owner: Owner,
) -> Option<Box<LateAdmission>> {
    let (waits, needs_body) = (matches!(passage, Passage::Waits), reads_body(governed, path));
    let unreadable = if needs_body { unreadable(head) } else { None };
    (waits || needs_body).then(|| Box::new(LateAdmission { waits, needs_body, unreadable, owner }))
}

/// Tells whether the body of a request with this path is to be read before it goes upstream.
fn reads_body(governed: &Governed, path: &str) -> bool {
    // The parts of an API that can do its work after the answer.
    const IN_BACKGROUND: [&str; 2] = ["responses", "interactions"];
    match governed.reads {
        BodyReading::Never => false,
        BodyReading::ForItsUse => {
            path.contains('%') || begins_work(path) || path.split('/').any(|part| IN_BACKGROUND.contains(&part))
        }
        BodyReading::Always => true,
    }
}

/// Returns why a body cannot be read, by the fields of its request.
fn unreadable(head: &RequestHead<'_>) -> Option<&'static str> {
    head.fields.iter().find_map(|field| {
        if field.name.eq_ignore_ascii_case("content-encoding") {
            return Some("the body has a Content-Encoding");
        }
        // A form may be valid JSON too, and then says something else.
        let is_form = field.name.eq_ignore_ascii_case("content-type")
            && field.value.windows(4).any(|part| part.eq_ignore_ascii_case(b"form"));
        is_form.then_some("the body is a form")
    })
}
