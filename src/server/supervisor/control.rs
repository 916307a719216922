//! The orders that the main thread sends to the shards.
//!
//! Each shard has one socket pair: an order is one byte on it, and its end means that the main thread is gone.
//! Invariant: sending never waits, so a shard that hangs holds up no other.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};

use crate::observability::{Activity, log_totals};

/// An order: one byte on a shard's control socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Order {
    /// Use the credentials and API keys that all shards share now.
    Reload = 1,
    /// Stop accepting, close the listening sockets, and end when the last connection has ended.
    Drain = 2,
    /// The same, but leave the listening sockets, with the connections in their queues, to a successor.
    DrainKeepingSockets = 3,
    /// The drain took too long: end the open exchanges.
    Expire = 4,
    /// All shards have started: accept connections.
    Serve = 5,
    /// Show that this shard is alive (see `observability::pulse`).
    Answer = 6,
}

impl Order {
    const ALL: [Order; 6] =
        [Order::Reload, Order::Drain, Order::DrainKeepingSockets, Order::Expire, Order::Serve, Order::Answer];

    /// Parses an order; `None` for a byte that stands for none.
    pub fn of_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|order| *order as u8 == byte)
    }
}

/// The main thread's handle to its shards.
#[derive(Default)]
pub struct Shards {
    shards: Vec<(Arc<UnixStream>, Arc<Activity>)>,
}

impl Shards {
    /// Adds a shard with its control socket.
    ///
    /// # Errors
    /// The socket cannot be set up.
    pub fn add(&mut self, control: UnixStream, activity: Arc<Activity>) -> io::Result<()> {
        control.set_nonblocking(true)?;
        self.shards.push((Arc::new(control), activity));
        Ok(())
    }

    pub fn count(&self) -> usize {
        self.shards.len()
    }

    /// Sends an order to all shards.
    pub fn tell_all(&self, order: Order) {
        for (control, _) in &self.shards {
            // A failure is no error here: a shard that has ended reads nothing, and one with hundreds of unread orders
            // hangs.
            let _ = (&**control).write_all(&[order as u8]);
        }
    }

    /// Returns the control socket and the activity of each shard, for the liveness probe. The sockets still end with
    /// this handle.
    pub fn members(&self) -> impl Iterator<Item = (Weak<UnixStream>, Arc<Activity>)> {
        self.shards.iter().map(|(control, activity)| (Arc::downgrade(control), activity.clone()))
    }

    pub fn open_exchanges(&self) -> usize {
        self.shards.iter().map(|(_, activity)| activity.open_exchanges()).sum()
    }

    /// Logs the totals of all shards.
    pub fn log_totals(&self) {
        log_totals(self.shards.iter().map(|(_, activity)| &activity.counters));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_is_read_as_it_was_written_and_other_bytes_are_none() {
        for order in Order::ALL {
            assert_eq!(Order::of_byte(order as u8), Some(order));
        }
        assert_eq!((Order::of_byte(0), Order::of_byte(7), Order::of_byte(u8::MAX)), (None, None, None));
    }

    #[test]
    fn a_shard_that_reads_nothing_does_not_hold_up_the_others() {
        let mut shards = Shards::default();
        let (control, _unread) = UnixStream::pair().unwrap();
        shards.add(control, Arc::default()).unwrap();
        (0..10_000).for_each(|_| shards.tell_all(Order::Reload));
    }
}
