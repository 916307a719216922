//! One exchange over its attempts: whose name it goes by, what each attempt says of that credential, and what follows.
//!
//! Invariant: whatever this exchange holds against a credential, a suspicion or a probe that others wait for, is settled
//! or let go of at its end. The table of what follows is `retry`'s; the standing of credentials is `credentials`'.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Proxy;
use super::attempts::Best;
use super::request_copy::RequestCopy;
use super::response_head::ResponseFacts;
use super::retry::{self, Decision, Finding, Situation};
use super::snapshot::Snapshot;
use crate::credentials::{CredentialFault as Fault, CredentialId, Turn};
use crate::observability::Count;

/// How long after the first request byte a kept-alive connection that fails is taken for one that the upstream had
/// closed already: it goes out once more, on a fresh connection.
const STALE_LIMIT: Duration = Duration::from_secs(2);

/// The attempts of one exchange.
pub struct Failover {
    pub snapshot: Rc<Snapshot>,
    /// Whose name the present attempt uses.
    turn: Turn,
    /// Whether the request may reach the upstream twice.
    may_replay: bool,
    began: Instant,
    attempt_began: Instant,
    /// When the credential of the present attempt was chosen.
    chosen: Instant,
    pub attempts: u32,
    /// Attempts that brought an answer of the upstream.
    answers: u32,
    refusals: u32,
    repeats: u32,
    switches: u32,
    /// Refused or limited: of no further use to this request.
    tried: Vec<CredentialId>,
    suspects: Vec<Suspect>,
    /// Until it begins.
    next: Option<Next>,
}

/// A credential that was refused or limited, while it is not known whether that is its fault or the request's.
struct Suspect {
    turn: Turn,
    finding: Finding,
    chosen: Instant,
}

/// The attempt to come.
#[derive(Debug, Clone, Copy)]
pub struct Next {
    pub turn: Turn,
    pub reason: Count,
    pub pause: Duration,
    /// When the credential was chosen.
    pub chosen: Instant,
}

impl Failover {
    /// Of an exchange that began at `began` and whose first attempt is still to begin.
    pub fn new(snapshot: Rc<Snapshot>, turn: Turn, may_replay: bool, began: Instant) -> Self {
        Failover {
            snapshot,
            turn,
            may_replay,
            began,
            attempt_began: began,
            chosen: began,
            attempts: 0,
            answers: 0,
            refusals: 0,
            repeats: 0,
            switches: 0,
            tried: Vec::new(),
            suspects: Vec::new(),
            next: None,
        }
    }

    pub fn credential(&self) -> CredentialId {
        self.turn.credential
    }

    /// An attempt by `turn` begins. A replay in the place of a stale connection belongs to the attempt that it replaces.
    pub fn begin_attempt(&mut self, proxy: &Proxy, turn: Turn) {
        self.turn = turn;
        self.attempts += 1;
        self.attempt_began = Instant::now();
        self.chosen = self.next.take().map_or(self.attempt_began, |next| next.chosen);
        proxy.activity.counters.add(Count::Attempts);
        if turn.is_probe {
            tracing::info!(credential = self.snapshot.name(turn.credential), "credential is probed");
        }
    }

    /// Whether the present attempt is not the first, so that there may have been a pause before it.
    pub fn is_under_way(&self) -> bool {
        self.attempts > 1
    }

    /// Pausing, connecting and holding a body take time in which the credential may have begun to cool down: then the
    /// attempt goes to another, whose token is to be sent.
    pub fn reconsider(&mut self) -> Option<CredentialId> {
        let now = Instant::now();
        let credentials = &self.snapshot.credentials;
        // A probe is made although it cools down.
        if self.turn.is_probe || credentials.cooling_for(self.turn.credential, now).is_none() {
            return None;
        }
        self.turn = credentials.other(self.turn.credential, &self.tried, now)?;
        self.chosen = now;
        Some(self.turn.credential)
    }

    /// What follows, once the attempt has ended without a word to the client. It may be a probe already, so it stays on
    /// record here until it begins: the client may go in the pause before.
    pub fn next(&self) -> Option<Next> {
        self.next
    }

    /// Whether every answer so far was a refusal: then the first of them is the one to pass on.
    pub fn has_only_refusals(&self) -> bool {
        self.refusals == self.answers
    }

