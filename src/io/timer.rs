//! The one timer of a shard: a descriptor that becomes readable when a time has come, polled on the ring.
//!
//! A runtime with timers of its own gives the kernel a time limit with every wait, and reads the clock twice around it.
//! Most waits end long before any limit: this one is set when the next deadline changes, some ten times a second.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use monoio::net::TcpStream;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::epoll::pollable;

/// The shortest time that can be set: to the kernel, zero means never.
const SHORTEST: Duration = Duration::from_nanos(1);

/// The timer of a shard; see the module.
pub struct Timer {
    events: TcpStream,
}

impl Timer {
    /// # Errors
    /// The error of `timerfd_create`, such as a lack of descriptors.
    pub fn open() -> io::Result<Self> {
        let descriptor = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        Ok(Timer { events: pollable(descriptor)? })
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
        self.events.readable(false).await
    }
}
