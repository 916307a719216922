//! The entries of the pump, their sockets in its epoll set, and one turn over those that are ready.
//!
//! A socket is followed by edges (`EPOLLET`): a read that found less than it had room for has emptied it, and the next
//! bytes are told anew. Entries that may have more wait in a queue, first come, first served.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use super::batch::Batch;
use super::entry::{Passed, StreamEntry, Streaming, Taken};
use super::open_exchange::{LeftPump, LeftStream};
use super::sweep::{StreamLimits, SweepVerdict};
use crate::io::epoll::{Epoll, Readiness, Token, TokenTable};

/// Entries that are received from in one turn: some 10 µs each with what it takes to pass an event on.
pub const ENTRIES_MAX: usize = 128;

/// Full batches in one turn, after which the rest waits: 2 MiB are some 2 ms of a core with TLS.
const FULL_BATCHES_MAX: usize = 32;

/// Entries that one part of a sweep looks at.
const SWEPT_MAX: usize = 1024;

/// Entries that leave in one turn, or in one part of a sweep: each costs a task with some system calls.
const LEAVING_MAX: usize = 32;

/// The events that matter of an upstream. Its end, which may have come with its last bytes, is no edge of its own then.
const UPSTREAM_EVENTS: i32 = libc::EPOLLIN | libc::EPOLLRDHUP;

pub struct StreamTable<T> {
    epoll: Epoll,
    /// Each is known by its upstream's watch; the second is its client's.
    entries: TokenTable<StreamEntry<T>>,
    /// The entries that are to be received from.
    ready: VecDeque<Token>,
    batch: Batch,
    /// Those that leave: what came for their clients was sent.
    leaving: VecDeque<(Token, LeftPump)>,
}

/// The work of one turn.
pub struct TurnWork {
    /// Entries that were looked at, for what has come or for what their clients have done.
    pub entries_count: usize,
    /// There is more to do at once.
    pub has_more: bool,
    /// A client did not take all that came for it.
    pub has_stuck: bool,
    /// A client that had not taken all has: the time limits of its stream are others.
    pub has_freed: bool,
}

impl<T> StreamTable<T> {
    pub fn new(epoll: Epoll) -> Self {
        StreamTable {
            epoll,
            entries: TokenTable::new(),
            ready: VecDeque::new(),
            batch: Batch::new(),
            leaving: VecDeque::new(),
        }
    }

    /// Takes a stream in, and follows both of its sockets.
    ///
    /// # Errors
    /// The kernel's; the stream is returned.
    pub fn insert(&mut self, stream: Box<Streaming<T>>, now: Instant) -> Result<(), (Box<Streaming<T>>, io::Error)> {
        let StreamTable { epoll, entries, .. } = self;
        entries.insert_with(|token| match follow(*epoll, &stream, token) {
            Ok(()) => Ok(StreamEntry::new(stream, now)),
            Err(error) => {
                epoll.forget(&stream.downstream.stream);
                Err((stream, error))
            }
        })?;
        Ok(())
    }

    pub fn entries_count(&self) -> usize {
        self.entries.entries_count()
    }

    pub fn entries(&self) -> impl Iterator<Item = &StreamEntry<T>> {
        self.entries.iter().map(|(_, entry)| entry)
    }

    /// Relays what has come. Streams that leave are appended to `left`.
    pub fn turn(&mut self, left: &mut Vec<LeftStream<T>>) -> TurnWork {
        let now = Instant::now();
        let mut turn = TurnWork { entries_count: 0, has_more: false, has_stuck: false, has_freed: false };
        let epoll = self.epoll;
        let events_count = epoll.take_many::<ENTRIES_MAX>(|token, readiness| {
            turn.has_freed |= self.deliver(token, readiness, now);
        });
        // Those that may have more after this turn's look wait for the next.
        let (mut waiting, mut full_batches) = (self.ready.len(), 0);
        while waiting > 0 && turn.entries_count < ENTRIES_MAX && full_batches < FULL_BATCHES_MAX {
            let Some(token) = self.ready.pop_front() else { break };
            if let Some(next) = self.ready.front().and_then(|&next| self.entries.get_mut(next)) {
                next.prefetch();
            }
            waiting -= 1;
            turn.entries_count += 1;
            self.receive(token, now);
            if self.batch.is_full() {
                full_batches += 1;
                turn.has_stuck |= self.send_all(now);
            }
        }
        turn.has_stuck |= self.send_all(now);
        turn.entries_count = turn.entries_count.max(events_count);
        self.let_go(left);
        turn.has_more = !self.ready.is_empty() || !self.leaving.is_empty();
        turn
    }

    /// Notes an event. Returns whether a client has now taken what it had not.
    fn deliver(&mut self, token: Token, readiness: Readiness, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(token).filter(|entry| !entry.is_leaving) else { return false };
        if !token.is_second() {
            entry.upstream_has_ended |= readiness.has_hung_up();
            self.enqueue(token);
            return false;
        }
        let has_left =
            readiness.has_hung_up() || readiness.is_readable() && entry.stream().downstream.stream.is_goodbye();
        if has_left {
            entry.is_leaving = true;
            self.leaving.push_back((token, LeftPump::ClientLeft));
            return false;
        }
        let was_blocked = entry.is_blocked();
        if readiness.is_writable() {
            match entry.pass_rest(now) {
                Ok(true) => self.enqueue(token),
                Ok(false) => {}
                Err(_) => {
                    entry.is_leaving = true;
                    self.leaving.push_back((token, LeftPump::NotTaken));
                }
            }
        }
        was_blocked && self.entries.get_mut(token).is_some_and(|entry| !entry.is_blocked())
    }

