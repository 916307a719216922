//! The shard's idle connections to the upstream, newest first.
//!
//! The newest is used first, so that the rest can grow old and be closed. A connection that has been idle for a moment
//! is checked before it is used again: one that was closed, or on which unrequested bytes have come, is not used.
//! Bounded in number and age; the age is the upstream's to say, so they do not come of age in their order. Those that were
//! opened in advance (*warm* ones) are at the end: what has been used before is used first.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::history::History;
use super::suspension::Suspension;
use crate::io::clock;
use crate::io::pause;

/// Idle time below which a connection's socket is not checked before it is used again: a check would cost a system
/// call for each request of a busy shard. What the upstream sends or closes meanwhile is mostly still on its way then,
/// and a check a round trip too early would not see it either. A request on a connection that was closed fails at once
/// and is sent again; requests that must not be sent twice are never sent on such a connection.
const SHORT_REST: Duration = Duration::from_millis(1);

/// Time limit on sending a close_notify.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Longest time between two looks for connections of age. No upstream allows a shorter rest, and none at all is zero:
/// whatever comes to rest after a look is not of age before the next one.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Age that a warm connection reaches unless its upstream wants none: front doors close idle ones after more than that.
const WARM_AGE_MIN: Duration = Duration::from_secs(3);

/// Idle connections of one shard.
pub struct Pool {
    /// In the order in which they came to rest, but that warm ones come first.
    idle: RefCell<VecDeque<PooledConnection>>,
    idle_limit: Duration,
    count_max: usize,
    is_reaping: Cell<bool>,
    /// A warm connection was of no use.
    has_warm_failed: Cell<bool>,
    suspension: Suspension,
}

struct PooledConnection {
    connection: Connection,
    since: Instant,
    /// It is not used from then on.
    due: Instant,
}

impl PooledConnection {
    fn new(connection: Connection, rest: Duration) -> Self {
        let since = clock::now();
        PooledConnection { connection, since, due: since + rest }
    }

    fn is_good(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.since);
        let is_surely_good = age < SHORT_REST && self.connection.has_ended_clean();
        now < self.due && (is_surely_good || self.connection.is_idle())
    }
}

impl Pool {
    /// Makes a pool of at most `count_max` connections, each idle for at most `idle_limit` where its upstream does not
    /// say otherwise.
    pub fn new(idle_limit: Duration, count_max: usize) -> Self {
        Pool {
            idle: RefCell::default(),
            idle_limit,
            count_max,
            is_reaping: Cell::new(false),
            has_warm_failed: Cell::new(false),
            suspension: Suspension::new(),
        }
    }

    /// Takes the newest idle connection that is still good.
    pub fn checkout(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let now = clock::now();
        let rests = |newest: &PooledConnection| now.saturating_duration_since(newest.since) >= SHORT_REST;
        if idle.back().is_some_and(rests) && self.suspension.has_slept() {
            idle.clear();
        }
        while let Some(newest) = idle.pop_back() {
            if newest.is_good(now) {
                return Some(newest.connection);
            }
            self.note_lost(&newest, now);
        }
        None
    }

    /// Takes back a connection whose exchange has ended cleanly on both sides. Any other must be dropped instead.
    pub fn release(self: &Rc<Self>, connection: Connection) {
        if self.make_room() {
            let rest = connection.rest_limit().unwrap_or(self.idle_limit);
            self.idle.borrow_mut().push_back(PooledConnection::new(connection, rest));
            self.begin_to_reap();
        }
    }

    /// Takes a connection on which nothing was sent yet, to be kept for `rest`.
    pub fn add_warm(self: &Rc<Self>, connection: Connection, rest: Duration) {
        if !connection.is_idle() {
            self.has_warm_failed.set(true);
        } else if self.make_room() {
            connection.note_warm();
            self.idle.borrow_mut().push_front(PooledConnection::new(connection, rest));
            self.begin_to_reap();
        }
    }

    /// Drops the first connection where there are too many for one more; false if none may be kept at all.
    fn make_room(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= self.count_max {
            idle.pop_front();
        }
        self.count_max > 0
    }

    /// Counts the connections that are good and will not be of age within `lead`, as far as `wanted`. Those found on
    /// the way that their upstream has closed are dropped.
    pub fn ready_count(&self, wanted: usize, lead: Duration) -> usize {
        let mut idle = self.idle.borrow_mut();
        let now = clock::now();
        let (mut count, mut place) = (0, idle.len());
        while count < wanted && place > 0 {
            place -= 1;
            if idle[place].due <= now + lead {
                continue;
            }
            if idle[place].is_good(now) {
                count += 1;
            } else if let Some(lost) = idle.remove(place) {
                self.note_lost(&lost, now);
            }
        }
        count
    }

    /// Notes that a request found its connection, with this history, closed by the upstream.
    pub fn note_stale(&self, history: History) {
        if history == History::Warm {
            self.has_warm_failed.set(true);
        }
    }

