//! The connections of the admin listener: one request each (`exchange`), served concurrently, within bounds.
//!
//! Invariant: no client holds up another. When there are too many, the oldest that has not sent its request yet is
//! closed for the next (else the oldest), so that clients that hang cannot keep a health check out.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use monoio::io::AsyncReadRent;
use monoio::net::TcpStream;
use socket2::SockRef;

use super::address::{self, Opened};
use super::exchange::{Desk, DeskOutcome, READ_ROOM};
use crate::io::deadline::next_turn;
use crate::io::epoll::uninterrupted;
use crate::io::{Buffer, Deadline, Either, Stream, pause, race};
use crate::server::shard::accept::{self, AcceptWarnings};

/// Connections that are open at once, at most: health checks and scrapers have one each.
const CONNECTIONS_MAX: usize = 32;

/// The time from the accept to the close, at most.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(5);

/// Bytes that are read and discarded after a request before the close, at most: a close over unread bytes would be a
/// reset (RFC 9112 §9.6).
const LINGER_BYTES_MAX: usize = 64 * 1024;

/// The pause before a thread that cannot accept, or has no address yet, tries again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Serves until `control` ends, and then the connections that it has accepted already.
pub async fn serve(opened: Opened, mut control: monoio::net::UnixStream, desk: Desk) {
    let mut ended = pin!(async move { drop(control.read(vec![0; 1]).await) });
    let Either::Second(listener) = race(ended.as_mut(), listener(opened)).await else { return };
    let listener = match listener.and_then(accept::listening) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "there are no admin pages"),
    };
    let service = Rc::new(Service { desk, open: RefCell::default(), number: Cell::new(0) });
    let warnings = AcceptWarnings::default();
    while let Either::Second(result) = race(ended.as_mut(), service.accept_ready(&listener)).await {
        if let Err(error) = result {
            warnings.warn(&error);
            pause(RETRY_PAUSE).await;
        }
    }
    // Closing a listener resets the connections in its queue.
    while service.accept_one(&listener).is_ok_and(|accepted| accepted) {}
    accept::shut_down(&listener);
    drop(listener);
    service.desk.is_closing.set(true);
    while !service.open.borrow().is_empty() {
        pause(RETRY_PAUSE).await;
    }
}

/// Waits until the gateway that still has the address releases it.
async fn listener(opened: Opened) -> io::Result<TcpListener> {
    let (address, process) = match opened {
        Opened::Listening(listener) => return Ok(listener),
        Opened::Held { address, process } => (address, process),
    };
    loop {
        match address::bind(address) {
            Ok(listener) => {
                tracing::info!(process, %address, "the admin address is free; the admin pages are here from now on");
                return Ok(listener);
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => pause(RETRY_PAUSE).await,
            Err(error) => return Err(error),
        }
    }
}

struct Service {
    desk: Desk,
    /// The oldest first.
    open: RefCell<VecDeque<Rc<AdminConnection>>>,
    number: Cell<u64>,
}

/// A connection of the admin listener.
struct AdminConnection {
    number: u64,
    stream: Stream,
    /// Set when its request head is complete, and a reply is being made.
    has_asked: Cell<bool>,
    /// It is sent the events, for as long as it likes.
    is_following: Cell<bool>,
    /// It has made room for another one.
    has_ended: Cell<bool>,
}

impl Service {
    /// Waits for connections, and accepts at most [`CONNECTIONS_MAX`] of them.
    async fn accept_ready(self: &Rc<Self>, listener: &monoio::net::TcpListener) -> io::Result<()> {
        uninterrupted(|| listener.readable(false)).await?;
        for _ in 0..CONNECTIONS_MAX {
            if !self.accept_one(listener)? {
                return Ok(());
            }
        }
        // Those that were accepted come first.
        next_turn().await;
        Ok(())
    }

    /// Accepts one connection; false when none waits.
    fn accept_one(self: &Rc<Self>, listener: &monoio::net::TcpListener) -> io::Result<bool> {
        let Some(socket) = accept::accept(listener, true)? else { return Ok(false) };
        let stream = Stream::new(TcpStream::from_std(socket.into())?);
        let number = self.number.get();
        self.number.set(number + 1);
        let (has_asked, is_following, has_ended) = Default::default();
        let connection = Rc::new(AdminConnection { number, stream, has_asked, is_following, has_ended });
        self.make_room();
        self.open.borrow_mut().push_back(connection.clone());
        let service = self.clone();
        monoio::spawn(async move {
            service.exchange(&connection).await;
            service.open.borrow_mut().retain(|other| other.number != number);
        });
        Ok(true)
    }

    /// Ends the oldest connection if there are too many, preferably one that has not sent its request yet, and none that
    /// follows the events: half of all may do so.
    fn make_room(&self) {
        let mut open = self.open.borrow_mut();
        if open.len() < CONNECTIONS_MAX {
            return;
        }
        let silent = open.iter().position(|connection| !connection.has_asked.get());
        let asking = || open.iter().position(|connection| !connection.is_following.get());
        let place = silent.or_else(asking).unwrap_or(0);
        if let Some(connection) = open.remove(place) {
            connection.has_ended.set(true);
            end(&connection.stream);
        }
    }

    /// Serves one request, and sends the events to who asked for them.
    async fn exchange(&self, connection: &AdminConnection) {
        let AdminConnection { stream, has_asked, is_following, has_ended, .. } = connection;
        // A client that is too slow gets no reply: it would be too slow to read it.
        let deadline = Deadline::default();
        let served = deadline.within(EXCHANGE_LIMIT, async {
            let served = self.desk.serve(stream, has_asked, has_ended).await;
            if let DeskOutcome::Over = served {
                stream.shutdown_write();
                linger(stream).await;
            }
            served
        });
        if let Ok(DeskOutcome::Follows(seat, proof)) = served.await {
            is_following.set(true);
            self.desk.follow(stream, seat, &proof).await;
        }
    }
}

/// Shuts both directions down, which ends every wait for the socket at once.
fn end(stream: &Stream) {
    // SAFETY: the descriptor is open for as long as `stream` is.
    let socket = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    let _ = SockRef::from(&socket).shutdown(Shutdown::Both);
}

/// Reads and discards until the client has closed too.
async fn linger(stream: &Stream) {
    let mut discarded = 0;
    let mut input = Buffer::take();
    while discarded < LINGER_BYTES_MAX {
        input.clear();
        input.reserve(READ_ROOM);
        let (result, filled) = stream.read(input).await;
        input = filled;
        match result {
            Ok(count @ 1..) => discarded += count,
            Ok(0) | Err(_) => return,
        }
    }
}
