//! What happens to one exchange.
//!
//! [`Proxy::handle`] owns the control flow, top to bottom: plan, then refuse, answer or forward in one attempt or more
//! (`attempts`), then log. Of the modules below, `attempt` runs the two directions, `upload` and `relay` (`answer`),
//! between the client (`downstream`) and one upstream connection; `failover` says by which credential (`snapshot`) and
//! what follows (`retry`, `retry_share`), and `pause` waits for it. `filter` holds and edits those that it is for
//! before their first attempt. The others do no I/O (`plan`, `access`, `target`, `request_head`, `response_head`,
//! `request_copy`, `body_relay`, `opening`, `error`, `sse`, `unfinished_json`, `json_edit`). Invariant:
//! a downstream connection goes on only after an exchange whose request was read whole and whose answer ended well
//! formed; everything else ends it.

pub mod access;
pub mod answer;
pub mod attempt;
pub mod attempts;
pub mod body_relay;
pub mod downstream;
pub mod error;
pub mod failover;
pub mod filter;
pub mod json_edit;
pub mod opening;
pub mod pause;
pub mod plan;
pub mod relay;
pub mod request_copy;
pub mod request_head;
pub mod response_head;
pub mod retry;
pub mod retry_share;
pub mod snapshot;
pub mod sse;
pub mod target;
pub mod unfinished_json;
pub mod upload;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use self::access::{AccessRules, HOST_OF_CONTAINERS, Hosts};
use self::attempts::{Attempts, Outcome};
use self::downstream::Downstream;
use self::error::{GatewayError, Reply};
use self::failover::Failover;
use self::plan::{Action, Client, Forward, Rules};
use self::relay::Progress;
use self::request_copy::ReplayBudget;
use self::request_head::RequestFacts;
use self::retry_share::RetryShare;
use self::snapshot::Snapshot;
use self::target::UpstreamPath;
use self::upload::{Keeper, Source, check_start, take_body};
use crate::config::{Config, Limits, Timeouts};
use crate::credentials::{ApiKeyId, ApiKeys, Choice, CredentialId, Credentials, RoundRobin, Turn};
use crate::http1::body::BodyReader;
use crate::http1::framing::BodyLength;
use crate::http1::head::{HeadSpan, RequestHead};
use crate::io::{Buffer, Lifecycle, Phase};
use crate::observability::{Activity, Count, Ending, ExchangeId, ExchangeRecord, Ledger, StatusClass};
use crate::upstream::{Connector, Pool};

/// What becomes of the downstream connection after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It serves the next request.
    KeepAlive,
    /// It is closed; the request was read whole.
    Close,
    /// It is closed; what the client still sends of the request is read and discarded first (RFC 9112 §9.6).
    Linger,
    /// It is reset: the client must not take the end for a whole answer.
    Reset,
    /// Nobody is there any more.
    Gone,
}

/// Everything that the exchanges of one shard share.
pub struct Proxy {
    pub shard: usize,
    pub rules: Rules,
    pub timeouts: Timeouts,
    pub limits: Limits,
    pub round_robin: Arc<RoundRobin>,
    pub connector: Connector,
    pub pool: Rc<Pool>,
    pub budget: ReplayBudget,
    pub share: RetryShare,
    pub probe_waiters: Arc<AtomicUsize>,
    pub lifecycle: Rc<Lifecycle>,
    pub activity: Arc<Activity>,
    ledger: Arc<Ledger>,
    snapshot: RefCell<Rc<Snapshot>>,
    sequence: Cell<u64>,
}

/// What a [`Proxy`] is made of.
pub struct Parts {
    pub shard: usize,
    pub credentials: Arc<Credentials>,
    pub keys: Option<Arc<ApiKeys>>,
    pub round_robin: Arc<RoundRobin>,
    pub connector: Connector,
    pub budget: ReplayBudget,
    pub share: RetryShare,
    pub probe_waiters: Arc<AtomicUsize>,
    pub lifecycle: Rc<Lifecycle>,
    pub activity: Arc<Activity>,
    pub ledger: Arc<Ledger>,
}

