//! How one identity stands with the upstream: it works, cools down, is being probed or is suspected.
//!
//! All entries of an identity share one [`Standing`], in all snapshots that know it and on all shards. Invariant: a
//! state is an immutable value that one atomic swap replaces, so nobody waits and nobody sees half of a change. A
//! reading of the clock is always passed in. What the states mean for whose turn it is, is `balancer`'s business.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

/// A refused credential is mostly one that somebody must mend by hand: looking often does not help.
const REFUSED_COOLDOWN: Duration = Duration::from_secs(5 * 60);
/// Half of the minute that rate limits are counted over, for an answer that does not say how long.
const RATE_LIMITED_COOLDOWN: Duration = Duration::from_secs(30);
/// However often it doubles and whatever the upstream asks for: a credential that works again is noticed within this.
const COOLDOWN_MAX: Duration = Duration::from_secs(60 * 60);
/// How long the others wait for a probe. Real answers take longer to their first byte, a refusal does not: a probe that
/// has said nothing for so long was most likely let in.
const PROBE_LIMIT: Duration = Duration::from_secs(1);
/// How long a suspicion lasts that nobody lifts: as long as another credential takes to be refused, or not, in its place.
const SUSPICION_LIMIT: Duration = Duration::from_secs(1);

/// How long a good answer speaks for an identity that is refused: then it is the request, more likely than not.
const GOOD_NAME_SECONDS: u64 = 10;

/// What the upstream holds against a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 401 or 403, and another credential got something else for the same request.
    Refused,
    /// 429, and how long the upstream asked to be left alone.
    RateLimited { retry_after: Option<Duration> },
}

impl Fault {
    fn kind(self) -> FaultKind {
        match self {
            Fault::Refused => FaultKind::Refused,
            Fault::RateLimited { .. } => FaultKind::RateLimited,
        }
    }
}

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

/// How an identity can be used at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Availability {
    Free,
    /// Its cooldown has ended and no request has tried yet whether it works.
    AwaitsProbe,
    /// It cools down until then; or it did, and its probe is in flight.
    Held {
        until: Instant,
    },
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
    pub fn cool(&self, fault: Fault, attempt_began: Instant, now: Instant) -> Option<Duration> {
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

/// What is held against an identity; nothing by default, which is stored as `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Trouble {
    cooldown: Option<Cooldown>,
    suspected_at: Option<Instant>,
}

impl Trouble {
    fn without_probe(self) -> Self {
        Trouble { cooldown: self.cooldown.map(|cooldown| Cooldown { probe_began: None, ..cooldown }), ..self }
    }
}

/// One period in which an identity is not used, and what comes of it behind its end. It stays on record until the
/// identity gets a good answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cooldown {
    kind: FaultKind,
    /// How many in a row, with this one, took their length from the doubling.
    doublings: u32,
    began: Instant,
    until: Instant,
    probe_began: Option<Instant>,
}

/// By which the doubling goes on, or starts anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FaultKind {
    Refused,
    RateLimited,
}

/// What is to be done about the probe of a cooldown.
enum Probe {
    Wanted,
    InFlight,
    Overdue,
}

impl Cooldown {
    /// The cooldown for `fault` behind the `previous` one; `None` when the upstream asked for no wait at all.
    fn behind(previous: Option<Cooldown>, fault: Fault, now: Instant) -> Option<Self> {
        let kind = fault.kind();
        let doublings = previous.filter(|previous| previous.kind == kind).map_or(0, |previous| previous.doublings);
        let (length, doublings) = match fault {
            Fault::Refused => (doubled(REFUSED_COOLDOWN, doublings), doublings.saturating_add(1)),
            Fault::RateLimited { retry_after: None } => {
                (doubled(RATE_LIMITED_COOLDOWN, doublings), doublings.saturating_add(1))
            }
            Fault::RateLimited { retry_after: Some(Duration::ZERO) } => return None,
            Fault::RateLimited { retry_after: Some(wait) } => (wait.min(COOLDOWN_MAX), doublings),
        };
        // A later deadline never shortens an earlier one.
        let until = previous.map_or(now + length, |previous| previous.until.max(now + length));
        Some(Cooldown { kind, doublings, began: now, until, probe_began: None })
    }

