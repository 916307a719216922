//! Deadlines of one shard, all watched by a single timer.
//!
//! A connection holds a few [`Deadline`] slots for its life and arms one around each wait; arming is a store. One
//! sweeper task a shard sleeps until the earliest armed deadline, checks all of them, and wakes those that are due. A
//! slot is 40 bytes where a runtime timer is 640, and a wait that goes on reads neither the clock nor the timer.
//! Deadlines fire up to [`RESOLUTION`](table::RESOLUTION) late, and never early, but for the part of a turn by which a time
//! that is counted from its beginning ([`clock`]) is.

mod table;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use self::table::{Table, TimerSlot, Wait};
use super::clock;
use super::race::{Either, race};
use super::timer::Timer;

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
        Deadline { key: TABLE.with(|table| table.borrow_mut().slots.insert(TimerSlot::default())) }
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

    /// Drops the waker of the last wait: a task that has ended stays in memory as long as its waker does.
    pub fn forget_waiter(&self) {
        let waker = TABLE.with(|table| table.borrow_mut().slots[self.key].waker.take());
        // After the borrow: with it may go the memory of a task, and its deadlines.
        drop(waker);
    }

    /// Resolves at `due`, or up to [`RESOLUTION`](table::RESOLUTION) later. A slot serves one such wait at a time.
    pub fn reached(&self, due: Instant) -> Reached<'_> {
        Reached { deadline: self, state: TimerState::New { due } }
    }

    /// Resolves when `time` has passed, or up to [`RESOLUTION`](table::RESOLUTION) later; at once if it is zero.
    pub fn passed(&self, time: Duration) -> Reached<'_> {
        let state = if time.is_zero() { TimerState::Fired } else { TimerState::New { due: clock::now() + time } };
        Reached { deadline: self, state }
    }
}

/// Waits until `time` has passed, or up to [`RESOLUTION`](table::RESOLUTION) longer.
pub async fn pause(time: Duration) {
    Deadline::default().passed(time).await;
}

/// Waits until the shard has waited for the kernel once, so that everything that has happened meanwhile is handled
/// first.
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
    state: TimerState,
}

#[derive(Debug)]
enum TimerState {
    New { due: Instant },
    Armed,
    Fired,
}

impl Future for Reached<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let key = self.deadline.key;
        match self.state {
            TimerState::New { due } => {
                TABLE.with(|table| table.borrow_mut().arm(key, due, context.waker()));
                self.state = TimerState::Armed;
                return Poll::Pending;
            }
            TimerState::Armed if !TABLE.with(|table| table.borrow_mut().has_fired(key, context.waker())) => {
                return Poll::Pending;
            }
            TimerState::Armed | TimerState::Fired => self.state = TimerState::Fired,
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
        // The timer first: a deadline that is armed, or a turn that is asked for, must not delay those that are due.
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

/// Runs `test` on a runtime as shards have it, with a sweeper.
#[cfg(test)]
pub fn on_a_shard<F: Future>(test: F) -> F::Output {
    let mut runtime = monoio::RuntimeBuilder::<monoio::LegacyDriver>::new().build().unwrap();
    runtime.block_on(with_a_sweeper(test))
}

/// Runs `test` as [`on_a_shard`] does, and on io_uring where the kernel allows it.
#[cfg(test)]
pub fn on_both_drivers<F: Future<Output = ()>>(test: fn() -> F) {
    on_a_shard(test());
    if let Ok(mut runtime) = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().build() {
        runtime.block_on(with_a_sweeper(test()));
    }
}

#[cfg(test)]
async fn with_a_sweeper<F: Future>(test: F) -> F::Output {
    TABLE.with(|table| {
        // A shard has one runtime, a test may have several in turn: none may wake the sweeper of an earlier one.
        let mut table = table.borrow_mut();
        (table.next_sweep, table.has_earlier, table.sweeper) = (None, false, None);
        table.awaiting_turn.clear();
    });
    monoio::spawn(sweep(Timer::open().unwrap()));
    test.await
}

#[cfg(test)]
mod tests;
