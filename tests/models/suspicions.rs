//! Suspicions: one lasts as long as an exchange has one, or until the standing is settled, and no longer.

use std::sync::Arc;
use std::time::Instant;

use loom::thread;

use crate::Model;
use crate::standing::{CredentialFault, Standing};

pub const MODELS: &[Model] = &[
    Model::all("a suspicion lasts while any exchange has one", lasts),
    Model::all("a suspicion that a good answer ended is not ended twice", restored),
    Model::all("a conviction ends the suspicions of all", convicted),
];

fn lasts() {
    let (standing, now) = (Arc::new(Standing::default()), Instant::now());
    let own = standing.suspect(now);
    let other = {
        let standing = standing.clone();
        thread::spawn(move || drop(standing.suspect(now)))
    };
    assert!(standing.is_suspected(now));
    other.join().unwrap();
    assert!(standing.is_suspected(now), "another exchange has ended the suspicion");
    drop(own);
    assert!(standing.is_clear() && !standing.is_suspected(now));
}

fn restored() {
    let (standing, now) = (Arc::new(Standing::default()), Instant::now());
    let old = standing.suspect(now);
    let other = {
        let standing = standing.clone();
        thread::spawn(move || {
            standing.restore(now);
            standing.suspect(now)
        })
    };
    drop(old);
    let new = other.join().unwrap();
    assert!(standing.is_suspected(now), "the end of an old suspicion ended a new one");
    drop(new);
    assert!(standing.is_clear() && !standing.is_suspected(now));
}

fn convicted() {
    let (standing, now) = (Arc::new(Standing::default()), Instant::now());
    let own = standing.suspect(now);
    let other = {
        let standing = standing.clone();
        thread::spawn(move || {
            let suspicion = standing.suspect(now);
            standing.cool(CredentialFault::Refused, now, now);
            drop(suspicion);
        })
    };
    drop(own);
    other.join().unwrap();
    assert!(!standing.is_suspected(now) && !standing.is_clear());
    assert!(standing.cooling_for(now).is_some());
}
