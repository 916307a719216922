//! The bound on long work in one turn of a shard.
//!
//! A turn lies between two waits of the runtime for the kernel: whatever arrives meanwhile is seen only at its end.
//! Work that takes a good part of a millisecond, such as a TLS handshake, is done in pieces through [`spend_on`]: a turn
//! does pieces until they have taken [`WORK_MAX`], and the others wait for the next one. Each [`Work`] has a queue of
//! its own, and the queues are served in turn: many bodies that are filtered do not hold up a client that connects.
//! Tasks that an arrival has woken run before them. Invariant: a piece is never waited for without a place in its queue,
//! and whoever is dropped while it waits gives its place to the next.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::io::clock;
use crate::io::deadline::next_turn;

/// Time after which a turn begins no further piece: with the last one a turn stays below 4 ms, if a piece takes no more
/// than 3. A request with its answer takes some four turns of the shard, so a flood of handshakes delays it by some 5 ms.
/// To begin a turn costs 10 µs, a fiftieth of this.
const WORK_MAX: Duration = Duration::from_micros(500);

/// The time that a turn takes at most, its last piece included; see [`WORK_MAX`]. One that takes more is counted.
const TURN_MAX: Duration = Duration::from_millis(4);

/// Number of turns of this process, on all of its threads, that took more than [`TURN_MAX`]. None should: it is written
/// by hardly any turn, so the shards share it.
static LONG_TURNS: AtomicU64 = AtomicU64::new(0);

/// A kind of long work. Of three kinds that wait each does a third of the pieces, however many wait with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// The handshakes with all clients of the shard, which wait with one place.
    ClientHandshakes,
    /// The handshake with the upstream for one request.
    UpstreamHandshake,
    /// The search and change of what one client has sent, or is sent.
    Bytes,
}

/// Number of kinds of [`Work`].
const KINDS: usize = 3;

thread_local! {
    static BUDGET: Budget = const {
        Budget { spent: Cell::new(Duration::ZERO), queues: RefCell::new(Queues::new()) }
    };
}

struct Budget {
    /// Time that pieces have taken since a turn was last waited for. That may be some turns ago: a piece then waits for
    /// one turn without need.
    spent: Cell<Duration>,
    queues: RefCell<Queues>,
}

/// The tasks that wait.
struct Queues {
    /// By their tickets: of one kind the lowest is served next.
    waiting: [BTreeMap<u64, WaitingTask>; KINDS],
    last_ticket: u64,
    /// The kind that is served next if something of it waits, before the one after it.
    next_kind: usize,
    /// The one whose turn has come, until it is done or dropped.
    served: Option<WorkTicket>,
}

/// A task in a queue, and the time since which it is there.
struct WaitingTask {
    waker: Waker,
    since: Instant,
}

/// A place in one of the queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WorkTicket {
    kind: usize,
    number: u64,
}

impl Queues {
    const fn new() -> Self {
        let waiting = [const { BTreeMap::new() }; KINDS];
        Queues { waiting, last_ticket: 0, next_kind: 0, served: None }
    }

    fn is_empty(&self) -> bool {
        self.waiting.iter().all(BTreeMap::is_empty)
    }

    fn issue(&mut self, work: Work) -> WorkTicket {
        self.last_ticket += 1;
        WorkTicket { kind: work as usize, number: self.last_ticket }
    }

    /// Lets the holder of a ticket wait in its queue. Returns true once its turn has come.
    fn wait(&mut self, ticket: WorkTicket, waker: &Waker) -> bool {
        let new = || WaitingTask { waker: waker.clone(), since: clock::now() };
        self.waiting[ticket.kind].entry(ticket.number).or_insert_with(new).waker.clone_from(waker);
        if self.served.is_none() && self.next().is_some_and(|(next, _)| next == ticket) {
            self.served = Some(ticket);
        }
        self.served == Some(ticket)
    }

    /// Removes the holder of a ticket, whether or not its turn has come. Returns its waker, and that of the one whose
    /// turn it is then, unless that knows already.
    fn leave(&mut self, ticket: WorkTicket) -> (Option<Waker>, Option<Waker>) {
        let own = self.waiting[ticket.kind].remove(&ticket.number).map(|own| own.waker);
        if self.served == Some(ticket) {
            self.served = None;
            self.next_kind = (ticket.kind + 1) % KINDS;
        }
        let next = if self.served.is_none() { self.next().map(|(_, next)| next.clone()) } else { None };
        (own, next)
    }

    /// Returns the one that is served next.
    fn next(&self) -> Option<(WorkTicket, &Waker)> {
        (0..KINDS).map(|after| (self.next_kind + after) % KINDS).find_map(|kind| {
            let (number, next) = self.waiting[kind].first_key_value()?;
            Some((WorkTicket { kind, number: *number }, &next.waker))
        })
    }
}

/// As [`spend_on`], for [`Work::Bytes`].
///
/// # Cancel safety
/// As there.
pub fn spend<T>(piece: impl FnOnce() -> T) -> impl Future<Output = T> {
    spend_on(Work::Bytes, piece)
}

