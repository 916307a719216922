//! The open connections of one shard: each has a task while it is served, and is parked without one while it is idle.
//!
//! Where all places of the process are taken, one at rest, that is parked and has sent nothing, gives way to a new one.
//! Invariant: every open connection holds a permit, which it returns when it ends.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::connection::{self, Arrival, OpenConnection, PumpedConnection, Served};
use super::keep_alive::{FIRST_REQUEST_WAIT, IdleConnection, KeepAlive, NextStep};
use super::places::Lack;
use super::shared::Shared;
use crate::http1::head::begins_http2;
use crate::io::clock;
use crate::io::deadline::next_turn;
use crate::io::epoll::Events;
use crate::io::parking::LET_OUT_MAX;
use crate::io::{
    GivesWay, HandshakeError, HandshakeLimits, Handshakes, LetOut, Parking, Phase, Stream, Unread, pause, race,
};
use crate::observability::{Count, OpenStream};
use crate::proxy::Proxy;
use crate::proxy::error::GatewayError;
use crate::proxy::stream::Pump;
use crate::proxy::stream::open_exchange::LeftStream;

/// The pause before a shard that may accept no more connections, or cannot, tries again.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The open connections of one shard.
pub struct Connections {
    shared: Arc<Shared>,
    proxy: Rc<Proxy>,
    /// The number of permits that connections hold.
    open: Rc<Cell<usize>>,
    parking: Parking<ParkedConnection>,
    handshakes: Handshakes<Newcomer>,
    pump: Pump<PumpOwner>,
    /// The accept loops that wait for a place.
    awaiting_place: RefCell<Vec<Waker>>,
}

/// The rest of a connection whose answer the pump relays.
struct PumpOwner {
    keep_alive: KeepAlive,
    permit: ConnectionPermit,
}

/// A client whose TLS handshake is under way.
struct Newcomer {
    permit: ConnectionPermit,
    /// The time at which it was accepted.
    since: Instant,
}

/// An idle connection with its permit.
struct ParkedConnection {
    idle: IdleConnection,
    permit: ConnectionPermit,
}

impl AsRawFd for ParkedConnection {
    fn as_raw_fd(&self) -> RawFd {
        self.idle.as_raw_fd()
    }
}

impl Connections {
    /// Starts with none, and with the tasks that resume idle connections, perform TLS handshakes and answer other
    /// shards. To be called on the thread of the shard.
    ///
    /// # Errors
    /// The parking, the table of handshakes, or the wait for other shards, cannot be set up.
    pub fn start(shared: Arc<Shared>, proxy: Rc<Proxy>) -> io::Result<Rc<Self>> {
        let (parking, arrivals) = Parking::open()?;
        let (handshakes, flights) = Handshakes::open()?;
        let (pump, events) = Pump::open()?;
        let wakeups = shared.places.wakeups(proxy.resources.shard)?;
        let (open, awaiting_place) = Default::default();
        let connections = Rc::new(Connections { shared, proxy, open, parking, handshakes, pump, awaiting_place });
        monoio::spawn(connections.clone().attend_parked(arrivals));
        monoio::spawn(connections.clone().perform_handshakes(flights));
        monoio::spawn(connections.clone().follow_wakeups(wakeups));
        monoio::spawn(connections.clone().run_pump(events));
        monoio::spawn(connections.clone().sweep_pump());
        Ok(connections)
    }

    /// Returns whether the process has as many open connections as it may have, and not just for a moment.
    pub async fn is_full(&self) -> bool {
        self.shared.places.stays_full().await
    }

    /// Takes a permit for one more connection; `None` when no more may be open.
    pub fn permit(&self) -> Option<ConnectionPermit> {
        self.shared.places.take().then(|| self.permit_taken())
    }

    /// Takes a permit, though no more may be open: for a client that is served in any case.
    pub fn permit_beyond(&self) -> ConnectionPermit {
        self.shared.places.take_beyond();
        self.permit_taken()
    }

    fn permit_taken(&self) -> ConnectionPermit {
        self.open.set(self.open.get() + 1);
        ConnectionPermit { shared: self.shared.clone(), open: self.open.clone() }
    }

    pub fn open_count(&self) -> usize {
        self.open.get()
    }

    /// Serves a connection that has just been accepted.
    pub fn admit(self: &Rc<Self>, permit: ConnectionPermit, stream: Stream) {
        if self.shared.listener_tls.is_none() {
            return self.spawn(permit, Arrival::Accepted(stream));
        }
        let since = Instant::now();
        self.secure(Newcomer { permit, since }, stream, Some(since + FIRST_REQUEST_WAIT));
    }

    /// Lets a connection at rest give way to one that waits in the queue of a listener, or waits: until a place may be
    /// free, or for [`ACCEPT_PAUSE`].
    pub async fn make_room(self: &Rc<Self>) {
        let places = &self.shared.places;
        if places.first_in_line() == Some(self.shard()) {
            self.give_way();
            // On epoll the queue of the listener would be emptied in one turn otherwise, with a close for each.
            return next_turn().await;
        }
        // Dropped also where the drain ends this wait.
        let _wait = places.begin_wait(self.shard());
        if places.is_full() {
            self.request_room(Lack::Place);
            race(self.woken(), pause(ACCEPT_PAUSE)).await;
        }
    }

