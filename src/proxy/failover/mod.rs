//! One exchange over its attempts: whose name it goes by, and what follows each attempt.
//!
//! `table` says whether there is another attempt, `retry_share` (of `resources`) whether the process can afford it,
//! `blame` what an answer means for its credential and what it is about (`subject`), `check` looks into a refusal in
//! the background, `ownership` says who made the objects that it is about, the `gate` which answer goes downstream, and
//! `wait` waits between attempts. Invariant: whatever this exchange holds against a credential, a suspicion or a probe
//! that others wait for, is held by its value here, and let go of with it. The standing of credentials is kept in
//! `credentials`.

pub mod blame;
mod check;
mod chosen;
pub mod gate;
pub mod ownership;
mod rest_log;
pub mod subject;
pub mod table;
pub mod wait;

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::credentials::{CredentialId, RestScope, Selection, Selector, TokenTraces, Turn};
use crate::io::clock;
use crate::observability::{Count, RetryReason};
use crate::proxy::attempt_class::AttemptClass;
use crate::proxy::failover::blame::{Blame, Court, Finding};
use crate::proxy::failover::chosen::Chosen;
use crate::proxy::failover::subject::Subject;
use crate::proxy::failover::table::{Decision, Situation, back_off, decide};
use crate::proxy::request::plan::UpstreamRequest;
use crate::proxy::request::stored::objects::Objects;
use crate::proxy::resources::Resources;
use crate::proxy::snapshot::Snapshot;

/// The time after the first request byte within which a kept-alive connection that fails is taken for one that the
/// upstream had closed already: the request goes out once more, on a fresh connection.
const STALE_LIMIT: Duration = Duration::from_secs(2);

/// The attempts of one exchange.
pub struct Failover {
    pub snapshot: Rc<Snapshot>,
    /// Its credentials are chosen by this.
    selection: Selection,
    /// The request may reach the upstream twice.
    may_replay: bool,
    began: Instant,
    attempt_began: Instant,
    /// The credential of the present attempt.
    chosen: Chosen,
    /// Those of the attempts before, where they were others: hardly ever any.
    earlier_traces: Option<Rc<TokenTraces>>,
    counts: AttemptCounts,
    blame: Blame,
    /// Boxed, since hardly any exchange needs it; known once something failed, or where an identity rests for some
    /// requests.
    subject: Option<Box<Subject>>,
    /// The stored objects that it is about.
    pub objects: Option<Box<Objects>>,
    /// Until it begins; boxed, since hardly any exchange needs it.
    next: Option<Box<Next>>,
}

#[derive(Default)]
struct AttemptCounts {
    attempts: u32,
    /// Attempts that brought an answer of the upstream.
    answers: u32,
    /// Answers that were refusals (401, 403).
    refusals: u32,
    /// Answers that there is no such object.
    not_found: u32,
    /// Attempts after a pause.
    repeats: u32,
}

/// The attempt to come.
#[derive(Debug)]
pub struct Next {
    pub chosen: Chosen,
    pub reason: RetryReason,
    pub pause: Duration,
}

impl Failover {
    /// Takes over an exchange that began at `began` and whose first attempt, by `first`, is still to begin.
    pub fn new(
        snapshot: Rc<Snapshot>,
        request: &mut UpstreamRequest,
        began: Instant,
        first: CredentialId,
        subject: Option<Box<Subject>>,
    ) -> Self {
        Failover {
            snapshot,
            selection: request.selection,
            may_replay: request.traits.may_replay,
            began,
            attempt_began: began,
            chosen: Chosen { turn: Turn::of(first), at: began },
            earlier_traces: None,
            counts: AttemptCounts::default(),
            blame: Blame::default(),
            subject,
            objects: request.objects.take(),
            next: None,
        }
    }

