//! The phase of a shard between start and exit, and the wait of its connections for the next.
//!
//! The phase only moves forward. A waiter holds one slot; a change wakes all of them.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Instant;

use slab::Slab;

/// The phases of a shard, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// No connection is accepted yet.
    Starting,
    Serving,
    /// No connection is accepted; idle ones are closed after a moment, exchanges are their connection's last.
    Draining,
    /// The drain took too long: event streams are ended with an error event, everything else is closed.
    Expired,
}

/// The current phase of a shard, and the wakers of those that wait for the next.
#[derive(Debug)]
pub struct Lifecycle {
    phase: Cell<Phase>,
    draining_since: Cell<Option<Instant>>,
    waiting: RefCell<Slab<Waker>>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Lifecycle { phase: Cell::new(Phase::Starting), draining_since: Cell::default(), waiting: RefCell::default() }
    }
}

impl Lifecycle {
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Returns when the drain began; `None` before.
    pub fn draining_since(&self) -> Option<Instant> {
        self.draining_since.get()
    }

    /// Moves on to `phase` and wakes all waiters. A step back is ignored.
    pub fn advance(&self, phase: Phase) {
        if phase <= self.phase.get() {
            return;
        }
        self.phase.set(phase);
        if phase >= Phase::Draining && self.draining_since.get().is_none() {
            self.draining_since.set(Some(Instant::now()));
        }
        for (_, waker) in self.waiting.borrow().iter() {
            waker.wake_by_ref();
        }
    }

    /// Resolves once `phase` or a later one is reached.
    pub async fn reached(&self, phase: Phase) {
        let mut waiter = PhaseWaiter { lifecycle: self, key: None };
        poll_fn(|context| {
            if self.phase.get() >= phase {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            match waiter.key {
                Some(key) => waiting[key].clone_from(context.waker()),
                None => waiter.key = Some(waiting.insert(context.waker().clone())),
            }
            Poll::Pending
        })
        .await;
    }
}

struct PhaseWaiter<'a> {
    lifecycle: &'a Lifecycle,
    key: Option<usize>,
}

impl Drop for PhaseWaiter<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.lifecycle.waiting.borrow_mut().remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    #[test]
    fn a_wait_ends_when_its_phase_or_a_later_one_is_reached_and_leaves_no_slot() {
        let lifecycle = Lifecycle::default();
        let mut context = Context::from_waker(Waker::noop());
        {
            let mut draining = pin!(lifecycle.reached(Phase::Draining));
            let mut expired = pin!(lifecycle.reached(Phase::Expired));
            assert!(draining.as_mut().poll(&mut context).is_pending());
            assert!(expired.as_mut().poll(&mut context).is_pending());
            lifecycle.advance(Phase::Draining);
            assert!(draining.as_mut().poll(&mut context).is_ready());
            assert!(expired.as_mut().poll(&mut context).is_pending());
            lifecycle.advance(Phase::Expired);
            lifecycle.advance(Phase::Draining);
            assert_eq!(lifecycle.phase(), Phase::Expired);
        }
        assert!(lifecycle.waiting.borrow().is_empty());
    }
}
