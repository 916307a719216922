//! The order of parked connections: when each is due, and which of them gives way first.
//!
//! Invariant: every operation takes logarithmic time, however many are parked.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::io::epoll::Token;

/// The order in which connections give way to new ones: all of the first kind come before those of the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GivesWay {
    Early,
    Late,
}

/// The tokens of all parked connections, in their order.
pub(super) struct Line {
    opened: Instant,
    /// Those of [`GivesWay::Early`] and of [`GivesWay::Late`], each ordered by the time at which they are due.
    queues: [BTreeSet<QueueEntry>; 2],
}

/// The time at which a connection is due, in microseconds since the line was opened, and its token.
type QueueEntry = (u64, Token);

/// The place of one connection in the line, without its token.
#[derive(Clone, Copy)]
pub(super) struct Place {
    due: u64,
    gives_way: GivesWay,
}

impl Line {
    pub(super) fn new(opened: Instant) -> Self {
        Line { opened, queues: Default::default() }
    }

    pub(super) fn join(&mut self, token: Token, gives_way: GivesWay, due: Instant) -> Place {
        let due = due.saturating_duration_since(self.opened).as_micros();
        let place = Place { due: u64::try_from(due).unwrap_or(u64::MAX), gives_way };
        self.queues[gives_way as usize].insert((place.due, token));
        place
    }

    pub(super) fn leave(&mut self, token: Token, place: Place) {
        self.queues[place.gives_way as usize].remove(&(place.due, token));
    }

    /// Returns the token of the connection that gives way first, its kind, and when it is due.
    pub(super) fn first(&self) -> Option<(Token, GivesWay, Instant)> {
        [GivesWay::Early, GivesWay::Late].into_iter().find_map(|gives_way| {
            let (due, token) = self.queues[gives_way as usize].first()?;
            Some((*token, gives_way, self.time(*due)))
        })
    }

    /// Returns when the first of all connections is due.
    pub(super) fn first_due(&self) -> Option<Instant> {
        self.earliest().map(|(due, _)| self.time(due))
    }

    /// Returns the token of the connection that has been due the longest at `now`.
    pub(super) fn overdue(&self, now: Instant) -> Option<Token> {
        self.earliest().filter(|(due, _)| self.time(*due) <= now).map(|(_, token)| token)
    }

    fn earliest(&self) -> Option<QueueEntry> {
        self.queues.iter().filter_map(|queue| queue.first().copied()).min()
    }

    fn time(&self, due: u64) -> Instant {
        self.opened + Duration::from_micros(due)
    }
}
