//! The time limits of open answers, as far as the pump keeps them.

use std::time::{Duration, Instant};

use super::entry::StreamEntry;
use super::open_exchange::LeftPump;
use crate::config::Timeouts;
use crate::io::StallWatch;
use crate::proxy::attempt::interrupt::{Interruption, NoMore};
use crate::proxy::resources::Resources;

/// The limits that apply to all entries.
pub struct StreamLimits {
    /// While the upstream is waited for.
    client: Duration,
    /// While the client takes nothing.
    downstream_write: Duration,
    /// Silence after which a comment is sent.
    heartbeat: Option<Duration>,
}

/// The decision of a sweep about an entry.
pub enum SweepVerdict {
    Stays {
        due: Instant,
    },
    /// A comment is sent.
    IsSilent,
    Leaves(LeftPump),
}

impl StreamLimits {
    pub fn of(resources: &Resources) -> Self {
        let Timeouts { client, downstream_write, heartbeat, .. } = resources.timeouts;
        StreamLimits { client, downstream_write, heartbeat }
    }

    /// Returns when an entry that begins now is due first.
    pub fn first_due(&self, now: Instant) -> Instant {
        now + self.heartbeat.map_or(self.client, |silence| silence.min(self.client))
    }

    /// Returns when a client is to be looked at first that does not take all at `now`.
    pub fn first_look(&self, now: Instant) -> Instant {
        StallWatch::new(now).next_look(self.downstream_write)
    }

    pub fn judge<T>(&self, entry: &mut StreamEntry<T>, has_expired: bool, now: Instant) -> SweepVerdict {
        if has_expired {
            return SweepVerdict::Leaves(LeftPump::NoMore(Err(NoMore::Interrupted(Interruption::Expired))));
        }
        let due = self.next_due(entry);
        if now < due {
            return SweepVerdict::Stays { due };
        }
        if entry.is_blocked() {
            return match entry.has_stalled(self.downstream_write, now) {
                true => SweepVerdict::Leaves(LeftPump::NotTaken),
                false => SweepVerdict::Stays { due: self.next_due(entry) },
            };
        }
        if now >= entry.moved() + self.client {
            return SweepVerdict::Leaves(LeftPump::NoMore(Err(NoMore::Interrupted(Interruption::Overdue))));
        }
        SweepVerdict::IsSilent
    }

    /// Returns when an entry is due if nothing happens to it.
    pub fn next_due<T>(&self, entry: &StreamEntry<T>) -> Instant {
        if let Some(look) = entry.next_look(self.downstream_write) {
            return look;
        }
        let overdue = entry.moved() + self.client;
        self.heartbeat.map_or(overdue, |silence| overdue.min(entry.silent_since() + silence))
    }
}
