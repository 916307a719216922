//! Deadlines of one shard, all watched by a single timer.
//!
//! A connection holds a few [`Deadline`] slots for its life and arms one around each wait; arming is a store. One
//! sweeper task a shard sleeps until the earliest armed deadline, looks at all of them, and wakes those that are due.
//! A slot is 40 bytes where a runtime timer is 640, and neither the clock nor the timer is asked when a wait goes on.
//! Deadlines fire up to [`RESOLUTION`] late, never early.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;
use slab::Slab;

use super::race::{Either, race};
use super::timer::Timer;

/// The least time between two sweeps: with 10,000 armed slots a sweep takes about 20 µs, so 0.1 % of a core at most.
pub const RESOLUTION: Duration = Duration::from_millis(20);

thread_local! {
    static TABLE: RefCell<Table> = const { RefCell::new(Table::new()) };
}

/// The wait took longer than its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

/// One slot in the shard's table of deadlines; it guards one wait at a time.
#[derive(Debug)]
pub struct Deadline {
    key: usize,
}

impl Default for Deadline {
    fn default() -> Self {
        Deadline { key: TABLE.with(|table| table.borrow_mut().slots.insert(Slot::default())) }
    }
}

impl Deadline {
    /// Waits for `wait`, at most `limit` long.
    ///
    /// # Errors
    /// [`Elapsed`] when the limit has passed and `wait` is still pending; `wait` is then dropped.
    pub fn within<F: Future>(&self, limit: Duration, wait: F) -> Before<'_, F> {
        Before { wait, reached: self.passed(limit) }
    }

    /// Waits for `wait`, at most until `due`.
    ///
    /// # Errors
    /// [`Elapsed`] when `due` has passed and `wait` is still pending; `wait` is then dropped.
    pub fn before<F: Future>(&self, due: Instant, wait: F) -> Before<'_, F> {
        Before { wait, reached: self.reached(due) }
    }

    /// Resolves at `due`, or up to [`RESOLUTION`] later. A slot serves one of these at a time.
    pub fn reached(&self, due: Instant) -> Reached<'_> {
        Reached { deadline: self, state: State::New { due } }
    }

    /// Resolves when `time` has passed, or up to [`RESOLUTION`] later; at once if it is zero.
    pub fn passed(&self, time: Duration) -> Reached<'_> {
        let state = if time.is_zero() { State::Fired } else { State::New { due: Instant::now() + time } };
        Reached { deadline: self, state }
    }
}

/// Waits until `time` has passed, or up to [`RESOLUTION`] longer.
pub async fn pause(time: Duration) {
    Deadline::default().passed(time).await;
}

/// Waits until the shard has waited for the kernel once: whatever has happened meanwhile comes first.
///
/// # Cancel safety
/// Loses nothing.
pub async fn next_turn() {
    let mut began = None;
    poll_fn(|context| TABLE.with(|table| table.borrow_mut().poll_turn(&mut began, context.waker()))).await;
}

pin_project! {
    /// See [`Deadline::before`].
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct Before<'a, F> {
        #[pin]
        wait: F,
        reached: Reached<'a>,
    }
}

impl<F: Future> Future for Before<'_, F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let before = self.project();
        if let Poll::Ready(output) = before.wait.poll(context) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(before.reached).poll(context).map(|()| Err(Elapsed))
    }
}

/// See [`Deadline::reached`]. Disarms its slot when the wait ends, however it ends. The waker stays there: the same
/// task will most likely wait again.
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Reached<'a> {
    deadline: &'a Deadline,
    state: State,
}

#[derive(Debug)]
enum State {
    New { due: Instant },
    Armed,
    Fired,
}

impl Future for Reached<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let key = self.deadline.key;
        match self.state {
            State::New { due } => {
                TABLE.with(|table| table.borrow_mut().arm(key, due, context.waker()));
                self.state = State::Armed;
                return Poll::Pending;
            }
            State::Armed if !TABLE.with(|table| table.borrow_mut().has_fired(key, context.waker())) => {
                return Poll::Pending;
            }
            State::Armed | State::Fired => self.state = State::Fired,
        }
        Poll::Ready(())
    }
}

