//! An answer that has begun to come: taken in as far as it takes to know whether it is the one for the client.
//!
//! Invariant: nothing of it has gone downstream while it is here, and no read is under way between two calls, so that it
//! can be kept, passed on or let go of.

use std::time::Instant;

use crate::io::Deadline;
use crate::proxy::attempt::relay::Progress;
use crate::proxy::failover::table::Finding;
use crate::proxy::response::body::BodyRelay;
use crate::proxy::response::head::ResponseFacts;
use crate::proxy::sse::opening::{HELD_LIMIT, Opening};
use crate::upstream::{Connection, Received, TransportError};

/// How much of a kept answer is taken in: more than most error pages are long.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// An answer whose head is there, and of whose body `body` has what came with it.
pub struct Answer {
    pub facts: ResponseFacts,
    /// What the client is told of its connection.
    pub keep_alive: bool,
    pub body: BodyRelay,
    /// What the last read brought, where its consequences are still to be drawn.
    pub last_read: Option<Result<Received, TransportError>>,
}

impl Answer {
    pub fn new(facts: ResponseFacts, keep_alive: bool, body: BodyRelay) -> Self {
        Answer { facts, keep_alive, body, last_read: None }
    }

    /// Whether all of it is here and its connection can serve another exchange.
    pub fn leaves_reusable(&self, progress: &Progress) -> bool {
        self.body.reader.is_complete() && self.is_reusable_after(progress)
    }

    /// Takes in what has come of an answer that is kept, without a wait for more. Mostly that is all of it, and its
    /// connection serves the next attempt; and what is here is not lost if the connection is reset meanwhile.
    pub fn take_what_came(&mut self, connection: &Connection) {
        while self.goes_on() && self.body.out.len() < KEPT_BYTES_MAX && self.read_now(connection) {}
    }

    /// Takes the first events of a stream in, until they tell an error from an answer or cannot be held for longer.
    pub async fn listen_to_opening(&mut self, connection: &Connection, deadline: &Deadline) -> Finding {
        let due = Instant::now() + HELD_LIMIT;
        loop {
            match self.body.opening() {
                Opening::Undecided => {}
                Opening::Harmless => return Finding::Settled,
                Opening::Error { is_rate_limit: true } => return Finding::RateLimited,
                Opening::Error { is_rate_limit: false } => return Finding::Unavailable,
            }
            // Readiness is waited for, not bytes: when the time is over no read may be under way.
            if !self.goes_on() || deadline.before(due, connection.readable()).await.is_err() {
                return Finding::Settled;
            }
            self.read_now(connection);
        }
    }

    /// Whether more is to come, as far as is known.
    fn goes_on(&self) -> bool {
        self.last_read.is_none() && !self.body.reader.is_complete() && self.body.error.is_none()
    }

    /// Takes in what is there; false if that is nothing.
    fn read_now(&mut self, connection: &Connection) -> bool {
        let Answer { body, last_read, .. } = self;
        match connection.read_now(|bytes| body.push(bytes)) {
            Ok(None) => return false,
            Ok(Some(Received::Data)) => {}
            Ok(Some(end @ Received::End { .. })) => *last_read = Some(Ok(end)),
            Err(error) => *last_read = Some(Err(error)),
        }
        true
    }

    pub fn is_reusable_after(&self, progress: &Progress) -> bool {
        self.facts.keep_alive && !self.body.has_surplus && progress.request_is_whole()
    }
}
