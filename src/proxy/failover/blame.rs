//! The conclusions that one exchange draws about credentials from the answers of its attempts.
//!
//! A refusal or a limit can be about the credential, its quota, the model, one object, or the request. The only
//! evidence against a credential is a good answer to another identity for the same request; until there is one, it is a
//! suspect. Invariant: every suspicion, and every probe that others wait for, is settled or let go of at the exchange's
//! end.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::credentials::{CredentialFault, CredentialId, Credentials, RestScope, Turn, limited_for};
use crate::io::clock;
use crate::proxy::attempt_class::AttemptClass;
use crate::proxy::failover::check::{self, RefusedCheck};
use crate::proxy::failover::chosen::Chosen;
use crate::proxy::failover::rest_log::{tell_limit_for_all, tell_no_limit_for_all, tell_recovery, tell_rest};
use crate::proxy::failover::subject::Subject;
use crate::proxy::resources::Resources;
use crate::proxy::snapshot::Snapshot;

/// The longest time for which a model is taken to be limited for everybody without another look.
const LIMIT_FOR_ALL_MAX: Duration = Duration::from_secs(60);

/// The answer of one attempt, as far as it says something of its credential.
#[derive(Debug, Clone, Copy)]
pub struct Finding {
    pub class: AttemptClass,
    /// The time for which a 429 asks to be left alone.
    pub retry_after: Option<Duration>,
}

/// The credentials that were of no use to one exchange.
#[derive(Default)]
pub struct Blame {
    /// Refused or limited: of no further use to this request.
    tried: Vec<CredentialId>,
    suspects: Vec<Suspect>,
}

/// A credential that was refused or limited, while it is not known whether that is its fault.
struct Suspect {
    chosen: Chosen,
    finding: Finding,
}

/// The place where conclusions are drawn: on a shard, about the credentials of a snapshot, by a request of this
/// subject.
#[derive(Clone, Copy)]
pub struct Court<'a> {
    pub resources: &'a Resources,
    pub snapshot: &'a Rc<Snapshot>,
    /// Known where something failed, or may rest for some requests.
    pub subject: Option<&'a Subject>,
}

impl Court<'_> {
    fn credentials(&self) -> &Credentials {
        &self.snapshot.credentials
    }

    fn scope(&self) -> Option<&RestScope> {
        self.subject.map(|subject| &subject.scope)
    }
}

impl Blame {
    /// Returns the credentials that this request need not try again.
    pub fn tried(&self) -> &[CredentialId] {
        &self.tried
    }

    pub fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Draws the conclusions of an answer to `chosen`. If the turn was a probe, the suspect holds it from here on.
    pub fn judge(&mut self, court: Court<'_>, chosen: &mut Chosen, finding: Finding) {
        if finding.class == AttemptClass::NotFound {
            // It is about the object alone.
            return self.tried.push(chosen.turn.credential);
        }
        let credential = chosen.turn.credential;
        match finding.class {
            AttemptClass::Succeeded => {
                self.convict(court, credential);
                restore(court, *chosen);
            }
            class if class.is_of_credential() => {
                let credentials = court.credentials();
                if class == AttemptClass::Unauthorized {
                    credentials.suspect(credential, Instant::now());
                }
                if class == AttemptClass::RateLimited {
                    note_limit(court, *chosen, finding);
                }
                self.suspects.push(Suspect { chosen: *chosen, finding });
                self.tried.push(credential);
                chosen.turn = Turn::of(credential);
            }
            // A front door that cannot reach what is behind it says nothing of any credential, nor does any other
            // answer.
            _ => {}
        }
    }

    /// Blames the suspects of other identities than `successful`, which got a good answer to the same request.
    fn convict(&mut self, court: Court<'_>, successful: CredentialId) {
        let credentials = court.credentials();
        let is_other =
            |suspect: &mut Suspect| !credentials.is_same_identity(suspect.chosen.turn.credential, successful);
        for suspect in self.suspects.extract_if(.., is_other) {
            sentence(court, &suspect, successful);
            release(credentials, court.scope(), &suspect);
        }
    }

