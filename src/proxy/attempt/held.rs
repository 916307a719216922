//! An answer that has begun to come: taken in as far as it takes to know whether it is the one for the client.
//!
//! Invariant: nothing of it has gone downstream while it is here, and no read is under way between two calls, so that
//! it can be kept, passed on or let go of.

use std::time::Instant;

use crate::io::Deadline;
use crate::proxy::attempt::interrupt::NoMore;
use crate::proxy::attempt_class::AttemptClass;
use crate::proxy::error::GatewayError;
use crate::proxy::exchange::Progress;
use crate::proxy::response::body::BodyRelay;
use crate::proxy::response::body_tap::BodyTap;
use crate::proxy::response::head::ResponseFacts;
use crate::proxy::response::refusal::RefusalReason;
use crate::proxy::sse::opening::{HELD_LIMIT, Opening};
use crate::upstream::{Connection, Received};

/// The part of a kept answer that is taken in: more than most error pages are long.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// The part of an error, its head included, that is held until its code is known.
const HELD_ERROR_BYTES_MAX: usize = 8 * 1024;

/// An answer whose head is there, and of whose body `body` has what came with it.
// In this order, so that what each read needs is together.
#[repr(C)]
pub struct PendingAnswer {
    pub body: BodyRelay,
    pub facts: ResponseFacts,
    /// The client is told that its connection goes on.
    pub keep_alive: bool,
    /// The result of the last read, where its consequences are still to be drawn.
    pub last_read: Option<Result<Received, NoMore>>,
    /// Its rest may be relayed by the pump.
    pub may_be_pumped: bool,
}

impl PendingAnswer {
    pub fn new(facts: ResponseFacts, keep_alive: bool, body: BodyRelay) -> Self {
        PendingAnswer { facts, keep_alive, body, last_read: None, may_be_pumped: true }
    }

    /// Tells whether all of it is here and its connection can serve another exchange.
    pub fn leaves_reusable(&self, progress: &Progress) -> bool {
        self.body.reader.is_complete() && self.is_reusable_after(progress)
    }

    /// Takes in what has come of an answer that is kept, without a wait for more. Mostly that is all of it, and its
    /// connection serves the next attempt; and what is here is not lost if the connection is reset meanwhile.
    pub fn take_what_came(&mut self, connection: &Connection) {
        while self.goes_on() && self.body.out.len() < KEPT_BYTES_MAX && self.read_now(connection) {}
    }

    /// Takes the first events of a stream in, until they tell an error from an answer or cannot be held for longer.
    pub async fn hold_opening(&mut self, connection: &Connection, deadline: &Deadline) -> AttemptClass {
        let due = Instant::now() + HELD_LIMIT;
        loop {
            match self.body.opening() {
                Opening::Undecided => {}
                Opening::Harmless => return AttemptClass::Succeeded,
                Opening::Error { is_rate_limit: true } => return AttemptClass::RateLimited,
                Opening::Error { is_rate_limit: false } => return AttemptClass::Unavailable,
            }
            // Readiness is waited for, not bytes: when the time is over no read may be under way.
            if !self.goes_on() || deadline.before(due, connection.readable()).await.is_err() {
                return AttemptClass::Succeeded;
            }
            self.read_now(connection);
        }
    }

    /// Takes the beginning of an error in, until it says its reason or cannot be held for longer, and classifies the
    /// answer by both.
    pub async fn hold_refusal(&mut self, connection: &Connection, deadline: &Deadline) -> AttemptClass {
        let due = Instant::now() + HELD_LIMIT;
        while (self.body.wants_refusal() || self.wants_code())
            && self.goes_on()
            && deadline.before(due, connection.readable()).await.is_ok()
        {
            self.read_now(connection);
        }
        class_of(self.facts.status, self.body.refusal())
    }

    /// Tells whether the code of an error may still say that there is no such object.
    fn wants_code(&self) -> bool {
        matches!(self.facts.status, 400 | 403)
            && self.body.out.len() < HELD_ERROR_BYTES_MAX
            && self.body.tap().is_some_and(BodyTap::wants_more)
    }

    /// Tells whether more is to come, as far as is known.
    pub fn goes_on(&self) -> bool {
        self.last_read.is_none() && !self.body.reader.is_complete() && self.body.error.is_none()
    }

    /// Takes in what is there; false if that is nothing.
    fn read_now(&mut self, connection: &Connection) -> bool {
        let PendingAnswer { body, last_read, .. } = self;
        match connection.read_now(|bytes| body.push(bytes)) {
            Ok(None) => return false,
            Ok(Some(Received::Data)) => {}
            Ok(Some(end @ Received::End { .. })) => *last_read = Some(Ok(end)),
            Err(error) => *last_read = Some(Err(NoMore::Broken(error))),
        }
        true
    }

    pub fn is_reusable_after(&self, progress: &Progress) -> bool {
        self.facts.keep_alive && !self.body.has_surplus && progress.request_is_whole()
    }
}

/// Classifies an error by its status and the reason that it gives.
fn class_of(status: u16, reason: Option<RefusalReason>) -> AttemptClass {
    match (status, reason) {
        (400 | 403 | 429, Some(RefusalReason::QuotaUsedUp)) => AttemptClass::QuotaUsedUp,
        (401, Some(RefusalReason::ModelDenied)) => AttemptClass::Forbidden,
        (status, _) => AttemptClass::of_status(status),
    }
}

/// An answer that is kept until a better one is there.
pub struct HeldAnswer {
    pub answer: Box<PendingAnswer>,
    /// The number of its attempt in the notes; 0 where none are made.
    pub attempt_number: usize,
    /// The rest of it comes over this; none where all of it is here.
    pub connection: Option<Box<Connection>>,
}

/// The best that the attempts so far have brought.
pub enum Best {
    Held(HeldAnswer),
    Failed(GatewayError),
}

impl Best {
    /// Chooses between what there was and what the last attempt brought. An answer of the upstream is better than an
    /// error of ours, the last answer better than those before; but where there are only refusals, the first says best
    /// what was wrong with the request. What the client has done wrong itself it is told in any case.
    pub fn or_better(self, new: Best, has_only_refusals: bool) -> Self {
        match (self, new) {
            (Best::Held(first), Best::Held(_)) if has_only_refusals => Best::Held(first),
            (Best::Held(last), Best::Failed(error)) if error.row().status >= 500 => Best::Held(last),
            (_, new) => new,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_says_so_is_about_a_quota_or_a_model() {
        let (quota, denied) = (RefusalReason::QuotaUsedUp, RefusalReason::ModelDenied);
        for (status, reason, expected) in [
            (400, Some(quota), AttemptClass::QuotaUsedUp),
            (403, Some(quota), AttemptClass::QuotaUsedUp),
            (429, Some(quota), AttemptClass::QuotaUsedUp),
            (402, None, AttemptClass::QuotaUsedUp),
            (401, Some(quota), AttemptClass::Unauthorized),
            (404, Some(quota), AttemptClass::Settled),
            (503, Some(quota), AttemptClass::Unavailable),
            (401, Some(denied), AttemptClass::Forbidden),
            (400, Some(denied), AttemptClass::Settled),
            (403, None, AttemptClass::Forbidden),
        ] {
            assert_eq!(class_of(status, reason), expected, "{status} {reason:?}");
        }
    }
}
