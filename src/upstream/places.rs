//! How many connects of one shard may be pending at a time, and who comes next.
//!
//! Invariant: a place is held by one [`Place`], or is promised to the one that waited longest, or is free; and none is
//! free while somebody waits. So nobody is overtaken, and no wake-up is lost when one that waits gives up.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The places of one shard.
#[derive(Debug)]
pub struct Places {
    free: Cell<usize>,
    /// Those that wait, by ticket, in the order of their coming: at most one for each exchange of the shard. One that a
    /// place was promised to is here no more.
    waiting: RefCell<VecDeque<(Ticket, Waker)>>,
    next_ticket: Cell<Ticket>,
}

type Ticket = u64;

impl Places {
    /// `count` places, but at least one: without any nobody would ever get on.
    pub fn new(count: usize) -> Self {
        Places { free: Cell::new(count.max(1)), waiting: RefCell::default(), next_ticket: Cell::new(0) }
    }

    /// Waits for a place. Costs no allocation if one is free.
    ///
    /// # Cancel safety
    /// Cancel safe, but one that is dropped has lost its turn.
    pub fn take(&self) -> Taking<'_> {
        Taking { places: self, state: TakingState::New }
    }

    fn give_back(&self) {
        let longest = self.waiting.borrow_mut().pop_front();
        match longest {
            Some((_, waker)) => waker.wake(),
            None => self.free.set(self.free.get() + 1),
        }
    }
}

/// A place, until it is dropped.
#[derive(Debug)]
#[must_use = "the place is given back when this is dropped"]
pub struct Place<'a>(&'a Places);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

/// See [`Places::take`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Taking<'a> {
    places: &'a Places,
    state: TakingState,
}

#[derive(Debug, Clone, Copy)]
enum TakingState {
    New,
    /// A ticket that is not in the queue any more has been promised a place.
    Waiting(Ticket),
    Over,
}

impl<'a> Taking<'a> {
    fn begin(&self, context: &Context<'_>) -> TakingState {
        let places = self.places;
        if let Some(left) = places.free.get().checked_sub(1) {
            places.free.set(left);
            return TakingState::Over;
        }
        let ticket = places.next_ticket.get();
        places.next_ticket.set(ticket + 1);
        places.waiting.borrow_mut().push_back((ticket, context.waker().clone()));
        TakingState::Waiting(ticket)
    }

    /// Whether the ticket's turn has come; if not, it will be heard of by the context's waker.
    fn is_promised(&self, ticket: Ticket, context: &Context<'_>) -> bool {
        let mut waiting = self.places.waiting.borrow_mut();
        let Ok(place) = waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket) else { return true };
        waiting[place].1.clone_from(context.waker());
        false
    }
}

impl<'a> Future for Taking<'a> {
    type Output = Place<'a>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Place<'a>> {
        self.state = match self.state {
            TakingState::New => self.begin(context),
            TakingState::Waiting(ticket) if self.is_promised(ticket, context) => TakingState::Over,
            waiting @ TakingState::Waiting(_) => waiting,
            TakingState::Over => unreachable!("polled again behind its end"),
        };
        match self.state {
            TakingState::Over => Poll::Ready(Place(self.places)),
            TakingState::New | TakingState::Waiting(_) => Poll::Pending,
        }
    }
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        let TakingState::Waiting(ticket) = self.state else { return };
        let place = self.places.waiting.borrow().binary_search_by_key(&ticket, |(ticket, _)| *ticket);
        match place {
            Ok(place) => drop(self.places.waiting.borrow_mut().remove(place)),
            // It was promised a place and never came for it: the next one gets it.
            Err(_) => self.places.give_back(),
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

    /// One that wants a place, polled by hand.
    struct Waiter<'a> {
        taking: Taking<'a>,
        woken: Arc<Woken>,
    }

    impl<'a> Waiter<'a> {
        fn new(places: &'a Places) -> Self {
            Waiter { taking: places.take(), woken: Arc::default() }
        }

        fn poll(&mut self) -> Option<Place<'a>> {
            let waker = Waker::from(self.woken.clone());
            match Pin::new(&mut self.taking).poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(place) => Some(place),
                Poll::Pending => None,
            }
        }

        fn is_woken(&self) -> bool {
            self.woken.0.load(Ordering::Relaxed) > 0
        }
    }

    #[test]
    fn a_place_that_is_free_is_taken_at_once_and_without_allocation() {
        let places = Places::new(2);
        let first = Waiter::new(&places).poll().expect("free");
        let second = Waiter::new(&places).poll().expect("free");
        drop((first, second));
        assert_eq!((places.free.get(), places.waiting.borrow().capacity()), (2, 0));
    }

    #[test]
    fn places_go_to_those_that_wait_in_the_order_of_their_coming() {
        let places = Places::new(1);
        let place = Waiter::new(&places).poll().expect("free");
        let [mut first, mut second] = [Waiter::new(&places), Waiter::new(&places)];
        assert!(first.poll().is_none() && second.poll().is_none());
        drop(place);
        assert!(first.is_woken() && !second.is_woken());
        let mut latecomer = Waiter::new(&places);
        assert!(latecomer.poll().is_none(), "a promised place is not free");
        assert!(second.poll().is_none(), "polled for another reason");
        let place = first.poll().expect("promised");
        drop(place);
        assert!(second.is_woken() && !latecomer.is_woken());
        drop(second.poll().expect("promised"));
        drop(latecomer.poll().expect("promised"));
        assert_eq!(places.free.get(), 1);
    }

    #[test]
    fn one_that_gives_up_is_passed_over() {
        let places = Places::new(1);
        let place = Waiter::new(&places).poll().expect("free");
        let [mut first, mut second] = [Waiter::new(&places), Waiter::new(&places)];
        assert!(first.poll().is_none() && second.poll().is_none());
        drop(first);
        drop(place);
        assert!(second.is_woken());
        drop(second.poll().expect("promised"));
        assert_eq!(places.free.get(), 1);
    }

    #[test]
    fn one_that_gives_up_after_it_was_woken_hands_its_place_on() {
        let places = Places::new(1);
        let place = Waiter::new(&places).poll().expect("free");
        let [mut first, mut second] = [Waiter::new(&places), Waiter::new(&places)];
        assert!(first.poll().is_none() && second.poll().is_none());
        drop(place);
        assert!(first.is_woken() && !second.is_woken());
        drop(first);
        assert!(second.is_woken());
        drop(second);
        assert_eq!(places.free.get(), 1);
        drop(Waiter::new(&places));
        assert_eq!(places.free.get(), 1, "one that was never polled had none");
    }

    #[test]
    fn a_task_that_has_moved_is_woken_where_it_is_now() {
        let places = Places::new(1);
        let place = Waiter::new(&places).poll().expect("free");
        let mut waiter = Waiter::new(&places);
        assert!(waiter.poll().is_none());
        let before = std::mem::take(&mut waiter.woken);
        assert!(waiter.poll().is_none());
        drop(place);
        assert!(waiter.is_woken() && before.0.load(Ordering::Relaxed) == 0);
    }

    #[test]
    fn many_tasks_share_a_few_places_and_all_get_on() {
        on_a_shard(async {
            let places = Rc::new(Places::new(3));
            let [held, most, done] = [(); 3].map(|()| Rc::new(Cell::new(0)));
            let tasks: Vec<_> = (0..50)
                .map(|_| {
                    let (places, held, most, done) = (places.clone(), held.clone(), most.clone(), done.clone());
                    monoio::spawn(async move {
                        let _place = places.take().await;
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
            assert_eq!((most.get(), done.get(), places.free.get()), (3, 50, 3));
        });
    }
}
