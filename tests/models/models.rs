//! What threads share, in every order in which they can take their steps, and with every value that the memory model
//! lets a load see (loom): `cargo run --example models [NAME]`.
//!
//! The files that are checked are the program's own: those that import `crate::sync`, which is made of loom's primitives
//! here. Each model is as small as the rule that it holds allows; few have a limit on interruptions, and say so. An
//! example, and no test: the unit tests in those files are not for here.

#![allow(dead_code, unused_imports, reason = "whole files are included, of which a model uses some parts")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    unfulfilled_lint_expectations,
    reason = "what blocks here is a thread of a model"
)]

mod checks;
mod farewell;
mod parallel_places;
mod places;
mod probes;
mod quota_rounds;
mod rests;
mod suspicions;
mod sync;

/// The parts of `crate::io` that those name.
mod io;
#[path = "../../src/proxy/key_accounts/parallel.rs"]
mod parallel;
#[path = "../../src/proxy/resources/quota.rs"]
mod quota;
#[path = "../../src/server/shard/places.rs"]
mod shard_places;
/// The parts of the program that are checked.
#[path = "../../src/credentials/standing/mod.rs"]
mod standing;
mod take_over;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// A rule, and the threads that could break it.
#[derive(Clone, Copy)]
pub struct Model {
    name: &'static str,
    run: fn(),
    /// The most steps at which a thread is interrupted by another although it could go on; `None`: any number.
    preemptions_max: Option<usize>,
}

impl Model {
    /// Tries all orders.
    pub const fn all(name: &'static str, run: fn()) -> Self {
        Model { name, run, preemptions_max: None }
    }

    /// Tries all orders with few interruptions, for threads with so many steps that all would take hours: hardly any
    /// fault needs more.
    pub const fn most(name: &'static str, run: fn()) -> Self {
        Model { name, run, preemptions_max: Some(3) }
    }

    fn check(self) {
        let (orders, begun) = (Arc::new(AtomicUsize::new(0)), Instant::now());
        let counted = orders.clone();
        let mut builder = loom::model::Builder::new();
        builder.max_branches = 10_000;
        builder.preemption_bound = self.preemptions_max;
        builder.check(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            (self.run)();
        });
        let orders = orders.load(Ordering::Relaxed);
        let which = self.preemptions_max.map_or(String::new(), |most| format!(" with at most {most} interruptions"));
        println!("{}: holds in all {orders} orders{which} ({:.1?})", self.name, begun.elapsed());
    }
}

fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let models = [probes::MODELS, suspicions::MODELS, checks::MODELS, rests::MODELS, parallel_places::MODELS];
    let models = models.into_iter().chain([places::MODELS, quota_rounds::MODELS, farewell::MODELS]).flatten();
    let models: Vec<&Model> = models.filter(|model| model.name.contains(&wanted)).collect();
    assert!(!models.is_empty(), "there is no model of this name");
    models.into_iter().for_each(|model| model.check());
}
