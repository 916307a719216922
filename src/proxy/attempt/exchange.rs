//! One try of an exchange against the upstream: a connection, the request on its way, the answer on its way back.
//!
//! Both directions run at the same time in the one task of the connection, beside the watch on the client. Whichever
//! ends the attempt drops the others, and with them, unless the exchange was whole, the upstream connection.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use crate::config::Timeouts;
use crate::credentials::CredentialId;
use crate::http1::body::BodyReader;
use crate::http1::framing::BodyLength;
use crate::io::clock;
use crate::io::{Either, race};
use crate::observability::Count;
use crate::proxy::attempt::connect::{NoConnection, connection};
use crate::proxy::attempt::downstream_side::{DownstreamSide, cut_off};
use crate::proxy::attempt::farewell::{departure, farewell};
use crate::proxy::attempt::held::{Best, HeldAnswer, PendingAnswer};
use crate::proxy::attempt::relay::{RelayPart, relay_answer, relay_body};
use crate::proxy::attempt::relayed::{BodyRelayed, NoAnswer, OpenAnswer, Over, Relayed, Switched};
use crate::proxy::attempt::request_body::ask::ask_for_body;
use crate::proxy::attempt::request_body::upload::{UploadError, upload};
use crate::proxy::attempt_class::AttemptClass;
use crate::proxy::downstream::Downstream;
use crate::proxy::error::{GatewayError, UpstreamPhase};
use crate::proxy::exchange::Progress;
use crate::proxy::failover::Failover;
use crate::proxy::failover::gate::Gate;
use crate::proxy::failover::subject::find_subject;
use crate::proxy::outcome::Outcome;
use crate::proxy::reply_shape::ReplyShape;
use crate::proxy::request::plan::UpstreamRequest;
use crate::proxy::resources::Resources;
use crate::upstream::{Connection, History, TransportError};

/// The end of one attempt.
pub enum Attempted {
    /// The exchange is over.
    Over(Outcome),
    /// The pooled connection had been closed by the upstream: the same again on a fresh one.
    Stale,
    /// Nothing went downstream, since there may be a better answer than this one.
    Held(HeldAnswer),
    /// Nothing went downstream.
    Failed(NoAnswer),
    /// The rest of the answer only has to be relayed.
    Open(Box<OpenAnswer>),
    /// The upstream has switched to WebSocket; nothing went downstream.
    Switched(Box<Switched>),
}

/// The end of all attempts, or their place while an answer is relayed.
pub enum AttemptsEnd {
    Over(Outcome),
    /// The rest of the answer only has to be relayed.
    Open(Box<OpenAnswer>),
    /// The upstream has switched to WebSocket; the client has not heard of it.
    Switched(Box<Switched>),
}

/// The request of an exchange with all that is needed to try it.
pub struct Attempt<'a> {
    pub resources: &'a Resources,
    pub downstream: &'a mut Downstream,
    pub body: &'a mut BodyReader,
    pub reply: ReplyShape,
    pub request: &'a mut UpstreamRequest,
    pub failover: Failover,
    /// The client was told to go on with the body.
    pub has_asked_for_body: bool,
    /// The best that the attempts before have brought. None before the first attempt has ended, and once an answer goes
    /// downstream.
    pub best: Option<Best>,
}

impl<'a> Attempt<'a> {
    pub fn new(
        resources: &'a Resources,
        downstream: &'a mut Downstream,
        body: &'a mut BodyReader,
        reply: ReplyShape,
        request: &'a mut UpstreamRequest,
        failover: Failover,
    ) -> Self {
        Attempt { resources, downstream, body, reply, request, failover, has_asked_for_body: false, best: None }
    }