    fn availability(&self, now: Instant) -> Availability {
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

    fn probe(&self, now: Instant) -> Probe {
        match self.probe_began {
            Some(began) if now.saturating_duration_since(began) < PROBE_LIMIT => Probe::InFlight,
            // One that began while it cooled down, because all others did too, says nothing of the time behind the end.
            Some(began) if began < self.until && self.until <= now => Probe::Wanted,
            Some(_) => Probe::Overdue,
            None => Probe::Wanted,
        }
    }
}

fn doubled(first: Duration, doublings: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(doublings)).min(COOLDOWN_MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);
    const RATE_LIMITED: Fault = Fault::RateLimited { retry_after: None };

    fn retry_after(wait: Duration) -> Fault {
        Fault::RateLimited { retry_after: Some(wait) }
    }

    /// The lengths, in seconds, of cooldowns for `faults`, each by an attempt that began behind the one before.
    fn lengths(faults: &[Fault]) -> Vec<Option<u64>> {
        let standing = Standing::default();
        let mut now = Instant::now();
        let mut cool = |fault: &Fault| {
            let length = standing.cool(*fault, now, now);
            now += length.unwrap_or_default();
            length.map(|length| length.as_secs())
        };
        faults.iter().map(&mut cool).collect()
    }

    #[test]
    fn a_good_answer_speaks_against_a_suspicion_for_some_seconds() {
        let (standing, start) = (Standing::default(), Instant::now());
        standing.note_good(start);
        standing.suspect(start + 5 * SECOND);
        assert!(!standing.is_suspected(start + 5 * SECOND));
        standing.suspect(start + 11 * SECOND);
        assert!(standing.is_suspected(start + 11 * SECOND));
    }

    #[test]
    fn a_refusal_costs_5_minutes_and_doubles_to_an_hour() {
        let expected = [300, 600, 1200, 2400, 3600, 3600].map(Some);
        assert_eq!(lengths(&[Fault::Refused; 6]), expected);
        assert_eq!(lengths(&[Fault::Refused; 80]).last(), Some(&Some(3600)));
    }

    #[test]
    fn a_rate_limit_costs_30_s_and_doubles_to_an_hour() {
        let expected = [30, 60, 120, 240, 480, 960, 1920, 3600, 3600].map(Some);
        assert_eq!(lengths(&[RATE_LIMITED; 9]), expected);
    }

    #[test]
    fn a_rate_limit_costs_what_the_upstream_says_up_to_an_hour() {
        let faults = [retry_after(7 * SECOND), retry_after(7 * SECOND), retry_after(100 * 60 * MINUTE)];
        assert_eq!(lengths(&faults), [Some(7), Some(7), Some(3600)]);
        // It is not one of those that double.
        assert_eq!(lengths(&[RATE_LIMITED, retry_after(SECOND), RATE_LIMITED]), [Some(30), Some(1), Some(60)]);
    }

    #[test]
    fn no_wait_asked_for_is_no_cooldown_and_ends_a_probe() {
        assert_eq!(lengths(&[retry_after(Duration::ZERO), Fault::Refused]), [None, Some(300)]);
        let (standing, start) = (Standing::default(), Instant::now());
        standing.cool(RATE_LIMITED, start, start);
        let end = start + 30 * SECOND;
        assert_eq!(standing.claim_probe(end), Claim::Granted);
        assert_eq!(standing.cool(retry_after(Duration::ZERO), end, end), None);
        assert_eq!(standing.claim_probe(end), Claim::Granted);
    }

    #[test]
    fn another_kind_of_fault_starts_anew() {
        let faults = [Fault::Refused, Fault::Refused, RATE_LIMITED, RATE_LIMITED, Fault::Refused];
        assert_eq!(lengths(&faults), [300, 600, 30, 60, 300].map(Some));
    }

    #[test]
    fn answers_to_attempts_that_began_before_a_cooldown_do_not_lengthen_it() {
        let (standing, start) = (Standing::default(), Instant::now());
        assert_eq!(standing.cool(Fault::Refused, start, start + SECOND), Some(5 * MINUTE));
        assert_eq!(standing.cool(Fault::Refused, start, start + MINUTE), None);
        assert_eq!(standing.cool(RATE_LIMITED, start + SECOND / 2, start + MINUTE), None);
        assert_eq!(standing.cooling_for(start + MINUTE), Some(4 * MINUTE + SECOND));
        // Not behind its end either.
        assert_eq!(standing.cool(Fault::Refused, start, start + 10 * MINUTE), None);
        assert_eq!(standing.cool(Fault::Refused, start + SECOND, start + 10 * MINUTE), Some(10 * MINUTE));
    }