    /// Whether a connection that failed had been closed by the upstream already when the request came, and the request
    /// can be sent again. `reused_since`: see [`Gate`].
    pub fn is_stale(&self, reused_since: Option<Instant>, copy_is_whole: bool) -> bool {
        self.may_replay && copy_is_whole && reused_since.is_some_and(|sent| sent.elapsed() < STALE_LIMIT)
    }

    /// The attempt brought no answer.
    pub fn failed(&mut self, proxy: &Proxy, finding: Finding, copy_is_whole: bool) {
        self.next = self.follow(proxy, finding, copy_is_whole);
        self.let_go_of_probe();
    }

    /// The attempt brought an answer. Returns whether it is the one for the client.
    fn answered(
        &mut self,
        proxy: &Proxy,
        finding: Finding,
        retry_after: Option<Duration>,
        copy_is_whole: bool,
    ) -> bool {
        self.answers += 1;
        self.refusals += u32::from(finding == Finding::Refused);
        self.judge(proxy, finding, retry_after);
        self.next = self.follow(proxy, finding, copy_is_whole);
        self.let_go_of_probe();
        let first_is_better = finding == Finding::Refused && self.refusals > 1 && self.has_only_refusals();
        self.next.is_none() && !first_is_better
    }

    /// Draws the conclusions about credentials.
    fn judge(&mut self, proxy: &Proxy, finding: Finding, retry_after: Option<Duration>) {
        // A front door that cannot reach what is behind it says nothing of any credential.
        if finding == Finding::Unavailable {
            return;
        }
        let suspects = std::mem::take(&mut self.suspects);
        let (blamed, others) = suspects.into_iter().partition(|suspect: &Suspect| suspect.finding != finding);
        self.suspects = others;
        let blamed: Vec<Suspect> = blamed;
        for suspect in blamed {
            let fault = match suspect.finding {
                Finding::RateLimited => Fault::RateLimited { retry_after: None },
                _ => Fault::Refused,
            };
            self.cool(proxy, suspect.turn.credential, fault, suspect.chosen);
        }
        let credential = self.turn.credential;
        let credentials = &self.snapshot.credentials;
        match finding {
            Finding::RateLimited if retry_after.is_some() => {
                self.cool(proxy, credential, Fault::RateLimited { retry_after }, self.chosen);
                self.tried.push(credential);
            }
            Finding::Refused | Finding::RateLimited => {
                credentials.suspect(credential, Instant::now());
                self.suspects.push(Suspect { turn: self.turn, finding, chosen: self.chosen });
                self.turn.is_probe = false;
                self.tried.push(credential);
            }
            _ if credentials.restore(credential, self.chosen, Instant::now()) => {
                proxy.activity.counters.add(Count::Recoveries);
                tracing::info!(credential = self.snapshot.name(credential), "credential works again");
            }
            _ => {}
        }
    }

    fn cool(&self, proxy: &Proxy, credential: CredentialId, fault: Fault, chosen: Instant) {
        let credentials = &self.snapshot.credentials;
        if let Some(duration) = credentials.cool(credential, fault, chosen, Instant::now()) {
            proxy.activity.counters.add(Count::Cooldowns);
            let reason = match fault {
                Fault::Refused => Count::Refused,
                Fault::RateLimited { .. } => Count::RateLimited,
            };
            tracing::warn!(
                credential = self.snapshot.name(credential),
                reason = display(reason.as_str()),
                seconds = duration.as_secs_f64().ceil() as u64,
                "credential cools down"
            );
        }
    }

    fn follow(&mut self, proxy: &Proxy, finding: Finding, copy_is_whole: bool) -> Option<Next> {
        let reason = finding.reason()?;
        let now = Instant::now();
        let credentials = &self.snapshot.credentials;
        let other = |failover: &Failover| credentials.other(failover.turn.credential, &failover.tried, now);
        let (turn, pause) = match retry::decide(finding, &self.situation(proxy, copy_is_whole, now)) {
            Decision::Settle => return None,
            Decision::Switch => (other(self).or_else(|| self.last_resort(finding, now))?, Duration::ZERO),
            Decision::Repeat { next_credential } => {
                let pause = retry::back_off(fastrand::f64());
                if now + pause >= self.began + proxy.timeouts.retry {
                    return None;
                }
                if !proxy.share.take_repeat(proxy.shard, now) {
                    proxy.activity.counters.add(Count::ShareExhausted);
                    return None;
                }
                let next = if next_credential { other(self) } else { None };
                (next.unwrap_or(Turn { is_probe: false, ..self.turn }), pause)
            }
        };
        if pause.is_zero() {
            self.switches += 1;
        } else {
            self.repeats += 1;
        }
        proxy.activity.counters.add(reason);
        Some(Next { turn, reason, pause, chosen: now })
    }