    fn enqueue(&mut self, token: Token) {
        if let Some(entry) = self.entries.get_mut(token)
            && entry.wants_more()
            && !std::mem::replace(&mut entry.is_queued, true)
        {
            self.ready.push_back(token);
        }
    }

    /// Receives from the upstream of an entry, once.
    fn receive(&mut self, token: Token, now: Instant) {
        let StreamTable { entries, batch, leaving, .. } = self;
        // It may have left meanwhile.
        let Some(entry) = entries.get_mut(token).filter(|entry| entry.is_queued && !entry.is_leaving) else { return };
        entry.is_queued = false;
        // Its client may have taken less than it was sent since it was queued.
        if !entry.wants_more() {
            return;
        }
        match entry.take(token, batch, now) {
            Taken::GoesOn { may_have_more: true } => self.enqueue(token),
            Taken::GoesOn { may_have_more: false } => {}
            Taken::Leaves(why) => {
                entry.is_leaving = true;
                leaving.push_back((token, why));
            }
        }
    }

    /// Sends what was collected. Returns whether a client did not take all.
    fn send_all(&mut self, now: Instant) -> bool {
        let mut has_stuck = false;
        let StreamTable { epoll, entries, batch, leaving, .. } = self;
        batch.send_all(|token, bytes| {
            let Some(entry) = entries.get_mut(token) else { return };
            let is_lost = match entry.pass(bytes, now) {
                Passed::All => false,
                Passed::Blocked => {
                    has_stuck = true;
                    await_room(*epoll, token, entry).is_err()
                }
                Passed::Lost => true,
            };
            if is_lost {
                entry.is_leaving = true;
                // A client that is gone counts before the end of its stream.
                leaving.push_front((token, LeftPump::NotTaken));
            }
        });
        has_stuck
    }

    /// Lets those leave that are to, as many as a turn may.
    fn let_go(&mut self, left: &mut Vec<LeftStream<T>>) {
        for _ in 0..LEAVING_MAX {
            let Some((token, why)) = self.leaving.pop_front() else { return };
            self.leave(token, why, left);
        }
    }

    /// Looks at a part of all entries, from the key `from` on: puts the earliest time at which one is due into `next`.
    /// Returns from where the next part goes on; `None` after the last.
    pub fn sweep(
        &mut self,
        limits: &StreamLimits,
        has_expired: bool,
        from: usize,
        next: &mut Option<Instant>,
        left: &mut Vec<LeftStream<T>>,
    ) -> Option<usize> {
        let now = Instant::now();
        let until = (from + SWEPT_MAX).min(self.entries.places_count());
        for place in from..until {
            let Some((token, entry)) = self.entries.at(place) else { continue };
            let verdict = limits.judge(entry, has_expired, now);
            if let Some(due) = self.follow_verdict(token, verdict, limits, now, left) {
                *next = Some(next.map_or(due, |next| next.min(due)));
            }
            if left.len() >= LEAVING_MAX {
                return Some(place + 1);
            }
        }
        (until < self.entries.places_count()).then_some(until)
    }

    /// Returns when the entry is due next, if it stays.
    fn follow_verdict(
        &mut self,
        token: Token,
        verdict: SweepVerdict,
        limits: &StreamLimits,
        now: Instant,
        left: &mut Vec<LeftStream<T>>,
    ) -> Option<Instant> {
        let why = match verdict {
            SweepVerdict::Stays { due } => return Some(due),
            SweepVerdict::Leaves(why) => why,
            SweepVerdict::IsSilent => {
                let entry = self.entries.get_mut(token)?;
                match entry.send_heartbeat(now) {
                    Passed::All => return Some(limits.next_due(entry)),
                    Passed::Blocked => match await_room(self.epoll, token, entry) {
                        Ok(()) => return Some(limits.next_due(entry)),
                        Err(_) => LeftPump::NotTaken,
                    },
                    // As for a task: who takes not even a comment has gone.
                    Passed::Lost => LeftPump::NotTaken,
                }
            }
        };
        self.leave(token, why, left);
        None
    }

    /// Lets an entry go, if it is still there.
    fn leave(&mut self, token: Token, why: LeftPump, left: &mut Vec<LeftStream<T>>) {
        let Some(entry) = self.entries.remove(token) else { return };
        let Streaming { open, downstream, .. } = entry.stream();
        self.epoll.forget(&open.connection);
        self.epoll.forget(&downstream.stream);
        left.push(entry.leave(why));
    }
}

/// Follows both sockets of a stream.
fn follow<T>(epoll: Epoll, stream: &Streaming<T>, token: Token) -> io::Result<()> {
    let Streaming { open, downstream, .. } = stream;
    let events = downstream_events(&downstream.stream, false);
    epoll.follow(libc::EPOLL_CTL_ADD, &downstream.stream, events, token.second())?;
    epoll.follow(libc::EPOLL_CTL_ADD, &open.connection, UPSTREAM_EVENTS, token)
}

/// Lets the epoll set tell when the client of an entry takes more.
fn await_room<T>(epoll: Epoll, token: Token, entry: &StreamEntry<T>) -> io::Result<()> {
    let stream = &entry.stream().downstream.stream;
    epoll.follow(libc::EPOLL_CTL_MOD, stream, downstream_events(stream, true), token.second())
}

/// The events that matter of a client: it may leave by TLS alone, which comes as bytes.
fn downstream_events(stream: &crate::io::Stream, awaits_room: bool) -> i32 {
    let goodbye = if stream.is_secured() { libc::EPOLLIN } else { 0 };
    let room = if awaits_room { libc::EPOLLOUT } else { 0 };
    libc::EPOLLRDHUP | goodbye | room
}
