//! The refusal of requests by a shard that gets more than it can do.
//!
//! The wait of a request is the time from the arrival of its bytes in the kernel until the shard has read its head: all
//! of it is queueing, in the listener's queue, in sockets and among the tasks, and none of it the upstream's. Where it
//! needs a new connection, the wait for its TLS handshake is still to come. Both are looked at some ten times a second,
//! and, from one that was too long on, for each request, until one was not ([`standing_queue`]). Invariant: while nobody
//! waits too long a request costs one comparison; open answers, and requests that were once let in, are never touched.

mod standing_queue;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use self::standing_queue::{INTERVAL, Judgement, RequestWait, StandingQueue, TARGET};
use crate::io::{Delivery, pause};

/// The time between two looks while nobody waits too long. A look costs a system call.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The overload of one shard.
#[derive(Debug)]
pub struct Overload {
    shard: usize,
    /// No request is looked at before.
    next_look: Cell<Instant>,
    queue: Cell<StandingQueue>,
    refused_count: Cell<u64>,
}

/// A request that is to be looked at.
#[derive(Debug, Clone, Copy)]
pub struct Arrived {
    pub delivery: Delivery,
    /// The end of the exchange before on its connection, unless that has rested since then.
    pub served_until: Option<Instant>,
    /// The time since which another waits that is before it.
    pub stands_since: Option<Instant>,
}

/// The state of a request that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Serve,
    Refuse,
    /// The load is too high to serve a client that has left.
    Drop,
}

impl Overload {
    pub fn new(shard: usize) -> Self {
        let (queue, refused_count) = Default::default();
        Overload { shard, next_look: Cell::new(Instant::now()), queue, refused_count }
    }

    /// Returns whether a request is to be looked at.
    #[inline]
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.next_look.get()
    }

    /// Returns whether requests that have waited too long are refused.
    pub fn is_refusing(&self) -> bool {
        self.queue.get().is_standing()
    }

    /// Returns whether a connection that has just been accepted is of a client that has left meanwhile, and is not
    /// served. Only where more clients connect than can be served: one that has closed its side alone waits for its
    /// answer.
    pub fn is_lost(&self, delivery: Delivery) -> bool {
        if delivery.has_left && delivery.ago > TARGET {
            let mut queue = self.queue.get();
            queue.note_late(Instant::now());
            self.queue.set(queue);
        }
        delivery.has_left
    }

    /// Looks at a request.
    #[cold]
    pub fn look(self: &Rc<Self>, now: Instant, request: Arrived) -> Look {
        let Arrived { delivery, served_until, stands_since } = request;
        let since = |since: Option<Instant>| since.map(|since| now.saturating_duration_since(since));
        // A client may send its next request before it has the answer to the last one: that wait is not for the shard.
        let past = since(served_until).map_or(delivery.ago, |own| delivery.ago.min(own));
        let coming = since(stands_since).unwrap_or_default();
        let mut queue = self.queue.get();
        let was_standing = queue.is_standing();
        let verdict = queue.judge(now, RequestWait { past, coming });
        self.queue.set(queue);
        if queue.is_short() {
            self.next_look.set(now + LOOK_INTERVAL);
        }
        if queue.is_standing() && !was_standing {
            self.begin();
        }
        match verdict {
            _ if queue.is_standing() && delivery.has_left => Look::Drop,
            Judgement::Serve => Look::Serve,
            Judgement::Refuse => Look::Refuse,
        }
    }

    /// Counts a request that was refused.
    pub fn note_refused(&self) {
        self.refused_count.set(self.refused_count.get() + 1);
    }

    /// Says that refusals have begun, and later that they have ended.
    fn begin(self: &Rc<Self>) {
        let target_ms = TARGET.as_millis() as u64;
        tracing::warn!(
            shard = self.shard,
            "overloaded: for a second all requests have waited longer than {target_ms} ms; those that do are refused"
        );
        self.refused_count.set(0);
        let overload = self.clone();
        monoio::spawn(async move {
            let mut queue;
            loop {
                pause(INTERVAL).await;
                queue = overload.queue.get();
                let has_ended = queue.ends(Instant::now());
                overload.queue.set(queue);
                if has_ended {
                    break;
                }
            }
            let refused = overload.refused_count.get();
            tracing::warn!(shard = overload.shard, refused, "no longer overloaded");
        });
    }
}