    /// Lets a connection at rest give way, in this shard at once or in another one soon, if there is one.
    pub fn request_room(self: &Rc<Self>, lack: Lack) {
        match self.shared.places.first_in_line() {
            Some(shard) if shard == self.shard() => self.give_way(),
            Some(shard) => self.shared.places.ask(shard, lack),
            None => {}
        }
    }

    /// Closes all idle connections. One on which a request has arrived meanwhile is served first.
    pub async fn close_parked(self: &Rc<Self>) {
        let mut count_in_turn = 0;
        while let Some(parked) = self.parking.take_first() {
            self.close_unless_sent(parked);
            count_in_turn += 1;
            if count_in_turn == LET_OUT_MAX {
                count_in_turn = 0;
                next_turn().await;
            }
        }
        self.show_first();
    }

    /// Resumes or closes idle connections when something has arrived or their time is over.
    async fn attend_parked(self: Rc<Self>, arrivals: Events) {
        let leave = |parked: ParkedConnection, why| {
            // Before its place is given back: nobody is to ask for it any more.
            self.show_first();
            match why {
                LetOut::Arrival => self.resume(parked),
                // Nobody who has only left costs a task.
                LetOut::HungUp if parked.idle.unread() == Unread::End => drop(parked),
                LetOut::HungUp => self.resume(parked),
                LetOut::Overdue => drop(self.close_unless_sent(parked)),
            }
        };
        if let Err(error) = self.parking.attend(arrivals, leave).await {
            tracing::error!(%error, "idle connections are no longer served");
        }
    }

