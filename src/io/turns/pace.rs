//! The pace at which new connections are accepted: those that are open go first.
//!
//! A shard that has more to do than it can would serve everybody late if it accepted everybody at once: each takes a
//! place, memory and a connection to the upstream, and gives up before its turn. A turn in which few connections had
//! something to do, and no client waits for its TLS handshake, has room for new ones. In any other nobody is accepted, but
//! one for each so many polls of open connections, or events of their streams, so that nobody waits for ever. Invariant:
//! while connections wait there is no turn without work.

use std::cell::Cell;

use super::STEPS_MAX;
use super::budget::{Work, first_waits_since};
use crate::io::clock;
use crate::io::deadline::next_turn;

/// Polls of connections in a turn that has room for as many new ones as a turn may accept: a burst of clients is let in
/// at once, and waits for its handshakes with the upstream as those do that are open. One that is accepted takes some
/// five polls.
const CALM_POLLS: u64 = 8;

/// Polls of open connections for which a new one is accepted in any case: some 25 of their requests. A new connection
/// may cost as much as that, since with it comes a handshake with the upstream.
const POLLS_FOR_ONE: u64 = 128;

/// The pace of one accept loop.
#[derive(Debug, Default)]
pub struct AcceptPace {
    /// Polls of this thread at the last look.
    seen: Cell<u64>,
    /// Polls in turns without room for which nobody was accepted yet.
    owed: Cell<u64>,
    /// Number of connections that may be accepted before the next look.
    left: Cell<u64>,
}

impl AcceptPace {
    /// Waits until one more connection may be accepted.
    ///
    /// # Cancel safety
    /// Loses nothing.
    pub async fn take(&self) {
        while self.left.get() == 0 {
            next_turn().await;
            self.look(clock::polls());
        }
        self.left.set(self.left.get() - 1);
    }

    /// Looks at how many polls there have been since the last look: a turn ago, unless nobody connected meanwhile.
    fn look(&self, polls: u64) {
        let others = polls.wrapping_sub(self.seen.replace(polls));
        if others <= CALM_POLLS && first_waits_since(Work::ClientHandshakes).is_none() {
            self.left.set(u64::from(STEPS_MAX));
            return self.owed.set(0);
        }
        let owed = self.owed.get() + others;
        // A long time without new connections is no credit for many at once.
        self.left.set((owed / POLLS_FOR_ONE).min(u64::from(STEPS_MAX)));
        self.owed.set(owed % POLLS_FOR_ONE);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::budget::spend_on;
    use super::super::budget::tests::long as use_up_turn;
    use super::*;
    use crate::io::clock::in_turns;
    use crate::io::deadline::on_both_drivers;

    /// Starts so many tasks that are polled in each turn, as long as the runtime runs.
    fn keep_polled(tasks: u64) -> u64 {
        for _ in 0..tasks {
            monoio::spawn(in_turns(async {
                loop {
                    next_turn().await;
                }
            }));
        }
        tasks
    }

    /// Accepts at a pace, as long as the runtime runs, beside so many tasks that are polled in each turn. Returns the
    /// count of what was accepted.
    fn accepting_beside(tasks: u64) -> Rc<Cell<u64>> {
        keep_polled(tasks);
        let accepted = Rc::new(Cell::new(0));
        let counted = accepted.clone();
        monoio::spawn(async move {
            let pace = AcceptPace::default();
            loop {
                pace.take().await;
                counted.set(counted.get() + 1);
            }
        });
        accepted
    }

    async fn turns(count: u64) {
        for _ in 0..count {
            next_turn().await;
        }
    }

    #[test]
    fn a_shard_that_has_little_to_do_accepts_some_in_each_turn() {
        on_both_drivers(|| async {
            let accepted = accepting_beside(CALM_POLLS);
            turns(3).await;
            let before = accepted.get();
            turns(10).await;
            let (count, each) = (accepted.get() - before, u64::from(STEPS_MAX));
            assert!((9 * each..=11 * each).contains(&count), "{count}");
        });
    }

    #[test]
    fn a_shard_that_has_all_it_can_do_accepts_one_for_many_polls_of_others() {
        on_both_drivers(|| async {
            // First less than one in a turn, then some.
            let mut tasks = 64;
            let accepted = accepting_beside(tasks);
            loop {
                turns(3).await;
                let before = accepted.get();
                turns(100).await;
                let (count, fair) = (accepted.get() - before, 100 * tasks / POLLS_FOR_ONE);
                assert!((fair - 8..=fair + 8).contains(&count), "{count} beside {tasks}, not {fair}");
                if tasks > 3 * POLLS_FOR_ONE {
                    break;
                }
                tasks += keep_polled(6 * 64);
            }
        });
    }

    #[test]
    fn a_shard_on_whose_handshakes_clients_wait_accepts_nobody_else() {
        on_both_drivers(|| async {
            for _ in 0..2 {
                monoio::spawn(async {
                    loop {
                        spend_on(Work::ClientHandshakes, use_up_turn).await;
                    }
                });
            }
            next_turn().await;
            let accepted = accepting_beside(0);
            turns(20).await;
            assert_eq!(accepted.get(), 0);
        });
    }

    #[test]
    fn a_long_time_without_new_connections_is_no_credit() {
        let pace = AcceptPace::default();
        let mut polls = 1_000_000 * POLLS_FOR_ONE;
        pace.look(polls);
        assert_eq!(pace.left.take(), u64::from(STEPS_MAX));
        for _ in 1..POLLS_FOR_ONE / 16 {
            polls += 16;
            pace.look(polls);
            assert_eq!(pace.left.get(), 0);
        }
        pace.look(polls + 16);
        assert_eq!(pace.left.get(), 1);
    }
}