    fn selector(&self) -> Selector<'_> {
        self.snapshot.selector(self.selection)
    }

    fn scope(&self) -> Option<&RestScope> {
        self.subject.as_deref().map(|subject| &subject.scope)
    }

    /// Returns whose name the present attempt uses.
    pub fn credential(&self) -> CredentialId {
        self.chosen.turn.credential
    }

    /// Returns how the tokens that this exchange has sent are known when they come back: an upstream that knows the
    /// request by its id may quote one of an attempt before.
    pub fn traces(&self) -> Rc<TokenTraces> {
        let present = self.snapshot.traces(self.credential());
        match &self.earlier_traces {
            None => present,
            Some(earlier) => Rc::new(TokenTraces::joined(earlier, &present)),
        }
    }

    pub fn attempts(&self) -> u32 {
        self.counts.attempts
    }

    /// Begins the first attempt.
    pub fn begin_first(&mut self, resources: &Resources, turn: Turn) {
        self.begin(resources, Chosen { turn, at: clock::now() });
    }

    /// Begins the attempt that follows.
    pub fn begin_next(&mut self, resources: &Resources, next: Next) {
        self.begin(resources, next.chosen);
    }

    /// A replay in the place of a stale connection belongs to the attempt that it replaces.
    fn begin(&mut self, resources: &Resources, chosen: Chosen) {
        if self.is_under_way_by_another(&chosen) {
            self.earlier_traces = Some(self.traces());
        }
        self.chosen = chosen;
        self.counts.attempts += 1;
        self.attempt_began = clock::now();
        resources.activity.counters.add(Count::Attempts);
        if self.chosen.turn.is_probe() {
            tracing::info!(credential = self.snapshot.name(self.credential()), "credential is probed");
        }
    }

    fn is_under_way_by_another(&self, chosen: &Chosen) -> bool {
        self.counts.attempts > 0 && chosen.turn.credential != self.credential()
    }

    /// Tells whether the present attempt is not the first, so that there may have been a pause before it.
    pub fn is_under_way(&self) -> bool {
        self.counts.attempts > 1
    }

    /// Tells whether the present credential alone can find what the exchange is about.
    fn is_owned(&self) -> bool {
        self.objects.as_ref().is_some_and(|objects| objects.owner.is_some())
    }

    /// Chooses another credential where the present one has begun to cool down. Pausing, connecting and holding a body
    /// take time, in which that may happen. Returns the one whose token is to be sent instead.
    pub fn reconsider(&mut self) -> Option<CredentialId> {
        let now = Instant::now();
        let credentials = &self.snapshot.credentials;
        // A probe is made although it cools down.
        if self.is_owned()
            || self.chosen.turn.is_probe()
            || !credentials.is_resting(self.credential(), self.scope(), now)
        {
            return None;
        }
        let turn = self.selector().other(self.credential(), self.blame.tried(), self.scope(), now)?;
        self.chosen = Chosen { turn, at: now };
        Some(self.credential())
    }

    /// Tells whether an attempt follows one that has ended without a word to the client.
    pub fn is_followed(&self) -> bool {
        self.next.is_some()
    }

    /// Takes the attempt that follows. It may be a probe already, which is given up with it: the client may go in the
    /// pause before.
    pub fn take_next(&mut self) -> Option<Box<Next>> {
        self.next.take()
    }

    /// Tells whether every answer so far was a refusal: then the first of them is the one to pass on.
    pub fn has_only_refusals(&self) -> bool {
        self.counts.refusals == self.counts.answers
    }

    /// Tells whether a connection that failed had been closed by the upstream already when the request came, and the
    /// request can be sent again. `reused_since`: see [`gate::Gate`].
    pub fn is_stale(&self, reused_since: Option<Instant>, replay_is_whole: bool) -> bool {
        self.may_replay
            && replay_is_whole
            && reused_since.is_some_and(|sent| clock::now().saturating_duration_since(sent) < STALE_LIMIT)
    }

    /// Tells whether it is worth a look what the request is about: an answer of this class is held against the
    /// credential, or one may rest, or all be limited, for some requests. Looked for once.
    pub fn needs_subject(&self, class: AttemptClass) -> bool {
        let credentials = &self.snapshot.credentials;
        self.subject.is_none()
            && match class {
                AttemptClass::Succeeded => {
                    credentials.may_rest_for_some(self.credential()) || credentials.has_limits_for_all(clock::now())
                }
                AttemptClass::Settled => credentials.may_rest_for_some(self.credential()),
                class => class.is_of_credential() || credentials.has_scoped_rests(),
            }
    }

    /// Notes what the request is about.
    pub fn note_subject(&mut self, subject: Option<Subject>) {
        self.subject = subject.map(Box::new);
    }

    /// Tells whether an answer that succeeds is evidence against another credential.
    pub fn has_suspects(&self) -> bool {
        self.blame.has_suspects()
    }

    /// Notes that the attempt brought no answer.
    pub fn failed(&mut self, resources: &Resources, class: AttemptClass, replay_is_whole: bool) {
        self.next = self.follow(resources, class, replay_is_whole);
        self.release_probe();
    }

    /// Notes the answer that the attempt brought. Returns whether it is the one for the client.
    fn answered(&mut self, resources: &Resources, finding: Finding, replay_is_whole: bool) -> bool {
        let class = finding.class;
        self.counts.answers += 1;
        self.counts.refusals += u32::from(class.is_refusal());
        self.counts.not_found += u32::from(class == AttemptClass::NotFound);
        let court = Court { resources, snapshot: &self.snapshot, subject: self.subject.as_deref() };
        self.blame.judge(court, &mut self.chosen, finding);
        self.next = self.follow(resources, class, replay_is_whole);
        self.release_probe();
        let first_is_better = class.is_refusal() && self.counts.refusals > 1 && self.has_only_refusals();
        self.next.is_none() && !first_is_better
    }

    /// Looks the attempt up in the table, and chooses by whom the next one is made.
    fn follow(&mut self, resources: &Resources, class: AttemptClass, replay_is_whole: bool) -> Option<Box<Next>> {
        let reason = class.reason()?;
        let now = Instant::now();
        let (turn, pause) = match decide(class, &self.situation(resources, replay_is_whole, now)) {
            Decision::Settle => return None,
            Decision::Switch if self.is_owned() => return None,
            Decision::Switch => match self
                .late_turn(class)
                .or_else(|| self.another(class, now))
                .or_else(|| self.last_resort(class, now))
            {
                Some(turn) => (turn, Duration::ZERO),
                None => {
                    self.note_nobody_left(resources, class, now);
                    return None;
                }
            },
            Decision::Repeat { next_credential } => {
                let pause = back_off(fastrand::f64());
                if now + pause >= self.began + resources.timeouts.retry {
                    return None;
                }
                if !resources.share.take_repeat(resources.shard, now) {
                    resources.activity.counters.add(Count::ShareExhausted);
                    return None;
                }
                let next = if next_credential { self.other(now) } else { None };
                self.counts.repeats += 1;
                (next.unwrap_or(Turn::of(self.credential())), pause)
            }
        };
        resources.activity.counters.add_retry(reason);
        Some(Box::new(Next { chosen: Chosen { turn, at: now }, reason, pause }))
    }

    /// Chooses a credential to switch to. After a 429 those that said the same to other requests just now are not asked
    /// again: of many that begin at once, few find out that a model is limited for everybody.
    fn another(&self, class: AttemptClass, now: Instant) -> Option<Turn> {
        match self.scope().filter(|_| class == AttemptClass::RateLimited) {
            None => self.other(now),
            Some(scope) => {
                let mut avoided = self.snapshot.credentials.recently_limited(scope, now);
                avoided.extend_from_slice(self.blame.tried());
                self.selector().other(self.credential(), &avoided, Some(scope), now)
            }
        }
    }

    /// Chooses the owner of what was not found, where it became known only then.
    fn late_turn(&self, class: AttemptClass) -> Option<Turn> {
        let objects = self.objects.as_deref().filter(|_| class == AttemptClass::NotFound);
        ownership::late_turn(&self.snapshot.credentials, objects, self.credential())
    }

    fn other(&self, now: Instant) -> Option<Turn> {
        if self.is_owned() {
            return None;
        }
        self.selector().other(self.credential(), self.blame.tried(), self.scope(), now)
    }

    /// Chooses a credential that cools down, where all others do: after a refusal that is worth a look, since it may be
    /// the only one that works, and its answer tells whose fault the refusal was.
    fn last_resort(&self, class: AttemptClass, now: Instant) -> Option<Turn> {
        let is_first_refusal = class.is_refusal() && self.counts.refusals == 1;
        // The one that made an object can find it whatever else it cannot do.
        let is_sought = class == AttemptClass::NotFound;
        if !is_first_refusal && !is_sought {
            return None;
        }
        self.selector().last_resort(self.credential(), self.blame.tried(), self.scope(), is_sought, now)
    }

    /// Notes that nobody is left to ask, and the last one is limited.
    fn note_nobody_left(&self, resources: &Resources, class: AttemptClass, now: Instant) {
        if class == AttemptClass::RateLimited && self.snapshot.credentials.identities_count() > 1 {
            let court = Court { resources, snapshot: &self.snapshot, subject: self.subject.as_deref() };
            self.blame.note_limit_for_all(court, now);
        }
    }

    fn situation(&self, resources: &Resources, replay_is_whole: bool, now: Instant) -> Situation {
        let credentials = &self.snapshot.credentials;
        Situation {
            attempt_age: now - self.attempt_began,
            exchange_age: now - self.began,
            deadline: resources.timeouts.retry,
            replay_is_whole,
            may_replay: self.may_replay,
            repeats: self.counts.repeats,
            refusals: self.counts.refusals,
            asked: self.blame.tried().len() as u32,
            is_limited_for_all: self.scope().is_some_and(|scope| credentials.is_limited_for_all(scope, now)),
            not_found: self.counts.not_found,
        }
    }

    /// Lets others probe the credential of the present attempt.
    fn release_probe(&mut self) {
        self.chosen.turn = Turn::of(self.credential());
    }
}
