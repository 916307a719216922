//! One exchange, from its head to its line in the log.
//!
//! [`Proxy::handle`] owns the order of things: plan (`request`, under the `guard`s), then refuse or answer here
//! (`local_answer`, `error`), or forward: hold and edit the body where it is asked for (`filter`), look for the owner
//! of what it names (`owner_search`), settle whose turn it is (`failover`), make attempts (`attempt`) until one has an
//! end for the client, and conclude (`outcome`), with the count of what it cost (`counted`). An answer that only has to
//! be relayed any more leaves for the pump (`stream`), and comes back for its end: [`Proxy::end_pumped`]. All rooms
//! share the shard's `resources` and what is known of the `exchange` and left of it as its `trail`; `replay` keeps the
//! request for another attempt, `response` and `sse` follow the answer on its way. What the gateway asks the upstream
//! for itself is an `own_request`: the check of a credential (`failover`), the prices of models (`price_question`), the
//! quotas of users (`quota_question`).
//! Imports inside go downwards only, in the order of the list in `tests/architecture/rooms.rs`.

pub mod attempt;
pub mod attempt_class;
pub mod counted;
pub mod downstream;
pub mod error;
pub mod exchange;
pub mod failover;
pub mod filter;
pub mod guard;
pub mod local_answer;
pub mod outcome;
pub mod own_request;
pub mod owner_search;
pub mod price_question;
pub mod quota_question;
pub mod replay;
pub mod reply_shape;
pub mod request;
pub mod resources;
pub mod response;
pub mod snapshot;
pub mod sse;
pub mod stream;
pub mod trail;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use self::attempt::request_body::subject_wait::wait_for_subject;
use self::attempt::request_body::upload::{check_start, take_body};
use self::attempt::{Attempt, AttemptsEnd, OpenAnswer};
use self::downstream::Downstream;
use self::error::GatewayError;
use self::exchange::Exchange;
use self::failover::subject::Subject;
use self::failover::{Failover, ownership, wait};
use self::outcome::{Disposition, Outcome};
use self::owner_search::FirstChoice;
use self::request::head::UpstreamHead;
use self::request::plan::{Action, Forward, Plan, UpstreamRequest};
use self::request::stored::objects::{BodySearch, Objects};
use self::resources::Resources;
use self::snapshot::Snapshot;
use self::stream::open_exchange::{Handled, OpenExchange, Pumped};
use crate::credentials::{ApiKeys, Choice, Credentials, Turn};
use crate::http1::body::BodyReader;
use crate::http1::head::{HeadSpan, RequestHead, with_request};
use crate::io::clock;
use crate::observability::{Count, UsageRecord};

/// Serves the exchanges of one shard.
pub struct Proxy {
    pub resources: Resources,
    /// The credentials and keys of new exchanges.
    snapshot: RefCell<Rc<Snapshot>>,
    /// The number of the last exchange.
    sequence: Cell<u64>,
}

impl Proxy {
    pub fn new(resources: Resources, credentials: Arc<Credentials>, keys: Option<Arc<ApiKeys>>) -> Self {
        let snapshot = RefCell::new(Rc::new(Snapshot::new(credentials, keys, &resources.ledger)));
        Proxy { resources, snapshot, sequence: Cell::new(0) }
    }

    /// Gives new exchanges `credentials` and `keys`; those under way keep theirs.
    pub fn replace_credentials(&self, credentials: Arc<Credentials>, keys: Option<Arc<ApiKeys>>) {
        self.snapshot.replace(Rc::new(Snapshot::new(credentials, keys, &self.resources.ledger)));
    }