impl Drop for Reached<'_> {
    fn drop(&mut self) {
        let _ = TABLE.try_with(|table| {
            if let Some(slot) = table.borrow_mut().slots.get_mut(self.deadline.key) {
                slot.wait = Wait::None;
            }
        });
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        // At the end of a thread the table may be gone before the last connection is.
        let _ = TABLE.try_with(|table| table.borrow_mut().slots.try_remove(self.key));
    }
}

/// Watches the deadlines of this shard for as long as it is polled. Every shard runs exactly one.
///
/// # Errors
/// When the ring can wait no more.
pub async fn sweep(timer: Timer) -> io::Result<()> {
    let mut expired = pin!(timer.expired());
    let mut has_parked = false;
    loop {
        let now = Instant::now();
        let next = TABLE.with(|table| table.borrow_mut().wake_due(now, has_parked));
        timer.set(next.map(|next| next.saturating_duration_since(now)));
        // The timer first: whoever arms or asks for a turn meanwhile must not put off those whose time has come.
        has_parked = match race(expired.as_mut(), earlier_deadline()).await {
            Either::First(result) => {
                result?;
                expired.set(timer.expired());
                true
            }
            Either::Second(()) => false,
        };
    }
}

/// Resolves when a deadline was armed that is due before the next sweep.
async fn earlier_deadline() {
    poll_fn(|context| {
        TABLE.with(|table| {
            let mut table = table.borrow_mut();
            if std::mem::take(&mut table.has_earlier) {
                return Poll::Ready(());
            }
            table.sweeper = Some(context.waker().clone());
            Poll::Pending
        })
    })
    .await;
}

struct Table {
    slots: Slab<Slot>,
    /// When the sweeper looks next; `None` when it waits for the first deadline to be armed.
    next_sweep: Option<Instant>,
    /// A deadline before `next_sweep` was armed.
    has_earlier: bool,
    sweeper: Option<Waker>,
    /// Counts the waits that [`next_turn`] asked for.
    turn: u64,
    /// Whoever waits for the next one.
    awaiting_turn: Vec<Waker>,
}

#[derive(Default)]
struct Slot {
    wait: Wait,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Default)]
enum Wait {
    #[default]
    None,
    Until(Instant),
    Over,
}

impl Table {
    const fn new() -> Self {
        Table {
            slots: Slab::new(),
            next_sweep: None,
            has_earlier: false,
            sweeper: None,
            turn: 0,
            awaiting_turn: Vec::new(),
        }
    }

    /// Begins a wait, which the sweeper ends.
    fn arm(&mut self, key: usize, due: Instant, waker: &Waker) {
        let slot = &mut self.slots[key];
        slot.wait = Wait::Until(due);
        slot.remember(waker);
        if self.next_sweep.is_none_or(|next| next > due + RESOLUTION) {
            self.wake_sweeper();
        }
    }

    fn has_fired(&mut self, key: usize, waker: &Waker) -> bool {
        let slot = &mut self.slots[key];
        if matches!(slot.wait, Wait::Over) {
            return true;
        }
        slot.remember(waker);
        false
    }

    fn poll_turn(&mut self, began: &mut Option<u64>, waker: &Waker) -> Poll<()> {
        if *began.get_or_insert(self.turn) != self.turn {
            return Poll::Ready(());
        }
        if !self.awaiting_turn.iter().any(|known| known.will_wake(waker)) {
            self.awaiting_turn.push(waker.clone());
        }
        self.wake_sweeper();
        Poll::Pending
    }

    fn wake_sweeper(&mut self) {
        if !std::mem::replace(&mut self.has_earlier, true)
            && let Some(sweeper) = self.sweeper.take()
        {
            sweeper.wake();
        }
    }

    /// Wakes whoever is due at `now`, and returns when to look again. `has_parked`: the shard has waited for the kernel
    /// since the last call.
    fn wake_due(&mut self, now: Instant, has_parked: bool) -> Option<Instant> {
        if has_parked && !self.awaiting_turn.is_empty() {
            self.turn += 1;
            self.awaiting_turn.drain(..).for_each(Waker::wake);
        }
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
        self.next_sweep = earliest.map(|earliest| earliest.max(now + RESOLUTION));
        if self.awaiting_turn.is_empty() { self.next_sweep } else { Some(now) }
    }
}