    /// Does what other shards ask for, and wakes the accept loops that wait for a place.
    async fn follow_wakeups(self: Rc<Self>, wakeups: Events) {
        loop {
            if let Err(error) = wakeups.happened().await {
                return tracing::error!(%error, "other shards are no longer answered");
            }
            if let Some(lack) = self.shared.places.take_request(self.shard()) {
                self.answer(lack);
            }
            self.awaiting_place.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Lets a connection give way for another shard, if that still lacks room, and none of another shard is to go first
    /// by now.
    fn answer(self: &Rc<Self>, lack: Lack) {
        let places = &self.shared.places;
        let is_wanted = match lack {
            Lack::Place => places.is_waited_for(),
            Lack::Descriptor => true,
        };
        if is_wanted && places.first_in_line() == Some(self.shard()) {
            self.give_way();
        }
        // Several may have asked, or the place went to another shard: who still waits looks again.
        places.wake_waiting();
    }

    /// Closes the connection that gives way first. Those with unread bytes are not at rest, and are served instead, as
    /// many as one turn may take.
    fn give_way(self: &Rc<Self>) {
        for _ in 0..LET_OUT_MAX {
            let Some(parked) = self.parking.take_first() else { return };
            self.show_first();
            let (is_new, rested) = (parked.idle.gives_way() == GivesWay::Early, parked.idle.rested());
            match self.close_unless_sent(parked) {
                Unread::Bytes => {}
                Unread::End => return,
                Unread::Nothing => {
                    self.proxy.resources.activity.counters.add(Count::GaveWay);
                    let rested_seconds = rested.as_secs();
                    return tracing::debug!(is_new, rested_seconds, "an idle connection gave way to a new one");
                }
            }
        }
    }

    /// Closes all connections whose TLS handshake is not over.
    pub async fn end_handshakes(&self) {
        self.handshakes.end_all().await;
    }

    /// Closes an idle connection, unless a request has arrived: a close over unread bytes would be a reset, although
    /// the last response had promised to keep the connection alive. Returns what had arrived.
    fn close_unless_sent(self: &Rc<Self>, parked: ParkedConnection) -> Unread {
        let unread = parked.idle.unread();
        if unread == Unread::Bytes {
            self.resume(parked);
        }
        unread
    }

    fn resume(self: &Rc<Self>, ParkedConnection { idle, permit }: ParkedConnection) {
        match idle.next() {
            NextStep::Resume(idle) => self.spawn(permit, Arrival::Resumed(idle)),
            NextStep::Handshake(stream, since) => self.secure(Newcomer { permit, since }, stream, None),
        }
    }

    fn spawn(self: &Rc<Self>, permit: ConnectionPermit, arrival: Arrival) {
        monoio::spawn(clock::in_turns(self.clone().run(permit, arrival)));
    }

    /// Serves a connection until it ends, is parked, or is relayed by the pump.
    async fn run(self: Rc<Self>, permit: ConnectionPermit, arrival: Arrival) {
        match connection::serve(arrival, self.proxy.clone()).await {
            Served::Ended => {}
            Served::Idle(idle) => self.park(permit, idle),
            Served::Open(open) => {
                let OpenConnection { downstream, keep_alive, open } = *open;
                let owner = PumpOwner { keep_alive, permit };
                if let Err(refused) = self.pump.begin(&self.proxy.resources, downstream, open, owner) {
                    self.go_on(*refused);
                }
            }
        }
    }

    /// Relays the answers that only have to be relayed.
    async fn run_pump(self: Rc<Self>, events: Events) {
        let leave = |left| self.go_on(left);
        if let Err(error) = self.pump.run(events, &self.proxy.resources, leave).await {
            tracing::error!(%error, "open answers are no longer relayed");
        }
    }

    async fn sweep_pump(self: Rc<Self>) {
        self.pump.sweep(&self.proxy.resources, |left| self.go_on(left)).await;
    }

    /// Returns the longest of the answers that the pump relays.
    pub fn open_streams(&self) -> Vec<OpenStream> {
        self.pump.longest(&self.proxy.resources)
    }

    /// Serves a connection on, whose answer has left the pump.
    fn go_on(self: &Rc<Self>, left: LeftStream<PumpOwner>) {
        let LeftStream { downstream, owner: PumpOwner { keep_alive, permit }, pumped } = left;
        self.spawn(permit, Arrival::Pumped(Box::new(PumpedConnection { downstream, keep_alive, pumped })));
    }

    /// Begins the TLS handshake with a client, which is at rest if nothing has come of it by `begins_by`.
    fn secure(&self, newcomer: Newcomer, stream: Stream, begins_by: Option<Instant>) {
        let Some(config) = &self.shared.listener_tls else { return };
        let limits = HandshakeLimits { begins_by, due: newcomer.since + self.proxy.resources.timeouts.handshake };
        if let Err(error) = self.handshakes.begin(stream, config.load_full(), newcomer, limits) {
            tracing::warn!(%error, "cannot wait for a client's TLS handshake; its connection is closed");
        }
    }

    /// Performs the TLS handshakes with clients that have just connected, and serves those that succeed. A client that
    /// speaks plain HTTP gets an error page, and one that has sent nothing is parked.
    async fn perform_handshakes(self: Rc<Self>, flights: Events) {
        let settle = |Newcomer { permit, since }, result| match result {
            Ok(stream) => self.spawn(permit, Arrival::Accepted(stream)),
            Err(HandshakeError::NotTls(stream, received)) => {
                let (proxy, error) = (self.proxy.clone(), error_without_tls(received.filled()));
                monoio::spawn(async move {
                    connection::refuse(stream, error, &proxy).await;
                    drop(permit);
                });
            }
            Err(HandshakeError::Silent(stream)) if self.proxy.resources.lifecycle.phase() == Phase::Serving => {
                self.park(permit, IdleConnection::without_handshake(stream, since));
            }
            // The end of the grace ends it.
            Err(HandshakeError::Silent(stream)) => self.secure(Newcomer { permit, since }, stream, None),
            Err(HandshakeError::Failed(fault)) => tracing::debug!(%fault, "a TLS handshake failed"),
        };
        if let Err(error) = self.handshakes.attend(flights, settle).await {
            tracing::error!(%error, "TLS handshakes with clients are no longer performed");
        }
    }

    fn park(&self, permit: ConnectionPermit, idle: IdleConnection) {
        let (gives_way, due) = (idle.gives_way(), idle.due(&self.proxy.resources.timeouts));
        if let Err((parked, error)) = self.parking.park(ParkedConnection { idle, permit }, gives_way, due) {
            tracing::warn!(%error, "cannot wait for the next request of an idle connection; it is closed");
            return drop(parked);
        }
        self.show_first();
        // It may be the first that is at rest while another shard waits.
        self.shared.places.wake_waiting();
    }

    /// Shows other shards which of these connections gives way first.
    fn show_first(&self) {
        self.shared.places.show_first(self.shard(), self.parking.first());
    }

    /// Resolves when this shard is woken by another one, or at any second poll.
    async fn woken(&self) {
        let mut is_waiting = false;
        poll_fn(|context| {
            if std::mem::replace(&mut is_waiting, true) {
                return Poll::Ready(());
            }
            let mut awaiting_place = self.awaiting_place.borrow_mut();
            if !awaiting_place.iter().any(|waker| waker.will_wake(context.waker())) {
                awaiting_place.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    fn shard(&self) -> usize {
        self.proxy.resources.shard
    }
}

/// Returns the error for a client that does not begin with a handshake, in the protocol that it speaks.
fn error_without_tls(received: &[u8]) -> GatewayError {
    if begins_http2(received) { GatewayError::Http2NotSupported } else { GatewayError::TlsRequired }
}

/// The permit to be one of the open connections of the process, returned when it is dropped.
pub struct ConnectionPermit {
    shared: Arc<Shared>,
    open: Rc<Cell<usize>>,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
        self.shared.places.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every open connection costs it. An `async fn` or block that is given a future or a large value holds it twice:
    /// that is what usually breaks this.
    #[test]
    fn the_task_of_a_connection_stays_small() {
        fn size_of_future<F>(_run: fn(Rc<Connections>, ConnectionPermit, Arrival) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size_of_future(Connections::run);
        println!("{bytes} bytes");
        assert!(bytes <= 5_750, "{bytes} bytes");
    }
}
