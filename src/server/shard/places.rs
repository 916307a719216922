//! The places for open connections, which all shards share, and the way in which a shard that has none gets one.
//!
//! A shard whose listener has a connection and that finds no place looks for the connection at rest that gives way
//! first, among all shards: each shows its first one here. Where that is another shard's, it asks that one, and is
//! woken when a place is given back. Invariant: no lock; while there are places, a shard writes to no line but its own
//! and that of their number.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crossbeam_utils::CachePadded;

use crate::io::deadline::next_turn;
use crate::io::epoll::Events;
use crate::io::{GivesWay, Wakeup};
use crate::sync::{AtomicU64, AtomicUsize};

/// The places for the open connections of the process.
pub struct Places {
    taken: CachePadded<AtomicUsize>,
    count_max: usize,
    /// One bit for each shard that waits for a place; those whose indices are [`BITS`] apart share one.
    waiting: CachePadded<AtomicU64>,
    /// The bit that was last woken, so that all that wait have their turn.
    last_woken: AtomicUsize,
    shards: Box<[CachePadded<ShardEntry>]>,
    began: Instant,
}

/// The view of one shard that the others have.
struct ShardEntry {
    /// The connection that gives way first: an order of all shards' ones, or [`NONE`]. Only the shard itself writes it.
    first: AtomicU64,
    /// Of the shards that share its bit of [`Places::waiting`], the number of waits. Only in the first of them.
    waits: AtomicUsize,
    /// The [`Lack`]s, as bits, for which others have asked it to let a connection give way.
    asked: AtomicUsize,
    wakeup: Wakeup,
}

/// Number of shards that [`Places::waiting`] tells apart.
const BITS: usize = u64::BITS as usize;
/// No connection of the shard is at rest.
const NONE: u64 = u64::MAX;
/// The bit of `ShardEntry::first` that puts all of [`GivesWay::Late`] after all of [`GivesWay::Early`].
const LATE: u64 = 1 << 63;

/// A reason to let a connection give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// All places are taken.
    Place = 1,
    /// The process, or the system, may open no more descriptors.
    Descriptor = 2,
}

impl Places {
    /// # Errors
    /// The wake-ups of the shards cannot be opened.
    pub fn new(count_max: usize, shards: usize) -> io::Result<Self> {
        let entry = || {
            let (waits, asked) = Default::default();
            Ok(ShardEntry { first: AtomicU64::new(NONE), waits, asked, wakeup: Wakeup::open()? })
        };
        let shards = (0..shards).map(|_| entry().map(CachePadded::new)).collect::<io::Result<_>>()?;
        Ok(Places {
            taken: CachePadded::default(),
            count_max,
            waiting: CachePadded::default(),
            last_woken: AtomicUsize::new(0),
            shards,
            began: Instant::now(),
        })
    }

    /// Opens the stream that becomes readable when a shard is woken.
    ///
    /// # Errors
    /// Those of [`Wakeup::events`].
    pub fn wakeups(&self, shard: usize) -> io::Result<Events> {
        self.shards[shard].wakeup.events()
    }

    pub fn taken_count(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    pub fn is_full(&self) -> bool {
        // Ordered after `begin_wait`, see there.
        self.taken.load(Ordering::SeqCst) >= self.count_max
    }

    /// Returns whether all places are taken, and still are a turn later: a shard takes one for a moment also to look
    /// whether anybody waits in the queue of its listener.
    pub async fn stays_full(&self) -> bool {
        if !self.is_full() {
            return false;
        }
        next_turn().await;
        self.is_full()
    }

    /// Takes a place, though there may be none: for a client that is served in any case.
    pub fn take_beyond(&self) {
        self.taken.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes a place; false when there is none.
    pub fn take(&self) -> bool {
        let one_more = |taken| (taken < self.count_max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::Relaxed, one_more).is_ok()
    }

    /// Gives a place back, and wakes a shard that waits for one.
    pub fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::SeqCst);
        self.wake_waiting();
    }

