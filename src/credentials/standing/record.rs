//! The record of one identity: it works, cools down, is being probed or is suspected. One model, or one family of
//! paths, for which it rests has a record of its own.
//!
//! Invariant: a state is an immutable value that one atomic swap replaces, so nobody waits and nobody sees half of a
//! change. The time is always passed in. The effect of the states on whose turn it is, is up to `balancer`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use super::cooldown::{Availability, Cooldown, CredentialFault, FaultKind, Probe, Trouble, UserBlock};

/// Time after which a suspicion ends by itself: as long as another credential takes to be refused, or not, in its
/// place.
const SUSPICION_LIMIT: Duration = Duration::from_secs(1);

/// Time for which a good answer speaks for an identity that is then refused: more likely than not the request is to
/// blame.
const GOOD_NAME_MILLISECONDS: u64 = 10_000;

/// Time between two notes of good answers: some dozens of writes a second disturb no shard.
const GOOD_STEP_MILLISECONDS: u64 = 16;

/// Time between two checks of one identity: they cost the upstream requests that nobody asked for.
const CHECK_PAUSE_SECONDS: u64 = 60;

/// The bits of a standing's flags: its own trouble, and a rest for a model or a family of paths.
const IN_TROUBLE: u8 = 1;
const HAS_SCOPED: u8 = 2;

/// A rest that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cooling {
    pub kind: FaultKind,
    pub began: Instant,
    pub until: Instant,
}

/// The outcome of a claim to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The caller's request is the probe.
    Granted,
    /// Another request is the probe, and its outcome may still be waited for.
    InFlight,
    /// There is nothing to probe, or the probe takes too long: the identity is used as if it were free.
    Needless,
}

/// The outcome of a claim to a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckClaim {
    /// The caller makes the check.
    Granted,
    /// Another makes it, and concludes for all refusals meanwhile.
    UnderWay,
    /// There was one within the minute.
    Needless,
}

/// The standing of one identity with the upstream: it works, cools down, is being probed or is suspected.
#[derive(Debug)]
pub struct Standing {
    born: Instant,
    /// The millisecond of its life, counted from 1, of its last good answer; 0 for none. Written at most once in
    /// [`GOOD_STEP_MILLISECONDS`] while there is nothing to consider.
    last_good: AtomicU64,
    /// The second of its life, counted from 1, of its last check; 0 for none.
    last_check: AtomicU64,
    is_being_checked: AtomicBool,
    /// [`IN_TROUBLE`] when `trouble` may hold something, [`HAS_SCOPED`] when the table of rests may. A load of
    /// `trouble` itself writes to a slot that other threads read (so `arc_swap` protects what was loaded); this one
    /// costs a plain read of a line that hardly ever changes.
    flags: AtomicU8,
    trouble: ArcSwapOption<Trouble>,
}

impl Default for Standing {
    fn default() -> Self {
        Standing {
            born: Instant::now(),
            last_good: AtomicU64::new(0),
            last_check: AtomicU64::new(0),
            is_being_checked: AtomicBool::new(false),
            flags: AtomicU8::new(0),
            trouble: ArcSwapOption::empty(),
        }
    }
}

impl Standing {
    /// Returns whether there is nothing to consider. Costs one load. A change that another thread is about to make may
    /// be seen a moment later, as if the question had been asked before.
    pub fn is_clear(&self) -> bool {
        self.flags.load(Ordering::Relaxed) == 0
    }

    /// Returns whether it may rest for a model or a family of paths.
    pub fn has_scoped(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & HAS_SCOPED != 0
    }

    pub fn availability(&self, now: Instant) -> Availability {
        self.current().availability(now)
    }

    pub fn is_suspected(&self, now: Instant) -> bool {
        let suspected_at = self.current().suspected_at;
        suspected_at.is_some_and(|at| now.saturating_duration_since(at) < SUSPICION_LIMIT)
    }