    /// Returns whether a warm connection was of no use since this was last asked: closed while it was young, or under
    /// its request.
    pub fn take_warm_failure(&self) -> bool {
        self.has_warm_failed.take()
    }

    fn note_lost(&self, lost: &PooledConnection, now: Instant) {
        if now < lost.due && now.saturating_duration_since(lost.since) < WARM_AGE_MIN {
            self.note_stale(lost.connection.history());
        }
    }

    fn begin_to_reap(self: &Rc<Self>) {
        if !self.is_reaping.replace(true) {
            monoio::spawn(self.clone().reap());
        }
    }

    pub fn idle_count(&self) -> usize {
        self.idle.borrow().len()
    }

    /// Closes all idle connections.
    pub fn clear(&self) {
        self.idle.borrow_mut().clear();
    }

    /// Closes connections as they come of age, until none is left.
    async fn reap(self: Rc<Self>) {
        loop {
            let now = clock::now();
            if let Some(expired) = self.take_expired(now) {
                expired.close(CLOSE_LIMIT).await;
                continue;
            }
            let Some(next) = self.idle.borrow().iter().map(|pooled| pooled.due).min() else {
                self.is_reaping.set(false);
                return;
            };
            pause((next - now).min(self.idle_limit).min(LOOK_INTERVAL_MAX)).await;
        }
    }

    fn take_expired(&self, now: Instant) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let place = idle.iter().position(|pooled| pooled.due <= now)?;
        idle.remove(place).map(|expired| expired.connection)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::super::tls::tests::{connected, taken};
    use super::*;
    use crate::io::deadline::on_a_shard;
    use crate::io::{Buffer, Stream};

    /// Makes a connection on which an answer was read, with what `after` appends in the same read.
    async fn read_with(after: fn(&mut rustls::ServerConnection, &mut Vec<u8>)) -> (Connection, TcpStream) {
        let (session, mut server) = connected(&rustls::version::TLS13);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let ours = listener.accept().unwrap().0;
        ours.set_nonblocking(true).unwrap();
        server.writer().write_all(b"answer").unwrap();
        let mut wire = taken(&mut server);
        after(&mut server, &mut wire);
        peer.write_all(&wire).unwrap();
        let stream = Stream::new(monoio::net::TcpStream::from_std(ours).unwrap());
        let connection = Connection::new(stream, Some(session), Buffer::none());
        connection.read(|plaintext| assert_eq!(plaintext, b"answer")).await.unwrap();
        (connection, peer)
    }

    #[test]
    fn what_came_with_an_answer_keeps_its_connection_from_being_used_again_however_soon() {
        type Appending = fn(&mut rustls::ServerConnection, &mut Vec<u8>);
        let cases: [(&str, Appending, bool); 4] = [
            ("nothing", |_, _| {}, true),
            (
                "the end",
                |server, wire| {
                    server.send_close_notify();
                    wire.extend(taken(server));
                },
                false,
            ),
            (
                "half a record",
                |server, wire| {
                    server.writer().write_all(b"unasked").unwrap();
                    let record = taken(server);
                    wire.extend_from_slice(&record[..record.len() / 2]);
                },
                false,
            ),
            (
                "a broken record",
                |server, wire| {
                    server.writer().write_all(b"unasked").unwrap();
                    wire.extend(taken(server));
                    *wire.last_mut().unwrap() ^= 1;
                },
                false,
            ),
        ];
        for (what, after, is_used) in cases {
            on_a_shard(async move {
                let pool = Rc::new(Pool::new(Duration::from_secs(3600), 8));
                let (connection, _peer) = read_with(after).await;
                pool.release(connection);
                assert_eq!(pool.checkout().is_some(), is_used, "{what}");
            });
        }
    }

