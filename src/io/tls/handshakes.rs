//! The TLS handshakes of a shard with its clients: all of them in one table, done by one task.
//!
//! A handshake is up to a millisecond of work, and thousands of clients can ask for one at the same time. One epoll
//! descriptor a shard holds their sockets, each with `EPOLLONESHOT`, and is itself polled on the ring: there a client
//! that goes on with its exchange is not behind all those that knock. What they have sent waits in their sockets, in
//! the kernel's order, until [`spend_on`] finds room for the next step. Invariant: what is begun comes out once, with its
//! companion, and no later than it is due, unless it is dropped by [`Handshakes::end_all`]; one whose client has sent
//! nothing comes out earlier.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use rustls::ServerConfig;

use super::handshake::{ClientHandshake, HandshakeError, HandshakeFault, Step};
use crate::io::deadline::Deadline;
use crate::io::epoll::{Epoll, Events, Token, TokenTable};
use crate::io::race::{Either, race};
use crate::io::stream::{Stream, Unread};
use crate::io::turns::{Work, spend_on};

/// Least time between two looks for handshakes that are due: with 10,000 of them one takes some 20 µs.
const SWEEP_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Number of handshakes that are ended in one piece of work: with the close of the socket one takes some 10 µs.
const ENDED_AT_ONCE_MAX: usize = 32;

/// The handshakes of one shard, each with a companion: what its owner has with the connection.
pub struct Handshakes<T> {
    epoll: Epoll,
    places: RefCell<TokenTable<UnderWay<T>>>,
    /// The time at which the attendant looks for handshakes that are due, unless it is woken earlier; `None` while
    /// there are none.
    next_look: Cell<Option<Instant>>,
    attendant: RefCell<Option<Waker>>,
}

struct UnderWay<T> {
    handshake: ClientHandshake,
    companion: T,
    limits: HandshakeLimits,
}

/// The times by which a handshake has to have come on.
#[derive(Debug, Clone, Copy)]
pub struct HandshakeLimits {
    /// The time after which it comes out if its client has sent nothing.
    pub begins_by: Option<Instant>,
    /// The time at which it has to be over.
    pub due: Instant,
}

impl<T> UnderWay<T> {
    /// The time after which it does not wait for its client any more.
    fn waits_until(&self) -> Instant {
        self.limits.begins_by.filter(|_| !self.handshake.has_begun()).unwrap_or(self.limits.due)
    }
}

impl<T> Handshakes<T> {
    /// Opens an empty table, and the stream that [`Handshakes::attend`] waits on.
    ///
    /// # Errors
    /// The error of `epoll_create1`, such as a lack of descriptors.
    pub fn open() -> io::Result<(Self, Events)> {
        let (epoll, events) = Epoll::open()?;
        let places = RefCell::new(TokenTable::new());
        Ok((Handshakes { epoll, places, next_look: Cell::default(), attendant: RefCell::default() }, events))
    }

    /// Begins the handshake on a connection of which nothing was read.
    ///
    /// # Errors
    /// When the kernel refuses the watch; the connection is closed.
    pub fn begin(
        &self,
        stream: Stream,
        config: Arc<ServerConfig>,
        companion: T,
        limits: HandshakeLimits,
    ) -> io::Result<()> {
        let handshake = ClientHandshake::new(stream, config);
        self.wait(libc::EPOLL_CTL_ADD, UnderWay { handshake, companion, limits }).map_err(|(_, error)| error)
    }

    /// Does the work of all handshakes, and passes each that is over to `settle`, for as long as it is polled.
    ///
    /// # Errors
    /// When the ring can wait no more.
    pub async fn attend(&self, events: Events, settle: impl Fn(T, Result<Stream, HandshakeError>)) -> io::Result<()> {
        let alarm = Deadline::default();
        let mut ready = Vec::new();
        let mut no_look_before = Instant::now();
        loop {
            self.wait_for_work(&alarm, &events, no_look_before).await?;
            self.epoll.take(|token, _| ready.push(token));
            for token in ready.drain(..) {
                let under_way = self.places.borrow_mut().remove(token);
                if let Some(under_way) = under_way {
                    self.advance(under_way, &settle).await;
                }
            }
            if self.next_look.get().is_some_and(|look| look.max(no_look_before) <= Instant::now()) {
                self.end_overdue(&settle).await;
                self.next_look.set(self.earliest_due());
                no_look_before = Instant::now() + SWEEP_INTERVAL_MIN;
            }
        }
    }