    /// Makes one attempt, on a pooled connection if there is one and `may_reuse`.
    pub async fn make(&mut self, progress: &Progress, may_reuse: bool) -> Attempted {
        progress.begin_attempt();
        let may_reuse = may_reuse && self.can_be_sent_again();
        let connection = match connection(self.resources, self.downstream, may_reuse).await {
            Ok(connection) => connection,
            Err(NoConnection::ClientGone) => return Attempted::Over(Outcome::CLIENT_GONE),
            Err(NoConnection::Failed(error)) => return Attempted::Failed(NoAnswer::silent(error)),
        };
        let history = connection.history();
        self.resources.activity.counters.add(count_of(history));
        if let Err(outcome) = self.settle(&connection).await {
            return Attempted::Over(outcome);
        }
        let reused_since = history.is_kept_alive().then(clock::now);
        connection.begin_exchange();
        match self.exchange(&connection, progress, reused_since).await {
            Relayed::Held(answer) if answer.leaves_reusable(progress) => {
                self.resources.pool.release(connection);
                Attempted::Held(self.held(answer, None))
            }
            Relayed::Held(answer) => Attempted::Held(self.held(answer, Some(Box::new(connection)))),
            Relayed::NoAnswer(failure) => {
                let is_silent = !failure.has_received && failure.error == GatewayError::UpstreamClosed;
                let replay_is_whole = self.downstream.replay.get_mut().is_whole();
                if is_silent && self.failover.is_stale(reused_since, replay_is_whole) {
                    self.resources.pool.note_stale(history);
                    return Attempted::Stale;
                }
                Attempted::Failed(failure)
            }
            Relayed::Over(Over { outcome, upstream_is_reusable }) => {
                if upstream_is_reusable {
                    self.resources.pool.release(connection);
                }
                Attempted::Over(outcome)
            }
            Relayed::Open(answer) => Attempted::Open(Box::new(OpenAnswer { answer: *answer, connection })),
            Relayed::Switched(answer) => Attempted::Switched(Box::new(Switched { answer: *answer, connection })),
        }
    }

    /// Settles, now that there is a connection, by which credential the request goes, and asks the client for its body.
    async fn settle(&mut self, connection: &Connection) -> Result<(), Outcome> {
        let has_waited =
            !connection.history().is_kept_alive() || self.failover.is_under_way() || self.request.traits.is_filtered;
        if has_waited {
            self.look_at_subject(AttemptClass::Unreachable).await;
            if let Some(credential) = self.failover.reconsider() {
                self.authorize(credential).map_err(Outcome::Failed)?;
            }
        }
        if !self.has_asked_for_body {
            let facts = &self.request.traits.facts;
            self.has_asked_for_body = ask_for_body(self.resources, self.downstream, self.body, facts).await?;
        }
        Ok(())
    }

    /// Puts the token of `credential` into the head that is to be sent.
    ///
    /// # Errors
    /// [`GatewayError::TokenFailed`].
    pub fn authorize(&mut self, credential: CredentialId) -> Result<(), GatewayError> {
        let Attempt { downstream, request, failover, .. } = self;
        let replay = downstream.replay.get_mut();
        failover.snapshot.with_authorization(credential, |value| request.token.replace(replay, value))?;
        request.note_credential(credential);
        Ok(())
    }

    /// Finds out what the request is about, where that matters after an attempt without an answer.
    pub async fn look_at_subject(&mut self, class: AttemptClass) {
        let Attempt { resources, downstream, request, failover, .. } = self;
        if failover.needs_subject(class) {
            let base_path = &resources.rules.upstream.base_path;
            // Boxed: hardly any attempt needs it.
            let subject = Box::pin(find_subject(&downstream.replay, request.traits.facts.body, base_path)).await;
            failover.note_subject(subject);
        }
    }

    /// Tells whether a pooled connection that turns out to be stale costs nothing. Whatever cannot be sent twice, or is
    /// too long to be kept for it, goes out on a fresh connection, and so does what is to end HTTP on it.
    fn can_be_sent_again(&mut self) -> bool {
        let may_fit = match self.request.traits.facts.body {
            BodyLength::Known(bytes) => bytes <= self.resources.limits.replay_bytes_max as u64,
            BodyLength::None | BodyLength::Chunked | BodyLength::UntilClose => true,
        };
        let is_upgrade = self.request.upgrade.is_some();
        !is_upgrade && self.request.traits.may_replay && may_fit && self.downstream.replay.get_mut().is_whole()
    }

    fn held(&self, answer: Box<PendingAnswer>, connection: Option<Box<Connection>>) -> HeldAnswer {
        HeldAnswer { answer, attempt_number: self.downstream.trail.attempt_number(), connection }
    }

