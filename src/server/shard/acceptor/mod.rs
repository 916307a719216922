//! The accept loop of one shard.
//!
//! Invariant: connections in the queue of a listener are served before it closes, unless a successor has the listener
//! too.

mod listen_queue;

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use monoio::net::TcpStream;

use self::listen_queue::ListenQueue;
use super::accept::{self, AcceptWarnings};
use super::connections::{ACCEPT_PAUSE, Connections};
use super::draining::DRAIN_GRACE;
use super::listener::QUEUE_LEN_MAX;
use super::places::Lack;
use crate::io::epoll::uninterrupted;
use crate::io::{AcceptPace, Delivery, Either, Phase, Stream, Turns, pause, race};
use crate::observability::Count;
use crate::proxy::Proxy;

/// The pause of a drain until the descriptor of a connection that gives way is free.
const DRAIN_RETRY_PAUSE: Duration = Duration::from_millis(2);

/// Number of connections of clients that have left that are passed over in a row, at some 10 µs each.
const LOST_MAX: usize = 16;

/// Accepts the connections of one shard.
pub struct Acceptor {
    connections: Rc<Connections>,
    proxy: Rc<Proxy>,
    uses_epoll: bool,
    /// Set if a successor has the listening sockets when this shard accepts no more.
    keeps_sockets: Cell<bool>,
    warnings: AcceptWarnings,
}

impl Acceptor {
    pub fn new(connections: Rc<Connections>, proxy: Rc<Proxy>, uses_epoll: bool) -> Self {
        let (keeps_sockets, warnings) = (Cell::new(false), AcceptWarnings::default());
        Acceptor { connections, proxy, uses_epoll, keeps_sockets, warnings }
    }

    /// Leaves the listening sockets, with the connections in their queues, to a successor when the drain begins.
    pub fn keep_sockets(&self) {
        self.keeps_sockets.set(true);
    }

    /// Accepts from one listener until the drain begins, and then closes it.
    pub async fn accept_all(self: Rc<Self>, listener: monoio::net::TcpListener) {
        let queue = Rc::new(ListenQueue::new(listener, self.proxy.resources.shard));
        let pace = AcceptPace::default();
        loop {
            // The drain comes first: without a main thread the sockets are not this shard's any more.
            let draining = self.proxy.resources.lifecycle.reached(Phase::Draining);
            if let Either::First(()) = race(draining, self.accept_ready(&queue, &pace)).await {
                break;
            }
        }
        if self.keeps_sockets.get() {
            queue.restore();
            // The connections in the queue are the successor's. A shutdown would end its listening too, since it is the
            // same socket: only this descriptor is closed.
            return;
        }
        let listener = queue.listener.clone();
        // It is as long as it is from here on: what was in it is served, and no more.
        drop(queue);
        self.accept_remaining(&listener).await;
        accept::shut_down(&listener);
    }

    /// Waits for connections, and accepts all that are in the queue, as far as there are places, and at a pace.
    async fn accept_ready(&self, queue: &Rc<ListenQueue>, pace: &AcceptPace) {
        if let Err(error) = uninterrupted(|| queue.listener.readable(false)).await {
            tracing::error!(%error, "cannot wait for connections");
            return pause(ACCEPT_PAUSE).await;
        }
        // Only now: no connection gives way before there is one to take its place.
        if self.connections.is_full().await {
            return self.connections.make_room().await;
        }
        if let Err(error) = empty_queue(async || pace.take().await, || self.accept_one(queue)).await {
            queue.note_free();
            self.proxy.resources.activity.counters.add(Count::AcceptErrors);
            self.warnings.warn(&error);
            if accept::lacks_descriptor(&error) {
                self.connections.request_room(Lack::Descriptor);
            }
            pause(ACCEPT_PAUSE).await;
        }
    }

