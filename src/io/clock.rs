//! The time of a task's turn: read from the clock once, however often the task asks in it.
//!
//! A turn of a task is one poll of it. Within a task that runs [`in_turns`], [`now`] is the time at which the turn first
//! asked; anywhere else it is the present time. Invariant: a time that was read in one turn is not seen in another, so
//! that it is too early by no more than a turn has taken, and never too late.
//!
//! A turn takes microseconds, on epoll up to some milliseconds where both ends of a connection keep up (`turns`), and
//! after a piece of long work the clock is read again ([`expire`]). A deadline that is counted from such a time is early
//! by no more than the turn has taken by then, and the sweeper looks for those that are due every 20 ms. What people
//! read, such as the duration of an exchange, is measured with [`read`].

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use pin_project_lite::pin_project;

thread_local! {
    static TURN: Cell<TurnTime> = const { Cell::new(TurnTime::Outside) };
    static POLLS: Cell<u64> = const { Cell::new(0) };
}

/// The knowledge of the time in a turn.
#[derive(Debug, Clone, Copy)]
enum TurnTime {
    /// No turn of a task that runs [`in_turns`] is under way.
    Outside,
    /// Nothing in this turn has asked yet.
    Unread,
    Read(Instant),
}

/// Returns the time of this turn.
pub fn now() -> Instant {
    TURN.with(|turn| match turn.get() {
        TurnTime::Outside => Instant::now(),
        TurnTime::Unread => {
            let now = Instant::now();
            turn.set(TurnTime::Read(now));
            now
        }
        TurnTime::Read(now) => now,
    })
}

/// Returns the number of turns that tasks of this thread have had so far, of those that run [`in_turns`] and of those
/// that were noted.
pub fn polls() -> u64 {
    POLLS.get()
}

/// Notes turns that a task has done for others: they count as if each had had its own.
pub fn note_polls(count: usize) {
    POLLS.set(POLLS.get().wrapping_add(count as u64));
}

/// Reads the clock itself. It is the time of this turn from here on.
pub fn read() -> Instant {
    expire();
    now()
}

/// Notes that this turn has taken long: whoever asks next in it reads the clock again.
pub fn expire() {
    TURN.with(|turn| {
        if let TurnTime::Read(_) = turn.get() {
            turn.set(TurnTime::Unread);
        }
    });
}

pin_project! {
    /// See [`in_turns`].
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct InTurns<F> {
        #[pin]
        task: F,
    }
}

/// Runs `task` so that it reads the clock once a turn.
pub fn in_turns<F: Future>(task: F) -> InTurns<F> {
    InTurns { task }
}

impl<F: Future> Future for InTurns<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        TURN.set(TurnTime::Unread);
        note_polls(1);
        let _end = TurnEnd;
        self.project().task.poll(context)
    }
}

/// Forgets the time of a turn when it is over, also by a panic.
struct TurnEnd;

impl Drop for TurnEnd {
    fn drop(&mut self) {
        TURN.set(TurnTime::Outside);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::pin::pin;
    use std::task::Waker;
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;

    /// Long enough for two readings of the clock to differ.
    const WHILE: Duration = Duration::from_millis(1);

    fn poll_once<F: Future>(task: Pin<&mut F>) -> Poll<F::Output> {
        task.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn the_clock_is_read_once_a_turn_and_again_in_the_next_one() {
        let mut times = Vec::new();
        let mut task = pin!(in_turns(poll_fn(|_| {
            times.extend([now(), now()]);
            sleep(WHILE);
            times.push(now());
            Poll::<()>::Pending
        })));
        assert!(poll_once(task.as_mut()).is_pending());
        assert!(poll_once(task.as_mut()).is_pending());
        assert!(times[..3].iter().all(|time| *time == times[0]), "{times:?}");
        assert!(times[3..].iter().all(|time| *time == times[3]), "{times:?}");
        assert!(times[3] >= times[0] + WHILE, "the time of another turn: {times:?}");
    }

    #[test]
    fn after_long_work_and_where_it_matters_the_clock_is_read_again() {
        let task = pin!(in_turns(async {
            let begun = now();
            sleep(WHILE);
            expire();
            let later = now();
            assert!(later >= begun + WHILE);
            sleep(WHILE);
            assert!(read() >= later + WHILE);
            assert!(now() >= later + WHILE, "read and forgotten");
        }));
        assert!(poll_once(task).is_ready());
    }

    #[test]
    fn outside_of_turns_each_reading_is_the_present_time() {
        fn assert_is_present() {
            let before = now();
            sleep(WHILE);
            expire();
            assert!(now() >= before + WHILE);
            sleep(WHILE);
            assert!(now() >= before + 2 * WHILE);
        }
        assert_is_present();
        let mut task = pin!(in_turns(poll_fn(|_| {
            now();
            Poll::<()>::Pending
        })));
        assert!(poll_once(task.as_mut()).is_pending());
        assert_is_present();
        let task = pin!(in_turns(async {
            now();
            panic!("as a test wants it");
        }));
        assert!(catch_unwind(AssertUnwindSafe(|| poll_once(task))).is_err());
        assert_is_present();
    }
}
