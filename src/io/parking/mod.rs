//! Idle connections: each costs a place in a table, and no task, buffer or timer, until bytes come.
//!
//! A task is some kilobytes, and most client connections do nothing for most of their life. One epoll descriptor a
//! shard holds the sockets of all idle ones, each with `EPOLLONESHOT`, and is itself polled on the ring. Invariant:
//! what is parked comes out once, to the caller of [`Parking::attend`] or of [`Parking::take_first`]; and however many
//! are due, or have been left by their peers, at once, a turn of the shard lets out a bounded number.

mod line;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsRawFd;
use std::task::{Poll, Waker};
use std::time::Instant;

pub use self::line::GivesWay;
use self::line::{Line, Place};
use super::deadline::{Deadline, next_turn};
use super::epoll::{EVENTS_MAX, Epoll, Events, SocketEvent, Token, TokenTable};
use super::race::{Either, race};

/// Number of parked connections after which no more are let out in a turn: to serve one takes some 50 µs until it waits
/// for the upstream, and to close one some 20 µs, of which most is the kernel's, so a turn stays below 4 ms.
pub const LET_OUT_MAX: usize = EVENTS_MAX;

/// Number of batches of events that are taken in a turn. One event takes less than 0.5 µs: those of clients that have
/// sent something are found among 5,000 others in three turns.
const BATCHES_MAX: usize = 64;

/// The parked connections of one shard.
pub struct Parking<T> {
    epoll: Epoll,
    places: RefCell<TokenTable<ParkingPlace<T>>>,
    line: RefCell<Line>,
    /// Those that have been left by their peers and wait for their turn to come out.
    left: RefCell<VecDeque<T>>,
    /// The time at which the attendant looks for connections that are due, unless it is woken earlier.
    next_look: Cell<Option<Instant>>,
    attendant: RefCell<Option<Waker>>,
}

struct ParkingPlace<T> {
    place: Place,
    connection: T,
}

/// The reason why a connection comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetOut {
    /// Its peer has sent something.
    Arrival,
    /// Its peer has closed or reset the connection, perhaps after it has sent something.
    HungUp,
    /// Its time is over.
    Overdue,
}

impl<T: AsRawFd> Parking<T> {
    /// Opens an empty one, and the stream that [`Parking::attend`] waits on.
    ///
    /// # Errors
    /// The error of `epoll_create1`, such as a lack of descriptors.
    pub fn open() -> io::Result<(Self, Events)> {
        let (epoll, events) = Epoll::open()?;
        let parking = Parking {
            epoll,
            places: RefCell::new(TokenTable::new()),
            line: RefCell::new(Line::new(Instant::now())),
            left: RefCell::default(),
            next_look: Cell::new(None),
            attendant: RefCell::default(),
        };
        Ok((parking, events))
    }

    /// Parks a connection until its peer sends or closes, or until `due`. Among those of its kind, those that are due
    /// first give way first.
    ///
    /// # Errors
    /// When the kernel refuses the watch; the connection is returned.
    pub fn park(&self, connection: T, gives_way: GivesWay, due: Instant) -> Result<(), (T, io::Error)> {
        self.places.borrow_mut().insert_with(|token| match self.watch(&connection, token) {
            Ok(()) => {
                let place = self.line.borrow_mut().join(token, gives_way, due);
                Ok(ParkingPlace { place, connection })
            }
            Err(error) => Err((connection, error)),
        })?;
        if self.next_look.get().is_none_or(|look| due < look) {
            self.next_look.set(Some(due));
            if let Some(attendant) = self.attendant.take() {
                attendant.wake();
            }
        }
        Ok(())
    }

    /// Returns of which kind the connection is that gives way first, and when it is due.
    pub fn first(&self) -> Option<(GivesWay, Instant)> {
        self.line.borrow().first().map(|(_, gives_way, due)| (gives_way, due))
    }