    /// Serves the request whose head is `span` of the connection's input, up to its line in the log, or until its answer
    /// only has to be relayed.
    pub async fn handle(&self, downstream: &mut Downstream, span: HeadSpan) -> Handled {
        let mut exchange = self.begin(downstream);
        let Plan { reply, key, ends_with_head, mut action } = self.plan(&exchange, downstream, span);
        (exchange.reply, exchange.key) = (reply, key);
        // Borrowed: moved out of the action, a request would have room in the task of the connection twice.
        let disposition = match &mut action {
            Action::Refuse(error) => self.refuse(&mut exchange, downstream, ends_with_head, error).await,
            Action::Answer(answer, body) => {
                local_answer::answer(&self.resources, &mut exchange, downstream, answer, *body).await
            }
            Action::Forward(request) => match self.forward(&mut exchange, downstream, request).await {
                Forwarded::Over { outcome, request_is_whole } => {
                    self.conclude(&mut exchange, downstream, request_is_whole, outcome).await
                }
                Forwarded::Open(open) => {
                    downstream.replay.get_mut().release(&self.resources.budget);
                    let OpenAnswer { answer, connection } = *open;
                    connection.forget_waiter();
                    return Handled::Open(Box::new(OpenExchange { connection, answer, exchange }));
                }
            },
        };
        self.end(exchange, downstream);
        Handled::Over(disposition)
    }

    /// Ends an exchange whose answer the pump has relayed, up to its line in the log.
    pub async fn end_pumped(&self, downstream: &mut Downstream, pumped: Box<Pumped>) -> Disposition {
        let Pumped { mut open, unsent, left } = *pumped;
        let outcome = stream::rest::relay_rest(&self.resources, downstream, &mut open, unsent, left).await;
        let OpenExchange { connection, mut exchange, .. } = *open;
        if outcome.upstream_is_reusable {
            self.resources.pool.release(connection);
        } else {
            drop(connection);
        }
        let disposition = self.conclude(&mut exchange, downstream, true, outcome.outcome).await;
        self.end(exchange, downstream);
        disposition
    }

    fn end(&self, exchange: Exchange, downstream: &mut Downstream) {
        downstream.replay.get_mut().release(&self.resources.budget);
        let usage = counted::count(&self.resources, &exchange, downstream);
        if let Some(usage) = usage.filter(UsageRecord::wants_price) {
            price_question::ask_if_due(&self.resources, &exchange.snapshot, usage.tokens.is_some());
        }
        exchange.end(&self.resources, downstream, usage);
    }

    /// Answers a request whose head could not be read, up to its line in the log.
    pub async fn refuse_unread(&self, downstream: &mut Downstream, error: GatewayError) -> Disposition {
        let mut exchange = self.begin(downstream);
        let disposition = self.refuse(&mut exchange, downstream, false, &error).await;
        exchange.end(&self.resources, downstream, None);
        disposition
    }

    fn begin(&self, downstream: &mut Downstream) -> Exchange {
        self.sequence.set(self.sequence.get() + 1);
        Exchange::begin(&self.resources, self.snapshot.borrow().clone(), self.sequence.get(), downstream)
    }

    /// Reads the head, decides, and writes the head for the upstream of a request that is forwarded: it is parsed once.
    fn plan(&self, exchange: &Exchange, downstream: &mut Downstream, span: HeadSpan) -> Plan<UpstreamRequest> {
        let Downstream { input, replay, method, path, trail, .. } = downstream;
        let (head, body_start) = input.filled()[span.start..].split_at(span.end - span.start);
        let Resources { rules, limits, budget, .. } = &self.resources;
        let planned = with_request(head, |head| {
            method.push_str(head.method);
            path.push_str(request::plan::path_of(head.target));
            trail.note_request(head);
            request::plan::plan(head, path, rules, exchange.snapshot.keys.as_deref()).write(|forward| {
                // A request that is refused takes no turn.
                check_start(forward.traits.facts.body, body_start, limits)?;
                let replay = replay.get_mut();
                let written = self.write_head(&exchange.snapshot, replay.begin(budget), head, trail.ids.own(), forward);
                replay.mark_head_secret();
                written
            })
        });
        input.consume(span.end);
        planned.unwrap_or_else(|error| Plan::refusing(error.into()))
    }

