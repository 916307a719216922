//! The shard's idle connections to the upstream, newest first.
//!
//! The newest is used first, so that the rest can grow old and be closed. A connection that has been idle for a moment
//! is checked before it is used again: one that was closed, or on which unrequested bytes have come, is not used.
//! Bounded in number and age.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::connection::Connection;
use crate::io::clock;
use crate::io::pause;

/// Idle time below which a connection's socket is not checked before it is used again: a check would cost a system
/// call for each request of a busy shard. What the upstream sends or closes meanwhile is mostly still on its way then,
/// and a check a round trip too early would not see it either. A request on a connection that was closed fails at once
/// and is sent again; requests that must not be sent twice are never sent on such a connection.
const SHORT_REST: Duration = Duration::from_millis(1);

/// Time limit on sending a close_notify.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Idle connections of one shard.
pub struct Pool {
    /// Oldest at the front.
    idle: RefCell<VecDeque<PooledConnection>>,
    idle_limit: Duration,
    count_max: usize,
    is_reaping: Cell<bool>,
}

struct PooledConnection {
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// Makes a pool of at most `count_max` connections, each idle for at most `idle_limit`.
    pub fn new(idle_limit: Duration, count_max: usize) -> Self {
        Pool { idle: RefCell::default(), idle_limit, count_max, is_reaping: Cell::new(false) }
    }

    /// Takes the newest idle connection that is still good.
    pub fn checkout(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(newest) = idle.pop_back() {
            let PooledConnection { connection, since } = newest;
            let age = clock::now().saturating_duration_since(since);
            let is_good = if age < SHORT_REST { connection.has_ended_clean() } else { connection.is_idle() };
            if age < self.idle_limit && is_good {
                return Some(connection);
            }
        }
        None
    }

    /// Takes back a connection whose exchange has ended cleanly on both sides. Any other must be dropped instead.
    pub fn release(self: &Rc<Self>, connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        if self.count_max == 0 {
            return;
        }
        if idle.len() == self.count_max {
            idle.pop_front();
        }
        idle.push_back(PooledConnection { connection, since: clock::now() });
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

    /// Closes connections as they reach the limit, until none is left.
    async fn reap(self: Rc<Self>) {
        loop {
            let Some(oldest) = self.idle.borrow().front().map(|idle| idle.since) else {
                self.is_reaping.set(false);
                return;
            };
            let age = oldest.elapsed();
            if age < self.idle_limit {
                pause(self.idle_limit - age).await;
                continue;
            }
            let expired = self.idle.borrow_mut().pop_front();
            if let Some(expired) = expired {
                expired.connection.close(CLOSE_LIMIT).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
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
}