impl Slot {
    fn remember(&mut self, waker: &Waker) {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }
}

/// Runs `test` on a runtime as shards have it, with a sweeper.
#[cfg(test)]
pub fn on_a_shard<F: Future>(test: F) -> F::Output {
    TABLE.with(|table| {
        // A shard has one runtime, a test may have several in turn: none may wake the sweeper of one before it.
        let mut table = table.borrow_mut();
        (table.next_sweep, table.has_earlier, table.sweeper) = (None, false, None);
        table.awaiting_turn.clear();
    });
    let mut runtime = monoio::RuntimeBuilder::<monoio::LegacyDriver>::new().build().unwrap();
    runtime.block_on(async {
        monoio::spawn(sweep(Timer::open().unwrap()));
        test.await
    })
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::io::Either;

    #[test]
    fn a_wait_that_never_ends_is_given_up_when_its_limit_has_passed() {
        on_a_shard(async {
            let deadline = Deadline::default();
            let limit = Duration::from_millis(60);
            let start = Instant::now();
            assert_eq!(deadline.within(limit, pending::<()>()).await, Err(Elapsed));
            assert!(start.elapsed() >= limit, "fired early");
        });
    }

    #[test]
    fn the_sweeper_looks_again_when_the_earliest_is_due_or_up_to_the_resolution_later() {
        const NANOSECOND: Duration = Duration::from_nanos(1);
        let (mut table, now) = (Table::new(), Instant::now());
        let [early, late] = [(); 2].map(|()| table.slots.insert(Slot::default()));
        table.arm(late, now + 9 * RESOLUTION, Waker::noop());
        table.arm(early, now + 3 * RESOLUTION, Waker::noop());
        let (due, behind) = (now + 3 * RESOLUTION, now + 9 * RESOLUTION);
        assert_eq!(table.wake_due(now, true), Some(due));
        assert_eq!(
            table.wake_due(due - NANOSECOND, true),
            Some(due + RESOLUTION - NANOSECOND),
            "no two looks in a row"
        );
        assert!(!table.has_fired(early, Waker::noop()), "fired early");
        assert_eq!(table.wake_due(due, true), Some(behind));
        assert!(table.has_fired(early, Waker::noop()) && !table.has_fired(late, Waker::noop()));
        assert_eq!(table.wake_due(behind, true), None);
        assert!(table.has_fired(late, Waker::noop()));
    }

    #[test]
    fn a_nearer_deadline_fires_while_a_farther_one_is_armed() {
        on_a_shard(async {
            let (near, far) = (Deadline::default(), Deadline::default());
            // Were both due, the first would win.
            let order = race(
                far.within(Duration::from_secs(60), pending::<()>()),
                near.within(Duration::from_millis(30), pending::<()>()),
            )
            .await;
            assert!(matches!(order, Either::Second(Err(Elapsed))));
        });
    }

    #[test]
    fn each_runtime_of_a_thread_has_a_sweeper_of_its_own() {
        const FAR: Duration = Duration::from_secs(60);
        for _ in 0..2 {
            on_a_shard(async {
                let (near, far) = (Deadline::default(), Deadline::default());
                let near = near.within(Duration::from_millis(1), pending::<()>());
                // It leaves a sweeper that waits for the far one.
                assert_eq!(far.within(FAR, near).await, Ok(Err(Elapsed)));
                pause(Duration::from_millis(1)).await;
            });
        }
    }

    #[test]
    fn a_wait_that_is_over_wins_against_a_deadline_that_has_passed() {
        on_a_shard(async {
            let deadline = Deadline::default();
            let due = Instant::now() - Duration::from_secs(1);
            assert_eq!(deadline.before(due, std::future::ready(5)).await, Ok(5));
        });
    }

    #[test]
    fn slots_are_given_back() {
        on_a_shard(async {
            let before = TABLE.with(|table| table.borrow().slots.len());
            for _ in 0..1000 {
                let deadline = Deadline::default();
                let _ = deadline.within(Duration::ZERO, pending::<()>()).await;
            }
            assert_eq!(TABLE.with(|table| table.borrow().slots.len()), before);
        });
    }
}
