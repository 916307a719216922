//! One exchange, from its head to its line in the log.
//!
//! [`Proxy::handle`] owns the order of things: plan (`request`, under the `guard`s), then refuse or answer here
//! (`local_answer`, `error`), or let in (`admission`) and forward: hold and edit the body where it is asked for
//! (`filter`), look for the owner of what it names (`owner_search`), settle whose turn it is (`failover`), make attempts
//! (`attempt`) until one has an end for the client, and conclude (`outcome`), with the count of what it cost
//! (`counted`). An answer that only has to be relayed any more leaves for the pump (`stream`), and comes back for its
//! end: [`Proxy::end_pumped`]. After an upgrade bytes go both ways (`websocket`). All rooms share the shard's
//! `resources` and what is known of the `exchange` and left of it as its `trail`; `replay` keeps the request for another
//! attempt, `response` and `sse` follow the answer on its way. What the gateway asks the upstream for itself is an
//! `own_request`: the check of a credential (`failover`), the prices of models (`price_question`), the quotas of users
//! (`quota_question`).
//! Imports inside go downwards only, in the order of the list in `tests/architecture/rooms.rs`.

pub mod admission;
pub mod attempt;
pub mod attempt_class;
pub mod counted;
pub mod downstream;
pub mod error;
pub mod exchange;
pub mod failover;
pub mod filter;
pub mod guard;
pub mod key_accounts;
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
pub mod websocket;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use self::admission::{LetIn, admit, shedding, take_start};
use self::attempt::request_body::upload::check_start;
use self::attempt::{Attempt, AttemptsEnd, OpenAnswer};
use self::downstream::Downstream;
use self::error::GatewayError;
use self::exchange::Exchange;
use self::failover::Failover;
use self::key_accounts::{Governed, Passage};
use self::outcome::{Disposition, Outcome};
use self::owner_search::FirstTurn;
use self::request::head::UpstreamHead;
use self::request::plan::{Action, Forward, Plan, UpstreamRequest};
use self::request::session::session_of;
use self::request::stored::objects::Objects;
use self::request::upgrade::Upgrade;
use self::resources::Resources;
use self::resources::overload::Look;
use self::snapshot::{Newest, Snapshot};
use self::stream::open_exchange::{Handled, OpenExchange, Pumped};
use crate::config::Affinity;
use crate::credentials::{ApiKeyId, Choice, Rotations, Selection, Turn};
use crate::http1::body::BodyReader;
use crate::http1::framing::BodyLength;
use crate::http1::head::{HeadSpan, RequestHead, with_request};
use crate::observability::{Count, UsageRecord};

/// Serves the exchanges of one shard.
pub struct Proxy {
    pub resources: Resources,
    /// The credentials and keys of new exchanges.
    snapshot: Newest,
    /// The number of the last exchange.
    sequence: Cell<u64>,
}

impl Proxy {
    pub fn new(resources: Resources, rotations: Arc<Rotations>) -> Self {
        let snapshot = Snapshot::new(rotations, &resources.ledger, &resources.key_accounts);
        let snapshot = Rc::new(RefCell::new(Rc::new(snapshot)));
        Proxy { resources, snapshot, sequence: Cell::new(0) }
    }

    /// Gives new exchanges the credentials and keys of `rotations`; those under way keep theirs.
    pub fn replace_credentials(&self, rotations: Arc<Rotations>) {
        let Resources { ledger, key_accounts, .. } = &self.resources;
        self.snapshot.replace(Rc::new(Snapshot::new(rotations, ledger, key_accounts)));
    }

