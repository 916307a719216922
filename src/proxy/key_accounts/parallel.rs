//! The places for requests of one key that are under way at a time, and those who wait for one, in the order in which
//! they came.
//!
//! Shared by all shards. Invariant: no more places are taken than there are, nobody passes those who came before, and a
//! place is free again when its [`ParallelPlace`] is dropped, wherever its request was. While nobody waits, a place costs one
//! atomic operation to take and one to give back; only where somebody does there is a lock, for some dozens of
//! instructions.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

#[expect(clippy::disallowed_types, reason = "taken only where a request waits, and never for long")]
use crate::sync::Mutex;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, MutexGuard};

/// The most requests of one key that wait for a place.
pub const WAITING_MAX: usize = 100;

/// One that is under way, and one that waits, in [`ParallelPlaces::state`].
const TAKEN: u64 = 1;
const WAITING: u64 = 1 << 32;

/// The places of one key.
pub struct ParallelPlaces {
    /// The places that are taken in the lower half, those who wait in the upper one. Without the lock it changes only
    /// while nobody waits.
    state: AtomicU64,
    limit: AtomicU32,
    #[expect(clippy::disallowed_types, reason = "see there")]
    queue: Mutex<VecDeque<Arc<PlaceWaiter>>>,
}

/// A place that is taken.
#[derive(Debug)]
pub struct ParallelPlace {
    places: Arc<ParallelPlaces>,
}

/// A request that waits for a place. Dropped, it waits no more.
pub struct Waiting {
    waiter: Arc<PlaceWaiter>,
    places: Arc<ParallelPlaces>,
}

struct PlaceWaiter {
    /// It has a place.
    is_let_in: AtomicBool,
    /// Tells its shard so.
    notify: Box<dyn Fn() + Send + Sync>,
}

/// As many wait as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFull;

impl Default for ParallelPlaces {
    /// Makes places without a limit.
    fn default() -> Self {
        ParallelPlaces { state: AtomicU64::new(0), limit: AtomicU32::new(u32::MAX), queue: Default::default() }
    }
}

impl ParallelPlaces {
    /// Changes the number of places; those who wait may come in at once.
    pub fn set_limit(&self, limit: Option<u32>) {
        let mut queue = self.lock();
        self.limit.store(limit.unwrap_or(u32::MAX), Ordering::SeqCst);
        let let_in = self.let_in(&mut queue);
        drop(queue);
        tell(let_in);
    }

    /// Returns how many places are taken, and how many wait for one.
    pub fn counts(&self) -> (u32, u32) {
        let state = self.state.load(Ordering::Relaxed);
        (taken(state), waiting(state))
    }

    /// Takes a place; `None` where there is none, or others wait for one.
    pub fn try_take(self: &Arc<Self>) -> Option<ParallelPlace> {
        let limit = self.limit.load(Ordering::Relaxed);
        let one_more = |state| (waiting(state) == 0 && taken(state) < limit).then_some(state + TAKEN);
        let is_taken = self.state.fetch_update(Ordering::SeqCst, Ordering::Relaxed, one_more).is_ok();
        is_taken.then(|| ParallelPlace { places: self.clone() })
    }

    /// Begins to wait for a place, behind all who do. `notify` is called once, by any thread, when there is one.
    ///
    /// # Errors
    /// [`WAITING_MAX`] wait already.
    pub fn wait(self: &Arc<Self>, notify: impl Fn() + Send + Sync + 'static) -> Result<Waiting, QueueFull> {
        let mut queue = self.lock();
        if queue.len() >= WAITING_MAX {
            return Err(QueueFull);
        }
        let waiter = Arc::new(PlaceWaiter { is_let_in: AtomicBool::new(false), notify: Box::new(notify) });
        queue.push_back(waiter.clone());
        // From here on nobody gives a place back without a look at the queue; one that is free already is found now.
        self.state.fetch_add(WAITING, Ordering::SeqCst);
        let let_in = self.let_in(&mut queue);
        drop(queue);
        tell(let_in);
        Ok(Waiting { waiter, places: self.clone() })
    }

    fn give_back(&self) {
        let one_less = |state| (waiting(state) == 0).then(|| state - TAKEN);
        if self.state.fetch_update(Ordering::SeqCst, Ordering::Relaxed, one_less).is_err() {
            let mut queue = self.lock();
            self.state.fetch_sub(TAKEN, Ordering::SeqCst);
            let let_in = self.let_in(&mut queue);
            drop(queue);
            tell(let_in);
        }
    }

    /// Gives free places to those who wait, and returns them: they are to be told once the lock is released. While one
    /// waits, and for as long as the lock is held, nobody else changes the state.
    fn let_in(&self, queue: &mut VecDeque<Arc<PlaceWaiter>>) -> Vec<Arc<PlaceWaiter>> {
        let mut let_in = Vec::new();
        while taken(self.state.load(Ordering::SeqCst)) < self.limit.load(Ordering::Relaxed) {
            let Some(first) = queue.pop_front() else { break };
            // One step: who saw none waiting and less places taken would take this one.
            self.state.fetch_sub(WAITING - TAKEN, Ordering::SeqCst);
            first.is_let_in.store(true, Ordering::SeqCst);
            let_in.push(first);
        }
        let_in
    }

