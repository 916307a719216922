//! The sleep of the machine, in which connections die unseen.
//!
//! `Instant` stands still meanwhile (CLOCK_MONOTONIC), so a connection that rested before is as young as it was, and
//! nothing may tell that its other end, or the way to it, has gone: a request on it would wait for its answer in vain.

use std::cell::Cell;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The difference of the two clocks from which on it was a sleep, and not the time between their readings.
const SLEEP_MIN: Duration = Duration::from_secs(1);

/// Notices that the machine has slept.
pub struct Suspension {
    /// The time that it has slept since its start, as of the last look.
    slept: Cell<Duration>,
}

impl Suspension {
    pub fn new() -> Self {
        Suspension { slept: Cell::new(slept()) }
    }

    /// Returns whether the machine has slept since this was last asked. Costs two readings of clocks.
    pub fn has_slept(&self) -> bool {
        self.note(slept())
    }

    fn note(&self, slept: Duration) -> bool {
        slept.saturating_sub(self.slept.replace(slept)) >= SLEEP_MIN
    }
}

/// Returns for how long the machine has slept since its start: the other clock goes on then.
fn slept() -> Duration {
    let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    let awake = read(ClockId::Monotonic);
    read(ClockId::Boottime).saturating_sub(awake)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_is_noticed_once_and_no_sleep_is_not() {
        let suspension = Suspension::new();
        assert!(!suspension.has_slept());
        let before = suspension.slept.get();
        assert!(!suspension.note(before + Duration::from_millis(999)));
        assert!(suspension.note(before + Duration::from_secs(3)));
        assert!(!suspension.note(before + Duration::from_secs(3)));
    }
}