    /// Serves the request whose head is `span` of the connection's input, up to its line in the log, or until its answer
    /// only has to be relayed.
    pub async fn handle(&self, downstream: &mut Downstream, span: HeadSpan) -> Handled {
        let mut exchange = self.begin(downstream);
        let look = shedding::look(&self.resources, &exchange, downstream);
        let Plan { reply, key, body, mut action } = self.plan(&exchange, downstream, span, look);
        (exchange.reply, exchange.key) = (reply, key);
        // Borrowed: moved out of the action, a request would have room in the task of the connection twice.
        let disposition = match &mut action {
            Action::Refuse(GatewayError::Overloaded) => {
                // Boxed: the task of a connection has no room for what is rare.
                Box::pin(shedding::turn_away(&self.resources, &mut exchange, downstream, body, look)).await
            }
            Action::Refuse(error) => {
                let request_is_whole = body.is_some_and(BodyLength::is_empty);
                self.refuse(&mut exchange, downstream, request_is_whole, error).await
            }
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
    fn plan(
        &self,
        exchange: &Exchange,
        downstream: &mut Downstream,
        span: HeadSpan,
        look: Look,
    ) -> Plan<UpstreamRequest> {
        let Downstream { input, replay, method, path, trail, .. } = downstream;
        let (head, body_start) = input.filled()[span.start..].split_at(span.end - span.start);
        let Resources { rules, limits, budget, .. } = &self.resources;
        let planned = with_request(head, |head| {
            method.push_str(head.method);
            path.push_str(request::plan::path_of(head.target));
            trail.note_request(head);
            request::plan::plan(head, path, rules, exchange.snapshot.keys.as_deref()).write(|key, forward| {
                // A request that is refused takes no turn.
                if look != Look::Serve {
                    return Err(GatewayError::Overloaded);
                }
                check_start(forward.traits.facts.body, body_start, limits)?;
                admission::check_upgrade(&self.resources, &forward)?;
                let selection = self.selection(&exchange.snapshot, key, head)?;
                let governed = exchange.snapshot.governed(key);
                let passage =
                    governed.map_or(Ok(Passage::Open), |governed| admission::enter(governed, exchange.began))?;
                let replay = replay.get_mut();
                let origin = HeadOrigin { selection, governed, passage, own_id: trail.ids.own() };
                let written = self.write_head(&exchange.snapshot, replay.begin(budget), head, origin, forward);
                replay.mark_head_secret();
                written
            })
        });
        input.consume(span.end);
        planned.unwrap_or_else(|error| Plan::refusing(error.into()))
    }

    /// Returns what the credential of a request with this key is chosen by.
    fn selection(
        &self,
        snapshot: &Snapshot,
        key: Option<ApiKeyId>,
        head: &RequestHead<'_>,
    ) -> Result<Selection, GatewayError> {
        let session = match self.resources.rules.affinity {
            Affinity::None => None,
            Affinity::Session => session_of(head),
        };
        snapshot.rotations.selection(key, session).ok_or(GatewayError::NoCredential)
    }

    /// Chooses the credential and writes the head for the upstream.
    fn write_head(
        &self,
        snapshot: &Snapshot,
        out: &mut Vec<u8>,
        head: &RequestHead<'_>,
        HeadOrigin { selection, governed, passage, own_id }: HeadOrigin<'_>,
        Forward { path, traits }: Forward<'_>,
    ) -> Result<UpstreamRequest, GatewayError> {
        let rules = &self.resources.rules;
        let has_others = snapshot.credentials.identities_count() > 1;
        let mut objects = if has_others { Objects::of(head, path.path(), &traits.facts) } else { None };
        let selector = snapshot.selector(selection);
        let owner = owner_search::owner_of_target(&self.resources.owners, selector, path, objects.as_deref_mut());
        let late = governed.and_then(|governed| admission::late(governed, &passage, head, path.path(), owner));
        // A turn is for a request that goes upstream.
        let choice = match &late {
            None => owner_search::first_choice(selector, owner, objects.as_deref())?,
            Some(_) => Choice::Use(Turn::of(selector.likely())),
        };
        snapshot.with_authorization(choice.credential(), |value| {
            let upstream = &rules.upstream;
            let is_identity_asked = governed.is_some_and(|governed| governed.limits.count_usage());
            let (authorization, facts) = (value, &traits.facts);
            let head = UpstreamHead { head, path, upstream, authorization, facts, own_id, is_identity_asked };
            let (token, filterable_head) =
                if traits.is_filtered { head.write_filterable(out) } else { (head.write(out), None) };
            let head_bytes = out.len();
            let upgrade = facts.wants_websocket.then(|| Box::new(Upgrade::of(head.head, path)));
            UpstreamRequest {
                traits,
                selection,
                written_for: choice.credential(),
                choice,
                place: passage.into_place(),
                late,
                head_bytes,
                token,
                filterable_head,
                objects,
                upgrade,
            }
        })
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
        let admitted = match request.late.take() {
            None => take_start(resources, exchange, downstream, &mut body, request).map(|()| LetIn::at(exchange.began)),
            // Boxed: few requests need it.
            Some(late) => Box::pin(admit(resources, exchange, downstream, &mut body, request, *late)).await,
        };
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(outcome) => return Forwarded::over(exchange, &body, outcome),
        };
        resources.activity.counters.add(Count::Requests);
        resources.share.note_request(resources.shard, exchange.began);
        quota_question::ask_if_due(resources, &self.snapshot);
        if request.traits.is_filtered
            // Boxed: without the filter no request needs it, and the task of the connection would keep room for it.
            && let Err(outcome) = Box::pin(filter::filter(resources, exchange.id, downstream, &mut body, request)).await
        {
            return Forwarded::over(exchange, &body, outcome);
        }
        let has_asked = admitted.has_asked_for_body;
        let snapshot = &exchange.snapshot;
        let first = owner_search::first_turn(resources, snapshot, downstream, &mut body, request, has_asked).await;
        let first = match first {
            Ok(first) => first,
            Err(outcome) => return Forwarded::over(exchange, &body, outcome),
        };
        let FirstTurn { turn, subject, has_asked_for_body } = first;
        let failover = Failover::new(exchange.snapshot.clone(), request, admitted.at, turn.credential, subject);
        let mut attempt = Attempt::new(resources, downstream, &mut body, exchange.reply, request, failover);
        attempt.has_asked_for_body = has_asked_for_body;
        let end = match attempt::begin(&mut attempt, turn) {
            Ok(()) => attempt::run(&mut attempt, exchange).await,
            Err(outcome) => AttemptsEnd::Over(outcome),
        };
        exchange.credential = Some(attempt.failover.credential());
        exchange.attempts = attempt.failover.attempts();
        drop(attempt);
        match end {
            AttemptsEnd::Over(outcome) => Forwarded::over(exchange, &body, outcome),
            AttemptsEnd::Switched(switched) => {
                let outcome = Box::pin(websocket::relay(resources, exchange, downstream, switched)).await;
                Forwarded::Over { outcome, request_is_whole: false }
            }
            AttemptsEnd::Open(open) => {
                exchange.request_bytes = body.data_bytes();
                Forwarded::Open(open)
            }
        }
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

/// The facts about a request beside its head when that is written.
struct HeadOrigin<'a> {
    selection: Selection,
    /// Of its key.
    governed: Option<&'a Governed>,
    passage: Passage,
    own_id: Option<&'a str>,
}