    /// Chooses the credential and writes the head for the upstream.
    fn write_head(
        &self,
        snapshot: &Snapshot,
        out: &mut Vec<u8>,
        head: &RequestHead<'_>,
        own_id: Option<&str>,
        Forward { path, traits }: Forward<'_>,
    ) -> Result<UpstreamRequest, GatewayError> {
        let rules = &self.resources.rules;
        let has_others = snapshot.credentials.identities_count() > 1;
        let objects = if has_others { Objects::of(head, path.path(), &traits.facts) } else { None };
        let (choice, objects) = self.first_choice(snapshot, objects);
        let written = snapshot.with_authorization(choice.credential(), |value| {
            let upstream = &rules.upstream;
            let head = UpstreamHead { head, path, upstream, authorization: value, facts: &traits.facts, own_id };
            let (token, filterable_head) =
                if traits.is_filtered { head.write_filterable(out) } else { (head.write(out), None) };
            UpstreamRequest { traits, choice, head_bytes: out.len(), token, filterable_head, objects }
        });
        if written.is_err() {
            give_up_probe(snapshot, choice);
        }
        written
    }

    /// Chooses the owner of what the path names, else takes the next turn of the round robin. No turn is taken yet
    /// where the body is still to be searched for an owner.
    fn first_choice(&self, snapshot: &Snapshot, objects: Option<Box<Objects>>) -> (Choice, Option<Box<Objects>>) {
        let Resources { round_robin, owners, .. } = &self.resources;
        let credentials = &snapshot.credentials;
        let Some(mut objects) = objects else { return (round_robin.next(credentials, clock::now()), None) };
        objects.owner = ownership::known_owner_in_path(&self.resources, credentials, &objects);
        if objects.may_refer() && owners.has_entries() {
            objects.body_search = BodySearch::BeforeTurn;
        }
        let choice = match objects.owner {
            Some(credential) => Choice::Use(Turn::of(credential)),
            None if objects.body_search == BodySearch::BeforeTurn => {
                Choice::Use(Turn::of(round_robin.peek(credentials)))
            }
            None => round_robin.next(credentials, clock::now()),
        };
        (choice, Some(objects))
    }

    async fn forward(
        &self,
        exchange: &mut Exchange,
        downstream: &mut Downstream,
        request: &mut UpstreamRequest,
    ) -> Forwarded {
        let resources = &self.resources;
        if let Err(error) = downstream.watch_departure() {
            tracing::warn!(%error, "cannot watch whether the client leaves");
        }
        let mut body = BodyReader::new(request.traits.facts.body);
        let choice = request.choice;
        // What has come of the body follows the head in one write.
        if let Err(error) = take_body(&mut downstream.split(&mut body).0, resources) {
            give_up_probe(&exchange.snapshot, choice);
            return Forwarded::Over { outcome: Outcome::Failed(error), request_is_whole: false };
        }
        resources.activity.counters.add(Count::Requests);
        resources.share.note_request(resources.shard, exchange.began);
        quota_question::ask_if_due(resources, &exchange.snapshot);
        if request.traits.is_filtered
            // Boxed: without the filter no request needs it, and the task of the connection would keep room for it.
            && let Err(outcome) = Box::pin(filter::filter(resources, exchange.id, downstream, &mut body, request)).await
        {
            give_up_probe(&exchange.snapshot, choice);
            return Forwarded::over(exchange, &body, outcome);
        }
        let first = match self.first_turn(exchange, downstream, &mut body, request).await {
            Ok(first) => first,
            Err(outcome) => return Forwarded::over(exchange, &body, outcome),
        };
        let may_replay = request.traits.may_replay;
        let FirstTurn { turn, subject, has_asked_for_body } = first;
        let failover = Failover::new(exchange.snapshot.clone(), may_replay, exchange.began, turn, subject);
        let mut attempt = Attempt::new(resources, downstream, &mut body, exchange.reply, request, failover);
        attempt.failover.objects = attempt.request.objects.take();
        attempt.has_asked_for_body = has_asked_for_body;
        let end = attempt::run(&mut attempt, exchange, turn).await;
        exchange.credential = Some(attempt.failover.credential());
        exchange.attempts = attempt.failover.attempts();
        drop(attempt);
        match end {
            AttemptsEnd::Over(outcome) => Forwarded::over(exchange, &body, outcome),
            AttemptsEnd::Open(open) => {
                exchange.request_bytes = body.data_bytes();
                Forwarded::Open(open)
            }
        }
    }