    /// Says that a shard waits for a place: from here on it is woken, once, when one is given back or a connection
    /// comes to rest. It must look for a place again after this call: either it finds the one that is given back
    /// meanwhile, or who gives it back finds that it waits. The wait ends when the result is dropped.
    pub fn begin_wait(&self, shard: usize) -> PlaceWait<'_> {
        let bit = shard % BITS;
        self.shards[bit].waits.fetch_add(1, Ordering::SeqCst);
        self.waiting.fetch_or(1 << bit, Ordering::SeqCst);
        PlaceWait { places: self, bit }
    }

    /// Returns whether a shard waits for a place and there is none.
    pub fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) != 0 && self.is_full()
    }

    /// Wakes one of the shards that wait for a place, in turn.
    pub fn wake_waiting(&self) {
        loop {
            let waiting = self.waiting.load(Ordering::SeqCst);
            if waiting == 0 {
                return;
            }
            let after = (self.last_woken.load(Ordering::Relaxed) + 1) % BITS;
            let bit = (after + waiting.rotate_right(after as u32).trailing_zeros() as usize) % BITS;
            // Otherwise another thread has woken it, for another place.
            if self.waiting.fetch_and(!(1 << bit), Ordering::SeqCst) & (1 << bit) != 0 {
                self.last_woken.store(bit, Ordering::Relaxed);
                self.shards.iter().skip(bit).step_by(BITS).for_each(|shard| shard.wakeup.wake());
                return;
            }
        }
    }

    /// Shows the connection of a shard that gives way first, by its kind and the time at which it is due. Only for that
    /// shard.
    pub fn show_first(&self, shard: usize, first: Option<(GivesWay, Instant)>) {
        let first = first.map_or(NONE, |(gives_way, due)| {
            let due = due.saturating_duration_since(self.began).as_micros() as u64 & !LATE;
            match gives_way {
                GivesWay::Early => due,
                GivesWay::Late => due | LATE,
            }
        });
        let shown = &self.shards[shard].first;
        if shown.load(Ordering::Relaxed) != first {
            shown.store(first, Ordering::Release);
        }
    }

    /// Returns the shard that has the connection that gives way first; `None` where none is at rest.
    pub fn first_in_line(&self) -> Option<usize> {
        let first = |shard: &CachePadded<ShardEntry>| shard.first.load(Ordering::Acquire);
        let shown = self.shards.iter().map(first).enumerate().filter(|(_, first)| *first != NONE);
        shown.min_by_key(|(_, first)| *first).map(|(shard, _)| shard)
    }

    /// Asks a shard to let a connection give way. Several requests for the same are one: who still waits afterwards asks
    /// again, so that no more connections are closed than wait.
    pub fn ask(&self, shard: usize, lack: Lack) {
        let entry = &self.shards[shard];
        if entry.asked.fetch_or(lack as usize, Ordering::AcqRel) & lack as usize == 0 {
            entry.wakeup.wake();
        }
    }

    /// Takes what a shard was asked for, once it was woken.
    pub fn take_request(&self, shard: usize) -> Option<Lack> {
        let entry = &self.shards[shard];
        entry.wakeup.take();
        let asked = entry.asked.swap(0, Ordering::AcqRel);
        [Lack::Descriptor, Lack::Place].into_iter().find(|lack| asked & *lack as usize != 0)
    }
}

/// The wait of an accept loop for a place.
#[must_use = "the wait ends when this is dropped"]
pub struct PlaceWait<'a> {
    places: &'a Places,
    bit: usize,
}

