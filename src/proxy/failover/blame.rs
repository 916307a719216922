//! The conclusions that one exchange draws about credentials from the answers of its attempts.
//!
//! A refusal or a limit can be about the credential, its quota, the model, one object, or the request. The only
//! evidence against a credential is a good answer to another identity for the same request; until there is one, it is a
//! suspect. Invariant: the probe and the suspicion that others see of a suspect are its own, and end with it.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::credentials::{CredentialFault, CredentialId, Credentials, HeldSuspicion, RestScope, Turn, limited_for};
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
    /// Others prefer another one meanwhile.
    _suspicion: Option<HeldSuspicion>,
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
                restore(court, chosen);
            }
            class if class.is_of_credential() => {
                let is_unknown = class == AttemptClass::Unauthorized;
                let suspicion = is_unknown.then(|| court.credentials().suspect(credential, Instant::now())).flatten();
                if class == AttemptClass::RateLimited {
                    note_limit(court, chosen, finding);
                }
                let chosen = std::mem::replace(chosen, Chosen { turn: Turn::of(credential), at: chosen.at });
                self.suspects.push(Suspect { chosen, finding, _suspicion: suspicion });
                self.tried.push(credential);
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
}

/// Lets a suspect rest for what its answer was about.
fn sentence(court: Court<'_>, suspect: &Suspect, successful: CredentialId) {
    let Suspect { chosen, finding: Finding { class, retry_after }, .. } = suspect;
    let retry_after = *retry_after;
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
fn forbid(court: Court<'_>, chosen: &Chosen, successful: CredentialId) {
    let Court { resources, snapshot, subject: Some(subject) } = court else { return };
    if subject.names_object {
        return;
    }
    let now = Instant::now();
    let (credential, at) = (chosen.turn.credential, chosen.at);
    if snapshot.credentials.cooling_for(credential, now).is_some() {
        // A check that ended meanwhile found it out: the refusal says nothing of the model.
        return;
    }
    if let Some(model) = subject.model() {
        // Told when the check is over: it may be the whole identity that rests.
        snapshot.credentials.cool_for(credential, model, CredentialFault::Forbidden, at, now);
    }
    check::begin(resources, snapshot, RefusedCheck { refused: credential, chosen_at: at, successful, at: now });
}

fn cool(court: Court<'_>, chosen: &Chosen, fault: CredentialFault) {
    let (credential, at) = (chosen.turn.credential, chosen.at);
    if let Some(time) = court.credentials().cool(credential, fault, at, Instant::now()) {
        tell_rest(&court.resources.activity, court.snapshot, credential, fault, None, time);
    }
}

/// Lets an identity rest for the model or the kind of request, and as a whole where it rests for enough of them.
fn cool_for(court: Court<'_>, chosen: &Chosen, fault: CredentialFault) {
    let Some(scope) = court.scope() else { return };
    let (credential, at, now) = (chosen.turn.credential, chosen.at, Instant::now());
    let Some(time) = court.credentials().cool_for(credential, scope, fault, at, now) else { return };
    tell_rest(&court.resources.activity, court.snapshot, credential, fault, Some(scope), time);
    if court.credentials().is_at_fault_as_a_whole(credential, fault, now) {
        cool(court, chosen, fault);
    }
}

/// Lets other requests that are under way know of a 429. That of the only identity there is can be seen, and holds
/// nothing back.
fn note_limit(court: Court<'_>, chosen: &Chosen, Finding { retry_after, .. }: Finding) {
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
fn restore(court: Court<'_>, chosen: &Chosen) {
    let (credential, at) = (chosen.turn.credential, chosen.at);
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

    #[test]
    fn who_lets_go_of_a_suspicion_lifts_none_of_another_request() {
        let snapshot = snapshot("abc");
        let ids = ids(&snapshot);
        let (credentials, now) = (&snapshot.credentials, Instant::now());
        let other = || {
            let selector = snapshot.selector(snapshot.rotations.selection(None, None).expect("all"));
            selector.other(ids[0], &[], None, now).map(|turn| turn.credential)
        };
        let suspect = || Suspect {
            chosen: Chosen { turn: Turn::of(ids[1]), at: now },
            finding: Finding { class: AttemptClass::Unauthorized, retry_after: None },
            _suspicion: credentials.suspect(ids[1], now),
        };
        let (one, another) = (suspect(), suspect());
        drop(Blame { tried: Vec::new(), suspects: vec![one] });
        assert_eq!(other(), Some(ids[2]), "the other request still suspects it");
        drop(another);
        assert_eq!(other(), Some(ids[1]));
    }
}