/// What was settled when the head for the upstream was written.
#[derive(Debug, Clone)]
pub struct Written {
    choice: Choice,
    /// Where in it the value of `Authorization` is.
    authorization: Range<usize>,
}

impl Written {
    /// Whose name stands in the head.
    fn credential(&self) -> CredentialId {
        match self.choice {
            Choice::Use(Turn { credential, .. }) | Choice::Wait { credential, .. } => credential,
        }
    }
}

impl Proxy {
    pub fn new(config: &Config, listener_port: u16, parts: Parts) -> Self {
        let upstream = &config.upstream;
        Proxy {
            shard: parts.shard,
            rules: Rules {
                access: access_rules(config, listener_port),
                target: target::TargetRules {
                    upstream_host: upstream.host.clone(),
                    upstream_port: upstream.port,
                    base_path: upstream.base_path.clone(),
                    listener_port,
                    listener_hosts: listener_hosts(config),
                },
                upstream: request_head::UpstreamIdentity {
                    base_path: upstream.base_path.clone(),
                    authority: upstream.authority.clone(),
                },
                body_bytes_max: config.limits.body_bytes_max,
                filter: config.filter,
            },
            timeouts: config.timeouts,
            limits: config.limits,
            snapshot: RefCell::new(Rc::new(Snapshot::new(parts.credentials, parts.keys, &parts.ledger))),
            round_robin: parts.round_robin,
            connector: parts.connector,
            pool: Rc::new(Pool::new(config.timeouts.upstream_idle, config.limits.idle_upstream_max)),
            budget: parts.budget,
            share: parts.share,
            probe_waiters: parts.probe_waiters,
            lifecycle: parts.lifecycle,
            activity: parts.activity,
            ledger: parts.ledger,
            sequence: Cell::new(0),
        }
    }

    /// From here on new exchanges use `credentials` and `keys`; those under way keep theirs.
    pub fn replace_credentials(&self, credentials: Arc<Credentials>, keys: Option<Arc<ApiKeys>>) {
        self.snapshot.replace(Rc::new(Snapshot::new(credentials, keys, &self.ledger)));
    }

    /// Serves the request whose head is `span` of the connection's input, up to its line in the log.
    pub async fn handle(&self, downstream: &mut Downstream, span: HeadSpan) -> Disposition {
        let mut exchange = self.begin(downstream);
        let Downstream { input, request_copy, method, path, .. } = &mut *downstream;
        let (head, body_start) = input.filled()[span.start..].split_at(span.end - span.start);
        let keys = exchange.snapshot.keys.as_deref();
        let plan = plan::plan(head, &self.rules, keys, (method, path), |head, upstream_path, facts| {
            // A request that is refused takes no turn.
            check_start(facts.body, body_start, &self.limits)?;
            self.write_head(&exchange.snapshot, request_copy.begin(&self.budget), head, upstream_path, facts)
        });
        input.consume(span.end);
        exchange.key = plan.key;
        let disposition = match plan.action {
            Action::Refuse(error) => self.refuse(&mut exchange, downstream, plan.client, &error).await,
            Action::AnswerLiveness { body } => {
                self.answer_locally(&mut exchange, downstream, plan.client, body, 200, error::write_liveness).await
            }
            Action::AnswerOptions { body } => {
                self.answer_locally(&mut exchange, downstream, plan.client, body, 204, error::write_options).await
            }
            Action::AnswerPreflight { body, fields } => {
                let write = |out: &mut Vec<u8>, reply: &Reply<'_>| error::write_preflight(out, &fields, reply);
                self.answer_locally(&mut exchange, downstream, plan.client, body, 204, write).await
            }
            Action::Forward(forward) => self.forward(&mut exchange, downstream, plan.client, forward).await,
        };
        downstream.request_copy.release(&self.budget);
        self.end(exchange, downstream);
        disposition
    }

