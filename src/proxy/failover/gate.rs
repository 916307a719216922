//! The gate where an answer is stopped until it is clear that it is the one for the client.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::credentials::{RestScope, TokenTraces};
use crate::http1::framing::BodyLength;
use crate::io::clock;
use crate::proxy::attempt_class::AttemptClass;
use crate::proxy::exchange::UsageProgress;
use crate::proxy::failover::Failover;
use crate::proxy::failover::blame::Finding;
use crate::proxy::failover::ownership;
use crate::proxy::failover::subject::{ModelSearch, find_subject};
use crate::proxy::failover::table::{Decision, decide};
use crate::proxy::replay::buffer::ReplayBuffer;
use crate::proxy::request::model::named::NamedModel;
use crate::proxy::request::plan::UpstreamRequest;
use crate::proxy::request::upgrade::Upgrade;
use crate::proxy::resources::Resources;
use crate::proxy::response::body_tap::BodyTap;
use crate::proxy::response::head::ResponseFacts;

/// Decides about the answer of one attempt.
pub struct Gate<'a> {
    pub resources: &'a Resources,
    pub failover: &'a mut Failover,
    pub replay: &'a RefCell<ReplayBuffer>,
    pub request: &'a UpstreamRequest,
    /// The time at which the first request byte was sent, on a connection that was used before.
    pub reused_since: Option<Instant>,
}

/// The decision about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes downstream; no other attempt can follow.
    Pass,
    /// There may be a better one.
    Hold,
}

