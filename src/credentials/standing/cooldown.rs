//! A cooldown: its length, and the probe after its end.

use std::time::{Duration, Instant};

/// First cooldown of a refused credential, which mostly needs an operator to repair it: retrying often does not help.
const REFUSED_COOLDOWN: Duration = Duration::from_secs(5 * 60);

/// First cooldown for a 429 that does not say how long: half of the minute that rate limits are counted over.
const RATE_LIMITED_COOLDOWN: Duration = Duration::from_secs(30);

/// First cooldown for a quota that is used up: most are renewed by the day or the month, some are raised by hand.
const QUOTA_COOLDOWN: Duration = Duration::from_secs(15 * 60);

/// Limit on a cooldown for a used-up quota, however often it doubles: a few looks a day.
const QUOTA_COOLDOWN_MAX: Duration = Duration::from_secs(6 * 60 * 60);

/// The time for which an identity is left alone for a model that it may not use. Such a right changes by hand.
const FORBIDDEN_COOLDOWN: Duration = Duration::from_secs(10 * 60);

/// Limit on any other cooldown, however often it doubles and whatever the upstream asks for: a credential that works
/// again is noticed within this.
const COOLDOWN_MAX: Duration = Duration::from_secs(60 * 60);

/// Time for which others wait for a probe. Real answers take longer to their first byte, a refusal does not: a probe
/// without an answer for so long was most likely accepted.
const PROBE_LIMIT: Duration = Duration::from_secs(1);

/// Time after which a suspicion ends by itself: as long as another credential takes to be refused, or not, in its
/// place.
const SUSPICION_LIMIT: Duration = Duration::from_secs(1);

/// The fault for which a credential cools down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialFault {
    /// 401, and another identity got a good answer to the same request; or 403, and a check has confirmed it.
    Refused,
    /// 403 for one model.
    Forbidden,
    /// 429, and how long the upstream asked to be left alone.
    RateLimited { retry_after: Option<Duration> },
    /// Its quota is used up.
    QuotaUsedUp,
}

impl CredentialFault {
    pub fn kind(self) -> FaultKind {
        match self {
            CredentialFault::Refused => FaultKind::Refused,
            CredentialFault::Forbidden => FaultKind::Forbidden,
            CredentialFault::RateLimited { .. } => FaultKind::RateLimited,
            CredentialFault::QuotaUsedUp => FaultKind::QuotaUsedUp,
        }
    }
}

/// Returns for how long a 429 asks to be left alone: as long as it says, within the limit of a cooldown, or half a
/// minute.
pub fn limited_for(retry_after: Option<Duration>) -> Duration {
    retry_after.map_or(RATE_LIMITED_COOLDOWN, |wait| wait.min(COOLDOWN_MAX))
}

/// Tells one claim of an exchange on an identity, to its probe or of a suspicion, from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimNumber(pub u64);

/// The availability of an identity at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    Free,
    /// Its cooldown has ended and no request has probed yet whether it works.
    AwaitsProbe,
    /// It cools down until then; or it did, and its probe is in flight.
    Held {
        until: Instant,
    },
}

impl Availability {
    /// Returns the availability of what needs both: the later end, and a probe where either awaits one.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Availability::Held { until: one }, Availability::Held { until: other }) => {
                Availability::Held { until: one.max(other) }
            }
            (held @ Availability::Held { .. }, _) | (_, held @ Availability::Held { .. }) => held,
            (Availability::AwaitsProbe, _) | (_, Availability::AwaitsProbe) => Availability::AwaitsProbe,
            (Availability::Free, Availability::Free) => Availability::Free,
        }
    }
}

/// The cooldown, the block and the suspicion of an identity; none by default, which is stored as `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trouble {
    pub cooldown: Option<Cooldown>,
    pub block: Option<UserBlock>,
    pub suspicion: Option<Suspicion>,
}

/// The suspicions of all exchanges that began while there was one already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspicion {
    /// The time of the newest.
    pub at: Instant,
    /// The claim of the first; all have it.
    pub number: ClaimNumber,
    /// The number of exchanges that have one.
    pub holders: u32,
}

/// The rest of an identity whose user the upstream says is blocked. Beside a cooldown, since it is the upstream's word
/// that begins and ends it: no answer to a request does, and no probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserBlock {
    pub began: Instant,
    pub until: Instant,
}

impl Trouble {
    pub fn is_blocked(&self, now: Instant) -> bool {
        self.block.is_some_and(|block| now < block.until)
    }

    pub fn availability(&self, now: Instant) -> Availability {
        let cooldown = self.cooldown.map_or(Availability::Free, |cooldown| cooldown.availability(now));
        match self.block {
            Some(UserBlock { until, .. }) if now < until => cooldown.and(Availability::Held { until }),
            _ => cooldown,
        }
    }

    pub fn is_suspected(&self, now: Instant) -> bool {
        self.suspicion.is_some_and(|suspicion| now.saturating_duration_since(suspicion.at) < SUSPICION_LIMIT)
    }

    /// Returns the state without this probe, where it is the present one.
    pub fn without_probe(self, number: ClaimNumber) -> Self {
        let is_this = |cooldown: &Cooldown| cooldown.probe.is_some_and(|probe| probe.number == number);
        match self.cooldown.filter(is_this) {
            Some(cooldown) => Trouble { cooldown: Some(Cooldown { probe: None, ..cooldown }), ..self },
            None => self,
        }
    }

