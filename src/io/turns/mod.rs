//! Fairness among the connections of a shard: no turn gets long.
//!
//! A turn lies between two waits of the runtime for the kernel. Long work is bounded by what all tasks of the shard do
//! in one turn (`budget`), reads by what one task does.
//!
//! On epoll an operation that can be done at once is done without a wait. A connection whose both ends keep up would
//! then starve the rest of the shard: other connections, deadlines, and the watch on its own client. On io_uring every
//! operation waits, and a turn never gets long.

mod budget;

use std::cell::Cell;

pub use self::budget::spend;
use super::deadline::next_turn;

/// Number of reads that a task passes on in one turn: 2 MiB at most, some 2 ms of a core with TLS.
const READS_MAX: u32 = 64;

/// Counts the reads that one task has passed on since it was last polled.
#[derive(Debug, Default)]
pub struct Turns {
    reads: Cell<u32>,
}

impl Turns {
    /// Starts a turn: the task was polled.
    pub fn begin(&self) {
        self.reads.set(0);
    }

    /// Accounts for another read: waits for the next turn if this one has had its share.
    ///
    /// # Cancel safety
    /// Loses nothing.
    pub async fn take(&self) {
        self.reads.set(self.reads.get() + 1);
        if self.reads.get() > READS_MAX {
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
            for _ in 0..READS_MAX {
                turns.take().await;
            }
            assert!(!has_had_turn.get(), "a wait within the share");
            turns.take().await;
            assert!(has_had_turn.get(), "no wait beyond it");
        });
    }
}
