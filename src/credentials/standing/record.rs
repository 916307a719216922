//! The record of one identity: it works, cools down, is being probed or is suspected. One model, or one family of
//! paths, for which it rests has a record of its own.
//!
//! Invariant: a state is an immutable value that one atomic swap replaces, so nobody waits and nobody sees half of a
//! change. The time is always passed in. The effect of the states on whose turn it is, is up to `balancer`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::cooldown::{
    Availability, ClaimNumber, Cooldown, CredentialFault, FaultKind, Probe, ProbeInFlight, Trouble, UserBlock,
};
use crate::sync::{ArcSwapOption, AtomicBool, AtomicU8, AtomicU64};

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
#[derive(Debug)]
pub enum Claim {
    /// The caller's request is the probe, for as long as it has this.
    Granted(HeldProbe),
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
    /// The number of claims so far, which are known by it.
    claims: AtomicU64,
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
            claims: AtomicU64::new(0),
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
        self.current().is_suspected(now)
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
            let mut trouble = Trouble { suspicion: None, ..trouble };
            if trouble.cooldown.is_some_and(|cooldown| attempt_began < cooldown.began) {
                return (trouble, None);
            }
            match Cooldown::after(trouble.cooldown, fault, now) {
                Some(cooldown) => {
                    trouble.cooldown = Some(cooldown);
                    (trouble, Some(cooldown.until.saturating_duration_since(now)))
                }
                None => (trouble, None),
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
            let suspicion = trouble.suspicion.filter(|suspicion| attempt_began < suspicion.at);
            let block = trouble.block.filter(|block| attempt_began < block.until);
            (Trouble { cooldown, block, suspicion }, cooldown.is_none() && trouble.cooldown.is_some())
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
    #[must_use = "the probe ends when this is dropped"]
    pub fn claim_probe(self: &Arc<Self>, now: Instant) -> Claim {
        let number = self.next_claim();
        let probe = self.change(|trouble| {
            let cooldown = trouble.cooldown.filter(|_| !trouble.is_blocked(now));
            let Some(cooldown) = cooldown else { return (trouble, Probe::Overdue) };
            let probe = cooldown.probe(now);
            if let Probe::Wanted = probe {
                let cooldown = Some(Cooldown { probe: Some(ProbeInFlight { began: now, number }), ..cooldown });
                return (Trouble { cooldown, ..trouble }, probe);
            }
            (trouble, probe)
        });
        match probe {
            Probe::Wanted => Claim::Granted(HeldProbe { record: self.clone(), number }),
            Probe::InFlight => Claim::InFlight,
            Probe::Overdue => Claim::Needless,
        }
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

    /// Suspects it, for as long as the result is kept, unless a recent good answer speaks for it: requests that are
    /// refused with every credential would otherwise disturb the order of turns.
    #[must_use = "the suspicion ends when this is dropped"]
    pub fn suspect(self: &Arc<Self>, now: Instant) -> Option<HeldSuspicion> {
        let last_good = self.last_good.load(Ordering::Relaxed);
        if last_good > 0 && self.millisecond(now).saturating_sub(last_good) < GOOD_NAME_MILLISECONDS {
            return None;
        }
        let number = self.next_claim();
        let shared = self.change(|trouble| {
            let next = trouble.suspected(number, now);
            (next, next.suspicion.map_or(number, |suspicion| suspicion.number))
        });
        Some(HeldSuspicion { record: self.clone(), number: shared })
    }

    fn next_claim(&self) -> ClaimNumber {
        ClaimNumber(self.claims.fetch_add(1, Ordering::Relaxed))
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

/// The probe of a rest: the exchange that has it finds out whether the identity works again, and others wait for its
/// outcome. Dropped, it is given up, so that another exchange may be it; but only if it is still in the record, where
/// by then there may be one that another exchange has.
pub struct HeldProbe {
    record: Arc<Standing>,
    number: ClaimNumber,
}

/// A suspicion: while an exchange has it, other identities are preferred. Dropped, it is lifted, unless it has ended.
pub struct HeldSuspicion {
    record: Arc<Standing>,
    number: ClaimNumber,
}

impl Drop for HeldProbe {
    fn drop(&mut self) {
        self.record.change(|trouble| (trouble.without_probe(self.number), ()));
    }
}

impl Drop for HeldSuspicion {
    fn drop(&mut self) {
        self.record.change(|trouble| (trouble.acquitted(self.number), ()));
    }
}

impl fmt::Debug for HeldProbe {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("HeldProbe").field(&self.number.0).finish()
    }
}

impl fmt::Debug for HeldSuspicion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("HeldSuspicion").field(&self.number.0).finish()
    }
}

#[cfg(test)]
mod tests;