    /// Notes that it is the model, or the kind of request, that is limited, if every identity has said that it is. One
    /// that could not be asked, or was refused, has not.
    pub fn note_limit_for_all(&self, court: Court<'_>, now: Instant) {
        let Some(scope) = court.scope() else { return };
        let limited = self.suspects.iter().filter(|suspect| suspect.finding.class == AttemptClass::RateLimited);
        let told = |suspect: &Suspect| (suspect.chosen.turn.credential, limited_for(suspect.finding.retry_after));
        let told: Vec<(CredentialId, Duration)> = limited.map(told).collect();
        let Some(shortest) = court.credentials().shortest_limit_of_all(scope, &told, now) else { return };
        let time = shortest.min(LIMIT_FOR_ALL_MAX);
        if time.is_zero() {
            return;
        }
        court.credentials().limit_for_all(scope, time, now);
        tell_limit_for_all(scope, time);
    }

    /// Lets go of what the exchange could not find out: others may.
    pub fn release(&mut self, snapshot: &Snapshot, scope: Option<&RestScope>) {
        for suspect in self.suspects.drain(..) {
            release(&snapshot.credentials, scope, &suspect);
        }
    }
}

/// Lets go of one suspect. A suspicion is lifted only where its answer gave rise to one: another request may have.
fn release(credentials: &Credentials, scope: Option<&RestScope>, suspect: &Suspect) {
    let turn = suspect.chosen.turn;
    if suspect.finding.class == AttemptClass::Unauthorized {
        credentials.acquit(turn.credential);
    }
    credentials.give_up_probe(turn, scope, clock::now());
}

/// Lets a suspect rest for what its answer was about.
fn sentence(court: Court<'_>, suspect: &Suspect, successful: CredentialId) {
    let Suspect { chosen, finding: Finding { class, retry_after } } = *suspect;
    match class {
        AttemptClass::Unauthorized => cool(court, chosen, CredentialFault::Refused),
        AttemptClass::Forbidden => forbid(court, chosen, successful),
        AttemptClass::RateLimited => cool_for(court, chosen, CredentialFault::RateLimited { retry_after }),
        AttemptClass::QuotaUsedUp => cool_for(court, chosen, CredentialFault::QuotaUsedUp),
        _ => {}
    }
}

/// Leaves an identity that got a 403 alone for the model, and lets it be found out whether the upstream knows it at
/// all. One that may not use an object that another made has done nothing, and is not checked for it either: who may
/// see one credential's objects alone may be refused the list of models too, and would rest as a whole for that.
fn forbid(court: Court<'_>, chosen: Chosen, successful: CredentialId) {
    let Court { resources, snapshot, subject: Some(subject) } = court else { return };
    if subject.names_object {
        return;
    }
    let now = Instant::now();
    let Chosen { turn, at } = chosen;
    if snapshot.credentials.cooling_for(turn.credential, now).is_some() {
        // A check that ended meanwhile found it out: the refusal says nothing of the model.
        return;
    }
    if let Some(model) = subject.model() {
        // Told when the check is over: it may be the whole identity that rests.
        snapshot.credentials.cool_for(turn.credential, model, CredentialFault::Forbidden, at, now);
    }
    check::begin(resources, snapshot, RefusedCheck { chosen, successful, at: now });
}

fn cool(court: Court<'_>, chosen: Chosen, fault: CredentialFault) {
    let Chosen { turn: Turn { credential, .. }, at } = chosen;
    if let Some(time) = court.credentials().cool(credential, fault, at, Instant::now()) {
        tell_rest(&court.resources.activity, court.snapshot, credential, fault, None, time);
    }
}