    fn leave(&self, waiter: &Arc<PlaceWaiter>) {
        let mut queue = self.lock();
        if let Some(at) = queue.iter().position(|other| Arc::ptr_eq(other, waiter)) {
            queue.remove(at);
            self.state.fetch_sub(WAITING, Ordering::SeqCst);
        } else if waiter.is_let_in.load(Ordering::SeqCst) {
            drop(queue);
            self.give_back();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<PlaceWaiter>>> {
        // Nothing in here panics between two changes.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Takes the place, if there is one.
    pub fn take(&mut self) -> Option<ParallelPlace> {
        let has_place = self.waiter.is_let_in.swap(false, Ordering::SeqCst);
        has_place.then(|| ParallelPlace { places: self.places.clone() })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.places.leave(&self.waiter);
    }
}

impl Drop for ParallelPlace {
    fn drop(&mut self) {
        self.places.give_back();
    }
}

impl fmt::Debug for ParallelPlaces {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (taken, waiting) = self.counts();
        formatter.debug_struct("ParallelPlaces").field("taken", &taken).field("waiting", &waiting).finish()
    }
}

fn tell(let_in: Vec<Arc<PlaceWaiter>>) {
    let_in.iter().for_each(|waiter| (waiter.notify)());
}

fn taken(state: u64) -> u32 {
    state as u32
}

fn waiting(state: u64) -> u32 {
    (state >> 32) as u32
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;

    fn places(limit: u32) -> Arc<ParallelPlaces> {
        let places = Arc::new(ParallelPlaces::default());
        places.set_limit(Some(limit));
        places
    }

    impl Waiting {
        fn is_let_in(&self) -> bool {
            self.waiter.is_let_in.load(Ordering::SeqCst)
        }
    }

    fn waits(places: &Arc<ParallelPlaces>) -> Waiting {
        places.wait(|| {}).expect("room")
    }

    #[test]
    fn places_go_to_those_who_wait_in_the_order_in_which_they_came() {
        let places = places(2);
        let (a, b) = (places.try_take().expect("one"), places.try_take().expect("two"));
        assert!(places.try_take().is_none());
        let (mut first, mut second) = (waits(&places), waits(&places));
        assert_eq!(places.counts(), (2, 2));
        assert!(first.take().is_none());
        drop(a);
        assert!(first.is_let_in() && !second.is_let_in());
        assert!(places.try_take().is_none(), "it is not for who comes now");
        let first = first.take().expect("a place");
        drop((b, first));
        let place = second.take();
        assert!(place.is_some());
        assert_eq!(places.counts(), (1, 0));
        drop(place);
        assert_eq!(places.counts(), (0, 0));
    }

    #[test]
    fn who_leaves_frees_the_place_in_the_queue_or_the_one_it_was_given() {
        let places = places(1);
        let place = places.try_take();
        let (first, second, third) = (waits(&places), waits(&places), waits(&places));
        drop(second);
        assert_eq!(places.counts(), (1, 2));
        drop(place);
        assert!(first.is_let_in());
        drop(first);
        assert!(third.is_let_in(), "the place that nobody came for went on");
        drop(third);
        assert_eq!(places.counts(), (0, 0));
        assert!(places.try_take().is_some());
    }

    #[test]
    fn who_waits_is_told_once_and_more_than_a_hundred_do_not_wait() {
        let places = places(1);
        let place = places.try_take();
        let told = Arc::new(AtomicUsize::new(0));
        let queue: Vec<_> = (0..WAITING_MAX)
            .map(|_| {
                let told = told.clone();
                let notify = move || _ = told.fetch_add(1, Ordering::Relaxed);
                places.wait(notify).expect("room")
            })
            .collect();
        assert!(places.wait(|| {}).is_err());
        drop(place);
        assert_eq!(told.load(Ordering::Relaxed), 1);
        drop(queue);
        assert_eq!((places.counts(), told.load(Ordering::Relaxed)), ((0, 0), WAITING_MAX));
    }

    #[test]
    fn another_limit_lets_more_in_and_takes_no_place_away() {
        let places = places(1);
        let mut taken = vec![places.try_take().expect("one")];
        let mut queue = [waits(&places), waits(&places), waits(&places)];
        places.set_limit(Some(3));
        taken.extend(queue.iter_mut().filter_map(Waiting::take));
        assert_eq!((taken.len(), places.counts()), (3, (3, 1)));
        places.set_limit(Some(1));
        taken.truncate(1);
        assert!(!queue[2].is_let_in());
        taken.clear();
        assert!(queue[2].is_let_in());
        places.set_limit(None);
        assert!(places.try_take().is_some());
    }

    #[test]
    fn many_threads_never_have_more_places_than_there_are_and_lose_none() {
        const LIMIT: u32 = 3;
        let places = places(LIMIT);
        let inside = Arc::new(AtomicU32::new(0));
        let work = |seed: u64, places: Arc<ParallelPlaces>, inside: Arc<AtomicU32>| {
            let mut random = fastrand::Rng::with_seed(seed);
            for _ in 0..3_000 {
                let place = places.try_take().or_else(|| {
                    let mut waiting = places.wait(|| {}).ok()?;
                    for _ in 0..random.u32(0..50) {
                        if waiting.is_let_in() {
                            return waiting.take();
                        }
                        thread::yield_now();
                    }
                    None
                });
                if place.is_some() {
                    assert!(inside.fetch_add(1, Ordering::SeqCst) < LIMIT);
                    if random.bool() {
                        thread::yield_now();
                    }
                    inside.fetch_sub(1, Ordering::SeqCst);
                }
            }
        };
        thread::scope(|scope| {
            for seed in 0..8 {
                let (places, inside) = (places.clone(), inside.clone());
                scope.spawn(move || work(seed, places, inside));
            }
        });
        assert_eq!(places.counts(), (0, 0));
        let all: Vec<_> = (0..LIMIT).map(|_| places.try_take().expect("free")).collect();
        assert!(places.try_take().is_none());
        drop(all);
    }
}
