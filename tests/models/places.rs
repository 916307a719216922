//! The places for open connections: a shard that begins to wait either finds the place that is given back, or is woken.

use std::sync::Arc;

use loom::thread;

use crate::Model;
use crate::io::{GivesWay, Wakeup};
use crate::shard_places::{Lack, Places};

pub const MODELS: &[Model] = &[
    Model::all("a shard does not sleep while there is a place", found_or_woken),
    Model::all("two shards that wait are both woken by two places", both_are_woken),
    Model::all("no more places are taken than there are", never_more),
    Model::all("a shard that is asked to let a connection give way learns of it", asked),
];

/// Makes places, and returns the wake-ups of the shards with them.
fn places(count_max: usize, shards: usize) -> (Arc<Places>, Vec<Wakeup>) {
    let places = Places::new(count_max, shards).expect("wake-ups");
    (Arc::new(places), Wakeup::opened())
}

fn found_or_woken() {
    let (places, wakeups) = places(1, 2);
    assert!(places.take());
    let other = {
        let places = places.clone();
        thread::spawn(move || places.give_back())
    };
    let wait = places.begin_wait(0);
    let has_place = places.take();
    other.join().unwrap();
    assert!(has_place || wakeups[0].take(), "it sleeps beside a free place");
    drop(wait);
    if !has_place {
        assert!(places.take());
    }
    assert_eq!(places.taken_count(), 1);
}

fn both_are_woken() {
    let (places, wakeups) = places(2, 2);
    assert!(places.take() && places.take());
    let waits = [places.begin_wait(0), places.begin_wait(1)];
    let other = {
        let places = places.clone();
        thread::spawn(move || places.give_back())
    };
    places.give_back();
    other.join().unwrap();
    assert!(wakeups[0].take() && wakeups[1].take(), "two places, and one of two shards sleeps");
    drop(waits);
    assert_eq!(places.taken_count(), 0);
}

fn never_more() {
    let (places, _) = places(1, 2);
    let look = {
        let places = places.clone();
        move || {
            let has_place = places.take();
            assert!(places.taken_count() <= 1);
            if has_place {
                places.give_back();
            }
        }
    };
    let other = thread::spawn(look.clone());
    look();
    other.join().unwrap();
    assert_eq!(places.taken_count(), 0);
}

fn asked() {
    let (places, wakeups) = places(1, 2);
    places.show_first(1, Some((GivesWay::Early, std::time::Instant::now())));
    let other = {
        let places = places.clone();
        thread::spawn(move || {
            let shard = places.first_in_line().expect("one at rest");
            places.ask(shard, Lack::Place);
        })
    };
    // It looks for another reason meanwhile.
    let early = places.take_request(1);
    other.join().unwrap();
    let late = wakeups[1].take().then(|| places.take_request(1)).flatten();
    assert_eq!(early.or(late), Some(Lack::Place), "the request is lost");
}
