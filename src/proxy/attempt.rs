//! One try of an exchange against the upstream: a connection, the request on its way, the answer on its way back.
//!
//! Both directions run at the same time in the one task of the connection, beside the watch on the client. Whichever
//! ends the attempt drops the others, and with them, unless the exchange was whole, the upstream connection.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::downstream::{Downstream, left};
use super::error::{self, GatewayError, UpstreamPhase};
use super::plan::{Client, Forward};
use super::relay::{ClientSide, NoAnswer, Progress, Relayed, relay_answer};
use super::response_head::LocationRewrite;
use super::upload::{Keeper, Source, UploadError, upload};
use super::{Proxy, ending_of};
use crate::config::Timeouts;
use crate::credentials::CredentialId;
use crate::http1::body::BodyReader;
use crate::io::{Buffer, Deadline, Either, Lifecycle, Phase, race};
use crate::observability::Ending;
use crate::upstream::{ConnectError, Connection, TransportError};

/// How long after the first request byte a kept-alive connection that fails is taken for one that the upstream had
/// closed already: it goes out once more, on a fresh connection.
const STALE_LIMIT: Duration = Duration::from_secs(2);

/// What an exchange is given to end well after the drain has expired; the process waits somewhat longer.
const CUT_OFF_LIMIT: Duration = Duration::from_secs(2);

/// What one attempt needs.
pub struct Attempt<'a> {
    pub proxy: &'a Proxy,
    pub downstream: &'a mut Downstream,
    pub body: &'a mut BodyReader,
    pub client: Client,
    pub forward: &'a Forward<CredentialId>,
    /// Whether the client was told to go on with the body, in this attempt or one before.
    pub has_asked_for_body: &'a mut bool,
}

/// How one attempt ended.
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
    /// The pooled connection had been closed by the upstream: the same again on a fresh one.
    Stale,
    /// Nothing went downstream.
    Failed(NoAnswer),
}

