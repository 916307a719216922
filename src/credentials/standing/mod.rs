//! How one identity stands with the upstream: it works, cools down, is being probed or is suspected.
//!
//! All entries of an identity share one [`Standing`], in all snapshots that know it and on all shards. Invariant: a
//! state is an immutable value that one atomic swap replaces, so nobody waits and nobody sees half of a change. A
//! reading of the clock is always passed in. What the states mean for whose turn it is, is `balancer`'s business.

mod cooldown;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use self::cooldown::{Cooldown, FaultKind, Probe, Trouble};

pub(super) use self::cooldown::Availability;
pub use self::cooldown::CredentialFault;

/// How long a suspicion lasts that nobody lifts: as long as another credential takes to be refused, or not, in its place.
const SUSPICION_LIMIT: Duration = Duration::from_secs(1);

/// How long a good answer speaks for an identity that is refused: then it is the request, more likely than not.
const GOOD_NAME_SECONDS: u64 = 10;

/// A cooldown that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cooling {
    pub rest: Duration,
    /// By a 429; else it was refused.
    pub is_rate_limited: bool,
}

/// What a claim to a probe came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// The caller's request is the probe.
    Granted,
    /// Another request is the probe, and its outcome may still be waited for.
    InFlight,
    /// There is nothing to find out, or it takes too long to find out: the identity is used as if it were free.
    Needless,
}

/// How one identity stands with the upstream.
#[derive(Debug)]
pub(super) struct Standing {
    born: Instant,
    /// The second of its life in which it last got a good answer, counted from 1; 0 for never. Written once a second.
    last_good: AtomicU64,
    /// Whether `trouble` may hold something. A load of `trouble` itself writes to a slot that other threads look at (so
    /// `arc_swap` protects what was loaded); this one costs a plain read of a line that hardly ever changes.
    /// Invariant: once no change is under way, it is false only if `trouble` is `None`.
    may_be_in_trouble: AtomicBool,
    trouble: ArcSwapOption<Trouble>,
}

impl Default for Standing {
    fn default() -> Self {
        Standing {
            born: Instant::now(),
            last_good: AtomicU64::new(0),
            may_be_in_trouble: AtomicBool::new(false),
            trouble: ArcSwapOption::empty(),
        }
    }
}

impl Standing {
    /// Whether there is nothing to consider. Costs one load. A change that another thread is about to make may be seen
    /// a moment later, as if the question had been asked before.
    pub fn is_clear(&self) -> bool {
        !self.may_be_in_trouble.load(Ordering::Relaxed)
    }

    pub fn availability(&self, now: Instant) -> Availability {
        self.current().cooldown.map_or(Availability::Free, |cooldown| cooldown.availability(now))
    }

    pub fn is_suspected(&self, now: Instant) -> bool {
        let suspected_at = self.current().suspected_at;
        suspected_at.is_some_and(|at| now.saturating_duration_since(at) < SUSPICION_LIMIT)
    }

    /// How long it cools down from `now` on; `None` when it does not.
    pub fn cooling_for(&self, now: Instant) -> Option<Duration> {
        let cooldown = self.current().cooldown?;
        Some(cooldown.until.saturating_duration_since(now)).filter(|rest| !rest.is_zero())
    }

    /// What the present cooldown is for; `None` when it does not cool down.
    pub fn cooling(&self, now: Instant) -> Option<Cooling> {
        let cooldown = self.current().cooldown?;
        let rest = cooldown.until.saturating_duration_since(now);
        (!rest.is_zero()).then_some(Cooling { rest, is_rate_limited: cooldown.kind == FaultKind::RateLimited })
    }

