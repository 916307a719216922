//! The conclusions that one exchange draws about credentials from the answers of its attempts.
//!
//! A refusal or a limit is the credential's fault or the request's: the next answer, to another credential, tells. Until
//! then the credential is a suspect. Invariant: every suspicion, and every probe that others wait for, is settled or let
//! go of at the exchange's end.

use std::time::{Duration, Instant};

use crate::credentials::{CredentialFault, CredentialId, Credentials, Turn};
use crate::observability::{CooldownReason, Count};
use crate::proxy::attempt_class::AttemptClass;
use crate::proxy::resources::Resources;

/// A turn, and the time at which its credential was chosen.
#[derive(Debug, Clone, Copy)]
pub struct Chosen {
    pub turn: Turn,
    pub at: Instant,
}

/// The credentials that were of no use to one exchange.
#[derive(Default)]
pub struct Blame {
    /// Refused or limited: of no further use to this request.
    tried: Vec<CredentialId>,
    suspects: Vec<Suspect>,
}

/// A credential that was refused or limited, while it is not known whether that is its fault or the request's.
struct Suspect {
    chosen: Chosen,
    class: AttemptClass,
}

impl Blame {
    /// Returns the credentials that this request need not try again.
    pub fn tried(&self) -> &[CredentialId] {
        &self.tried
    }

    /// Draws the conclusions of an answer to `chosen`. If the turn was a probe, the suspect holds it from here on.
    pub fn judge(
        &mut self,
        resources: &Resources,
        credentials: &Credentials,
        chosen: &mut Chosen,
        class: AttemptClass,
        retry_after: Option<Duration>,
    ) {
        // A front door that cannot reach what is behind it says nothing of any credential.
        if class == AttemptClass::Unavailable {
            return;
        }
        if class == AttemptClass::NotFound {
            // It is about the object alone.
            return self.tried.push(chosen.turn.credential);
        }
        self.convict(resources, credentials, class);
        let credential = chosen.turn.credential;
        match class {
            AttemptClass::RateLimited if retry_after.is_some() => {
                cool(resources, credentials, *chosen, CredentialFault::RateLimited { retry_after });
                self.tried.push(credential);
            }
            AttemptClass::Refused | AttemptClass::RateLimited => {
                credentials.suspect(credential, Instant::now());
                self.suspects.push(Suspect { chosen: *chosen, class });
                chosen.turn.is_probe = false;
                self.tried.push(credential);
            }
            _ if credentials.restore(credential, chosen.at, Instant::now()) => {
                resources.activity.counters.add(Count::Recoveries);
                tracing::info!(credential = credentials.entry(credential).name, "credential works again");
            }
            _ => {}
        }
    }

    /// Blames the suspects that had another answer than this one: the request is the same, so it was the credential.
    fn convict(&mut self, resources: &Resources, credentials: &Credentials, class: AttemptClass) {
        for suspect in self.suspects.extract_if(.., |suspect| suspect.class != class) {
            let fault = match suspect.class {
                AttemptClass::RateLimited => CredentialFault::RateLimited { retry_after: None },
                _ => CredentialFault::Refused,
            };
            cool(resources, credentials, suspect.chosen, fault);
        }
    }

    /// Lets go of what the exchange could not find out: others may.
    pub fn release(&mut self, credentials: &Credentials) {
        for Suspect { chosen: Chosen { turn, .. }, .. } in self.suspects.drain(..) {
            credentials.acquit(turn.credential);
            if turn.is_probe {
                credentials.give_up_probe(turn.credential);
            }
        }
    }
}

fn cool(resources: &Resources, credentials: &Credentials, chosen: Chosen, fault: CredentialFault) {
    let Chosen { turn: Turn { credential, .. }, at } = chosen;
    if let Some(duration) = credentials.cool(credential, fault, at, Instant::now()) {
        resources.activity.counters.add(Count::Cooldowns);
        let reason = match fault {
            CredentialFault::Refused => CooldownReason::Refused,
            CredentialFault::RateLimited { .. } => CooldownReason::RateLimited,
        };
        tracing::warn!(
            credential = credentials.entry(credential).name,
            reason = display(reason.as_str()),
            seconds = duration.as_secs_f64().ceil() as u64,
            "credential cools down"
        );
    }
}
