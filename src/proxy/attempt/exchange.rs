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

use crate::config::Timeouts;
use crate::http1::body::BodyReader;
use crate::http1::framing::BodyLength;
use crate::io::{Buffer, Deadline, Either, Lifecycle, Phase, race};
use crate::observability::{Count, Ending};
use crate::proxy::attempt::held::Answer;
use crate::proxy::attempt::relay::{ClientSide, NoAnswer, Over, Progress, Relayed, relay_answer, relay_body};
use crate::proxy::attempt::upload::{Keeper, Source, UploadError, upload};
use crate::proxy::attempt::{Attempts, Outcome};
use crate::proxy::downstream::{Downstream, departed, left};
use crate::proxy::error::{GatewayError, UpstreamPhase};
use crate::proxy::failover::Gate;
use crate::proxy::request::head::RequestFacts;
use crate::proxy::{Proxy, local_answer};
use crate::upstream::{ConnectError, Connection, ProxyFault, TransportError};

/// What an exchange is given to end well after the drain has expired; the process waits somewhat longer.
const CUT_OFF_LIMIT: Duration = Duration::from_secs(2);

/// What came of one attempt.
pub enum Attempted {
    /// The exchange is over.
    Over(Outcome),
    /// The pooled connection had been closed by the upstream: the same again on a fresh one.
    Stale,
    /// Nothing went downstream, since there may be a better answer than this one.
    Held(Held),
    /// Nothing went downstream.
    Failed(NoAnswer),
}

/// An answer that is kept until a better one is there.
pub struct Held {
    answer: Box<Answer>,
    /// What the rest of it comes over; none where all of it is here.
    connection: Option<Box<Connection>>,
}

impl Attempts<'_> {
    /// Makes one attempt, on a pooled connection if there is one and `may_reuse`.
    pub async fn attempt(&mut self, progress: &Progress, may_reuse: bool) -> Attempted {
        progress.begin_attempt();
        let connection = match self.connection(may_reuse && self.can_be_sent_again()).await {
            Ok(connection) => connection,
            Err(attempted) => return attempted,
        };
        let origin = if connection.is_reused() { Count::UpstreamReused } else { Count::UpstreamOpened };
        self.proxy.activity.counters.add(origin);
        let has_waited = !connection.is_reused() || self.failover.is_under_way() || self.forward.is_filtered;
        if has_waited
            && let Some(credential) = self.failover.reconsider()
            && let Err(error) = self.authorize(credential)
        {
            return Attempted::Over(Outcome::Failed(error));
        }
        if let Err(outcome) = self.ask_for_body().await {
            return Attempted::Over(outcome);
        }
        let reused_since = connection.is_reused().then(Instant::now);
        connection.begin_exchange();
        match self.exchange(&connection, progress, reused_since).await {
            Relayed::Held(answer) if answer.leaves_reusable(progress) => {
                self.proxy.pool.release(connection);
                Attempted::Held(Held { answer, connection: None })
            }
            Relayed::Held(answer) => Attempted::Held(Held { answer, connection: Some(Box::new(connection)) }),
            Relayed::NoAnswer(failure) => {
                let is_silent = !failure.has_received && failure.error == GatewayError::UpstreamClosed;
                let copy_is_whole = self.downstream.request_copy.is_whole();
                if is_silent && self.failover.is_stale(reused_since, copy_is_whole) {
                    return Attempted::Stale;
                }
                Attempted::Failed(failure)
            }
            Relayed::Over(Over { outcome, upstream_is_reusable }) => {
                if upstream_is_reusable {
                    self.proxy.pool.release(connection);
                }
                Attempted::Over(outcome)
            }
        }
    }

    /// Whether a pooled connection that turns out to be stale costs nothing. Whatever cannot be sent twice, or is too
    /// long to be kept for it, goes out on a fresh connection.
    fn can_be_sent_again(&self) -> bool {
        let may_fit = match self.forward.facts.body {
            BodyLength::Known(bytes) => bytes <= self.proxy.limits.replay_bytes_max as u64,
            BodyLength::None | BodyLength::Chunked | BodyLength::UntilClose => true,
        };
        self.forward.may_replay && may_fit && self.downstream.request_copy.is_whole()
    }

    /// Passes on an answer that was held.
    pub async fn pass_on(&self, held: &mut Held, progress: &Progress) -> Outcome {
        let Held { answer, connection } = held;
        let Downstream { stream, write_progress, upstream_deadline, departure, .. } = &*self.downstream;
        let Proxy { timeouts, rules, lifecycle, .. } = self.proxy;
        let client = self.client;
        let side = ClientSide {
            stream,
            write_progress,
            upstream_deadline,
            client,
            leads_here: !self.forward.is_absolute_form,
            rules,
            progress,
            timeouts,
            lifecycle,
        };
        let interrupted = race(left(stream, departure.as_ref()), cut_off(lifecycle));
        match race(relay_body(connection.as_deref(), side, answer), interrupted).await {
            Either::First(Over { outcome, .. }) => outcome,
            Either::Second(Either::First(())) => Outcome::ClientGone(Ending::ClientDisconnected),
            Either::Second(Either::Second(())) => Outcome::ClientGone(Ending::Shutdown),
        }
    }

    /// A pooled connection, or a fresh one within the connect limit.
    async fn connection(&mut self, may_reuse: bool) -> Result<Connection, Attempted> {
        if may_reuse && let Some(connection) = self.proxy.pool.checkout() {
            return Ok(connection);
        }
        // Apart: it is needed for a moment, and the task of the connection would keep room for it all its life.
        let connect = Box::pin(self.proxy.connector.connect());
        let connect = self.downstream.upstream_deadline.within(self.proxy.timeouts.connect, connect);
        let Downstream { stream, departure, .. } = &*self.downstream;
        let interrupted = race(left(stream, departure.as_ref()), self.proxy.lifecycle.reached(Phase::Expired));
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
                    ConnectError::Proxy(fault) => of_proxy_fault(&fault),
                }
            }
            Either::First(Err(_)) => {
                tracing::warn!("connecting to the upstream took too long");
                self.proxy.connector.distrust_addresses();
                GatewayError::ConnectTimeout
            }
            Either::Second(Either::First(())) => {
                return Err(Attempted::Over(Outcome::ClientGone(Ending::ClientDisconnected)));
            }
            Either::Second(Either::Second(())) => GatewayError::Draining,
        };
        Err(Attempted::Failed(NoAnswer { error, has_received: false, cause: None }))
    }

    async fn ask_for_body(&mut self) -> Result<(), Outcome> {
        if !self.has_asked_for_body {
            let asked = self.proxy.ask_for_body(self.downstream, self.body, &self.forward.facts).await;
            self.has_asked_for_body = asked?;
        }
        Ok(())
    }

    /// Both directions at once, until the answer has ended one way or the other.
    async fn exchange(
        &mut self,
        connection: &Connection,
        progress: &Progress,
        reused_since: Option<Instant>,
    ) -> Relayed {
        let Proxy { timeouts, limits, budget, rules, lifecycle, activity, .. } = self.proxy;
        let Downstream { stream, input, deadline, write_progress, upstream_deadline, departure, request_copy, .. } =
            &mut *self.downstream;
        let side = ClientSide {
            stream,
            write_progress,
            upstream_deadline,
            client: self.client,
            leads_here: !self.forward.is_absolute_form,
            rules,
            progress,
            timeouts,
            lifecycle,
        };
        let copy = RefCell::new(request_copy);
        let keeper = Keeper { copy: &copy, limits, budget, counters: &activity.counters };
        let mut source = Source { stream, input, body: self.body, deadline };
        let mut upload = pin!(upload(connection, &mut source, keeper, timeouts, &progress.turns));
        let gate =
            Gate { proxy: self.proxy, failover: &mut self.failover, best: &mut self.best, copy: &copy, reused_since };
        let mut answer = pin!(relay_answer(connection, side, gate));
        let mut departed = pin!(departed(departure.as_ref()));
        let mut goodbye = pin!(stream.goodbye());
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
            // Until the request is whole, the upload is who reads, and hears it.
            let has_left = departed.as_mut().poll(context).is_ready()
                || progress.request_is_whole() && goodbye.as_mut().poll(context).is_ready();
            if has_left {
                return Poll::Ready(Relayed::client_gone(Ending::ClientDisconnected));
            }
            cut_off.as_mut().poll(context).map(|()| Relayed::client_gone(Ending::Shutdown))
        })
        .await
    }
}