    /// Waits until a client may have gone on, or a handshake may be due.
    async fn wait_for_work(&self, alarm: &Deadline, events: &Events, no_look_before: Instant) -> io::Result<()> {
        let expected = self.next_look.get();
        let arrival = async {
            match expected {
                Some(look) => alarm.before(look.max(no_look_before), events.happened()).await.unwrap_or(Ok(())),
                None => std::future::pending().await,
            }
        };
        match race(arrival, self.earlier_look(expected)).await {
            Either::First(ready) => ready,
            Either::Second(()) => Ok(()),
        }
    }

    /// Resolves when the attendant is to look earlier than at `expected`.
    async fn earlier_look(&self, expected: Option<Instant>) {
        poll_fn(|context| {
            if self.next_look.get() != expected {
                return Poll::Ready(());
            }
            self.attendant.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Ends all handshakes that wait for their clients, without a word.
    pub async fn end_all(&self) {
        let mut places = self.places.borrow_mut().take_all();
        while places.len() > 0 {
            spend_on(Work::ClientHandshakes, || places.by_ref().take(ENDED_AT_ONCE_MAX).for_each(drop)).await;
        }
    }

    async fn advance(&self, under_way: UnderWay<T>, settle: &impl Fn(T, Result<Stream, HandshakeError>)) {
        let UnderWay { handshake, companion, limits } = under_way;
        match spend_on(Work::ClientHandshakes, || handshake.advance()).await {
            Step::Waits(handshake) => {
                let waits = self.wait(libc::EPOLL_CTL_MOD, UnderWay { handshake, companion, limits });
                if let Err((companion, error)) = waits {
                    settle(companion, Err(HandshakeError::Failed(error.into())));
                }
            }
            Step::Over(result) => {
                if let Ok(stream) | Err(HandshakeError::NotTls(stream, _)) = &result {
                    self.epoll.forget(stream);
                }
                settle(companion, result);
            }
        }
    }

    /// Waits for the client of a handshake. If it cannot, the connection is closed, and its companion returned.
    fn wait(&self, operation: i32, under_way: UnderWay<T>) -> Result<(), (T, io::Error)> {
        let waits_until = under_way.waits_until();
        self.places.borrow_mut().insert_with(|token| {
            let handshake = &under_way.handshake;
            let events = if handshake.waits_for_room() { libc::EPOLLOUT } else { libc::EPOLLIN | libc::EPOLLRDHUP };
            match self.epoll.watch(operation, handshake.stream(), events, token) {
                Ok(()) => Ok(under_way),
                Err(error) => Err((under_way.companion, error)),
            }
        })?;
        if self.next_look.get().is_none_or(|look| waits_until < look) {
            self.next_look.set(Some(waits_until));
            if let Some(attendant) = self.attendant.take() {
                attendant.wake();
            }
        }
        Ok(())
    }

    /// Returns the time at which the first handshake is due.
    fn earliest_due(&self) -> Option<Instant> {
        self.places.borrow().iter().map(|(_, under_way)| under_way.waits_until()).min()
    }

    async fn end_overdue(&self, settle: &impl Fn(T, Result<Stream, HandshakeError>)) {
        let now = Instant::now();
        let is_overdue = |(_, under_way): &(Token, &UnderWay<T>)| under_way.waits_until() <= now;
        let overdue: Vec<Token> = self.places.borrow().iter().filter(is_overdue).map(|(token, _)| token).collect();
        for part in overdue.chunks(ENDED_AT_ONCE_MAX) {
            spend_on(Work::ClientHandshakes, || {
                for token in part {
                    self.end_late(*token, now, settle);
                }
            })
            .await;
        }
    }

    fn end_late(&self, token: Token, now: Instant, settle: &impl Fn(T, Result<Stream, HandshakeError>)) {
        let mut places = self.places.borrow_mut();
        if let Some(UnderWay { handshake, limits, .. }) = places.get_mut(token)
            && limits.due > now
            && handshake.stream().unread() != Unread::Nothing
        {
            // It has begun, and waits for its turn.
            limits.begins_by = None;
            return;
        }
        let Some(UnderWay { handshake, companion, limits }) = places.remove(token) else { return };
        drop(places);
        if limits.due <= now {
            return settle(companion, Err(HandshakeError::Failed(HandshakeFault::Late)));
        }
        self.epoll.forget(handshake.stream());
        settle(companion, Err(HandshakeError::Silent(handshake.into_stream())));
    }
}

#[cfg(test)]
mod tests;
