//! The check whether the upstream still knows an identity: one exchange makes it, and the others wait for no other.

use std::sync::Arc;
use std::time::Instant;

use loom::thread;

use crate::Model;
use crate::standing::{CheckClaim, Standing};

pub const MODELS: &[Model] = &[Model::all("one exchange a minute makes the check", one_a_minute)];

fn one_a_minute() {
    let (standing, now) = (Arc::new(Standing::default()), Instant::now());
    let check = {
        let standing = standing.clone();
        move || {
            let claim = standing.claim_check(now);
            if claim == CheckClaim::Granted {
                standing.end_check();
            }
            claim
        }
    };
    let others = [thread::spawn(check.clone()), thread::spawn(check)];
    let claims: Vec<_> = others.into_iter().map(|other| other.join().unwrap()).collect();
    assert_eq!(claims.iter().filter(|claim| **claim == CheckClaim::Granted).count(), 1);
    assert_eq!(standing.claim_check(now), CheckClaim::Needless);
}