    #[test]
    fn a_later_deadline_never_shortens_an_earlier_one() {
        let (standing, start) = (Standing::default(), Instant::now());
        standing.cool(Fault::Refused, start, start);
        assert_eq!(standing.cool(RATE_LIMITED, start + MINUTE, start + MINUTE), Some(4 * MINUTE));
        assert_eq!(standing.cooling_for(start + MINUTE), Some(4 * MINUTE));
    }

    #[test]
    fn a_cooldown_ends_by_itself() {
        let (standing, start) = (Standing::default(), Instant::now());
        standing.cool(RATE_LIMITED, start, start);
        let end = start + 30 * SECOND;
        assert_eq!(standing.availability(end - SECOND), Availability::Held { until: end });
        assert_eq!(standing.cooling_for(end - SECOND), Some(SECOND));
        assert_eq!(standing.availability(end), Availability::AwaitsProbe);
        assert_eq!(standing.cooling_for(end), None);
    }

    #[test]
    fn a_good_answer_clears_everything_unless_its_attempt_began_before() {
        let (standing, start) = (Standing::default(), Instant::now());
        assert!(!standing.restore(start), "nothing was wrong");
        standing.cool(Fault::Refused, start, start + SECOND);
        standing.suspect(start + SECOND);
        assert!(!standing.restore(start));
        assert_eq!(standing.cooling_for(start + SECOND), Some(5 * MINUTE));
        assert!(standing.is_suspected(start + SECOND));
        assert!(standing.restore(start + SECOND));
        assert!(standing.is_clear() && !standing.is_suspected(start + SECOND));
        assert_eq!(standing.availability(start + SECOND), Availability::Free);
        assert!(!standing.restore(start + SECOND), "told once");
        assert_eq!(standing.cool(Fault::Refused, start + SECOND, start + SECOND), Some(5 * MINUTE), "no doubling");
    }

    #[test]
    fn a_suspicion_that_is_lifted_is_no_recovery() {
        let (standing, start) = (Standing::default(), Instant::now());
        standing.suspect(start);
        assert!(standing.is_suspected(start + SECOND - Duration::from_nanos(1)));
        assert!(!standing.is_suspected(start + SECOND), "it ends by itself");
        assert!(!standing.restore(start));
        assert!(standing.is_clear());
        standing.suspect(start);
        standing.acquit();
        assert!(standing.is_clear());
        standing.suspect(start);
        standing.cool(RATE_LIMITED, start, start);
        assert!(!standing.is_suspected(start), "now it is known");
    }

    #[test]
    fn a_probe_belongs_to_one_and_counts_for_a_second() {
        let (standing, start) = (Standing::default(), Instant::now());
        assert_eq!(standing.claim_probe(start), Claim::Needless, "there is nothing to find out");
        standing.cool(RATE_LIMITED, start, start);
        let end = start + 30 * SECOND;
        assert_eq!(standing.claim_probe(end), Claim::Granted);
        assert_eq!(standing.claim_probe(end), Claim::InFlight);
        assert_eq!(standing.availability(end), Availability::Held { until: end });
        assert_eq!(standing.claim_probe(end + SECOND), Claim::Needless);
        assert_eq!(standing.availability(end + SECOND), Availability::Free);
        standing.give_up_probe();
        assert_eq!(standing.claim_probe(end + SECOND), Claim::Granted);
    }

    #[test]
    fn the_flag_follows_the_state_under_threads() {
        const THREADS: usize = 2;
        let (standing, start) = (Standing::default(), Instant::now());
        let all = Barrier::new(THREADS);
        let hammer = || {
            for _ in 0..20_000 {
                all.wait();
                standing.cool(Fault::Refused, start, start);
                standing.restore(start);
                standing.suspect(start);
                all.wait();
                // Nobody changes anything until all have looked.
                assert_eq!(standing.is_clear(), standing.trouble.load().is_none());
                all.wait();
                standing.acquit();
            }
        };
        std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(hammer))));
    }
}
