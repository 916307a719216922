//! The probe of a rest: one exchange at a time is it, however they end, and none stays behind.

use std::sync::Arc;
use std::time::{Duration, Instant};

use loom::thread;

use crate::Model;
use crate::standing::{Claim, CredentialFault, HeldProbe, Standing};
use crate::sync::AtomicUsize;
use std::sync::atomic::Ordering;

pub const MODELS: &[Model] = &[
    Model::all("of several exchanges one is the probe", one_of_several),
    Model::all("a probe that is given up goes to another exchange", given_up),
    Model::all("an exchange that outlives its probe ends no other", outlived),
    Model::all("a probe that restores or cools leaves none behind", settled),
];

const SECOND: Duration = Duration::from_secs(1);
const REST: CredentialFault = CredentialFault::RateLimited { retry_after: Some(SECOND) };

/// Makes a standing whose rest ends at the time that is returned.
pub fn rested() -> (Arc<Standing>, Instant) {
    let (standing, start) = (Arc::new(Standing::default()), Instant::now());
    assert!(standing.cool(REST, start, start).is_some());
    (standing, start + SECOND)
}

fn claim(standing: &Arc<Standing>, now: Instant) -> Option<HeldProbe> {
    match standing.claim_probe(now) {
        Claim::Granted(probe) => Some(probe),
        Claim::InFlight | Claim::Needless => None,
    }
}

/// Checks that nothing is held any more: the rest has a probe for who comes now, and the flag tells of it.
fn assert_free(standing: &Arc<Standing>, now: Instant) {
    assert!(!standing.is_clear(), "the rest is on record");
    assert!(claim(standing, now).is_some(), "the probe is lost");
}

fn one_of_several() {
    let (standing, end) = rested();
    let probes = Arc::new(AtomicUsize::new(0));
    let exchange = || {
        let (standing, probes) = (standing.clone(), probes.clone());
        thread::spawn(move || {
            let probe = claim(&standing, end);
            if probe.is_some() {
                probes.fetch_add(1, Ordering::Relaxed);
            }
            probe
        })
    };
    let others = [exchange(), exchange()];
    let held: Vec<_> = others.into_iter().map(|other| other.join().unwrap()).collect();
    assert_eq!(probes.load(Ordering::Relaxed), 1);
    drop(held);
    assert_free(&standing, end);
}

fn given_up() {
    let (standing, end) = rested();
    let inside = Arc::new(AtomicUsize::new(0));
    let exchange = {
        let (standing, inside) = (standing.clone(), inside.clone());
        move || {
            if let Some(probe) = claim(&standing, end) {
                assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "two probes at a time");
                inside.fetch_sub(1, Ordering::Relaxed);
                drop(probe);
            }
        }
    };
    let other = thread::spawn(exchange.clone());
    exchange();
    other.join().unwrap();
    assert_free(&standing, end);
}

fn outlived() {
    let (standing, end) = rested();
    let slow = claim(&standing, end).expect("the probe");
    // It counts no more, another exchange is limited, and the rest after that has a probe of its own.
    let late = end + SECOND;
    let next = late + SECOND;
    let other = {
        let standing = standing.clone();
        thread::spawn(move || {
            standing.cool(REST, late, late);
            claim(&standing, next)
        })
    };
    drop(slow);
    let probe = other.join().unwrap();
    assert!(probe.is_some());
    assert!(matches!(standing.claim_probe(next), Claim::InFlight), "the probe of another was ended");
    drop(probe);
    assert_free(&standing, next);
}

fn settled() {
    let (standing, end) = rested();
    let probe = claim(&standing, end).expect("the probe");
    let other = {
        let standing = standing.clone();
        // Another exchange, which began before, is limited again.
        thread::spawn(move || standing.cool(REST, end, end + SECOND))
    };
    standing.restore(end);
    drop(probe);
    other.join().unwrap();
    let is_resting = standing.last_cooldown().is_some();
    assert_eq!(standing.is_clear(), !is_resting, "the flag tells of the state");
    if is_resting {
        assert_free(&standing, end + 2 * SECOND);
    }
}
