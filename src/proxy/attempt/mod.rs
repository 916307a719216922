//! All attempts of one exchange, one after the other, until one of them has an end for the client.
//!
//! Invariant: between two attempts nothing has gone downstream but interim responses, the request is whole in its copy,
//! and the client is still there.

pub mod exchange;
pub mod held;
pub mod relay;
pub mod upload;

use crate::credentials::{CredentialId, Turn};
use crate::http1::body::BodyReader;
use crate::observability::{Count, Ending};
use crate::proxy::attempt::exchange::{Attempted, Held};
use crate::proxy::downstream::Downstream;
use crate::proxy::error::GatewayError;
use crate::proxy::failover::{Failover, Next};
use crate::proxy::request::plan::{Client, Forward};
use crate::proxy::{Exchange, Proxy, Written};

/// How an exchange that was forwarded ended.
#[derive(Debug)]
pub enum Outcome {
    /// The client has the whole answer; `keep_alive` is what it was told.
    Answered {
        keep_alive: bool,
    },
    EndedWell {
        ending: Ending,
        keep_alive: bool,
    },
    Cut {
        ending: Ending,
        needs_reset: bool,
    },
    ClientGone(Ending),
    /// Nothing went downstream.
    Failed(GatewayError),
}

/// What the attempts of one exchange work on.
pub struct Attempts<'a> {
    pub proxy: &'a Proxy,
    pub downstream: &'a mut Downstream,
    pub body: &'a mut BodyReader,
    pub client: Client,
    pub forward: Forward<Written>,
    pub failover: Failover,
    /// Whether the client was told to go on with the body.
    pub has_asked_for_body: bool,
    /// None before the first attempt has ended, and once an answer goes downstream.
    pub best: Option<Best>,
}

/// The best that the attempts so far have brought.
pub enum Best {
    Held(Held),
    Failed(GatewayError),
}

impl Attempts<'_> {
    /// Makes attempts, the first by `turn`.
    pub async fn run(&mut self, exchange: &Exchange, turn: Turn) -> Outcome {
        if turn.credential != self.forward.written.credential()
            && let Err(error) = self.authorize(turn.credential)
        {
            return Outcome::Failed(error);
        }
        self.failover.begin_attempt(self.proxy, turn);
        let mut may_reuse = true;
        loop {
            let new = match self.attempt(&exchange.progress, may_reuse).await {
                Attempted::Over(outcome) => return outcome,
                Attempted::Stale => {
                    self.proxy.activity.counters.add(Count::Stale);
                    tracing::debug!(id = %exchange.id, "the upstream had closed a pooled connection");
                    may_reuse = false;
                    self.downstream.request_copy.rewind();
                    continue;
                }
                Attempted::Held(held) => Best::Held(held),
                Attempted::Failed(failure) => {
                    if let Some(cause) = failure.cause {
                        tracing::warn!(id = %exchange.id, %cause, "the upstream connection broke");
                    }
                    let copy_is_whole = self.downstream.request_copy.is_whole();
                    self.failover.failed(self.proxy, failure.error.row().class, copy_is_whole);
                    Best::Failed(failure.error)
                }
            };
            let so_far = self.best.take();
            let best = self.better(so_far, new);
            let Some(next) = self.failover.next() else {
                return match best {
                    Best::Held(mut held) => self.pass_on(&mut held, &exchange.progress).await,
                    Best::Failed(error) => Outcome::Failed(error),
                };
            };
            self.best = Some(best);
            if let Err(outcome) = self.prepare(exchange, next).await {
                return outcome;
            }
            may_reuse = true;
        }
    }

    /// An answer of the upstream is better than an error of ours, the last answer better than those before; but where
    /// all are refusals, the first says best what was wrong with the request. What the client has done wrong itself it is
    /// told in any case.
    fn better(&self, best: Option<Best>, new: Best) -> Best {
        match (best, new) {
            (Some(Best::Held(first)), Best::Held(_)) if self.failover.has_only_refusals() => Best::Held(first),
            (Some(Best::Held(last)), Best::Failed(error)) if error.row().status >= 500 => Best::Held(last),
            (_, new) => new,
        }
    }

    async fn prepare(&mut self, exchange: &Exchange, next: Next) -> Result<(), Outcome> {
        let name = |credential: CredentialId| self.failover.snapshot.name(credential);
        tracing::warn!(
            id = %exchange.id,
            attempt = self.failover.attempts + 1,
            reason = display(next.reason.as_str()),
            credential = name(self.failover.credential()),
            next = name(next.turn.credential),
            pause_ms = next.pause.as_millis() as u64,
            "another attempt"
        );
        // Also where there is none: it tells whether the client has gone, and a pooled connection takes bytes at once.
        self.proxy.pause(self.downstream, next.pause).await?;
        self.downstream.request_copy.rewind();
        if next.turn.credential != self.failover.credential() {
            self.authorize(next.turn.credential).map_err(Outcome::Failed)?;
        }
        self.failover.begin_attempt(self.proxy, next.turn);
        Ok(())
    }

    /// Puts the token of `credential` into the head that is to be sent.
    pub fn authorize(&mut self, credential: CredentialId) -> Result<(), GatewayError> {
        let Attempts { downstream, forward, failover, .. } = self;
        let place = &mut forward.written.authorization;
        failover.snapshot.with_authorization(credential, |authorization| {
            *place = downstream.request_copy.replace(place.clone(), authorization);
        })
    }
}
