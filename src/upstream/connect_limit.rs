//! The limit on connects of one shard that are pending at a time, and the queue for it.
//!
//! Invariant: a permit is held by one [`ConnectPermit`], or is promised to the longest waiter, or is free; and none is
//! free while somebody waits. So nobody is overtaken, and no wake-up is lost when a waiter gives up.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::io::clock;

/// The permits of one shard.
#[derive(Debug)]
pub struct ConnectLimit {
    free: Cell<usize>,
    /// The waiters in the order of their tickets: at most one for each exchange of the shard. A waiter leaves the
    /// queue when a permit is promised to it.
    waiting: RefCell<VecDeque<WaitingConnect>>,
    next_ticket: Cell<Ticket>,
}

type Ticket = u64;

#[derive(Debug)]
struct WaitingConnect {
    ticket: Ticket,
    waker: Waker,
    since: Instant,
}

impl ConnectLimit {
    /// Makes `count` permits, but at least one: without any nobody would ever proceed.
    pub fn new(count: usize) -> Self {
        ConnectLimit { free: Cell::new(count.max(1)), waiting: RefCell::default(), next_ticket: Cell::new(0) }
    }

    /// Waits for a permit. Costs no allocation if one is free.
    ///
    /// # Cancel safety
    /// Cancel safe, but loses its place in the queue.
    pub fn acquire(&self) -> Acquiring<'_> {
        Acquiring { limit: self, state: AcquiringState::New }
    }

    /// Returns the time since which the longest waiter waits.
    pub fn first_waits_since(&self) -> Option<Instant> {
        self.waiting.borrow().front().map(|longest| longest.since)
    }

    fn give_back(&self) {
        let longest = self.waiting.borrow_mut().pop_front();
        match longest {
            Some(longest) => longest.waker.wake(),
            None => self.free.set(self.free.get() + 1),
        }
    }
}

/// A permit, until it is dropped.
#[derive(Debug)]
#[must_use = "the permit is given back when this is dropped"]
pub struct ConnectPermit<'a>(&'a ConnectLimit);

impl Drop for ConnectPermit<'_> {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

/// See [`ConnectLimit::acquire`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Acquiring<'a> {
    limit: &'a ConnectLimit,
    state: AcquiringState,
}

#[derive(Debug, Clone, Copy)]
enum AcquiringState {
    New,
    /// A ticket that has left the queue has been promised a permit.
    Waiting(Ticket),
    Over,
}

impl<'a> Acquiring<'a> {
    fn begin(&self, context: &Context<'_>) -> AcquiringState {
        let limit = self.limit;
        if let Some(left) = limit.free.get().checked_sub(1) {
            limit.free.set(left);
            return AcquiringState::Over;
        }
        let ticket = limit.next_ticket.get();
        limit.next_ticket.set(ticket + 1);
        let waker = context.waker().clone();
        limit.waiting.borrow_mut().push_back(WaitingConnect { ticket, waker, since: clock::now() });
        AcquiringState::Waiting(ticket)
    }

    /// Returns whether a permit is promised to the ticket; if not, the context's waker is woken once it is.
    fn is_promised(&self, ticket: Ticket, context: &Context<'_>) -> bool {
        let mut waiting = self.limit.waiting.borrow_mut();
        let Ok(position) = waiting.binary_search_by_key(&ticket, |waiter| waiter.ticket) else { return true };
        waiting[position].waker.clone_from(context.waker());
        false
    }
}

impl<'a> Future for Acquiring<'a> {
    type Output = ConnectPermit<'a>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<ConnectPermit<'a>> {
        self.state = match self.state {
            AcquiringState::New => self.begin(context),
            AcquiringState::Waiting(ticket) if self.is_promised(ticket, context) => AcquiringState::Over,
            waiting @ AcquiringState::Waiting(_) => waiting,
            AcquiringState::Over => unreachable!("polled again after its end"),
        };
        match self.state {
            AcquiringState::Over => Poll::Ready(ConnectPermit(self.limit)),
            AcquiringState::New | AcquiringState::Waiting(_) => Poll::Pending,
        }
    }
}