fn of_proxy_fault(fault: &ProxyFault) -> GatewayError {
    match fault {
        ProxyFault::Tcp(error) if is_out_of_descriptors(error) => GatewayError::OutOfDescriptors,
        ProxyFault::Tcp(error) => GatewayError::ProxyConnect(error.kind()),
        ProxyFault::Unresolved => GatewayError::ProxyResolve,
        ProxyFault::Closed => GatewayError::ProxyClosed,
        ProxyFault::Malformed(what) => GatewayError::ProxyMalformed(what),
        ProxyFault::Refused { status } => GatewayError::ProxyRefused { status: *status },
        ProxyFault::Failed { status } => GatewayError::ProxyFailed { status: *status },
    }
}

impl Proxy {
    /// Answers `Expect: 100-continue` now that the body is wanted (RFC 9110 §10.1.1), unless it has begun to come.
    /// Returns whether it did.
    ///
    /// # Errors
    /// How the exchange ends, if the client has gone.
    pub async fn ask_for_body(
        &self,
        downstream: &Downstream,
        body: &BodyReader,
        facts: &RequestFacts,
    ) -> Result<bool, Outcome> {
        let is_awaited =
            facts.expects_continue && body.data_bytes() == 0 && downstream.input.is_empty() && !body.is_complete();
        if is_awaited {
            let mut out = Buffer::take();
            local_answer::write_continue(out.tail());
            let written = downstream.write(out, self.timeouts.downstream_write).await;
            written.map_err(|_| Outcome::ClientGone(Ending::ClientDisconnected))?;
        }
        Ok(is_awaited)
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
        Err(UploadError::ClientGone) => return Some(Relayed::client_gone(Ending::ClientDisconnected)),
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
        Relayed::Over(Outcome::Cut { ending: error.row().ending, needs_reset: true }.into())
    } else {
        Relayed::NoAnswer(NoAnswer { error, has_received: false, cause: None })
    })
}
