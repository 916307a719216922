//! All attempts of one exchange, one after the other, until one of them has an end for the client.
//!
//! Each is an `exchange` between the client (`downstream_side`) and one upstream connection (`connect`): the request
//! goes up (`request_body`), the answer comes down (`receive`, `relay`), unless it is `held` for a better one or the
//! client leaves (`farewell`), or it ends HTTP (`upgrade`). What is kept of it if the exchange fails is `noted`, and an
//! error that a content coding hides only once it was searched (`coded_error`). Invariant: between two attempts nothing
//! has gone downstream but interim responses, the request is whole in its copy, and the client is still there.

mod coded_error;
mod connect;
pub mod downstream_side;
pub mod exchange;
mod farewell;
pub mod held;
pub mod interrupt;
mod noted;
mod receive;
pub mod relay;
pub mod relayed;
pub mod request_body;
mod upgrade;

pub use exchange::{Attempt, AttemptsEnd};
pub use relayed::{OpenAnswer, Switched};

use crate::credentials::{CredentialId, Turn};
use crate::observability::Count;
use crate::proxy::attempt::exchange::Attempted;
use crate::proxy::attempt::held::Best;
use crate::proxy::attempt::noted::{note_beginning, note_followed, note_passed_on, noted};
use crate::proxy::attempt::relayed::NoAnswer;
use crate::proxy::attempt_class::AttemptClass;
use crate::proxy::error::GatewayError;
use crate::proxy::exchange::Exchange;
use crate::proxy::failover::Next;
use crate::proxy::failover::wait::pause;
use crate::proxy::outcome::Outcome;

/// Begins the first attempt, by `turn`. Not in [`run`], whose task would keep room for the turn.
///
/// # Errors
/// There is no token for it.
pub fn begin(attempt: &mut Attempt<'_>, turn: Turn) -> Result<(), Outcome> {
    if turn.credential != attempt.request.credential() {
        attempt.authorize(turn.credential).map_err(Outcome::Failed)?;
    }
    attempt.failover.begin_first(attempt.resources, turn);
    note_beginning(attempt);
    Ok(())
}

/// Makes attempts, the first of which has begun.
pub async fn run(attempt: &mut Attempt<'_>, exchange: &Exchange) -> AttemptsEnd {
    let mut may_reuse = true;
    loop {
        // Not in a variable, for which the task of the connection would keep room.
        let (new, failure) = match noted(attempt.make(&exchange.progress, may_reuse).await, attempt) {
            Attempted::Over(outcome) => return AttemptsEnd::Over(outcome),
            Attempted::Open(open) => return AttemptsEnd::Open(open),
            Attempted::Switched(switched) => return AttemptsEnd::Switched(switched),
            Attempted::Stale => {
                attempt.resources.activity.counters.add(Count::Stale);
                tracing::debug!(id = %exchange.id, "the upstream had closed a pooled connection");
                may_reuse = false;
                attempt.downstream.replay.get_mut().rewind();
                continue;
            }
            Attempted::Held(held) => {
                may_reuse = true;
                (Best::Held(held), None)
            }
            Attempted::Failed(failure) => {
                let class = failure.error.row().class;
                // Where one connection broke, the others of its age most likely are no better, and attempts are few.
                may_reuse = class == AttemptClass::Unreachable;
                (Best::Failed(tell(exchange, failure)), Some(class))
            }
        };
        if let Some(class) = failure {
            failed(attempt, class).await;
        }
        note_followed(attempt, &new);
        let best = match attempt.best.take() {
            Some(best) => best.or_better(new, attempt.failover.has_only_refusals()),
            None => new,
        };
        let Some(next) = attempt.failover.take_next() else {
            return match best {
                Best::Held(held) => {
                    note_passed_on(attempt, &held);
                    // Boxed: hardly any exchange needs it.
                    Box::pin(attempt.pass_on(held, &exchange.progress)).await
                }
                Best::Failed(error) => AttemptsEnd::Over(Outcome::Failed(error)),
            };
        };
        attempt.best = Some(best);
        if let Err(outcome) = prepare(attempt, exchange, next).await {
            return AttemptsEnd::Over(outcome);
        }
    }
}

/// Writes to the log why an attempt brought no answer, and returns the error that this is for the client.
fn tell(exchange: &Exchange, failure: NoAnswer) -> GatewayError {
    if let Some(cause) = failure.cause {
        tracing::warn!(id = %exchange.id, %cause, "the upstream connection broke");
    }
    failure.error
}

/// Settles what follows an attempt that brought no answer.
async fn failed(attempt: &mut Attempt<'_>, class: AttemptClass) {
    attempt.look_at_subject(class).await;
    let replay_is_whole = attempt.downstream.replay.get_mut().is_whole();
    attempt.failover.failed(attempt.resources, class, replay_is_whole);
}

/// Waits until the next attempt may begin, and makes the request ready for it.
async fn prepare(attempt: &mut Attempt<'_>, exchange: &Exchange, next: Box<Next>) -> Result<(), Outcome> {
    let Attempt { resources, downstream, failover, .. } = attempt;
    let name = |credential: CredentialId| failover.snapshot.name(credential);
    tracing::warn!(
        id = %exchange.id,
        attempt = failover.attempts() + 1,
        reason = display(next.reason.as_str()),
        credential = name(failover.credential()),
        next = name(next.chosen.turn.credential),
        pause_ms = next.pause.as_millis() as u64,
        "another attempt"
    );
    // Also where there is none: it tells whether the client has gone, and a pooled connection takes bytes at once.
    pause(resources, downstream, next.pause).await?;
    downstream.replay.get_mut().rewind();
    let credential = next.chosen.turn.credential;
    if credential != attempt.request.credential() {
        attempt.authorize(credential).map_err(Outcome::Failed)?;
    }
    attempt.failover.begin_next(attempt.resources, *next);
    note_beginning(attempt);
    Ok(())
}