/// Does one piece of work, in this turn if it has room for it and nobody waits, else in a later one. To be fair, a piece
/// takes no more than a millisecond, and a task that has more to do spends piece by piece.
///
/// # Cancel safety
/// While it waits, `piece` has not begun and the place in the queue is given up; it is not interrupted.
pub async fn spend_on<T>(work: Work, piece: impl FnOnce() -> T) -> T {
    let is_free = BUDGET.with(|budget| budget.queues.borrow().is_empty() && budget.spent.get() < WORK_MAX);
    if is_free {
        return charge(piece);
    }
    // Dropped after the work, so that the next in the queue sees what is left of the turn.
    let place = QueuePlace { work, ticket: Cell::new(None) };
    place.reached().await;
    if BUDGET.with(|budget| budget.spent.get() >= WORK_MAX) {
        next_turn().await;
        BUDGET.with(|budget| budget.spent.set(Duration::ZERO));
    }
    charge(piece)
}

/// Returns the time since which the first of those that do this kind of work waits; `None` if nobody does.
pub fn first_waits_since(work: Work) -> Option<Instant> {
    BUDGET.with(|budget| {
        let queues = budget.queues.borrow();
        queues.waiting[work as usize].first_key_value().map(|(_, first)| first.since)
    })
}

fn charge<T>(piece: impl FnOnce() -> T) -> T {
    let begun = worked();
    let output = piece();
    let spent = BUDGET.with(|budget| {
        budget.spent.set(budget.spent.get() + worked().saturating_sub(begun));
        budget.spent.get()
    });
    // Once a turn: no other piece begins in it.
    if spent > TURN_MAX {
        LONG_TURNS.fetch_add(1, Ordering::Relaxed);
    }
    clock::expire();
    output
}

/// Returns how many turns of this process did more than a turn may. Any thread may ask.
pub fn long_turns_count() -> u64 {
    LONG_TURNS.load(Ordering::Relaxed)
}

/// Returns the CPU time of this thread. Time in which others had the core is not charged to a piece.
fn worked() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// A place in a queue for the budget, taken with the first poll.
struct QueuePlace {
    work: Work,
    ticket: Cell<Option<WorkTicket>>,
}

impl QueuePlace {
    /// Resolves when its turn has come.
    async fn reached(&self) {
        poll_fn(|context| {
            BUDGET.with(|budget| {
                let mut queues = budget.queues.borrow_mut();
                let ticket = self.ticket.get().unwrap_or_else(|| queues.issue(self.work));
                self.ticket.set(Some(ticket));
                if queues.wait(ticket, context.waker()) { Poll::Ready(()) } else { Poll::Pending }
            })
        })
        .await;
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.get() else { return };
        // A waker is dropped after the borrow: with it may go the memory of a task.
        //
        // Nobody is woken once the runtime has ended: its queue holds a waker of every task that waits, so that such a
        // task is dropped only when the thread drops the queues themselves, and then they are not there for it any more.
        let left = BUDGET.try_with(|budget| budget.queues.borrow_mut().leave(ticket));
        if let Ok((_own, Some(next))) = left {
            next.wake();
        }
    }
}

#[cfg(test)]
pub mod tests {
    use std::pin::pin;
    use std::rc::Rc;
    use std::task::Context;

    use super::*;
    use crate::io::deadline::{Deadline, on_both_drivers};

    /// Time that nothing takes here, even on a busy machine.
    const ENOUGH: Duration = Duration::from_secs(30);

    /// A piece that uses up a turn.
    pub fn long() {
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
        BUDGET.with(|budget| budget.queues.borrow().waiting.iter().map(BTreeMap::len).sum())
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
    fn a_turn_that_did_more_than_it_may_is_counted() {
        on_both_drivers(|| async {
            let before = long_turns_count();
            spend(|| {
                let begun = worked();
                while worked() - begun <= TURN_MAX {}
            })
            .await;
            assert!(long_turns_count() > before);
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

    #[test]
    fn each_kind_of_work_has_its_share_however_many_wait_with_it() {
        on_both_drivers(|| async {
            const MANY: usize = 40;
            const FEW: usize = 5;
            spend(long).await;
            let done = Rc::new(RefCell::new(Vec::new()));
            let spend_one = |work, task: usize| {
                let done = done.clone();
                monoio::spawn(spend_on(work, move || {
                    long();
                    done.borrow_mut().push((work, task));
                }))
            };
            let mut tasks: Vec<_> = (0..MANY).map(|task| spend_one(Work::Bytes, task)).collect();
            tasks.extend((0..MANY).map(|task| spend_one(Work::UpstreamHandshake, task)));
            // As the attendant of the handshakes: one place, taken again and again.
            let own = done.clone();
            let attendant = monoio::spawn(async move {
                for task in 0..FEW {
                    let own = own.clone();
                    spend_on(Work::ClientHandshakes, move || {
                        long();
                        own.borrow_mut().push((Work::ClientHandshakes, task));
                    })
                    .await;
                }
            });
            assert_eq!(Deadline::default().within(ENOUGH, attendant).await, Ok(()), "a wait without end");
            assert!(done.borrow().len() <= 3 * (FEW + 1), "{} were served before it", done.borrow().len() - FEW);
            for task in tasks {
                assert_eq!(Deadline::default().within(ENOUGH, task).await, Ok(()), "a wait without end");
            }
            for work in [Work::Bytes, Work::UpstreamHandshake] {
                let order: Vec<_> =
                    done.borrow().iter().filter(|(kind, _)| *kind == work).map(|(_, task)| *task).collect();
                assert_eq!(order, (0..MANY).collect::<Vec<_>>(), "{work:?}");
            }
            assert_eq!(waiting_count(), 0);
        });
    }
}