impl Drop for PlaceWait<'_> {
    fn drop(&mut self) {
        let PlaceWait { places, bit } = *self;
        let waits = &places.shards[bit].waits;
        if waits.fetch_sub(1, Ordering::SeqCst) > 1 {
            return;
        }
        places.waiting.fetch_and(!(1 << bit), Ordering::SeqCst);
        // Another shard with this bit may have begun to wait in between, and a place may have been given back since.
        if waits.load(Ordering::SeqCst) > 0 {
            places.waiting.fetch_or(1 << bit, Ordering::SeqCst);
            if !places.is_full() {
                places.wake_waiting();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::io::deadline::on_a_shard;

    fn places(count_max: usize, shards: usize) -> Places {
        Places::new(count_max, shards).unwrap()
    }

    /// The shards that were woken since the last call.
    fn woken(places: &Places) -> Vec<usize> {
        (0..places.shards.len()).filter(|shard| places.shards[*shard].wakeup.take()).collect()
    }

    #[test]
    fn no_more_places_are_taken_than_there_are() {
        let places = places(2, 1);
        assert!(places.take() && places.take() && !places.take());
        assert!(places.is_full() && places.taken_count() == 2);
        places.give_back();
        assert!(!places.is_full() && places.take() && places.is_full());
    }

    #[test]
    fn a_place_that_is_given_back_wakes_one_of_those_that_wait_and_each_in_its_turn() {
        let places = places(9, 4);
        (0..9).for_each(|_| assert!(places.take()));
        places.give_back();
        assert_eq!(woken(&places), [0; 0], "nobody waits");
        let mut waits = Vec::from([3, 1, 2].map(|shard| places.begin_wait(shard)));
        for expected in [1, 2] {
            places.give_back();
            assert_eq!(woken(&places), [expected]);
        }
        waits.push(places.begin_wait(1));
        for expected in [3, 1] {
            places.give_back();
            assert_eq!(woken(&places), [expected], "the one that has waited on comes first");
        }
        places.give_back();
        assert_eq!(woken(&places), [0; 0], "all have been woken");
    }

    #[test]
    fn shards_beyond_the_bits_are_woken_too() {
        let places = places(1, BITS + 2);
        assert!(places.take());
        let _wait = places.begin_wait(BITS + 1);
        places.give_back();
        assert_eq!(woken(&places), [1, BITS + 1]);
    }

    #[test]
    fn the_end_of_a_wait_ends_no_other_of_the_same_shard_or_of_one_with_the_same_bit() {
        let places = places(1, BITS + 2);
        assert!(places.take());
        for (first, second) in [(1, 1), (1, BITS + 1), (BITS + 1, 1)] {
            let (first, second) = (places.begin_wait(first), places.begin_wait(second));
            drop(first);
            assert!(places.is_waited_for());
            places.give_back();
            assert_eq!(woken(&places), [1, BITS + 1]);
            assert!(places.take());
            drop(second);
            assert!(!places.is_waited_for(), "both are over");
        }
    }

    #[test]
    fn a_place_that_is_taken_only_to_look_is_not_lacking() {
        on_a_shard(async {
            let places = Rc::new(places(1, 2));
            assert!(!places.stays_full().await && places.take());
            let looking = places.clone();
            let look = monoio::spawn(async move { looking.give_back() });
            assert!(places.is_full() && !places.stays_full().await);
            look.await;
            assert!(places.take() && places.stays_full().await);
        });
    }

    #[test]
    fn those_that_never_sent_a_request_come_first_then_those_that_are_due_first_whatever_their_shard() {
        let (places, now) = (places(1, 3), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(places.first_in_line(), None);
        places.show_first(2, Some((GivesWay::Late, after(5))));
        places.show_first(0, Some((GivesWay::Late, after(4))));
        assert_eq!(places.first_in_line(), Some(0));
        places.show_first(1, Some((GivesWay::Early, after(9))));
        assert_eq!(places.first_in_line(), Some(1));
        places.show_first(1, None);
        places.show_first(0, None);
        assert_eq!(places.first_in_line(), Some(2));
    }

    #[test]
    fn requests_for_the_same_are_one_and_descriptors_come_first() {
        let places = places(1, 2);
        (0..2).for_each(|_| places.ask(1, Lack::Place));
        assert_eq!(woken(&places), [1]);
        assert_eq!((places.take_request(0), places.take_request(1)), (None, Some(Lack::Place)));
        assert_eq!(places.take_request(1), None);
        places.ask(1, Lack::Place);
        places.ask(1, Lack::Descriptor);
        assert_eq!(places.take_request(1), Some(Lack::Descriptor));
    }

    #[test]
    fn a_place_is_waited_for_while_a_shard_waits_and_there_is_none() {
        let places = places(1, 2);
        let wait = places.begin_wait(1);
        assert!(!places.is_waited_for(), "there is one");
        assert!(places.take() && places.is_waited_for());
        drop(wait);
        assert!(!places.is_waited_for(), "it waits no more");
        let _wait = places.begin_wait(1);
        places.give_back();
        assert!(places.take() && !places.is_waited_for(), "it was woken, and has not said that it still waits");
    }
}
