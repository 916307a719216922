//! The shard's idle connections to the upstream, newest first.
//!
//! The newest is used first, so that the rest can grow old and be closed. A connection that has rested for a moment is
//! looked at before it is used again: one that has been closed, or on which anything has come unasked, is not used.
//! Bounded in number and age.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Connection;
use crate::io::pause;

/// A connection that rested for less is not looked at before it is used again, which would cost a system call for each
/// request of a busy shard. Whatever the upstream sends or closes meanwhile is mostly still on its way then: a look that
/// comes a round trip too early sees nothing either. One that was closed fails at once, and the request goes out again;
/// what may not go out twice never goes out here.
const SHORT_REST: Duration = Duration::from_millis(1);

/// How long a close_notify may take to leave.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Idle connections of one shard.
pub struct Pool {
    /// Oldest at the front.
    idle: RefCell<VecDeque<Idle>>,
    idle_limit: Duration,
    count_max: usize,
    is_reaping: Cell<bool>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// Keeps at most `count_max` connections, each at most `idle_limit` long.
    pub fn new(idle_limit: Duration, count_max: usize) -> Self {
        Pool { idle: RefCell::default(), idle_limit, count_max, is_reaping: Cell::new(false) }
    }

    /// The newest idle connection that is still good.
    pub fn checkout(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(newest) = idle.pop_back() {
            let age = newest.since.elapsed();
            if age < self.idle_limit && (age < SHORT_REST || newest.connection.is_at_rest()) {
                return Some(newest.connection);
            }
        }
        None
    }

    /// Takes back a connection whose exchange has ended cleanly on both sides. Anything else must be dropped instead.
    pub fn release(self: &Rc<Self>, connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        if self.count_max == 0 {
            return;
        }
        if idle.len() == self.count_max {
            idle.pop_front();
        }
        idle.push_back(Idle { connection, since: Instant::now() });
        if !self.is_reaping.replace(true) {
            monoio::spawn(self.clone().reap());
        }
    }

    /// Closes all idle connections.
    pub fn clear(&self) {
        self.idle.borrow_mut().clear();
    }

    /// Closes connections as they come of age, until none is left.
    async fn reap(self: Rc<Self>) {
        loop {
            let Some(oldest) = self.idle.borrow().front().map(|idle| idle.since) else {
                self.is_reaping.set(false);
                return;
            };
            let age = oldest.elapsed();
            if age < self.idle_limit {
                pause(self.idle_limit - age).await;
                continue;
            }
            let expired = self.idle.borrow_mut().pop_front();
            if let Some(expired) = expired {
                expired.connection.close(CLOSE_LIMIT).await;
            }
        }
    }
}