    /// Returns how long it cools down from `now` on; `None` when it does not.
    pub fn cooling_for(&self, now: Instant) -> Option<Duration> {
        self.cooling(now).map(|cooling| cooling.until.saturating_duration_since(now))
    }

    /// Returns the present cooldown, or the block if that ends later; `None` when there is neither.
    pub fn cooling(&self, now: Instant) -> Option<Cooling> {
        let Trouble { cooldown, block, .. } = self.current();
        let cooldown = cooldown.map(|Cooldown { kind, began, until, .. }| Cooling { kind, began, until });
        let block = block.map(|UserBlock { began, until }| Cooling { kind: FaultKind::QuotaBlocked, began, until });
        let present = cooldown.into_iter().chain(block).filter(|cooling| now < cooling.until);
        present.max_by_key(|cooling| cooling.until)
    }

    /// Returns whether its user is blocked.
    pub fn is_blocked(&self, now: Instant) -> bool {
        self.current().is_blocked(now)
    }

    /// Returns the last cooldown, which may have ended, as long as no good answer has cleared it.
    pub fn last_cooldown(&self) -> Option<Cooldown> {
        self.current().cooldown
    }

    /// Begins a cooldown, or the next one, unless the faulty attempt began before the present one did: that one covers
    /// the fault. Returns how long it cools down from `now` on if anything has changed.
    pub fn cool(&self, fault: CredentialFault, attempt_began: Instant, now: Instant) -> Option<Duration> {
        self.change(|trouble| {
            // It is known now that the credential is to blame.
            let mut trouble = Trouble { suspected_at: None, ..trouble };
            if trouble.cooldown.is_some_and(|cooldown| attempt_began < cooldown.began) {
                return (trouble, None);
            }
            match Cooldown::after(trouble.cooldown, fault, now) {
                Some(cooldown) => {
                    trouble.cooldown = Some(cooldown);
                    (trouble, Some(cooldown.until.saturating_duration_since(now)))
                }
                None => (trouble.without_probe(), None),
            }
        })
    }

    /// Lets a cooldown for a used-up quota last until its renewal. Returns how long it cools down from `now` on.
    pub fn cool_until_renewal(&self, renewal: Instant, now: Instant) -> Option<Duration> {
        self.change(|trouble| {
            let cooldown = trouble.cooldown.map(|cooldown| cooldown.until_renewal(renewal));
            let time = cooldown.map(|cooldown| cooldown.until.saturating_duration_since(now));
            (Trouble { cooldown, ..trouble }, time)
        })
    }

    /// Leaves it alone until then, since its user is blocked. Returns whether that begins now.
    pub fn block(&self, until: Instant, now: Instant) -> bool {
        self.change(|trouble| {
            let present = trouble.block.filter(|_| trouble.is_blocked(now));
            let began = present.map_or(now, |block| block.began);
            (Trouble { block: Some(UserBlock { began, until }), ..trouble }, present.is_none())
        })
    }

    /// Ends the block, since its user is not blocked.
    pub fn unblock(&self) {
        if !self.is_clear() {
            self.change(|trouble| (Trouble { block: None, ..trouble }, ()));
        }
    }

    /// Lets it wait for a renewal no longer, since there is more to spend before that.
    pub fn shorten(&self) {
        if !self.is_clear() {
            self.change(|trouble| (Trouble { cooldown: trouble.cooldown.map(Cooldown::shortened), ..trouble }, ()));
        }
    }

    /// Clears what began before the attempt that got a good answer, but a block only where that has ended. Returns
    /// whether a cooldown was cleared.
    pub fn restore(&self, attempt_began: Instant) -> bool {
        if self.is_clear() {
            return false;
        }
        self.change(|trouble| {
            let cooldown = trouble.cooldown.filter(|cooldown| attempt_began < cooldown.began);
            let suspected_at = trouble.suspected_at.filter(|at| attempt_began < *at);
            let block = trouble.block.filter(|block| attempt_began < block.until);
            (Trouble { cooldown, block, suspected_at }, cooldown.is_none() && trouble.cooldown.is_some())
        })
    }

