//! Rounds of questions for quotas, and a reload: after it, a round with the new credentials is made, or is due.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use loom::thread;

use crate::Model;
use crate::quota::{INTERVAL, QuotaSchedule};
use crate::sync::AtomicBool;

pub const MODELS: &[Model] = &[
    Model::all("after a reload a round asks with the new credentials", after_a_reload),
    Model::all("a round is made by one shard", by_one_shard),
];

struct Gateway {
    schedule: QuotaSchedule,
    /// The order to use the new ones was sent: over a socket that a shard reads in each of its turns, and so before any
    /// question of a round has ended that it begins after that.
    has_new_credentials: AtomicBool,
    was_asked_with_new_ones: AtomicBool,
    now: Instant,
}

impl Gateway {
    fn new() -> Arc<Self> {
        let schedule = QuotaSchedule::new(INTERVAL);
        let (no, now) = (|| AtomicBool::new(false), Instant::now() + Duration::from_secs(1));
        Arc::new(Gateway { schedule, has_new_credentials: no(), was_asked_with_new_ones: no(), now })
    }

    /// Makes a round, if one is due, as a shard does (`proxy::quota_question`): with the credentials that it has, and
    /// it gives the round up when it learns of others before it has ended. Returns whether it made one.
    fn make_round(&self) -> bool {
        if !self.schedule.is_due(self.now) {
            return false;
        }
        let is_new = self.has_new_credentials.load(Ordering::SeqCst);
        let Some(claim) = self.schedule.claim(self.now) else { return false };
        if is_new {
            self.was_asked_with_new_ones.store(true, Ordering::Release);
        } else if self.has_new_credentials.load(Ordering::SeqCst) {
            self.schedule.give_up(&claim);
        }
        true
    }

    /// Loads new credentials, as the main thread does (`server::reload`).
    fn reload(&self) {
        self.has_new_credentials.store(true, Ordering::SeqCst);
        self.schedule.hasten();
    }
}

fn after_a_reload() {
    let gateway = Gateway::new();
    let shard = {
        let gateway = gateway.clone();
        thread::spawn(move || gateway.make_round())
    };
    gateway.reload();
    shard.join().unwrap();
    let is_asked = gateway.was_asked_with_new_ones.load(Ordering::Acquire);
    assert!(is_asked || gateway.schedule.is_due(gateway.now), "nobody asks with the new credentials for minutes");
}

fn by_one_shard() {
    let gateway = Gateway::new();
    let shard = {
        let gateway = gateway.clone();
        thread::spawn(move || gateway.make_round())
    };
    let rounds = u32::from(gateway.make_round()) + u32::from(shard.join().unwrap());
    assert_eq!(rounds, 1);
}
