//! The pump: the open answers of a shard as entries of one table, relayed by one loop, without a task each.
//!
//! A stream is some kilobytes of state that one event after another has to fetch from memory; nested tasks spread it,
//! and poll what has not changed. Here an event costs what it needs: the pump takes what is ready from one epoll set,
//! receives, decrypts and follows it (`entry`), collects what goes downstream (`batch`), and then sends all. Time
//! limits, heartbeats and the drain are looked after by sweeps over the entries (`sweep`).
//!
//! Invariant: only what is relayed is done here. Whatever ends a stream, its entry leaves the pump, with all that is
//! known, and a task does the rest (`rest`): so both know the same endings, and nothing tells a client or an upstream
//! which of them relayed. What came for a client is sent before its upstream is read again; what the client did not
//! take stops the reading. A turn is bounded in bytes and entries.

mod batch;
pub mod entry;
pub mod open_exchange;
pub mod rest;
mod sighting;
mod sweep;
pub mod table;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::Instant;

use self::entry::Streaming;
use self::open_exchange::{LeftPump, LeftStream, OpenExchange};
use self::sweep::StreamLimits;
use self::table::StreamTable;
use crate::io::clock;
use crate::io::deadline::next_turn;
use crate::io::epoll::{Epoll, Events};
use crate::io::{Buffer, Deadline, Either, Phase, race};
use crate::observability::{Count, OpenStream};
use crate::proxy::downstream::Downstream;
use crate::proxy::resources::Resources;

/// The open answers of one shard. `T` is what their owner keeps with each.
pub struct Pump<T> {
    table: RefCell<StreamTable<T>>,
    /// The time of the next sweep; `None`: nothing is due.
    next_sweep: Cell<Option<Instant>>,
    /// Wakes the sweeper when something is due earlier than it knows.
    sweeper: RefCell<Option<Waker>>,
}

impl<T> Pump<T> {
    /// Opens an empty one, and the stream that [`Pump::run`] waits on.
    ///
    /// # Errors
    /// The error of `epoll_create1`, such as a lack of descriptors.
    pub fn open() -> io::Result<(Self, Events)> {
        let (epoll, events) = Epoll::open()?;
        let pump = Pump {
            table: RefCell::new(StreamTable::new(epoll)),
            next_sweep: Cell::new(None),
            sweeper: RefCell::default(),
        };
        Ok((pump, events))
    }

    /// Takes the rest of an answer over.
    ///
    /// # Errors
    /// Its sockets cannot be watched: it is returned.
    pub fn begin(
        &self,
        resources: &Resources,
        downstream: Downstream,
        open: Box<OpenExchange>,
        owner: T,
    ) -> Result<(), Box<LeftStream<T>>> {
        let now = Instant::now();
        let stream = Box::new(Streaming::new(*open, downstream, owner));
        // In a statement of its own: the table is not borrowed in what follows.
        let inserted = self.table.borrow_mut().insert(stream, now);
        match inserted {
            Ok(()) => {
                resources.activity.counters.add(Count::StreamsPumped);
                self.note_count(resources);
                self.expect(StreamLimits::of(resources).first_due(now));
                Ok(())
            }
            Err((stream, error)) => {
                tracing::warn!(%error, "an open answer is relayed by a task of its own");
                Err(Box::new(stream.leave(Buffer::none(), LeftPump::Refused)))
            }
        }
    }