    /// Answers a request whose head could not be read, up to its line in the log.
    pub async fn refuse_unread(&self, downstream: &mut Downstream, error: GatewayError) -> Disposition {
        let mut exchange = self.begin(downstream);
        let disposition = self.refuse(&mut exchange, downstream, Client::UNKNOWN, &error).await;
        self.end(exchange, downstream);
        disposition
    }

    /// Takes the next turn of the round robin and writes the head for the upstream.
    fn write_head(
        &self,
        snapshot: &Snapshot,
        out: &mut Vec<u8>,
        head: &RequestHead<'_>,
        path: UpstreamPath<'_>,
        facts: &RequestFacts,
    ) -> Result<Written, GatewayError> {
        let choice = self.round_robin.next(&snapshot.credentials, Instant::now());
        let (Choice::Use(Turn { credential, .. }) | Choice::Wait { credential, .. }) = choice;
        let written = snapshot.with_authorization(credential, |authorization| {
            request_head::write(out, head, path, &self.rules.upstream, authorization, facts)
        });
        match written {
            Ok(authorization) => Ok(Written { choice, authorization }),
            Err(error) => {
                give_up_probe(snapshot, choice);
                Err(error)
            }
        }
    }

    async fn forward(
        &self,
        exchange: &mut Exchange,
        downstream: &mut Downstream,
        client: Client,
        mut forward: Forward<Written>,
    ) -> Disposition {
        if let Err(error) = downstream.watch_departure() {
            tracing::warn!(%error, "cannot watch whether the client leaves");
        }
        let mut body = BodyReader::new(forward.facts.body);
        let choice = forward.written.choice;
        if let Err(error) = self.take_what_came(downstream, &mut body) {
            give_up_probe(&exchange.snapshot, choice);
            return self.refuse(exchange, downstream, client, &error).await;
        }
        self.activity.counters.add(Count::Requests);
        self.share.note_request(self.shard, exchange.began);
        if forward.is_filtered
            && let Err(outcome) = self.filter(exchange.id, downstream, &mut body, &mut forward).await
        {
            give_up_probe(&exchange.snapshot, choice);
            return self.conclude(exchange, downstream, client, &body, outcome).await;
        }
        let turn = match self.settle_turn(downstream, &exchange.snapshot, choice).await {
            Ok(turn) => turn,
            Err(outcome) => return self.conclude(exchange, downstream, client, &body, outcome).await,
        };
        let failover = Failover::new(exchange.snapshot.clone(), turn, forward.may_replay, exchange.began);
        let body_reader = &mut body;
        let mut attempts = Attempts {
            proxy: self,
            downstream,
            body: body_reader,
            client,
            forward,
            failover,
            has_asked_for_body: false,
            best: None,
        };
        let outcome = attempts.run(exchange, turn).await;
        exchange.credential = Some(attempts.failover.credential());
        exchange.attempts = attempts.failover.attempts;
        drop(attempts);
        self.conclude(exchange, downstream, client, &body, outcome).await
    }

    /// Ends an exchange that was forwarded.
    async fn conclude(
        &self,
        exchange: &mut Exchange,
        downstream: &mut Downstream,
        client: Client,
        body: &BodyReader,
        outcome: Outcome,
    ) -> Disposition {
        exchange.request_bytes = body.data_bytes();
        match outcome {
            Outcome::Answered { keep_alive } => after_answer(keep_alive, body),
            Outcome::EndedWell { ending, keep_alive } => {
                exchange.ending = ending;
                after_answer(keep_alive, body)
            }
            Outcome::Cut { ending, needs_reset } => {
                exchange.ending = ending;
                if needs_reset { Disposition::Reset } else { Disposition::Gone }
            }
            Outcome::ClientGone(ending) => {
                exchange.ending = ending;
                Disposition::Gone
            }
            Outcome::Failed(error) => {
                let client = Client { keep_alive: client.keep_alive && body.is_complete(), ..client };
                self.refuse(exchange, downstream, client, &error).await
            }
        }
    }

