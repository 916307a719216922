//! Moments by both clocks, and as they are told.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The moment that a state is of, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub system: SystemTime,
    pub instant: Instant,
}

impl Moment {
    pub fn now() -> Self {
        Moment { system: SystemTime::now(), instant: Instant::now() }
    }
}

/// Returns the seconds since 1970; 0 for a clock that stands before.
pub fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