    /// Relays for as long as it is polled. Passes every stream that leaves to `leave`. Every shard runs exactly one, and
    /// one [`Pump::sweep`].
    ///
    /// # Errors
    /// When the ring can wait no more.
    pub async fn run(&self, events: Events, resources: &Resources, leave: impl Fn(LeftStream<T>)) -> io::Result<()> {
        let mut left = Vec::new();
        let mut entries_in_row = 0;
        loop {
            if waited(events.happened()).await? {
                entries_in_row = 0;
            }
            loop {
                let turn = self.table.borrow_mut().turn(&mut left);
                self.let_leave(&mut left, resources, &leave);
                if turn.has_stuck {
                    self.expect(StreamLimits::of(resources).first_look(Instant::now()));
                }
                if turn.has_freed {
                    self.expect(StreamLimits::of(resources).first_due(Instant::now()));
                }
                clock::note_polls(turn.entries_count);
                entries_in_row += turn.entries_count;
                // On epoll a wait may be none at all, again and again.
                if turn.has_more || entries_in_row >= table::ENTRIES_MAX {
                    next_turn().await;
                    entries_in_row = 0;
                }
                if !turn.has_more {
                    break;
                }
            }
        }
    }

    /// Keeps the time limits, sends heartbeats and follows the drain for as long as it is polled.
    pub async fn sweep(&self, resources: &Resources, leave: impl Fn(LeftStream<T>)) {
        let (alarm, limits) = (Deadline::default(), StreamLimits::of(resources));
        let mut left = Vec::new();
        loop {
            let has_expired = resources.lifecycle.phase() == Phase::Expired;
            let (mut next, mut part) = (None, Some(0));
            // What is expected while others have their turn is not to be forgotten at the end.
            self.next_sweep.set(None);
            while let Some(from) = part {
                // In a statement of its own: the table is not borrowed during the wait.
                part = self.table.borrow_mut().sweep(&limits, has_expired, from, &mut next, &mut left);
                self.let_leave(&mut left, resources, &leave);
                if part.is_some() {
                    next_turn().await;
                }
            }
            if let Some(due) = next {
                self.expect(due);
            }
            match has_expired {
                false => {
                    race(self.due(&alarm), resources.lifecycle.reached(Phase::Expired)).await;
                }
                true => self.due(&alarm).await,
            }
        }
    }

    /// Returns the longest of those that are open, as many as are shown.
    pub fn longest(&self, resources: &Resources) -> Vec<OpenStream> {
        sighting::longest(&self.table.borrow(), resources)
    }

    fn let_leave(&self, left: &mut Vec<LeftStream<T>>, resources: &Resources, leave: impl Fn(LeftStream<T>)) {
        if !left.is_empty() {
            self.note_count(resources);
            left.drain(..).for_each(leave);
        }
    }

    fn note_count(&self, resources: &Resources) {
        resources.activity.note_open_streams(self.table.borrow().entries_count());
    }

    /// Resolves when the next sweep is due.
    async fn due(&self, alarm: &Deadline) {
        loop {
            let look = self.next_sweep.get();
            let due = async {
                match look {
                    Some(look) => alarm.reached(look).await,
                    None => std::future::pending().await,
                }
            };
            if let Either::First(()) = race(due, self.earlier_than(look)).await {
                return;
            }
        }
    }

    /// Resolves when something is due at another time than `expected`.
    async fn earlier_than(&self, expected: Option<Instant>) {
        poll_fn(|context| {
            if self.next_sweep.get() != expected {
                return Poll::Ready(());
            }
            let mut sweeper = self.sweeper.borrow_mut();
            if !sweeper.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                *sweeper = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Lets a sweep take place at `due`.
    fn expect(&self, due: Instant) {
        if self.next_sweep.get().is_none_or(|look| due < look) {
            self.next_sweep.set(Some(due));
            if let Some(sweeper) = self.sweeper.take() {
                sweeper.wake();
            }
        }
    }
}

/// Waits for `ready`. Returns whether that was a wait: others had their turn meanwhile.
async fn waited(ready: impl Future<Output = io::Result<()>>) -> io::Result<bool> {
    let mut ready = pin!(ready);
    let mut has_waited = false;
    poll_fn(|context| {
        let result = ready.as_mut().poll(context);
        has_waited |= result.is_pending();
        result
    })
    .await?;
    Ok(has_waited)
}