    /// Moves what has come of the body behind the head, so that both go upstream in one write.
    fn take_what_came(&self, downstream: &mut Downstream, body: &mut BodyReader) -> Result<(), GatewayError> {
        let Downstream { stream, input, deadline, request_copy, .. } = downstream;
        let copy = RefCell::new(request_copy);
        let Proxy { limits, budget, activity, .. } = self;
        let keeper = Keeper { copy: &copy, limits, budget, counters: &activity.counters };
        take_body(&mut Source { stream, input, body, deadline }, keeper)
    }

    /// Answers with an error made here.
    async fn refuse(
        &self,
        exchange: &mut Exchange,
        downstream: &mut Downstream,
        client: Client,
        error: &GatewayError,
    ) -> Disposition {
        let answer = error.answer();
        let goes_on = client.keep_alive && !answer.closes && self.lifecycle.phase() == Phase::Serving;
        exchange.ending = ending_of(error);
        self.activity.tally.error(error.place());
        let mut out = Buffer::take();
        error::write_answer(out.tail(), error, client.dialect, &self.reply(client, goes_on));
        let after = if goes_on { Disposition::KeepAlive } else { Disposition::Linger };
        self.send(exchange, downstream, out, answer.status, after).await
    }

    async fn answer_locally(
        &self,
        exchange: &mut Exchange,
        downstream: &mut Downstream,
        client: Client,
        body: BodyLength,
        status: u16,
        write: impl FnOnce(&mut Vec<u8>, &Reply<'_>),
    ) -> Disposition {
        // A body that nobody asked for is not read: the connection ends with the answer.
        let has_no_body = matches!(body, BodyLength::None | BodyLength::Known(0));
        let goes_on = client.keep_alive && has_no_body && self.lifecycle.phase() == Phase::Serving;
        let mut out = Buffer::take();
        write(out.tail(), &self.reply(client, goes_on));
        let after = match (goes_on, has_no_body) {
            (true, _) => Disposition::KeepAlive,
            (false, true) => Disposition::Close,
            (false, false) => Disposition::Linger,
        };
        self.send(exchange, downstream, out, status, after).await
    }

    fn reply(&self, client: Client, keep_alive: bool) -> Reply<'_> {
        let origin = client.origin.map(|origin| self.rules.access.origin_text(origin));
        Reply { is_head: client.is_head, keep_alive, is_http10: client.is_http10(), origin }
    }

    async fn send(
        &self,
        exchange: &mut Exchange,
        downstream: &mut Downstream,
        out: Buffer,
        status: u16,
        after: Disposition,
    ) -> Disposition {
        exchange.progress.status.set(Some(status));
        exchange.progress.first_byte.set(Some(Instant::now()));
        if downstream.write(out, self.timeouts.downstream_write).await.is_err() {
            exchange.ending = Ending::ClientDisconnected;
            return Disposition::Gone;
        }
        after
    }

    fn begin(&self, downstream: &mut Downstream) -> Exchange {
        downstream.method.clear();
        downstream.path.clear();
        self.sequence.set(self.sequence.get() + 1);
        self.activity.exchange_begins();
        Exchange {
            id: ExchangeId { shard: self.shard, sequence: self.sequence.get() },
            began: Instant::now(),
            snapshot: self.snapshot.borrow().clone(),
            key: None,
            credential: None,
            attempts: 0,
            request_bytes: 0,
            ending: Ending::Ok,
            progress: Progress::default(),
        }
    }

    fn end(&self, exchange: Exchange, downstream: &Downstream) {
        self.activity.exchange_ends();
        let Exchange { id, began, snapshot, key, credential, attempts, request_bytes, ending, progress } = exchange;
        let record = ExchangeRecord {
            id,
            method: or_dash(&downstream.method),
            path: or_dash(&downstream.path),
            status: progress.status.get(),
            credential: credential.map(|credential| snapshot.name(credential)),
            key: key.and_then(|key| snapshot.key_name(key)),
            attempts,
            first_byte: progress.first_byte.get().map(|at| at - began),
            duration: began.elapsed(),
            request_bytes,
            response_bytes: progress.response_bytes.get(),
            ending,
        };
        let account = credential.map_or(self.ledger.local(), |credential| snapshot.account(credential));
        account.add(self.shard, StatusClass::of(record.status));
        self.activity.tally.exchange(&record, attempts > 0);
        record.log();
    }
}