    /// Makes a connection without TLS that has nothing to read.
    fn quiet() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let ours = listener.accept().unwrap().0;
        ours.set_nonblocking(true).unwrap();
        let stream = Stream::new(monoio::net::TcpStream::from_std(ours).unwrap());
        (Connection::new(stream, None, Buffer::none()), peer)
    }

    /// Waits until the other side of `peer` was closed, and returns the time.
    async fn closed(peer: &mut TcpStream) -> Instant {
        let until = Instant::now() + Duration::from_secs(30);
        peer.set_nonblocking(true).unwrap();
        while peer.read(&mut [0]).is_err() {
            assert!(Instant::now() < until, "it is still open");
            pause(Duration::from_millis(1)).await;
        }
        Instant::now()
    }

    #[test]
    fn each_connection_rests_for_as_long_as_its_upstream_says() {
        const SHORT: Duration = Duration::from_millis(300);
        const LONG: Duration = Duration::from_secs(3600);
        on_a_shard(async {
            // Another one's limit makes no difference, be it older or newer.
            for order in [[Some(SHORT), None], [None, Some(SHORT)]] {
                let pool = Rc::new(Pool::new(LONG, 8));
                let began = Instant::now();
                let mut short_peer = None;
                let mut peers = Vec::new();
                for limit in order {
                    let (connection, peer) = quiet();
                    connection.limit_rest(limit);
                    pool.release(connection);
                    if limit.is_some() { short_peer = Some(peer) } else { peers.push(peer) }
                }
                let age = closed(&mut short_peer.expect("a short one")).await - began;
                assert!(age >= SHORT && age < LONG, "{age:?}");
                assert!(pool.checkout().is_some(), "the other one is there still");
                assert_eq!(pool.idle_count(), 0);
            }
            let pool = Rc::new(Pool::new(SHORT, 8));
            let (connection, _peer) = quiet();
            connection.limit_rest(Some(LONG));
            connection.limit_rest(None);
            pool.release(connection);
            pause(2 * SHORT).await;
            assert!(pool.checkout().is_some(), "a limit can be longer than that of the pool");
        });
    }

    #[test]
    fn one_that_is_of_age_is_not_used_even_before_it_is_closed() {
        on_a_shard(async {
            let pool = Rc::new(Pool::new(Duration::from_secs(3600), 8));
            let (connection, _peer) = quiet();
            connection.limit_rest(Some(Duration::from_millis(20)));
            pool.release(connection);
            std::thread::sleep(Duration::from_millis(30));
            assert!(pool.checkout().is_none());
        });
    }

    #[test]
    fn the_oldest_gives_way_where_there_are_too_many() {
        on_a_shard(async {
            let pool = Rc::new(Pool::new(Duration::from_secs(3600), 2));
            let mut peers: Vec<_> = (0..3)
                .map(|_| {
                    let (connection, peer) = quiet();
                    pool.release(connection);
                    peer
                })
                .collect();
            closed(&mut peers[0]).await;
            assert_eq!(pool.idle_count(), 2);
        });
    }

    /// Adds a warm connection, and returns the other side of it.
    fn warmed(pool: &Rc<Pool>, rest: Duration) -> TcpStream {
        let (connection, peer) = quiet();
        pool.add_warm(connection, rest);
        peer
    }

    const REST: Duration = Duration::from_secs(3600);
    const LEAD: Duration = Duration::from_secs(1);

    #[test]
    fn warm_ones_are_used_after_all_others_and_give_way_first_where_there_are_too_many() {
        on_a_shard(async {
            let pool = Rc::new(Pool::new(REST, 2));
            let (used, _used_peer) = quiet();
            used.begin_exchange();
            pool.release(used);
            let mut one_too_many = warmed(&pool, REST);
            let _peer = warmed(&pool, REST);
            closed(&mut one_too_many).await;
            assert_eq!(pool.idle_count(), 2);
            let history = || pool.checkout().map(|connection| connection.history());
            assert_eq!([history(), history(), history()], [Some(History::Used), Some(History::Warm), None]);
            assert!(!pool.take_warm_failure());
            let _peer = warmed(&pool, REST);
            pool.clear();
            assert_eq!(pool.idle_count(), 0);
        });
    }

    #[test]
    fn ready_is_what_is_open_and_not_about_to_come_of_age() {
        on_a_shard(async {
            let pool = Rc::new(Pool::new(REST, 8));
            assert_eq!(pool.ready_count(1, LEAD), 0);
            let _short = warmed(&pool, LEAD / 2);
            assert_eq!((pool.ready_count(1, LEAD), pool.idle_count()), (0, 1));
            let lost = warmed(&pool, REST);
            assert_eq!((pool.ready_count(1, LEAD), pool.ready_count(8, LEAD)), (1, 1));
            let (used, _used_peer) = quiet();
            used.begin_exchange();
            pool.release(used);
            assert_eq!((pool.ready_count(1, LEAD), pool.ready_count(8, LEAD)), (1, 2));
            drop(lost);
            // One whose end has just come is looked at only after a moment.
            pause(2 * SHORT_REST).await;
            assert_eq!(pool.ready_count(1, LEAD), 1, "one that is good is enough");
            assert_eq!((pool.ready_count(8, LEAD), pool.idle_count()), (1, 2), "the lost one is dropped");
            assert!(pool.take_warm_failure() && !pool.take_warm_failure());
        });
    }

    #[test]
    fn a_warm_one_has_failed_if_it_was_closed_early_or_under_its_request() {
        on_a_shard(async {
            let pool = Rc::new(Pool::new(REST, 8));
            let lost = warmed(&pool, REST);
            drop(lost);
            pause(2 * SHORT_REST).await;
            assert!(pool.checkout().is_none() && pool.take_warm_failure(), "closed early");
            let (connection, lost) = quiet();
            drop(lost);
            pool.add_warm(connection, REST);
            assert!(pool.idle_count() == 0 && pool.take_warm_failure(), "closed at once");
            for past in [History::Fresh, History::Used] {
                pool.note_stale(past);
            }
            assert!(!pool.take_warm_failure(), "these were none");
            pool.note_stale(History::Warm);
            assert!(pool.take_warm_failure(), "under its request");
            let _peer = warmed(&pool, Duration::from_millis(5));
            std::thread::sleep(Duration::from_millis(10));
            assert!(pool.checkout().is_none() && !pool.take_warm_failure(), "of age");
        });
    }
}