    /// Takes the connection out that gives way first.
    pub fn take_first(&self) -> Option<T> {
        let (token, ..) = self.line.borrow().first()?;
        self.take(token)
    }

    /// Passes every connection that comes out to `leave`, for as long as it is polled.
    ///
    /// # Errors
    /// When the ring can wait no more.
    pub async fn attend(&self, events: Events, leave: impl Fn(T, LetOut)) -> io::Result<()> {
        let alarm = Deadline::default();
        let mut count_in_turn = 0;
        loop {
            self.wait(&alarm, &events).await?;
            count_in_turn += self.let_out(&leave);
            // On epoll the wait may have been none at all, so that the last turn goes on.
            while count_in_turn >= LET_OUT_MAX {
                next_turn().await;
                count_in_turn = self.let_out(&leave);
            }
        }
    }

    /// Waits until something may have arrived, or a connection may be due.
    async fn wait(&self, alarm: &Deadline, events: &Events) -> io::Result<()> {
        // A look too early costs little; connections that come and go must not wake the attendant each time.
        if self.next_look.get().is_none_or(|look| look <= Instant::now()) {
            self.next_look.set(self.line.borrow().first_due());
        }
        let earlier_look = self.earlier_look(self.next_look.get());
        let arrival = async {
            match self.next_look.get() {
                Some(look) => alarm.before(look, events.happened()).await.unwrap_or(Ok(())),
                None => std::future::pending().await,
            }
        };
        match race(arrival, earlier_look).await {
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
            let mut attendant = self.attendant.borrow_mut();
            if !attendant.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                *attendant = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Lets those out on which something has arrived, and then those that were left or are due, each as far as the turn
    /// allows. Returns the greater of the two numbers.
    fn let_out(&self, leave: &impl Fn(T, LetOut)) -> usize {
        let arrived = self.take_events(leave);
        let now = Instant::now();
        let mut ended = 0;
        while ended < LET_OUT_MAX {
            let left = self.left.borrow_mut().pop_front();
            let Some((connection, why)) = left
                .map(|connection| (connection, LetOut::HungUp))
                .or_else(|| self.take_overdue(now).map(|connection| (connection, LetOut::Overdue)))
            else {
                break;
            };
            ended += 1;
            leave(connection, why);
        }
        arrived.max(ended)
    }

    /// Lets those out on which something has arrived; those that were left wait, so that nobody waits for them. Returns
    /// the number, or at least [`LET_OUT_MAX`] if there may be more.
    fn take_events(&self, leave: &impl Fn(T, LetOut)) -> usize {
        let mut arrived = 0;
        for _ in 0..BATCHES_MAX {
            let taken = self.epoll.take(|token, event| match (self.take(token), event) {
                (Some(connection), SocketEvent::Readable) => {
                    arrived += 1;
                    leave(connection, LetOut::Arrival);
                }
                (Some(connection), SocketEvent::HungUp) => self.left.borrow_mut().push_back(connection),
                (None, _) => {}
            });
            if taken < EVENTS_MAX || arrived >= LET_OUT_MAX {
                return arrived;
            }
        }
        arrived.max(LET_OUT_MAX)
    }

    fn take_overdue(&self, now: Instant) -> Option<T> {
        let token = self.line.borrow().overdue(now)?;
        self.take(token)
    }

    fn take(&self, token: Token) -> Option<T> {
        let ParkingPlace { place, connection } = self.places.borrow_mut().remove(token)?;
        self.line.borrow_mut().leave(token, place);
        Some(connection)
    }

    /// Watches a socket that most likely was parked before.
    fn watch(&self, connection: &T, token: Token) -> io::Result<()> {
        let events = libc::EPOLLIN | libc::EPOLLRDHUP;
        match self.epoll.watch(libc::EPOLL_CTL_MOD, connection, events, token) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                self.epoll.watch(libc::EPOLL_CTL_ADD, connection, events, token)
            }
            watched => watched,
        }
    }
}

#[cfg(test)]
mod tests;