    /// Begins a cooldown, or the next one, unless the attempt that tells of the fault began before the present one did:
    /// that fault is already paid for. Returns how long it cools down from `now` on if anything has changed.
    pub fn cool(&self, fault: CredentialFault, attempt_began: Instant, now: Instant) -> Option<Duration> {
        self.change(|trouble| {
            // Whose fault it is, is known now.
            let mut trouble = Trouble { suspected_at: None, ..trouble };
            if trouble.cooldown.is_some_and(|cooldown| attempt_began < cooldown.began) {
                return (trouble, None);
            }
            match Cooldown::behind(trouble.cooldown, fault, now) {
                Some(cooldown) => {
                    trouble.cooldown = Some(cooldown);
                    (trouble, Some(cooldown.until.saturating_duration_since(now)))
                }
                None => (trouble.without_probe(), None),
            }
        })
    }

    /// Clears what began before the attempt that got a good answer did. Returns whether a cooldown was among it.
    pub fn restore(&self, attempt_began: Instant) -> bool {
        if self.is_clear() {
            return false;
        }
        self.change(|trouble| {
            let cooldown = trouble.cooldown.filter(|cooldown| attempt_began < cooldown.began);
            let suspected_at = trouble.suspected_at.filter(|at| attempt_began < *at);
            (Trouble { cooldown, suspected_at }, cooldown.is_none() && trouble.cooldown.is_some())
        })
    }

    /// Takes the probe of a cooldown, so that one request alone finds out how it stands.
    pub fn claim_probe(&self, now: Instant) -> Claim {
        self.change(|trouble| {
            let Some(cooldown) = trouble.cooldown else { return (trouble, Claim::Needless) };
            match cooldown.probe(now) {
                Probe::Wanted => {
                    let cooldown = Some(Cooldown { probe_began: Some(now), ..cooldown });
                    (Trouble { cooldown, ..trouble }, Claim::Granted)
                }
                Probe::InFlight => (trouble, Claim::InFlight),
                Probe::Overdue => (trouble, Claim::Needless),
            }
        })
    }

    /// Lets another request be the probe.
    pub fn give_up_probe(&self) {
        self.change(|trouble| (trouble.without_probe(), ()));
    }

    /// It got a good answer at `now`.
    pub fn note_good(&self, now: Instant) {
        let second = self.second(now);
        if self.last_good.load(Ordering::Relaxed) != second {
            self.last_good.store(second, Ordering::Relaxed);
        }
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.born).as_secs() + 1
    }

    /// Not where a good answer speaks for it: requests that everybody refuses would else disturb the order of turns.
    pub fn suspect(&self, now: Instant) {
        let last_good = self.last_good.load(Ordering::Relaxed);
        if last_good > 0 && self.second(now).saturating_sub(last_good) < GOOD_NAME_SECONDS {
            return;
        }
        self.change(|trouble| (Trouble { suspected_at: trouble.suspected_at.max(Some(now)), ..trouble }, ()));
    }

    pub fn acquit(&self) {
        self.change(|trouble| (Trouble { suspected_at: None, ..trouble }, ()));
    }

    fn current(&self) -> Trouble {
        self.trouble.load().as_deref().copied().unwrap_or_default()
    }

    /// Replaces the state by what `step` makes of it, in one swap, and returns what else `step` says. It goes round
    /// again only when another thread's swap came in between, so some thread always gets on.
    fn change<T>(&self, step: impl Fn(Trouble) -> (Trouble, T)) -> T {
        let mut current = self.trouble.load();
        loop {
            let state = current.as_deref().copied().unwrap_or_default();
            let (next, result) = step(state);
            if next == state {
                return result;
            }
            let next = (next != Trouble::default()).then(|| Arc::new(next));
            // `current` keeps its value alive, so an equal pointer is the same value.
            let previous = self.trouble.compare_and_swap(&current, next);
            if previous.as_ref().map(Arc::as_ptr) == current.as_ref().map(Arc::as_ptr) {
                self.settle();
                return result;
            }
            current = previous;
        }
    }

    /// Makes the flag say what the state says. A swap that reads what another thread's wrote also sees the state that
    /// the other had made, hence the second look: whoever writes the flag last leaves it right.
    fn settle(&self) {
        loop {
            let is_in_trouble = self.trouble.load().is_some();
            self.may_be_in_trouble.swap(is_in_trouble, Ordering::AcqRel);
            if self.trouble.load().is_some() == is_in_trouble {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
