//! The notes on attempts, where failed exchanges are kept.

use crate::io::clock;
use crate::proxy::attempt::exchange::{Attempt, Attempted};
use crate::proxy::attempt::held::{Best, HeldAnswer};
use crate::proxy::outcome::Outcome;

// The consequences of an attempt, in words.
const PASSED_ON: &str = "its answer was passed on";
const PASSED_ON_LATER: &str = "another attempt was made, and in the end this answer was passed on";
const SENT_AGAIN: &str = "sent again on a fresh connection";
const RETRIED: &str = "another attempt was made";
const LAST: &str = "no further attempt was made";
const OVER: &str = "the exchange was over";

/// Notes that an attempt begins.
pub fn note_beginning(attempt: &Attempt<'_>) {
    if let Some(recording) = &attempt.downstream.trail.recording {
        let failover = &attempt.failover;
        recording.begin_attempt(failover.snapshot.name(failover.credential()), clock::now());
    }
}

/// Passes the end of an attempt on, and notes it where the attempt is the last, or is repeated as it is.
pub fn noted(attempted: Attempted, attempt: &Attempt<'_>) -> Attempted {
    note_attempted(attempt, &attempted);
    attempted
}

fn note_attempted(attempt: &Attempt<'_>, attempted: &Attempted) {
    let Some(recording) = &attempt.downstream.trail.recording else { return };
    let (failure, decision) = match attempted {
        Attempted::Over(Outcome::Answered { .. }) | Attempted::Open(_) | Attempted::Switched(_) => (None, PASSED_ON),
        Attempted::Over(Outcome::Aborted { ending, .. }) => (Some(ending.as_str()), OVER),
        Attempted::Over(Outcome::Failed(error)) => (Some(error.row().code), OVER),
        Attempted::Stale => (Some("stale_connection"), SENT_AGAIN),
        // What follows is not known yet.
        Attempted::Held(_) | Attempted::Failed(_) => return,
    };
    recording.end_attempt(failure, decision, clock::now());
    if matches!(attempted, Attempted::Stale) {
        note_beginning(attempt);
    }
}

/// Notes how an attempt ended whose answer, if any, did not go downstream, once it is known what follows.
pub fn note_followed(attempt: &Attempt<'_>, brought: &Best) {
    let Some(recording) = &attempt.downstream.trail.recording else { return };
    let failure = match brought {
        Best::Held(_) => None,
        Best::Failed(error) => Some(error.row().code),
    };
    let decision = if attempt.failover.is_followed() { RETRIED } else { LAST };
    recording.end_attempt(failure, decision, clock::now());
}

/// Notes whose answer is passed on after all attempts.
pub fn note_passed_on(attempt: &Attempt<'_>, held: &HeldAnswer) {
    let Some(recording) = &attempt.downstream.trail.recording else { return };
    let is_last = held.attempt_number == recording.attempt_number();
    recording.note_passed_on(held.attempt_number, if is_last { PASSED_ON } else { PASSED_ON_LATER });
}
