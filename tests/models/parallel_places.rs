//! The parallel places of a key: never more than there are, none lost, and whoever waits is let in, in order, and told.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use loom::thread;

use crate::Model;
use crate::parallel::{ParallelPlace, ParallelPlaces};
use crate::sync::AtomicUsize;

pub const MODELS: &[Model] = &[
    Model::all("no more exchanges have a place than there are places", never_more),
    Model::all("a place that is given back finds who begins to wait", given_back_to_who_waits),
    Model::all("who comes while another is let in does not take its place", comes_meanwhile),
    Model::all("who waits and leaves gives the place on", left_while_let_in),
    Model::all("another limit that comes meanwhile lets in who waits", another_limit),
];

fn places(limit: u32) -> Arc<ParallelPlaces> {
    let places = Arc::new(ParallelPlaces::default());
    places.set_limit(Some(limit));
    places
}

/// Takes a place at once, or waits; gives what it is told of by.
fn enter(places: &Arc<ParallelPlaces>) -> (Option<ParallelPlace>, Option<Waits>) {
    match places.try_take() {
        Some(place) => (Some(place), None),
        None => (None, Some(Waits::begin(places))),
    }
}

struct Waits {
    waiting: crate::parallel::Waiting,
    told: Arc<AtomicUsize>,
}

impl Waits {
    fn begin(places: &Arc<ParallelPlaces>) -> Self {
        let told = Arc::new(AtomicUsize::new(0));
        let notified = told.clone();
        let waiting = places.wait(move || _ = notified.fetch_add(1, Ordering::SeqCst)).expect("room");
        Waits { waiting, told }
    }

    /// Takes the place that it was let in to.
    fn take(mut self) -> Option<ParallelPlace> {
        let is_told = self.told.load(Ordering::SeqCst) == 1;
        let place = self.waiting.take();
        assert_eq!(place.is_some(), is_told, "who is let in is told, once");
        place
    }
}

fn never_more() {
    let places = places(1);
    let inside = Arc::new(AtomicUsize::new(0));
    let exchange = {
        let (places, inside) = (places.clone(), inside.clone());
        move || {
            if let Some(place) = places.try_take() {
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two have the only place");
                inside.fetch_sub(1, Ordering::SeqCst);
                drop(place);
            }
        }
    };
    let others = [thread::spawn(exchange.clone()), thread::spawn(exchange.clone())];
    exchange();
    others.into_iter().for_each(|other| other.join().unwrap());
    assert_eq!(places.counts(), (0, 0));
    assert!(places.try_take().is_some());
}

fn given_back_to_who_waits() {
    let places = places(1);
    let held = places.try_take().expect("one");
    let other = {
        let places = places.clone();
        thread::spawn(move || enter(&places))
    };
    drop(held);
    let (place, waits) = other.join().unwrap();
    let place = place.or_else(|| waits.and_then(Waits::take));
    assert!(place.is_some(), "it waits for a place that is free");
    drop(place);
    assert_eq!(places.counts(), (0, 0));
}

fn comes_meanwhile() {
    let places = places(1);
    let held = places.try_take().expect("one");
    let waits = Waits::begin(&places);
    let other = {
        let places = places.clone();
        thread::spawn(move || places.try_take())
    };
    drop(held);
    let passed = other.join().unwrap();
    assert!(passed.is_none(), "it passed the one that waits");
    let place = waits.take();
    assert!(place.is_some());
    drop(place);
    assert_eq!(places.counts(), (0, 0));
}

fn left_while_let_in() {
    let places = places(1);
    let held = places.try_take().expect("one");
    let (first, second) = (Waits::begin(&places), Waits::begin(&places));
    let other = thread::spawn(move || drop(first));
    drop(held);
    other.join().unwrap();
    let place = second.take();
    assert!(place.is_some(), "the place of the one that left is lost");
    drop(place);
    assert_eq!(places.counts(), (0, 0));
}

fn another_limit() {
    let places = places(1);
    let held = places.try_take().expect("one");
    let waits = Waits::begin(&places);
    let other = {
        let places = places.clone();
        thread::spawn(move || places.set_limit(Some(2)))
    };
    let third = places.try_take();
    assert!(third.is_none(), "who comes later passes who waits");
    drop(held);
    other.join().unwrap();
    let place = waits.take();
    assert!(place.is_some());
    assert_eq!(places.counts(), (1, 0));
    drop(place);
    assert_eq!(places.counts(), (0, 0));
}