impl Drop for Acquiring<'_> {
    fn drop(&mut self) {
        let AcquiringState::Waiting(ticket) = self.state else { return };
        let position = self.limit.waiting.borrow().binary_search_by_key(&ticket, |waiter| waiter.ticket);
        match position {
            Ok(position) => drop(self.limit.waiting.borrow_mut().remove(position)),
            // It was promised a permit and never took it: the next one gets it.
            Err(_) => self.limit.give_back(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    use super::*;
    use crate::io::deadline::{on_a_shard, pause};

    /// Counts how often it was woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A waiter for a permit, polled by hand.
    struct Waiter<'a> {
        acquiring: Acquiring<'a>,
        woken: Arc<Woken>,
    }

    impl<'a> Waiter<'a> {
        fn new(limit: &'a ConnectLimit) -> Self {
            Waiter { acquiring: limit.acquire(), woken: Arc::default() }
        }

        fn poll(&mut self) -> Option<ConnectPermit<'a>> {
            let waker = Waker::from(self.woken.clone());
            match Pin::new(&mut self.acquiring).poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(permit) => Some(permit),
                Poll::Pending => None,
            }
        }

        fn is_woken(&self) -> bool {
            self.woken.0.load(Ordering::Relaxed) > 0
        }
    }

    #[test]
    fn a_permit_that_is_free_is_taken_at_once_and_without_allocation() {
        let limit = ConnectLimit::new(2);
        let first = Waiter::new(&limit).poll().expect("free");
        let second = Waiter::new(&limit).poll().expect("free");
        drop((first, second));
        assert_eq!((limit.free.get(), limit.waiting.borrow().capacity()), (2, 0));
    }

    #[test]
    fn permits_go_to_those_that_wait_in_the_order_of_their_coming() {
        let limit = ConnectLimit::new(1);
        let permit = Waiter::new(&limit).poll().expect("free");
        let [mut first, mut second] = [Waiter::new(&limit), Waiter::new(&limit)];
        assert!(first.poll().is_none() && second.poll().is_none());
        drop(permit);
        assert!(first.is_woken() && !second.is_woken());
        let mut latecomer = Waiter::new(&limit);
        assert!(latecomer.poll().is_none(), "a promised permit is not free");
        assert!(second.poll().is_none(), "polled for another reason");
        let permit = first.poll().expect("promised");
        drop(permit);
        assert!(second.is_woken() && !latecomer.is_woken());
        drop(second.poll().expect("promised"));
        drop(latecomer.poll().expect("promised"));
        assert_eq!(limit.free.get(), 1);
    }

    #[test]
    fn one_that_gives_up_is_passed_over() {
        let limit = ConnectLimit::new(1);
        let permit = Waiter::new(&limit).poll().expect("free");
        let [mut first, mut second] = [Waiter::new(&limit), Waiter::new(&limit)];
        assert!(first.poll().is_none() && second.poll().is_none());
        drop(first);
        drop(permit);
        assert!(second.is_woken());
        drop(second.poll().expect("promised"));
        assert_eq!(limit.free.get(), 1);
    }

    #[test]
    fn one_that_gives_up_after_it_was_woken_hands_its_permit_on() {
        let limit = ConnectLimit::new(1);
        let permit = Waiter::new(&limit).poll().expect("free");
        let [mut first, mut second] = [Waiter::new(&limit), Waiter::new(&limit)];
        assert!(first.poll().is_none() && second.poll().is_none());
        drop(permit);
        assert!(first.is_woken() && !second.is_woken());
        drop(first);
        assert!(second.is_woken());
        drop(second);
        assert_eq!(limit.free.get(), 1);
        drop(Waiter::new(&limit));
        assert_eq!(limit.free.get(), 1, "one that was never polled had none");
    }

    #[test]
    fn a_task_that_has_moved_is_woken_where_it_is_now() {
        let limit = ConnectLimit::new(1);
        let permit = Waiter::new(&limit).poll().expect("free");
        let mut waiter = Waiter::new(&limit);
        assert!(waiter.poll().is_none());
        let before = std::mem::take(&mut waiter.woken);
        assert!(waiter.poll().is_none());
        drop(permit);
        assert!(waiter.is_woken() && before.0.load(Ordering::Relaxed) == 0);
    }

    #[test]
    fn many_tasks_share_a_few_permits_and_all_get_on() {
        on_a_shard(async {
            let limit = Rc::new(ConnectLimit::new(3));
            let [held, most, done] = [(); 3].map(|()| Rc::new(Cell::new(0)));
            let tasks: Vec<_> = (0..50)
                .map(|_| {
                    let (limit, held, most, done) = (limit.clone(), held.clone(), most.clone(), done.clone());
                    monoio::spawn(async move {
                        let _permit = limit.acquire().await;
                        held.set(held.get() + 1);
                        most.set(most.get().max(held.get()));
                        pause(Duration::from_millis(1)).await;
                        held.set(held.get() - 1);
                        done.set(done.get() + 1);
                    })
                })
                .collect();
            for task in tasks {
                task.await;
            }
            assert_eq!((most.get(), done.get(), limit.free.get()), (3, 50, 3));
        });
    }
}
