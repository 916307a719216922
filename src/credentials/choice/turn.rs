//! The outcome of a choice, and whom an object belongs to.

use crate::credentials::credential::CredentialId;
use crate::credentials::standing::HeldProbe;

/// The credential of a request.
#[derive(Debug)]
pub struct Turn {
    pub credential: CredentialId,
    /// They end with [`Credentials::restore`](crate::credentials::Credentials::restore),
    /// [`Credentials::cool`](crate::credentials::Credentials::cool), or when the turn is dropped.
    pub probes: ClaimedProbes,
}

/// The probes that a turn has claimed: the request finds out whether the credential works again, and others wait for
/// its outcome. That of the rest of the whole identity, and that of its rest for the request's model or family of paths.
/// Boxed: hardly any turn has one.
#[derive(Debug, Default)]
pub struct ClaimedProbes(Option<Box<(Option<HeldProbe>, Option<HeldProbe>)>>);

impl ClaimedProbes {
    pub fn new(whole: Option<HeldProbe>, scoped: Option<HeldProbe>) -> Self {
        let has_any = whole.is_some() || scoped.is_some();
        ClaimedProbes(has_any.then(|| Box::new((whole, scoped))))
    }

    /// Returns whether that of the whole identity is claimed, and that of the rest for the request.
    #[cfg(test)]
    pub fn are_held(&self) -> (bool, bool) {
        self.0.as_ref().map_or((false, false), |held| (held.0.is_some(), held.1.is_some()))
    }
}

impl Turn {
    /// Makes a turn that probes nothing.
    pub fn of(credential: CredentialId) -> Self {
        Turn { credential, probes: ClaimedProbes::default() }
    }

    pub fn is_probe(&self) -> bool {
        self.probes.0.is_some()
    }
}

/// The outcome of a turn.
#[derive(Debug)]
pub enum Choice {
    Use(Turn),
    /// All cool down, and the probe of the one that is free soonest is in flight: the exchange waits for its outcome,
    /// and then continues the turn of `preferred` by [`Selector::choose_again`](super::Selector::choose_again).
    Wait {
        credential: CredentialId,
        preferred: CredentialId,
    },
    /// Some identity rests for a model or a family of paths, so that the choice depends on the request's; it is made by
    /// [`Selector::choose_again`](super::Selector::choose_again) once that is known.
    Open {
        preferred: CredentialId,
    },
}

impl Choice {
    /// Returns whose name the request has until the choice is final.
    pub fn credential(&self) -> CredentialId {
        match self {
            Choice::Use(Turn { credential, .. })
            | Choice::Wait { credential, .. }
            | Choice::Open { preferred: credential } => *credential,
        }
    }
}

/// The credential that an object belongs to, as one request sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// It names no object, or one that nobody knows.
    Unknown,
    /// One that the request may use.
    Within(CredentialId),
    /// One that the request may not use.
    Outside,
}

impl Owner {
    /// Returns the credential, if the request may use it.
    pub fn within(self) -> Option<CredentialId> {
        match self {
            Owner::Within(credential) => Some(credential),
            Owner::Unknown | Owner::Outside => None,
        }
    }

    /// Returns the owner of several objects: of those that are known the first one, unless one is outside.
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Owner::Outside, _) | (_, Owner::Outside) => Owner::Outside,
            (Owner::Unknown, other) => other,
            (owner, _) => owner,
        }
    }
}