    /// Accepts the connections that the kernel has accepted already: closing a listener resets those in its queue. They
    /// may be more than there are places. Where descriptors are lacking, those at rest give way, which the drain closes
    /// in any case, and others are waited for as long as a client that has just connected is.
    async fn accept_remaining(&self, listener: &monoio::net::TcpListener) {
        let (begun, accepted, turns) = (Instant::now(), Cell::new(0), Turns::default());
        while let Err(error) = empty_queue(async || turns.take().await, || self.accept_late(listener, &accepted)).await
        {
            if !accept::lacks_descriptor(&error) || begun.elapsed() >= DRAIN_GRACE {
                self.proxy.resources.activity.counters.add(Count::AcceptErrors);
                return self.warnings.warn(&error);
            }
            self.connections.request_room(Lack::Descriptor);
            pause(DRAIN_RETRY_PAUSE).await;
        }
    }

    /// Accepts one connection, whether or not there is a place; false when none waits. Those that connect only now
    /// cannot hold up the end for ever: no more than were in the queue are accepted.
    fn accept_late(&self, listener: &monoio::net::TcpListener, accepted: &Cell<usize>) -> io::Result<bool> {
        if accepted.get() >= QUEUE_LEN_MAX {
            return Ok(false);
        }
        let Some(socket) = accept::accept(listener, self.uses_epoll)? else { return Ok(false) };
        accepted.set(accepted.get() + 1);
        self.connections.admit(self.connections.permit_beyond(), Stream::new(TcpStream::from_std(socket.into())?));
        Ok(true)
    }

    /// Accepts one connection; false when none waits or no more may be open.
    fn accept_one(&self, queue: &Rc<ListenQueue>) -> io::Result<bool> {
        let Some(permit) = self.connections.permit() else {
            queue.note_free();
            return Ok(false);
        };
        for _ in 0..LOST_MAX {
            let Some(socket) = accept::accept(&queue.listener, self.uses_epoll)? else {
                queue.note_free();
                return Ok(false);
            };
            queue.note_accepted();
            if !self.is_lost(queue, &socket) {
                self.connections.admit(permit, Stream::new(TcpStream::from_std(socket.into())?));
                break;
            }
        }
        Ok(true)
    }

    /// Returns whether a connection is of a client that has given up while it waited. Where more connect than can be
    /// served most have, and to serve them would be all that is done.
    fn is_lost(&self, queue: &ListenQueue, socket: &OwnedFd) -> bool {
        let overload = &self.proxy.resources.overload;
        (queue.is_short() || overload.is_refusing()) && Delivery::of(socket).is_some_and(|last| overload.is_lost(last))
    }
}

/// Takes one after the other off a queue until `take_one` finds none, each when `place` says so.
async fn empty_queue(place: impl AsyncFn(), mut take_one: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    loop {
        place().await;
        if !take_one()? {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::deadline::{next_turn, on_both_drivers};

    #[test]
    fn of_clients_that_connect_at_the_same_time_a_turn_accepts_some() {
        const CLIENTS: usize = 1000;
        // Of two turns in a row this may look between.
        const EACH_TURN_MAX: usize = 200;
        on_both_drivers(|| async {
            for is_paced in [true, false] {
                let accepted = Rc::new(Cell::new(0));
                let counted = accepted.clone();
                let accepting = monoio::spawn(async move {
                    let (pace, turns) = (AcceptPace::default(), Turns::default());
                    let place = async || if is_paced { pace.take().await } else { turns.take().await };
                    let take_one = || {
                        counted.set(counted.get() + 1);
                        Ok(counted.get() < CLIENTS)
                    };
                    empty_queue(place, take_one).await
                });
                let mut before = 0;
                next_turn().await;
                while accepted.get() < CLIENTS {
                    next_turn().await;
                    assert!(accepted.get() - before <= EACH_TURN_MAX, "{} in one turn", accepted.get() - before);
                    assert!(accepted.get() > before, "a turn without any");
                    before = accepted.get();
                }
                accepting.await.unwrap();
            }
        });
    }
}
