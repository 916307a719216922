//! The bound on long work in one turn of a shard.
//!
//! A turn lies between two waits of the runtime for the kernel: whatever arrives meanwhile is seen only at its end.
//! Work that takes a good part of a millisecond, such as a TLS handshake, is done in pieces through [`spend`]: a turn
//! does pieces until they have taken [`WORK_MAX`], and the others wait for the next one, first come first served. Tasks
//! that an arrival has woken run before them. Invariant: a piece is never waited for without a place in the queue, and
//! whoever is dropped while it waits gives its place to the next.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::io::deadline::next_turn;

/// Time after which a turn begins no further piece: with the last one a turn stays below 4 ms, if a piece takes no more
/// than 3. A request with its answer takes some four turns of the shard, so a flood of handshakes delays it by some 5 ms.
/// To begin a turn costs 10 µs, a fiftieth of this.
const WORK_MAX: Duration = Duration::from_micros(500);

thread_local! {
    static BUDGET: Budget = const {
        Budget { spent: Cell::new(Duration::ZERO), queue: RefCell::new(BTreeMap::new()), tickets: Cell::new(0) }
    };
}

struct Budget {
    /// Time that pieces have taken since a turn was last waited for. That may be some turns ago: a piece then waits for
    /// one turn without need.
    spent: Cell<Duration>,
    /// Wakers of the tasks that wait, by their tickets, of which the lowest is served next.
    queue: RefCell<BTreeMap<u64, Waker>>,
    tickets: Cell<u64>,
}

/// Does one piece of work, in this turn if it has room for it and nobody waits, else in a later one. To be fair, a piece
/// takes no more than a millisecond, and a task that has more to do spends piece by piece.
///
/// # Cancel safety
/// While it waits, `work` has not begun and the place in the queue is given up; it is not interrupted.
pub async fn spend<T>(work: impl FnOnce() -> T) -> T {
    let is_free = BUDGET.with(|budget| budget.queue.borrow().is_empty() && budget.spent.get() < WORK_MAX);
    if is_free {
        return charge(work);
    }
    // Dropped after the work, so that the next in the queue sees what is left of the turn.
    let place = QueuePlace::default();
    place.reached().await;
    if BUDGET.with(|budget| budget.spent.get() >= WORK_MAX) {
        next_turn().await;
        BUDGET.with(|budget| budget.spent.set(Duration::ZERO));
    }
    charge(work)
}

fn charge<T>(work: impl FnOnce() -> T) -> T {
    let begun = worked();
    let output = work();
    BUDGET.with(|budget| budget.spent.set(budget.spent.get() + worked().saturating_sub(begun)));
    output
}

/// Returns the CPU time of this thread. Time in which others had the core is not charged to a piece.
fn worked() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// A place in the queue for the budget, taken with the first poll.
#[derive(Default)]
struct QueuePlace {
    ticket: Cell<Option<u64>>,
}

