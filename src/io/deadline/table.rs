//! The table of a shard's deadlines: which of them are armed, when the sweeper runs next, and whom it wakes.

use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

/// Least time between two sweeps: with 10,000 armed slots a sweep takes about 20 µs, so 0.1 % of a core at most.
pub const RESOLUTION: Duration = Duration::from_millis(20);

pub(super) struct Table {
    pub(super) slots: Slab<TimerSlot>,
    /// Time of the next sweep; `None` while no deadline is armed.
    pub(super) next_sweep: Option<Instant>,
    /// No armed deadline is due before this; `None`: none is armed.
    earliest: Option<Instant>,
    /// Set when a deadline before `next_sweep` was armed.
    pub(super) has_earlier: bool,
    pub(super) sweeper: Option<Waker>,
    /// Counts the turns that [`next_turn`](super::next_turn) waits for.
    pub(super) turn: u64,
    /// Wakers of the tasks that wait for the next turn.
    pub(super) awaiting_turn: Vec<Waker>,
}

#[derive(Default)]
pub(super) struct TimerSlot {
    pub(super) wait: Wait,
    pub(super) waker: Option<Waker>,
}

#[derive(Clone, Copy, Default)]
pub(super) enum Wait {
    #[default]
    None,
    Until(Instant),
    Over,
}

impl Table {
    pub(super) const fn new() -> Self {
        Table {
            slots: Slab::new(),
            next_sweep: None,
            earliest: None,
            has_earlier: false,
            sweeper: None,
            turn: 0,
            awaiting_turn: Vec::new(),
        }
    }

    /// Begins a wait, which the sweeper ends.
    pub(super) fn arm(&mut self, key: usize, due: Instant, waker: &Waker) {
        let slot = &mut self.slots[key];
        slot.wait = Wait::Until(due);
        slot.remember(waker);
        self.earliest = Some(self.earliest.map_or(due, |earliest| earliest.min(due)));
        if self.next_sweep.is_none_or(|next| next > due + RESOLUTION) {
            self.wake_sweeper();
        }
    }

    pub(super) fn has_fired(&mut self, key: usize, waker: &Waker) -> bool {
        let slot = &mut self.slots[key];
        if matches!(slot.wait, Wait::Over) {
            return true;
        }
        slot.remember(waker);
        false
    }

    pub(super) fn poll_turn(&mut self, began: &mut Option<u64>, waker: &Waker) -> Poll<()> {
        if *began.get_or_insert(self.turn) != self.turn {
            return Poll::Ready(());
        }
        if !self.awaiting_turn.iter().any(|known| known.will_wake(waker)) {
            self.awaiting_turn.push(waker.clone());
        }
        self.wake_sweeper();
        Poll::Pending
    }

    pub(super) fn wake_sweeper(&mut self) {
        if !std::mem::replace(&mut self.has_earlier, true)
            && let Some(sweeper) = self.sweeper.take()
        {
            sweeper.wake();
        }
    }

    /// Wakes every task that is due at `now`, and returns when to sweep again. `has_parked`: the shard has waited for
    /// the kernel since the last call.
    pub(super) fn wake_due(&mut self, now: Instant, has_parked: bool) -> Option<Instant> {
        if has_parked && !self.awaiting_turn.is_empty() {
            self.turn += 1;
            self.awaiting_turn.drain(..).for_each(Waker::wake);
        }
        // The sweeper is also woken for the next turn: then mostly none is due, and the slots are not looked at.
        if self.earliest.is_some_and(|earliest| earliest <= now) {
            self.earliest = self.wake_overdue(now);
        }
        self.next_sweep = self.earliest.map(|earliest| earliest.max(now + RESOLUTION));
        if self.awaiting_turn.is_empty() { self.next_sweep } else { Some(now) }
    }

    /// Wakes every task that is due at `now`. Returns when the next one is.
    fn wake_overdue(&mut self, now: Instant) -> Option<Instant> {
        let mut earliest: Option<Instant> = None;
        for (_, slot) in &mut self.slots {
            let Wait::Until(due) = slot.wait else { continue };
            if due <= now {
                slot.wait = Wait::Over;
                if let Some(waker) = slot.waker.take() {
                    waker.wake();
                }
            } else {
                earliest = Some(earliest.map_or(due, |earliest| earliest.min(due)));
            }
        }
        earliest
    }
}

impl TimerSlot {
    pub(super) fn remember(&mut self, waker: &Waker) {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }
}