    /// Returns the state with one suspicion more; it is known by `number` if it is the first.
    pub fn suspected(self, number: ClaimNumber, now: Instant) -> Self {
        let first = Suspicion { at: now, number, holders: 0 };
        let Suspicion { at, number, holders } = self.suspicion.unwrap_or(first);
        let suspicion = Suspicion { at: at.max(now), number, holders: holders.saturating_add(1) };
        Trouble { suspicion: Some(suspicion), ..self }
    }

    /// Returns the state with one suspicion of this number less.
    pub fn acquitted(self, number: ClaimNumber) -> Self {
        let suspicion = match self.suspicion {
            Some(suspicion) if suspicion.number == number => {
                let holders = suspicion.holders - 1;
                (holders > 0).then_some(Suspicion { holders, ..suspicion })
            }
            other => other,
        };
        Trouble { suspicion, ..self }
    }
}

/// One period in which an identity is not used, and its state after that. It stays on record until the identity gets a
/// good answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cooldown {
    pub kind: FaultKind,
    /// Number of cooldowns in a row, with this one, whose length came from the doubling.
    pub doublings: u32,
    pub began: Instant,
    pub until: Instant,
    /// The end that it had before it was prolonged until the quota's renewal.
    pub without_renewal: Option<Instant>,
    pub probe: Option<ProbeInFlight>,
}

/// The probe of a cooldown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeInFlight {
    pub began: Instant,
    pub number: ClaimNumber,
}

/// The kind of a fault; the doubling starts anew when it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    Refused,
    Forbidden,
    RateLimited,
    QuotaUsedUp,
    /// The upstream says that its user is blocked.
    QuotaBlocked,
}

impl FaultKind {
    /// Returns its name in the log, the metrics and the readiness page.
    pub fn as_str(self) -> &'static str {
        match self {
            FaultKind::Refused => "refused",
            FaultKind::Forbidden => "forbidden",
            FaultKind::RateLimited => "rate_limited",
            FaultKind::QuotaUsedUp => "quota_used_up",
            FaultKind::QuotaBlocked => "quota_blocked",
        }
    }
}

/// The state of the probe of a cooldown.
pub enum Probe {
    Wanted,
    InFlight,
    Overdue,
}

impl Cooldown {
    /// Makes the cooldown for `fault` after the `previous` one; `None` when the upstream asked for no wait at all.
    pub fn after(previous: Option<Cooldown>, fault: CredentialFault, now: Instant) -> Option<Self> {
        let kind = fault.kind();
        let doublings = previous.filter(|previous| previous.kind == kind).map_or(0, |previous| previous.doublings);
        let (length, doublings) = match fault {
            CredentialFault::Refused => {
                (doubled(REFUSED_COOLDOWN, doublings, COOLDOWN_MAX), doublings.saturating_add(1))
            }
            CredentialFault::RateLimited { retry_after: None } => {
                (doubled(RATE_LIMITED_COOLDOWN, doublings, COOLDOWN_MAX), doublings.saturating_add(1))
            }
            CredentialFault::QuotaUsedUp => {
                (doubled(QUOTA_COOLDOWN, doublings, QUOTA_COOLDOWN_MAX), doublings.saturating_add(1))
            }
            CredentialFault::Forbidden => (FORBIDDEN_COOLDOWN, doublings),
            CredentialFault::RateLimited { retry_after: Some(Duration::ZERO) } => return None,
            CredentialFault::RateLimited { retry_after } => (limited_for(retry_after), doublings),
        };
        // A later deadline never shortens an earlier one.
        let end = now + length;
        let until = previous.map_or(end, |previous| previous.until.max(end));
        let without_renewal = previous.and_then(|previous| previous.without_renewal).map(|before| before.max(end));
        let without_renewal = without_renewal.filter(|end| *end < until);
        Some(Cooldown { kind, doublings, began: now, until, without_renewal, probe: None })
    }

    /// Makes one that lasts until the quota's renewal at least.
    pub fn until_renewal(self, renewal: Instant) -> Self {
        if self.kind != FaultKind::QuotaUsedUp || renewal <= self.until {
            return self;
        }
        Cooldown { until: renewal, without_renewal: Some(self.without_renewal.unwrap_or(self.until)), ..self }
    }

    /// Makes one that ends as if no renewal were known.
    pub fn shortened(self) -> Self {
        Cooldown { until: self.without_renewal.unwrap_or(self.until), without_renewal: None, ..self }
    }

    pub fn availability(&self, now: Instant) -> Availability {
        let held = Availability::Held { until: self.until };
        if now < self.until {
            return held;
        }
        match self.probe(now) {
            Probe::Wanted => Availability::AwaitsProbe,
            Probe::InFlight => held,
            Probe::Overdue => Availability::Free,
        }
    }

    pub fn probe(&self, now: Instant) -> Probe {
        match self.probe.map(|probe| probe.began) {
            Some(began) if now.saturating_duration_since(began) < PROBE_LIMIT => Probe::InFlight,
            // One that began during the cooldown, because all others cooled down too, says nothing of the time after
            // it.
            Some(began) if began < self.until && self.until <= now => Probe::Wanted,
            Some(_) => Probe::Overdue,
            None => Probe::Wanted,
        }
    }
}

fn doubled(first: Duration, doublings: u32, max: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(doublings)).min(max)
}