    /// Settles whose name the first attempt uses: the owner's of what the body names, else that of the turn, once it is
    /// clear what the request is about.
    async fn first_turn(
        &self,
        exchange: &Exchange,
        downstream: &mut Downstream,
        body: &mut BodyReader,
        request: &mut UpstreamRequest,
    ) -> Result<FirstTurn, Outcome> {
        let resources = &self.resources;
        let snapshot = &*exchange.snapshot;
        let mut choice = request.choice;
        let mut has_asked_for_body = false;
        if request.objects.as_ref().is_some_and(|objects| objects.body_search == BodySearch::BeforeTurn) {
            // Boxed: few requests need it, and the task of the connection would keep room for it all its life.
            let searched = Box::pin(owner_search::choose(resources, snapshot, downstream, body, request)).await?;
            FirstChoice { choice, has_asked_for_body } = searched;
        }
        let mut subject = None;
        if matches!(choice, Choice::Open { .. }) {
            let facts = &request.traits.facts;
            // Boxed: hardly any exchange needs it.
            let waited = Box::pin(wait_for_subject(resources, downstream, body, facts, has_asked_for_body)).await?;
            (subject, has_asked_for_body) = (waited.0.map(Box::new), waited.1);
        }
        let scope = subject.as_deref().map(|subject: &Subject| &subject.scope);
        let turn = wait::settle_turn(resources, downstream, snapshot, choice, scope).await?;
        Ok(FirstTurn { turn, subject, has_asked_for_body })
    }

    /// Ends an exchange that was forwarded.
    async fn conclude(
        &self,
        exchange: &mut Exchange,
        downstream: &Downstream,
        request_is_whole: bool,
        outcome: Outcome,
    ) -> Disposition {
        match outcome {
            Outcome::Answered { ending, keep_alive } => {
                exchange.ending = ending;
                Disposition::after_answer(keep_alive, request_is_whole)
            }
            Outcome::Aborted { ending, needs_reset } => {
                exchange.ending = ending;
                if needs_reset { Disposition::Reset } else { Disposition::Cut }
            }
            Outcome::Failed(error) => self.refuse(exchange, downstream, request_is_whole, &error).await,
        }
    }

    async fn refuse(
        &self,
        exchange: &mut Exchange,
        downstream: &Downstream,
        request_is_whole: bool,
        error: &GatewayError,
    ) -> Disposition {
        local_answer::refuse(&self.resources, exchange, downstream, request_is_whole, error).await
    }
}

/// The end of an exchange that was forwarded, or its place while its answer is relayed.
enum Forwarded {
    Over { outcome: Outcome, request_is_whole: bool },
    Open(Box<OpenAnswer>),
}

impl Forwarded {
    fn over(exchange: &mut Exchange, body: &BodyReader, outcome: Outcome) -> Self {
        exchange.request_bytes = body.data_bytes();
        Forwarded::Over { outcome, request_is_whole: body.is_complete() }
    }
}

/// The way into the first attempt.
struct FirstTurn {
    turn: Turn,
    subject: Option<Box<Subject>>,
    /// The client was told to go on with the body.
    has_asked_for_body: bool,
}

/// Lets others probe the credential of an exchange that ends before its first attempt, where that was to be the probe.
fn give_up_probe(snapshot: &Snapshot, choice: Choice) {
    if let Choice::Use(turn) = choice {
        snapshot.credentials.give_up_probe(turn, None, clock::now());
    }
}