    /// Passes on an answer that was held. Its connection is kept where that brought it to its end.
    pub async fn pass_on(&self, held: HeldAnswer, progress: &Progress) -> AttemptsEnd {
        let HeldAnswer { mut answer, connection, .. } = held;
        let outgoing = self.downstream.outgoing();
        let side = DownstreamSide::new(outgoing, self.reply, &self.request.traits, progress, self.resources);
        let relay = relay_body(connection.as_deref(), side, &mut answer, RelayPart::Whole);
        let relayed = until_left(side, outgoing.left(), relay).await;
        match (relayed, connection) {
            (BodyRelayed::Open, Some(connection)) => {
                AttemptsEnd::Open(Box::new(OpenAnswer { answer: *answer, connection: *connection }))
            }
            (BodyRelayed::Over(over), connection) => {
                if let Some(connection) = connection.filter(|_| over.upstream_is_reusable) {
                    self.resources.pool.release(*connection);
                }
                AttemptsEnd::Over(over.outcome)
            }
            (BodyRelayed::Open, None) => AttemptsEnd::Over(Outcome::CUT_OFF),
        }
    }

    /// Runs both directions at once, until the answer has ended one way or the other.
    async fn exchange(
        &mut self,
        connection: &Connection,
        progress: &Progress,
        reused_since: Option<Instant>,
    ) -> Relayed {
        let Attempt { resources, downstream, body, reply, request, failover, best, .. } = self;
        let (mut incoming, outgoing) = downstream.split(body);
        let side = DownstreamSide::new(outgoing, *reply, &request.traits, progress, resources);
        let gate = Gate { resources, failover, replay: incoming.replay, request, reused_since };
        let mut upload = pin!(upload(connection, &mut incoming, resources, &progress.turns));
        let mut answer = pin!(relay_answer(connection, side, gate, best));
        let mut departure = pin!(departure(outgoing, progress));
        let mut cut_off = pin!(cut_off(&resources.lifecycle));
        let mut is_uploading = true;
        poll_fn(|context| {
            progress.turns.begin();
            if is_uploading && let Poll::Ready(result) = upload.as_mut().poll(context) {
                is_uploading = false;
                if let Some(relayed) = after_upload(result, progress, &resources.timeouts) {
                    return Poll::Ready(relayed);
                }
            }
            if let Poll::Ready(relayed) = answer.as_mut().poll(context) {
                return Poll::Ready(relayed);
            }
            if let Poll::Ready(outcome) = departure.as_mut().poll(context) {
                return Poll::Ready(outcome.into());
            }
            cut_off.as_mut().poll(context).map(|()| Outcome::CUT_OFF.into())
        })
        .await
    }
}

/// Relays until the client has left, as `left` tells, or the drain cuts it off.
pub async fn until_left(
    side: DownstreamSide<'_>,
    left: impl Future<Output = ()>,
    relay: impl Future<Output = BodyRelayed>,
) -> BodyRelayed {
    let left = async {
        left.await;
        farewell(side.progress).await
    };
    let interrupted = race(left, cut_off(&side.resources.lifecycle));
    match race(relay, interrupted).await {
        Either::First(relayed) => relayed,
        Either::Second(Either::First(outcome)) => outcome.into(),
        Either::Second(Either::Second(())) => Outcome::CUT_OFF.into(),
    }
}

/// Returns the count of attempts on connections like this one.
fn count_of(history: History) -> Count {
    match history {
        History::Fresh => Count::UpstreamOpened,
        History::Warm => Count::UpstreamWarmUsed,
        History::Used => Count::UpstreamReused,
    }
}

/// Tells what the end of the upload means for the exchange: nothing, as long as an answer can still come.
fn after_upload(result: Result<(), UploadError>, progress: &Progress, timeouts: &Timeouts) -> Option<Relayed> {
    let error = match result {
        Ok(()) => {
            progress.request_was_sent(timeouts);
            return None;
        }
        Err(UploadError::ClientGone) => return Some(Outcome::after_departure(progress).into()),
        Err(UploadError::Refused(error)) => error,
        Err(UploadError::Upstream(TransportError::Stalled)) => {
            GatewayError::UpstreamTimeout { phase: UpstreamPhase::Request }
        }
        Err(UploadError::Upstream(cause)) => {
            tracing::debug!(%cause, "the upstream takes no more of the request");
            progress.request_was_cut();
            return None;
        }
    };
    Some(if progress.has_begun_answer() {
        Outcome::Aborted { ending: error.row().ending, needs_reset: true }.into()
    } else {
        NoAnswer::silent(error).into()
    })
}
