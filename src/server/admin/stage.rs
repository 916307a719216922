//! The stage of the process, written by the main thread and read by the admin thread, and its audience: those who
//! follow the events, counted by the admin thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// The stage of the process, as `/readyz` reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    Starting = 0,
    Serving = 1,
    Draining = 2,
}

impl Stage {
    /// Returns its name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Starting => "starting",
            Stage::Serving => "serving",
            Stage::Draining => "draining",
        }
    }
}

/// A [`Stage`] that two threads share.
#[derive(Debug, Default)]
pub struct StageCell(AtomicU8);

impl StageCell {
    pub fn set(&self, stage: Stage) {
        self.0.store(stage as u8, Ordering::Release);
    }

    pub fn get(&self) -> Stage {
        match self.0.load(Ordering::Acquire) {
            0 => Stage::Starting,
            1 => Stage::Serving,
            _ => Stage::Draining,
        }
    }
}

/// The clients that follow the events of the admin pages, such as a live page that is open.
#[derive(Debug, Clone, Default)]
pub struct Audience {
    followers: Arc<AtomicUsize>,
    stage: Arc<StageCell>,
}

impl Audience {
    /// Returns the audience of this stage, which is empty.
    pub fn of(stage: Arc<StageCell>) -> Self {
        Audience { followers: Arc::default(), stage }
    }

    /// Returns the number of those who follow; `None` once the gateway drains, when nobody else will be let in.
    pub fn count(&self) -> Option<usize> {
        (self.stage.get() != Stage::Draining).then(|| self.followers.load(Ordering::Relaxed))
    }

    /// Takes one of `seats_max` places. Only the admin thread does.
    pub fn take_seat(&self, seats_max: usize) -> Option<FollowerSeat> {
        if self.followers.load(Ordering::Relaxed) >= seats_max {
            return None;
        }
        self.followers.fetch_add(1, Ordering::Relaxed);
        Some(FollowerSeat(self.followers.clone()))
    }
}

/// The place of one that follows the events.
pub struct FollowerSeat(Arc<AtomicUsize>);

impl Drop for FollowerSeat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_counted_until_they_are_left_or_the_gateway_drains() {
        let stage = Arc::new(StageCell::default());
        let audience = Audience::of(stage.clone());
        let seats = [audience.take_seat(2), audience.take_seat(2)];
        assert!(seats.iter().all(Option::is_some) && audience.take_seat(2).is_none());
        assert_eq!(audience.count(), Some(2));
        drop(seats);
        assert_eq!(audience.count(), Some(0));
        assert!(audience.take_seat(1).is_some());
        stage.set(Stage::Draining);
        assert_eq!(audience.count(), None);
    }
}