impl Attempt<'_> {
    /// Runs the attempt, on a pooled connection if there is one and `may_reuse`.
    pub async fn run(&mut self, progress: &Progress, may_reuse: bool) -> Outcome {
        progress.begin_attempt();
        // Whatever may not be sent twice goes out on a fresh connection, which cannot be stale.
        let connection = match self.connection(may_reuse && self.forward.may_replay).await {
            Ok(connection) => connection,
            Err(outcome) => return outcome,
        };
        if let Err(outcome) = self.ask_for_body().await {
            return outcome;
        }
        let is_reused = connection.is_reused();
        connection.begin_exchange();
        let began = Instant::now();
        let relayed = self.exchange(&connection, progress).await;
        match relayed {
            Relayed::Whole { upstream_is_reusable, keep_alive } => {
                if upstream_is_reusable {
                    self.proxy.pool.release(connection);
                }
                Outcome::Answered { keep_alive }
            }
            Relayed::EndedWell { ending, keep_alive } => Outcome::EndedWell { ending, keep_alive },
            Relayed::Cut { ending, needs_reset } => Outcome::Cut { ending, needs_reset },
            Relayed::ClientGone(ending) => Outcome::ClientGone(ending),
            Relayed::NoAnswer(failure) => {
                let is_stale = is_reused
                    && !failure.has_received
                    && failure.error == GatewayError::UpstreamClosed
                    && began.elapsed() < STALE_LIMIT;
                let can_replay = self.forward.may_replay && self.downstream.request_copy.is_whole();
                if is_stale && can_replay { Outcome::Stale } else { Outcome::Failed(failure) }
            }
        }
    }

    /// A pooled connection, or a fresh one within the connect limit.
    async fn connection(&mut self, may_reuse: bool) -> Result<Connection, Outcome> {
        if may_reuse && let Some(connection) = self.proxy.pool.checkout() {
            return Ok(connection);
        }
        let connect =
            self.downstream.upstream_deadline.within(self.proxy.timeouts.connect, self.proxy.connector.connect());
        let interrupted = race(left(self.downstream.departure.as_ref()), self.proxy.lifecycle.reached(Phase::Expired));
        let error = match race(connect, interrupted).await {
            Either::First(Ok(Ok(connection))) => return Ok(connection),
            Either::First(Ok(Err(error))) => {
                tracing::warn!(%error, "cannot connect to the upstream");
                match error {
                    ConnectError::Unresolved => GatewayError::UpstreamResolve,
                    ConnectError::Tcp(error) if is_out_of_descriptors(&error) => GatewayError::OutOfDescriptors,
                    ConnectError::Tcp(error) => GatewayError::UpstreamConnect(error.kind()),
                    ConnectError::Tls(_) => GatewayError::UpstreamTls,
                    ConnectError::Certificate(_) => GatewayError::UpstreamCertificate,
                }
            }
            Either::First(Err(_)) => {
                tracing::warn!("connecting to the upstream took too long");
                self.proxy.connector.distrust_addresses();
                GatewayError::ConnectTimeout
            }
            Either::Second(Either::First(())) => return Err(Outcome::ClientGone(Ending::ClientDisconnected)),
            Either::Second(Either::Second(())) => GatewayError::Draining,
        };
        Err(Outcome::Failed(NoAnswer { error, has_received: false, cause: None }))
    }

    /// Answers `Expect: 100-continue` now that the body is wanted (RFC 9110 §10.1.1), unless it has begun to come.
    async fn ask_for_body(&mut self) -> Result<(), Outcome> {
        let is_awaited = self.forward.facts.expects_continue
            && self.body.data_bytes() == 0
            && self.downstream.input.is_empty()
            && !self.body.is_complete();
        if !is_awaited || std::mem::replace(self.has_asked_for_body, true) {
            return Ok(());
        }
        let mut out = Buffer::take();
        error::write_continue(out.tail());
        let written = self.downstream.write(out, self.proxy.timeouts.downstream_write).await;
        written.map_err(|_| Outcome::ClientGone(Ending::ClientDisconnected))
    }

    /// Both directions at once, until the answer has ended one way or the other.
    async fn exchange(&mut self, connection: &Connection, progress: &Progress) -> Relayed {
        let Proxy { timeouts, limits, budget, rules, lifecycle, .. } = self.proxy;
        let location = LocationRewrite {
            upstream_host: &rules.target.upstream_host,
            upstream_port: rules.target.upstream_port,
            base_path: &rules.target.base_path,
        };
        let Downstream { stream, input, deadline, write_progress, upstream_deadline, departure, request_copy, .. } =
            &mut *self.downstream;
        let side = ClientSide {
            stream,
            write_progress,
            upstream_deadline,
            client: self.client,
            location: (!self.forward.is_absolute_form).then_some(&location),
            progress,
            timeouts,
            lifecycle,
        };
        let copy = RefCell::new(request_copy);
        let keeper = Keeper { copy: &copy, limits, budget };
        let mut source = Source { stream, input, body: self.body, deadline };
        let mut upload = pin!(upload(connection, &mut source, keeper, timeouts, &progress.turns));
        let mut answer = pin!(relay_answer(connection, side, || keeper.copy.borrow_mut().stop_keeping(budget)));
        let mut client_left = pin!(left(departure.as_ref()));
        let mut cut_off = pin!(cut_off(lifecycle));
        let mut is_uploading = true;
        poll_fn(|context| {
            progress.turns.begin();
            if is_uploading && let Poll::Ready(result) = upload.as_mut().poll(context) {
                is_uploading = false;
                if let Some(relayed) = after_upload(result, progress, timeouts) {
                    return Poll::Ready(relayed);
                }
            }
            if let Poll::Ready(relayed) = answer.as_mut().poll(context) {
                return Poll::Ready(relayed);
            }
            if client_left.as_mut().poll(context).is_ready() {
                return Poll::Ready(Relayed::ClientGone(Ending::ClientDisconnected));
            }
            cut_off.as_mut().poll(context).map(|()| Relayed::ClientGone(Ending::Shutdown))
        })
        .await
    }
}

/// The process or the system may open no more files: not the upstream's fault.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Resolves when the drain has expired and the exchange, whose client takes nothing more, has still not ended.
async fn cut_off(lifecycle: &Lifecycle) {
    lifecycle.reached(Phase::Expired).await;
    Deadline::default().reached(Instant::now() + CUT_OFF_LIMIT).await;
}

/// What the end of the upload means for the exchange: nothing, as long as an answer can still come.
fn after_upload(result: Result<(), UploadError>, progress: &Progress, timeouts: &Timeouts) -> Option<Relayed> {
    let error = match result {
        Ok(()) => {
            progress.request_was_sent(timeouts);
            return None;
        }
        Err(UploadError::ClientGone) => return Some(Relayed::ClientGone(Ending::ClientDisconnected)),
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
        Relayed::Cut { ending: ending_of(&error), needs_reset: true }
    } else {
        Relayed::NoAnswer(NoAnswer { error, has_received: false, cause: None })
    })
}