    /// Clears all that is held against it. Returns whether it cooled down.
    pub fn wake(&self, now: Instant) -> bool {
        self.change(|trouble| {
            let is_cooling = trouble.cooldown.is_some_and(|cooldown| now < cooldown.until);
            (Trouble::default(), is_cooling || trouble.is_blocked(now))
        })
    }

    /// Claims the probe of a cooldown, so that a single request finds out how it stands. There is none during a block.
    pub fn claim_probe(&self, now: Instant) -> Claim {
        self.change(|trouble| {
            let cooldown = trouble.cooldown.filter(|_| !trouble.is_blocked(now));
            let Some(cooldown) = cooldown else { return (trouble, Claim::Needless) };
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

    /// Gives the probe up, so that another request may be it.
    pub fn give_up_probe(&self) {
        self.change(|trouble| (trouble.without_probe(), ()));
    }

    /// Notes a good answer at `now`.
    pub fn note_good(&self, now: Instant) {
        let noted = self.millisecond(now);
        let last = self.last_good.load(Ordering::Relaxed);
        if last < noted
            && (noted / GOOD_STEP_MILLISECONDS != last / GOOD_STEP_MILLISECONDS || last == 0 || !self.is_clear())
        {
            self.last_good.store(noted, Ordering::Relaxed);
        }
    }

    /// Returns whether it got a good answer at `since` or later, as far as was noted.
    pub fn was_good_since(&self, since: Instant) -> bool {
        let last = self.last_good.load(Ordering::Relaxed);
        last > 0 && last >= self.millisecond(since)
    }

    /// Claims the check of this minute; whoever gets it ends it by [`Standing::end_check`].
    pub fn claim_check(&self, now: Instant) -> CheckClaim {
        let second = now.saturating_duration_since(self.born).as_secs() + 1;
        let last = self.last_check.load(Ordering::Relaxed);
        let is_due = last == 0 || second.saturating_sub(last) >= CHECK_PAUSE_SECONDS;
        if is_due && self.last_check.compare_exchange(last, second, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.is_being_checked.store(true, Ordering::Release);
            CheckClaim::Granted
        } else if is_due || self.is_being_checked.load(Ordering::Acquire) {
            CheckClaim::UnderWay
        } else {
            CheckClaim::Needless
        }
    }

    pub fn end_check(&self) {
        self.is_being_checked.store(false, Ordering::Release);
    }

    fn millisecond(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.born).as_millis() as u64 + 1
    }

    /// Suspects it, unless a recent good answer speaks for it: requests that are refused with every credential would
    /// otherwise disturb the order of turns.
    pub fn suspect(&self, now: Instant) {
        let last_good = self.last_good.load(Ordering::Relaxed);
        if last_good > 0 && self.millisecond(now).saturating_sub(last_good) < GOOD_NAME_MILLISECONDS {
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

    /// Replaces the state by the one that `step` returns, in one swap, and returns the other result of `step`. It
    /// repeats only when another thread's swap came in between, so some thread always makes progress.
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

    /// Makes the flag agree with the state. A swap that reads the value of another thread's swap also sees the state
    /// that the other had made, hence the second look: the last write of the flag is right.
    fn settle(&self) {
        loop {
            let is_in_trouble = self.trouble.load().is_some();
            self.set_flag(IN_TROUBLE, is_in_trouble);
            if self.trouble.load().is_some() == is_in_trouble {
                return;
            }
        }
    }

    /// Makes the flag agree with the table of rests, as [`Standing::settle`] does with the state.
    pub fn settle_scoped(&self, has_scoped: impl Fn() -> bool) {
        loop {
            let is_set = has_scoped();
            self.set_flag(HAS_SCOPED, is_set);
            if has_scoped() == is_set {
                return;
            }
        }
    }

    fn set_flag(&self, flag: u8, is_set: bool) {
        if is_set {
            self.flags.fetch_or(flag, Ordering::AcqRel);
        } else {
            self.flags.fetch_and(!flag, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests;
