//! The shard's idle connections to the upstream, newest first.
//!
//! The newest is used first, so that the rest can grow old and be closed. A connection that has rested for a moment is
//! looked at before it is used again: one that has been closed, or on which anything has come unasked, is not used.
//! Bounded in number and age.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::connection::Connection;
use crate::io::pause;

/// The socket of a connection that rested for less is not looked at before it is used again, which would cost a system
/// call for each request of a busy shard. Whatever the upstream sends or closes meanwhile is mostly still on its way
/// then: a look that comes a round trip too early sees nothing either. One that was closed fails at once, and the request
/// goes out again; what may not go out twice never goes out here.
const SHORT_REST: Duration = Duration::from_millis(1);

/// How long a close_notify may take to leave.
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
    /// Keeps at most `count_max` connections, each at most `idle_limit` long.
    pub fn new(idle_limit: Duration, count_max: usize) -> Self {
        Pool { idle: RefCell::default(), idle_limit, count_max, is_reaping: Cell::new(false) }
    }

    /// The newest idle connection that is still good.
    pub fn checkout(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(newest) = idle.pop_back() {
            let PooledConnection { connection, since } = newest;
            let age = since.elapsed();
            let is_good = if age < SHORT_REST { connection.has_ended_clean() } else { connection.is_at_rest() };
            if age < self.idle_limit && is_good {
                return Some(connection);
            }
        }
        None
    }

    /// Takes back a connection whose exchange has ended cleanly on both sides. Anything else must be dropped instead.
    pub fn release(self: &Rc<Self>, connection: Connection) {
        let mut idle = self.idle.borrow_mut();
        if self.count_max == 0 {
            return;
        }
        if idle.len() == self.count_max {
            idle.pop_front();
        }
        idle.push_back(PooledConnection { connection, since: Instant::now() });
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

    /// A connection on which an answer has been read, with `behind` in the same read.
    async fn read_with(behind: fn(&mut rustls::ServerConnection, &mut Vec<u8>)) -> (Connection, TcpStream) {
        let (session, mut server) = connected(&rustls::version::TLS13);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let ours = listener.accept().unwrap().0;
        ours.set_nonblocking(true).unwrap();
        server.writer().write_all(b"answer").unwrap();
        let mut wire = taken(&mut server);
        behind(&mut server, &mut wire);
        peer.write_all(&wire).unwrap();
        let stream = Stream::new(monoio::net::TcpStream::from_std(ours).unwrap());
        let connection = Connection::new(stream, Some(session), Buffer::none());
        connection.read(|plaintext| assert_eq!(plaintext, b"answer")).await.unwrap();
        (connection, peer)
    }

    #[test]
    fn what_came_with_an_answer_keeps_its_connection_from_being_used_again_however_soon() {
        type Behind = fn(&mut rustls::ServerConnection, &mut Vec<u8>);
        let cases: [(&str, Behind, bool); 4] = [
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
        for (what, behind, is_used) in cases {
            on_a_shard(async move {
                let pool = Rc::new(Pool::new(Duration::from_secs(3600), 8));
                let (connection, _peer) = read_with(behind).await;
                pool.release(connection);
                assert_eq!(pool.checkout().is_some(), is_used, "{what}");
            });
        }
    }
}