/// What the authority of a target in absolute form may be, beside loopback names and addresses.
fn listener_hosts(config: &Config) -> Vec<String> {
    let own = [config.listen_host.clone(), HOST_OF_CONTAINERS.to_owned()];
    own.into_iter().chain(config.access.allow_hosts.iter().cloned()).collect()
}

/// Who may make requests; see [`access`].
fn access_rules(config: &Config, listener_port: u16) -> AccessRules {
    let own = vec![config.listen_host.clone(), config.upstream.host.clone()];
    AccessRules {
        allow_origins: config.access.allow_origins.clone(),
        hosts: Hosts::of_listener(SocketAddr::new(config.listen.ip(), listener_port), own, &config.access.allow_hosts),
    }
}

/// Lets others probe the credential of an exchange that ends before its first attempt, where that was to be the probe.
fn give_up_probe(snapshot: &Snapshot, choice: Choice) {
    if let Choice::Use(Turn { credential, is_probe: true }) = choice {
        snapshot.credentials.give_up_probe(credential);
    }
}

/// What becomes of a connection behind an answer that was whole, by what the client was told and by how far its request
/// was read.
fn after_answer(keep_alive: bool, body: &BodyReader) -> Disposition {
    match (body.is_complete(), keep_alive) {
        (true, true) => Disposition::KeepAlive,
        (true, false) => Disposition::Close,
        (false, _) => Disposition::Linger,
    }
}

/// What stands in the log for a method or path that could not be read.
fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// What is known of an exchange until its line in the log.
pub struct Exchange {
    id: ExchangeId,
    began: Instant,
    snapshot: Rc<Snapshot>,
    key: Option<ApiKeyId>,
    credential: Option<CredentialId>,
    attempts: u32,
    request_bytes: u64,
    ending: Ending,
    progress: Progress,
}

/// How an exchange ended that was answered with `error`.
pub(crate) fn ending_of(error: &GatewayError) -> Ending {
    match error {
        GatewayError::UpstreamResolve
        | GatewayError::UpstreamConnect(_)
        | GatewayError::UpstreamTls
        | GatewayError::UpstreamCertificate
        | GatewayError::ProxyResolve
        | GatewayError::ProxyConnect(_)
        | GatewayError::ProxyClosed
        | GatewayError::ProxyMalformed(_)
        | GatewayError::ProxyRefused { .. }
        | GatewayError::ProxyFailed { .. } => Ending::UpstreamUnreachable,
        GatewayError::UpstreamClosed => Ending::UpstreamClosed,
        GatewayError::UpstreamMalformed(_) | GatewayError::UpstreamSwitchedProtocols => Ending::UpstreamInvalid,
        GatewayError::HeadTimeout
        | GatewayError::BodyTimeout
        | GatewayError::ConnectTimeout
        | GatewayError::UpstreamTimeout { .. } => Ending::Timeout,
        GatewayError::Draining => Ending::Shutdown,
        GatewayError::TokenFailed | GatewayError::OutOfDescriptors => Ending::Internal,
        GatewayError::BadRequest(_)
        | GatewayError::BadPath
        | GatewayError::BodyTooLarge { .. }
        | GatewayError::RequestLineTooLong
        | GatewayError::HeadTooLarge
        | GatewayError::TooManyFields
        | GatewayError::ExpectationNotSupported
        | GatewayError::TransferCodingNotSupported
        | GatewayError::VersionNotSupported
        | GatewayError::TlsRequired
        | GatewayError::NotAnOpenProxy
        | GatewayError::ConnectNotSupported
        | GatewayError::TraceNotSupported
        | GatewayError::WebsocketNotSupported
        | GatewayError::HostNotAllowed
        | GatewayError::OriginNotAllowed
        | GatewayError::ApiKeyMissing
        | GatewayError::ApiKeyUnknown => Ending::Refused,
    }
}
