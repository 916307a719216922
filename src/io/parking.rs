//! Idle connections: each costs a place in a table, and no task, buffer or timer, until bytes come.
//!
//! A task is some kilobytes, and most client connections do nothing for most of their life. One epoll descriptor a
//! shard holds the sockets of all idle ones, each with `EPOLLONESHOT`, and is itself polled on the ring. Invariant:
//! what is parked comes out once: to the caller of [`Parking::attend`] when its peer has sent or closed, else it is
//! dropped, and with it closed, when its time is over.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::AsRawFd;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use monoio::net::TcpStream;
use slab::Slab;

use super::deadline::Deadline;
use super::epoll::{Epoll, Token};

/// Least time between two sweeps for connections that are due to be closed: with 10,000 of them one takes some 20 µs.
const SWEEP_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// The parked connections of one shard.
pub struct Parking<T> {
    epoll: Epoll,
    places: RefCell<Slab<ParkingPlace<T>>>,
    /// Distinguishes a late event for a place's former connection from one for its present one.
    generation: Cell<u32>,
    attendant: RefCell<Option<Waker>>,
}

struct ParkingPlace<T> {
    generation: u32,
    due: Instant,
    connection: T,
}

/// Tells a socket that was parked before from one that was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    First,
    Again,
}

impl<T: AsRawFd> Parking<T> {
    /// Opens an empty one, and the stream that [`Parking::attend`] waits on.
    ///
    /// # Errors
    /// The error of `epoll_create1`, such as a lack of descriptors.
    pub fn open() -> io::Result<(Self, TcpStream)> {
        let (epoll, events) = Epoll::open()?;
        let parking =
            Parking { epoll, places: RefCell::default(), generation: Cell::new(0), attendant: RefCell::default() };
        Ok((parking, events))
    }

    /// Parks a connection until its peer sends or closes, or until `due`, which is to be no earlier than that of the
    /// others.
    ///
    /// # Errors
    /// When the kernel refuses the watch; the connection is returned.
    pub fn park(&self, connection: T, visit: Visit, due: Instant) -> Result<(), (T, io::Error)> {
        let generation = self.generation.get().wrapping_add(1);
        self.generation.set(generation);
        let mut places = self.places.borrow_mut();
        let key = places.insert(ParkingPlace { generation, due, connection });
        let operation = match visit {
            Visit::First => libc::EPOLL_CTL_ADD,
            Visit::Again => libc::EPOLL_CTL_MOD,
        };
        let events = libc::EPOLLIN | libc::EPOLLRDHUP;
        let token = Token { generation, key };
        if let Err(error) = self.epoll.watch(operation, &places[key].connection, events, token) {
            return Err((places.remove(key).connection, error));
        }
        if let Some(attendant) = self.attendant.take() {
            attendant.wake();
        }
        Ok(())
    }

    /// Takes all parked connections out.
    pub fn take_all(&self) -> impl Iterator<Item = T> {
        self.places.take().into_iter().map(|(_, place)| place.connection)
    }

    /// Passes every connection whose peer has sent or closed to `wake`, for as long as it is polled.
    ///
    /// # Errors
    /// When the ring can wait no more.
    pub async fn attend(&self, events: TcpStream, wake: impl Fn(T)) -> io::Result<()> {
        let sweep = Deadline::default();
        loop {
            let earliest = self.earliest_due().await;
            let next_sweep = earliest.max(Instant::now() + SWEEP_INTERVAL_MIN);
            while Instant::now() < next_sweep
                && let Ok(ready) = sweep.before(next_sweep, events.readable(false)).await
            {
                ready?;
                self.epoll.take(|token| self.wake(token, &wake));
            }
            self.drop_overdue(Instant::now());
        }
    }

