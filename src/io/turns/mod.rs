//! Fairness among the connections of a shard: no turn gets long.
//!
//! A turn lies between two waits of the runtime for the kernel. What takes long is bounded by the work that all tasks
//! of the shard do in one turn (`budget`), what takes microseconds by the steps of one task ([`Turns`]). New connections
//! come after those that are open (`pace`).
//!
//! On epoll an operation that can be done at once is done without a wait. A connection whose both ends keep up would
//! then starve the rest of the shard: other connections, deadlines, and the watch on its own client. On io_uring every
//! operation waits, but accepting is none.

mod budget;
mod pace;

use std::cell::Cell;

pub use self::budget::{Work, first_waits_since, long_turns_count, spend, spend_on};
pub use self::pace::AcceptPace;
use super::deadline::next_turn;

/// Number of steps that a task takes in one turn. So many reads that are passed on are 2 MiB at most, some 2 ms of a
/// core with TLS; so many connections that are accepted some 1 ms.
const STEPS_MAX: u32 = 64;

/// Counts the steps that one task has taken since it was last polled: reads that it has passed on, connections that it
/// has accepted.
#[derive(Debug, Default)]
pub struct Turns {
    steps: Cell<u32>,
}

impl Turns {
    /// Starts a turn: the task was polled.
    pub fn begin(&self) {
        self.steps.set(0);
    }

    /// Accounts for another step: waits for the next turn if this one has had its share.
    ///
    /// # Cancel safety
    /// Loses nothing.
    pub async fn take(&self) {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > STEPS_MAX {
            self.begin();
            // Not just until the other ready tasks have run: the runtime handles completions when it waits for the
            // kernel.
            next_turn().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::io::deadline::on_a_shard;

    #[test]
    fn a_task_that_never_has_to_wait_gives_others_their_turn() {
        on_a_shard(async {
            let has_had_turn = Rc::new(Cell::new(false));
            let other = has_had_turn.clone();
            monoio::spawn(async move { other.set(true) });
            let turns = Turns::default();
            for _ in 0..STEPS_MAX {
                turns.take().await;
            }
            assert!(!has_had_turn.get(), "a wait within the share");
            turns.take().await;
            assert!(has_had_turn.get(), "no wait beyond it");
        });
    }
}