    /// Where all others cool down, a refusal is worth a look at one of them: it may be the only one that works, and its
    /// answer tells whose fault the refusal was.
    fn last_resort(&self, finding: Finding, now: Instant) -> Option<Turn> {
        let is_first_refusal = finding == Finding::Refused && self.refusals == 1;
        let credentials = &self.snapshot.credentials;
        is_first_refusal.then(|| credentials.last_resort(self.turn.credential, &self.tried, now)).flatten()
    }

    fn situation(&self, proxy: &Proxy, copy_is_whole: bool, now: Instant) -> Situation {
        Situation {
            attempt_age: now - self.attempt_began,
            exchange_age: now - self.began,
            deadline: proxy.timeouts.retry,
            copy_is_whole,
            may_replay: self.may_replay,
            repeats: self.repeats,
            refusals: self.refusals,
            switches: self.switches,
        }
    }

    fn let_go_of_probe(&mut self) {
        if std::mem::take(&mut self.turn.is_probe) {
            self.snapshot.credentials.give_up_probe(self.turn.credential);
        }
    }
}

impl Drop for Failover {
    /// The exchange is over: what it could not find out about its credentials, others may.
    fn drop(&mut self) {
        self.let_go_of_probe();
        let credentials = &self.snapshot.credentials;
        for suspect in self.suspects.drain(..) {
            credentials.acquit(suspect.turn.credential);
            if suspect.turn.is_probe {
                credentials.give_up_probe(suspect.turn.credential);
            }
        }
        if let Some(Next { turn, .. }) = self.next.filter(|next| next.turn.is_probe) {
            credentials.give_up_probe(turn.credential);
        }
    }
}

/// Where an answer is stopped until it is clear that it is the one for the client.
pub struct Gate<'a, 'b> {
    pub proxy: &'a Proxy,
    pub failover: &'a mut Failover,
    /// What the attempts before brought.
    pub best: &'a mut Option<Best>,
    pub copy: &'a RefCell<&'b mut RequestCopy>,
    /// When the first request byte was sent, on a connection that was used before.
    pub reused_since: Option<Instant>,
}

impl Gate<'_, '_> {
    /// Whether the upstream had closed the connection before the request came: then nothing has happened there.
    pub fn is_stale(&self) -> bool {
        self.failover.is_stale(self.reused_since, self.copy.borrow().is_whole())
    }

    /// Whether the first events of an answer are looked at: only if an error in them would lead to another attempt.
    pub fn holds_opening(&self, facts: &ResponseFacts) -> bool {
        let is_candidate = facts.is_event_stream && facts.is_identity_coded && facts.status == 200;
        if !is_candidate {
            return false;
        }
        let copy_is_whole = self.copy.borrow().is_whole();
        let situation = self.failover.situation(self.proxy, copy_is_whole, Instant::now());
        let leads_on = |finding| retry::decide(finding, &situation) != Decision::Settle;
        leads_on(Finding::Unavailable)
            || leads_on(Finding::RateLimited) && self.failover.snapshot.credentials.identities_count() > 1
    }

    /// Decides about an answer. One that passes goes downstream, so that no other attempt can follow, and what was kept
    /// for one is let go of: the answer may take minutes.
    pub fn passes(&mut self, finding: Finding, retry_after: Option<Duration>) -> bool {
        let copy_is_whole = self.copy.borrow().is_whole();
        let passes = self.failover.answered(self.proxy, finding, retry_after, copy_is_whole);
        if passes {
            self.copy.borrow_mut().stop_keeping(&self.proxy.budget);
            *self.best = None;
        }
        passes
    }
}
