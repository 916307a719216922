//! Wakes a shard from another thread: a descriptor that the shard polls on its ring; and by it single tasks of the shard
//! (`shard_waker`).
//!
//! Nothing on the path of a request uses it. Invariant: neither side waits for the other, and wake-ups that come before
//! the shard looks are one.

mod shard_waker;

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};

pub use self::shard_waker::RemoteWaits;
use super::epoll::Events;

/// The wake-up of one shard, which any thread may use.
#[derive(Debug)]
pub struct Wakeup {
    descriptor: OwnedFd,
}

impl Wakeup {
    /// # Errors
    /// The error of `eventfd`, such as a lack of descriptors.
    pub fn open() -> io::Result<Self> {
        Ok(Wakeup { descriptor: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? })
    }

    /// Wakes the shard.
    pub fn wake(&self) {
        // It fails only where nobody has looked for 2^64 wake-ups.
        let _ = rustix::io::write(&self.descriptor, &1_u64.to_ne_bytes());
    }

    /// Opens the stream that the shard waits on until it is readable. To be called on the thread of the shard.
    ///
    /// # Errors
    /// The error of `fcntl`, such as a lack of descriptors.
    pub fn events(&self) -> io::Result<Events> {
        Events::of(self.descriptor.try_clone()?)
    }

    /// Ends the wake-ups that have come so far, and returns whether there was one. To be called before the shard looks
    /// what it was woken for.
    pub fn take(&self) -> bool {
        let mut count = [0; size_of::<u64>()];
        rustix::io::read(&self.descriptor, &mut count).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::io::Deadline;
    use crate::io::deadline::on_a_shard;

    #[test]
    fn another_thread_wakes_the_shard_once_for_all_that_has_come() {
        on_a_shard(async {
            let wakeup = Arc::new(Wakeup::open().unwrap());
            let (events, limit) = (wakeup.events().unwrap(), Deadline::default());
            let other = wakeup.clone();
            thread::spawn(move || (0..3).for_each(|_| other.wake())).join().unwrap();
            events.happened().await.unwrap();
            assert!(wakeup.take() && !wakeup.take());
            assert!(limit.within(Duration::from_millis(30), events.happened()).await.is_err(), "woken twice");
            wakeup.wake();
            events.happened().await.unwrap();
        });
    }
}