impl Gate<'_> {
    /// Returns the upgrade to WebSocket that the request is.
    pub fn upgrade(&self) -> Option<&Upgrade> {
        self.request.upgrade.as_deref()
    }

    fn body(&self) -> BodyLength {
        self.request.traits.facts.body
    }

    /// Tells whether the upstream had closed the connection before the request came: then nothing has happened there.
    pub fn is_stale(&self) -> bool {
        self.failover.is_stale(self.reused_since, self.replay.borrow().is_whole())
    }

    /// Returns how the tokens that were sent are known when they come back.
    pub fn traces(&self) -> Rc<TokenTraces> {
        self.failover.traces()
    }

    /// Tells whether the first events of an answer are looked at: only if an error in them would lead to another
    /// attempt, or their success would be evidence.
    pub fn holds_opening(&self, facts: &ResponseFacts) -> bool {
        let is_candidate = facts.is_event_stream && facts.is_identity_coded() && facts.status == 200;
        is_candidate
            && (self.failover.has_suspects()
                || self.leads_on(AttemptClass::Unavailable)
                || self.is_followed_by_another(AttemptClass::RateLimited))
    }

    /// Tells whether the body of an error is looked at: only if what it may say would lead to another attempt.
    pub fn holds_refusal(&self, facts: &ResponseFacts) -> bool {
        let is_candidate = matches!(facts.status, 400 | 401 | 403 | 429) && facts.is_identity_coded();
        is_candidate
            && !facts.is_event_stream
            && !self.failover.is_owned()
            && self.is_followed_by_another(AttemptClass::QuotaUsedUp)
    }

    fn is_followed_by_another(&self, class: AttemptClass) -> bool {
        self.failover.selector().identities_count() > 1 && self.leads_on(class)
    }

    fn leads_on(&self, class: AttemptClass) -> bool {
        let replay_is_whole = self.replay.borrow().is_whole();
        let situation = self.failover.situation(self.resources, replay_is_whole, clock::now());
        decide(class, &situation) != Decision::Settle
    }

    /// Finds out which objects the body names, where the answer may be that there are none.
    pub async fn look_at_references(&mut self, facts: &ResponseFacts) {
        let Gate { resources, failover: Failover { snapshot, selection, objects, .. }, replay, .. } = self;
        let may_say_so = facts.status == 404 || matches!(facts.status, 400 | 403) && facts.is_identity_coded();
        let objects = objects.as_deref_mut().filter(|objects| may_say_so && ownership::awaits_search(objects));
        if let Some(objects) = objects {
            // Boxed: hardly any answer needs it.
            Box::pin(ownership::search(&resources.owners, snapshot.selector(*selection), objects, replay)).await;
        }
    }

    /// Returns what looks at the content of an answer in an exchange about stored objects.
    pub fn tap(&self, facts: &ResponseFacts) -> Option<Box<BodyTap>> {
        let Failover { snapshot, objects, chosen, .. } = &*self.failover;
        let objects = objects.as_deref()?;
        if matches!(facts.status, 400 | 403) && facts.is_identity_coded() {
            return self.may_be_of_another().then(BodyTap::of_error);
        }
        ownership::tap(self.resources, &snapshot.credentials, objects, chosen.turn.credential, facts)
    }

    /// Tells whether an answer means that another identity may have the object.
    pub fn is_of_another(&self, facts: &ResponseFacts, tap: Option<&BodyTap>) -> bool {
        match facts.status {
            404 => self.may_be_of_another(),
            400 | 403 => tap.is_some_and(BodyTap::says_not_found),
            _ => false,
        }
    }

    fn may_be_of_another(&self) -> bool {
        let Failover { snapshot, objects, chosen, .. } = &*self.failover;
        objects
            .as_deref()
            .is_some_and(|objects| ownership::may_be_of_another(&snapshot.credentials, objects, chosen.turn.credential))
    }

    /// Keeps what an answer that goes downstream tells of whose the objects in the request are.
    pub fn learn(&self, facts: &ResponseFacts) {
        let Failover { snapshot, objects, chosen, .. } = &*self.failover;
        if let Some(objects) = objects {
            ownership::learn(self.resources, &snapshot.credentials, objects, chosen.turn.credential, facts);
        }
    }

    /// Decides about an answer, once the [subject](Gate::look_at_subject) is known that it is about. With one that passes, what was kept of the request is let go of: the answer may take
    /// minutes.
    pub fn judge(&mut self, class: AttemptClass, retry_after: Option<Duration>) -> Verdict {
        let replay_is_whole = self.replay.borrow().is_whole();
        if !self.failover.answered(self.resources, Finding { class, retry_after }, replay_is_whole) {
            return Verdict::Hold;
        }
        self.replay.borrow_mut().stop_keeping(&self.resources.budget);
        Verdict::Pass
    }

    /// Notes the model that the request names, where an answer of this status may have to be counted. Only before
    /// [`Gate::judge`] lets go of what was kept of the request.
    pub async fn note_model(&self, status: u16, usage: &UsageProgress) {
        let is_success = AttemptClass::of_status(status) == AttemptClass::Succeeded;
        let Some(book) = self.resources.usage.as_ref().filter(|_| is_success) else { return };
        if self.body() == BodyLength::None || usage.request_model.borrow().is_some() {
            return;
        }
        let base_path = &self.resources.rules.upstream.base_path;
        let refer = |name: &str| book.models().refer(name);
        let Some(mut search) = ModelSearch::begin(&self.replay.borrow(), self.body()) else { return };
        let is_short = self.replay.borrow().part(1).is_none();
        if is_short {
            search.read_part(&self.replay.borrow());
        } else {
            // Boxed: few requests are so long.
            Box::pin(search.read_all(self.replay)).await;
        }
        let quickly = search.end(&self.replay.borrow(), base_path, |named| match named {
            NamedModel::None => Some(None),
            NamedModel::One(name) => Some(Some(refer(name))),
            NamedModel::Unclear => None,
        });
        let model = match quickly {
            Some(model) => model,
            None => {
                // Boxed: hardly any request needs it.
                let subject = Box::pin(find_subject(self.replay, self.body(), base_path)).await;
                match subject.map(|subject| subject.scope) {
                    Some(RestScope::Model(name)) => Some(refer(&name)),
                    Some(RestScope::Paths(_)) | None => None,
                }
            }
        };
        usage.request_model.replace(model);
    }

    /// Finds out what the request is about, where that matters after an answer of this class.
    pub async fn look_at_subject(&mut self, class: AttemptClass) {
        if self.failover.needs_subject(class) {
            let base_path = &self.resources.rules.upstream.base_path;
            // Boxed: hardly any answer needs it.
            let subject = Box::pin(find_subject(self.replay, self.body(), base_path)).await;
            self.failover.note_subject(subject);
        }
    }
}