/// Lets an identity rest for the model or the kind of request, and as a whole where it rests for enough of them.
fn cool_for(court: Court<'_>, chosen: Chosen, fault: CredentialFault) {
    let Some(scope) = court.scope() else { return };
    let (Chosen { turn: Turn { credential, .. }, at }, now) = (chosen, Instant::now());
    let Some(time) = court.credentials().cool_for(credential, scope, fault, at, now) else { return };
    tell_rest(&court.resources.activity, court.snapshot, credential, fault, Some(scope), time);
    if court.credentials().is_at_fault_as_a_whole(credential, fault, now) {
        cool(court, chosen, fault);
    }
}

/// Lets other requests that are under way know of a 429. That of the only identity there is can be seen, and holds
/// nothing back.
fn note_limit(court: Court<'_>, chosen: Chosen, Finding { retry_after, .. }: Finding) {
    let credentials = court.credentials();
    if credentials.identities_count() > 1 {
        let Some(scope) = court.scope() else { return };
        let now = Instant::now();
        if !credentials.is_limited_for_all(scope, now) {
            credentials.note_recent_limit(chosen.turn.credential, scope, limited_for(retry_after), now);
        }
    } else if retry_after.is_some() {
        cool_for(court, chosen, CredentialFault::RateLimited { retry_after });
    }
}

/// Ends the rests of an identity that got a good answer, and the limit for everybody.
fn restore(court: Court<'_>, chosen: Chosen) {
    let Chosen { turn: Turn { credential, .. }, at } = chosen;
    let credentials = court.credentials();
    if credentials.restore(credential, at, clock::now()) {
        tell_recovery(&court.resources.activity, court.snapshot, credential, None);
    }
    let Some(scope) = court.scope() else { return };
    if credentials.restore_for(credential, scope, at) {
        tell_recovery(&court.resources.activity, court.snapshot, credential, Some(scope));
    }
    if credentials.end_limit_for_all(scope, at, clock::now()) {
        tell_no_limit_for_all(scope);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::credentials::{Rotations, from_json};
    use crate::observability::Ledger;
    use crate::proxy::key_accounts::KeyAccounts;

    /// Makes a snapshot with one identity for each letter.
    fn snapshot(identities: &str) -> Snapshot {
        let entry = |letter: char| format!(r#"{{"clientId":"{letter}","clientSecret":"s","tenant":"t"}}"#);
        let entries: Vec<String> = identities.chars().map(entry).collect();
        let loaded = from_json(&format!("[{}]", entries.join(","))).expect("valid");
        let rotations = Rotations::new(Arc::new(loaded.credentials), None);
        Snapshot::new(Arc::new(rotations), &Ledger::new(1), &KeyAccounts::default())
    }

    fn ids(snapshot: &Snapshot) -> Vec<CredentialId> {
        snapshot.credentials.entries().map(|(id, _)| id).collect()
    }

    fn suspect(credential: CredentialId, class: AttemptClass) -> Suspect {
        Suspect {
            chosen: Chosen { turn: Turn::of(credential), at: Instant::now() },
            finding: Finding { class, retry_after: None },
        }
    }

    #[test]
    fn who_was_not_suspected_for_an_answer_lifts_no_suspicion_of_another_request() {
        for (class, is_lifted) in [
            (AttemptClass::Unauthorized, true),
            (AttemptClass::Forbidden, false),
            (AttemptClass::RateLimited, false),
            (AttemptClass::QuotaUsedUp, false),
        ] {
            let snapshot = snapshot("abc");
            let ids = ids(&snapshot);
            let (credentials, now) = (&snapshot.credentials, Instant::now());
            credentials.suspect(ids[1], now);
            let mut blame = Blame { tried: Vec::new(), suspects: vec![suspect(ids[1], class)] };
            blame.release(&snapshot, None);
            let selector = snapshot.selector(snapshot.rotations.selection(None, None).expect("all"));
            let other = selector.other(ids[0], &[], None, now).map(|turn| turn.credential);
            assert_eq!(other, Some(ids[if is_lifted { 1 } else { 2 }]), "{class:?}");
        }
    }
}