impl QueuePlace {
    /// Resolves when all that came earlier have been served.
    async fn reached(&self) {
        poll_fn(|context| {
            BUDGET.with(|budget| {
                let ticket = self.ticket.get().unwrap_or_else(|| {
                    budget.tickets.set(budget.tickets.get() + 1);
                    budget.tickets.get()
                });
                self.ticket.set(Some(ticket));
                let mut queue = budget.queue.borrow_mut();
                queue.entry(ticket).or_insert_with(|| context.waker().clone()).clone_from(context.waker());
                let is_first = queue.first_key_value().is_some_and(|(first, _)| *first == ticket);
                if is_first { Poll::Ready(()) } else { Poll::Pending }
            })
        })
        .await;
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.get() else { return };
        // At the end of a thread the queue may be gone before the last connection is. A waker is dropped after the
        // borrow: with it may go the memory of a task.
        let left = BUDGET.try_with(|budget| {
            let mut queue = budget.queue.borrow_mut();
            let own = queue.remove(&ticket);
            // If an earlier one is first, it wakes the next when its turn has come.
            let next = queue.first_key_value().filter(|(first, _)| **first > ticket).map(|(_, next)| next.clone());
            (own, next)
        });
        if let Ok((_own, Some(next))) = left {
            next.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::rc::Rc;
    use std::task::Context;

    use super::*;
    use crate::io::deadline::{Deadline, on_both_drivers};

    /// Time that nothing takes here, even on a busy machine.
    const ENOUGH: Duration = Duration::from_secs(30);

    /// A piece that uses up a turn.
    fn long() {
        let begun = worked();
        while worked() - begun < WORK_MAX {}
    }

    /// Counts the turns for as long as the runtime runs.
    fn turns() -> Rc<Cell<usize>> {
        let turns = Rc::new(Cell::new(0));
        let counted = turns.clone();
        monoio::spawn(async move {
            loop {
                next_turn().await;
                counted.set(counted.get() + 1);
            }
        });
        turns
    }

    fn waiting_count() -> usize {
        BUDGET.with(|budget| budget.queue.borrow().len())
    }

    #[test]
    fn a_turn_does_no_more_than_its_budget_and_all_that_wait_are_served_in_order() {
        on_both_drivers(|| async {
            const TASKS: usize = 5;
            const PIECES: usize = 3;
            let turns = turns();
            spend(long).await;
            let done = Rc::new(RefCell::new(Vec::new()));
            let tasks: Vec<_> = (0..TASKS)
                .map(|task| {
                    let (turns, done) = (turns.clone(), done.clone());
                    monoio::spawn(async move {
                        for _ in 0..PIECES {
                            spend(long).await;
                            done.borrow_mut().push((task, turns.get()));
                        }
                    })
                })
                .collect();
            for task in tasks {
                assert_eq!(Deadline::default().within(ENOUGH, task).await, Ok(()), "a wait without end");
            }
            let done = done.take();
            let order: Vec<_> = done.iter().map(|(task, _)| *task).collect();
            assert_eq!(order, (0..TASKS).cycle().take(TASKS * PIECES).collect::<Vec<_>>());
            assert!(done.windows(2).all(|pair| pair[0].1 < pair[1].1), "two pieces in one turn: {done:?}");
            assert_eq!(waiting_count(), 0);
        });
    }

    #[test]
    fn short_pieces_share_a_turn() {
        on_both_drivers(|| async {
            let has_had_turn = Rc::new(Cell::new(false));
            let other = has_had_turn.clone();
            monoio::spawn(async move { other.set(true) });
            for _ in 0..20 {
                spend(|| ()).await;
            }
            assert!(!has_had_turn.get(), "a wait within the budget");
            spend(long).await;
            spend(|| ()).await;
            assert!(has_had_turn.get(), "no wait beyond it");
        });
    }

    #[test]
    fn whoever_leaves_the_queue_does_no_work_and_holds_nobody_up() {
        on_both_drivers(|| async {
            spend(long).await;
            let done = RefCell::new(Vec::new());
            let mut context = Context::from_waker(Waker::noop());
            {
                let mut first = pin!(spend(|| done.borrow_mut().push(1)));
                let mut second = pin!(spend(|| done.borrow_mut().push(2)));
                assert!(first.as_mut().poll(&mut context).is_pending());
                assert!(second.as_mut().poll(&mut context).is_pending());
            }
            assert_eq!(waiting_count(), 0);
            let mut first = Box::pin(spend(|| done.borrow_mut().push(3)));
            assert!(first.as_mut().poll(&mut context).is_pending());
            let second = monoio::spawn(spend(|| 4));
            // It is polled meanwhile, and waits for the first.
            next_turn().await;
            drop(first);
            assert_eq!(Deadline::default().within(ENOUGH, second).await, Ok(4));
            assert!(done.borrow().is_empty());
            assert_eq!(waiting_count(), 0);
        });
    }
}
