//! The one timer of a shard: a descriptor that becomes readable when a time has come, polled on the ring.
//!
//! A runtime with timers of its own gives the kernel a time limit with every wait, and reads the clock twice around it.
//! Most waits end long before any limit: this one is set when the next deadline changes, some ten times a second.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::epoll::Events;

/// The shortest time that can be set: to the kernel, zero means never.
const SHORTEST: Duration = Duration::from_nanos(1);

/// The timer of a shard; see the module.
pub struct Timer {
    events: Events,
}

impl Timer {
    /// # Errors
    /// The error of `timerfd_create`, such as a lack of descriptors.
    pub fn open() -> io::Result<Self> {
        let descriptor = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        Ok(Timer { events: Events::of(descriptor)? })
    }

    /// Makes [`Timer::expired`] resolve `after` from now, or never. Replaces what was set before, whether or not its
    /// time has come.
    pub fn set(&self, after: Option<Duration>) {
        let after = after.map_or(Duration::ZERO, |after| after.max(SHORTEST));
        let it_value = Timespec {
            tv_sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(after.subsec_nanos()),
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        // SAFETY: the descriptor is open for as long as `self.events` is.
        let descriptor = unsafe { BorrowedFd::borrow_raw(self.events.as_raw_fd()) };
        // It fails only for a descriptor that is no timer, or an invalid time.
        let _ = timerfd_settime(descriptor, TimerfdTimerFlags::empty(), &once);
    }

    /// Resolves when the time that was set has come, and from then on at once until another is set.
    ///
    /// # Errors
    /// When the ring can wait no more.
    ///
    /// # Cancel safety
    /// Loses nothing.
    pub async fn expired(&self) -> io::Result<()> {
        self.events.happened().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::io::deadline::on_both_drivers;

    /// Ends a flood of signals.
    struct Flood(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

    impl Flood {
        /// Interrupts this thread as often as can be, by a signal that is handled.
        fn begin() -> Self {
            const SIGNAL: i32 = signal_hook::consts::SIGUSR2;
            let ends = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(SIGNAL, Arc::default()).unwrap();
            let has_ended = ends.clone();
            // SAFETY: it has no conditions.
            let thread = unsafe { libc::pthread_self() };
            let flood = std::thread::spawn(move || {
                while !has_ended.load(Ordering::Relaxed) {
                    // SAFETY: that thread waits for this one before it ends.
                    unsafe { libc::pthread_kill(thread, SIGNAL) };
                    std::thread::yield_now();
                }
            });
            Flood(ends, Some(flood))
        }
    }

    impl Drop for Flood {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
            self.1.take().map(std::thread::JoinHandle::join);
        }
    }

    #[test]
    fn a_signal_that_interrupts_a_wait_does_not_end_it() {
        const WAITS: usize = 1000;
        on_both_drivers(|| async {
            let timer = Timer::open().unwrap();
            let _flood = Flood::begin();
            for wait in 0..WAITS {
                // What is asked at once has not expired yet.
                timer.set(Some(Duration::from_micros(50)));
                timer.expired().await.unwrap_or_else(|error| panic!("{error} in wait {wait}"));
            }
        });
    }
}