    /// Resolves to the time at which the first parked connection is due, once there is one.
    async fn earliest_due(&self) -> Instant {
        poll_fn(|context| match self.places.borrow().iter().map(|(_, place)| place.due).min() {
            Some(due) => Poll::Ready(due),
            None => {
                self.attendant.replace(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }

    fn wake(&self, Token { generation, key }: Token, wake: &impl Fn(T)) {
        let mut places = self.places.borrow_mut();
        if places.get(key).is_some_and(|place| place.generation == generation) {
            let connection = places.remove(key).connection;
            drop(places);
            wake(connection);
        }
    }

    fn drop_overdue(&self, now: Instant) {
        let overdue: Vec<usize> =
            self.places.borrow().iter().filter(|(_, place)| place.due <= now).map(|(key, _)| key).collect();
        for key in overdue {
            let place = self.places.borrow_mut().try_remove(key);
            drop(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream as Peer};
    use std::rc::Rc;

    use super::super::deadline::{on_a_shard, pause};
    use super::*;

    fn pair() -> (Peer, Peer) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = Peer::connect(listener.local_addr().unwrap()).unwrap();
        (peer, listener.accept().unwrap().0)
    }

    /// A lot with an attendant, and the connections that have come out.
    fn attended() -> (Rc<Parking<Peer>>, Rc<RefCell<Vec<Peer>>>) {
        let (parking, epoll) = Parking::open().unwrap();
        let parking = Rc::new(parking);
        let woken = Rc::new(RefCell::new(Vec::new()));
        let (attendant, out) = (parking.clone(), woken.clone());
        monoio::spawn(async move { attendant.attend(epoll, |socket| out.borrow_mut().push(socket)).await });
        (parking, woken)
    }

    /// Time that nothing takes here, even on a busy machine.
    const ENOUGH: Duration = Duration::from_secs(30);
    /// Time that no test lasts.
    const LONG: Duration = Duration::from_secs(3600);

    async fn until(what: &str, holds: impl Fn() -> bool) {
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < ENOUGH, "{what}");
            pause(Duration::from_millis(5)).await;
        }
    }

    #[test]
    fn whoever_is_sent_something_or_is_left_comes_out_once_and_again_after_another_visit() {
        on_a_shard(async {
            let (parking, woken) = attended();
            let later = Instant::now() + LONG;
            let ((mut sender, parked), (leaver, left), (_silent, silent)) = (pair(), pair(), pair());
            for socket in [parked, left, silent] {
                assert!(parking.park(socket, Visit::First, later).is_ok());
            }
            sender.write_all(b"x").unwrap();
            drop(leaver);
            until("two come out", || woken.borrow().len() == 2).await;
            sender.write_all(b"y").unwrap();
            pause(Duration::from_millis(30)).await;
            assert_eq!(woken.borrow().len(), 2, "what is not parked is not watched");
            let again = woken.borrow_mut().remove(0);
            assert!(parking.park(again, Visit::Again, later).is_ok());
            until("it has bytes still", || woken.borrow().len() == 2).await;
            assert_eq!(parking.places.borrow().len(), 1);
        });
    }

    #[test]
    fn what_rests_for_too_long_is_closed_and_what_is_taken_out_is_not_given_out_any_more() {
        on_a_shard(async {
            let (parking, woken) = attended();
            let ((peer, parked), (mut other, rests)) = (pair(), pair());
            assert!(parking.park(parked, Visit::First, Instant::now() + Duration::from_millis(50)).is_ok());
            assert!(parking.park(rests, Visit::First, Instant::now() + LONG).is_ok());
            let has_ended = |mut peer: &Peer| {
                peer.set_nonblocking(true).unwrap();
                matches!(std::io::Read::read(&mut peer, &mut [0; 1]), Ok(0))
            };
            until("the one that is due is closed", || has_ended(&peer)).await;
            assert!(!has_ended(&other), "the other one is not");
            other.write_all(b"x").unwrap();
            let taken: Vec<_> = parking.take_all().collect();
            assert_eq!(taken.len(), 1);
            pause(Duration::from_millis(30)).await;
            assert!(woken.borrow().is_empty());
        });
    }

    #[test]
    fn a_socket_that_cannot_be_watched_comes_back() {
        on_a_shard(async {
            let (parking, _) = attended();
            let (_peer, socket) = pair();
            // It was never parked.
            let refused = parking.park(socket, Visit::Again, Instant::now());
            assert!(refused.is_err_and(|(_, error)| error.raw_os_error() == Some(libc::ENOENT)));
            assert!(parking.places.borrow().is_empty());
        });
    }
}
