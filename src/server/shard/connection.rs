//! One downstream connection, from its first request to its close.
//!
//! Reads heads, hands each exchange to the proxy, and ends the connection as the exchange says. Invariant: an idle
//! connection holds no buffer, and it always waits with a limit.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use monoio::io::Canceller;

use crate::http1::head::{HeadLimits, HeadScanner, HeadSpan};
use crate::io::{Buffer, Deadline, Departure, Either, Phase, Stream, Turns, Visit, race};
use crate::proxy::downstream::Downstream;
use crate::proxy::error::GatewayError;
use crate::proxy::{Disposition, Proxy};

/// How long a connection whose requests follow each other keeps a read with its buffer under way between two of them: a
/// read costs half of what a rest and a read do. A client that thinks for longer rests (see [`crate::io::Parking`]).
const WARM_IDLE: Duration = Duration::from_millis(100);

/// As long for a client that has just connected: it most likely did so for a request.
const FIRST_REQUEST_WAIT: Duration = Duration::from_secs(1);

/// What is read and discarded before a connection closes whose client may still be sending (RFC 9112 §9.6), at most.
/// As much as a request body may have by default: SDKs send all of a body before they look for the answer, and an
/// asyncio client that is reset meanwhile never sees it. On most networks the limit of time ends it first.
const LINGER_BYTES_MAX: usize = 256 * 1024 * 1024;
const LINGER_LIMIT: Duration = Duration::from_secs(5);

/// What is left to half a request head, to a client that has just connected, or to a lingering close, when the drain
/// begins: a person waits for the exit, and a container engine for 10 s at most.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// Room for one read of a head.
const READ_ROOM: usize = 16 * 1024;

/// A connection between two requests, without what it needs during one.
pub struct IdleConnection {
    stream: Stream,
    departure: Option<Departure>,
    since: Instant,
    /// What the next visit to the parking is.
    pub visit: Visit,
}

impl IdleConnection {
    /// When it has been idle for too long.
    pub fn due(&self, proxy: &Proxy) -> Instant {
        self.since + proxy.timeouts.keepalive
    }

    /// Whether nothing has come, neither bytes nor the end.
    pub fn is_quiet(&self) -> bool {
        self.stream.is_quiet()
    }
}

impl AsRawFd for IdleConnection {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

/// How a connection comes to be served.
pub enum Arrival {
    /// It was accepted.
    Accepted(Stream),
    /// Something has come while it rested.
    Resumed(IdleConnection),
}

/// Serves a connection until it ends, or rests.
pub async fn serve(arrival: Arrival, proxy: Rc<Proxy>) -> Option<IdleConnection> {
    let (mut connection, mut keep_alive) = match arrival {
        Arrival::Accepted(stream) => (Downstream::new(stream, None), KeepAlive::new(Visit::First, Pace::New, None)),
        Arrival::Resumed(idle) => resume(idle)?,
    };
    let is_idle = serve_on(&mut connection, &mut keep_alive, &proxy).await;
    is_idle.then(|| keep_alive.into_idle(connection))
}

/// Takes what has come; `None` if that is the end.
fn resume(idle: IdleConnection) -> Option<(Downstream, KeepAlive)> {
    let IdleConnection { stream, departure, since, .. } = idle;
    let pace = if since.elapsed() < WARM_IDLE { Pace::Brisk } else { Pace::Slow };
    let mut connection = Downstream::new(stream, departure);
    let mut input = Buffer::take();
    let idle_since = match connection.stream.read_now(&mut input) {
        Ok(Some(1..)) => {
            connection.input = input;
            None
        }
        // A false alarm, or a part of a record: it goes on being idle.
        Ok(None) => Some(since),
        Ok(Some(0)) | Err(_) => return None,
    };
    Some((connection, KeepAlive::new(Visit::Again, pace, idle_since)))
}

/// Whether it rests; else it has ended.
async fn serve_on(connection: &mut Downstream, keep_alive: &mut KeepAlive, proxy: &Proxy) -> bool {
    loop {
        let disposition = match read_head(connection, keep_alive, proxy).await {
            HeadRead::Head(span) => proxy.handle(connection, span).await,
            HeadRead::Refused(error) => proxy.refuse_unread(connection, error).await,
            HeadRead::Idle => return true,
            HeadRead::Ended => return false,
        };
        match disposition {
            Disposition::KeepAlive => {}
            // Whoever keeps a connection that has ended would hold up a drain for nothing.
            Disposition::Close if connection.input.is_empty() && connection.stream.is_quiet() => return false,
            Disposition::Close | Disposition::Linger => {
                race(linger(connection), drained(proxy, &connection.upstream_deadline)).await;
                return false;
            }
            Disposition::Reset => {
                connection.stream.reset_on_close();
                return false;
            }
            Disposition::Gone => {
                connection.stream.cut();
                return false;
            }
        }
    }
}

/// Tells a client why it is not served here.
pub async fn refuse(stream: Stream, error: GatewayError, proxy: &Proxy) {
    let mut connection = Downstream::new(stream, None);
    proxy.refuse_unread(&mut connection, error).await;
    race(linger(&connection), drained(proxy, &connection.upstream_deadline)).await;
}

/// Resolves when a connection without a whole request has held up the drain for long enough.
pub async fn drained(proxy: &Proxy, deadline: &Deadline) {
    proxy.lifecycle.reached(Phase::Draining).await;
    deadline.reached(Instant::now() + DRAIN_GRACE).await;
}

enum HeadRead {
    Head(HeadSpan),
    Refused(GatewayError),
    /// Nothing comes for now.
    Idle,
    /// The client closed, or the drain wants the connection to end.
    Ended,
}

async fn read_head(connection: &mut Downstream, keep_alive: &mut KeepAlive, proxy: &Proxy) -> HeadRead {
    if connection.input.is_empty() {
        connection.input = Buffer::none();
        match keep_alive.wait(connection, proxy).await {
            Waited::Read(Ok(input)) => connection.input = input,
            Waited::TimedOut => return HeadRead::Idle,
            Waited::Read(Err(_)) | Waited::Draining => return HeadRead::Ended,
        }
    }
    let due = Instant::now() + proxy.timeouts.head;
    let mut scanner = HeadScanner::default();
    loop {
        match scanner.scan(connection.input.filled(), &HeadLimits::REQUEST) {
            Ok(Some(span)) => return HeadRead::Head(span),
            Ok(None) => {}
            Err(error) => return HeadRead::Refused(error.into()),
        }
        let mut input = std::mem::take(&mut connection.input);
        input.reserve(READ_ROOM);
        let read = race(connection.stream.read(input), drained(proxy, &connection.upstream_deadline));
        match connection.deadline.before(due, read).await {
            Ok(Either::First((Ok(0) | Err(_), _)) | Either::Second(())) => return HeadRead::Ended,
            Ok(Either::First((Ok(_), input))) => connection.input = input,
            Err(_) => return HeadRead::Refused(GatewayError::HeadTimeout),
        }
    }
}

/// How soon a connection's next request is to be expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// It has just connected, and most likely has something to say.
    New,
    /// Its last request came within [`WARM_IDLE`].
    Brisk,
    Slow,
}

/// How a connection waits for its next request.
struct KeepAlive {
    pace: Pace,
    since: Instant,
    /// Since when it is idle already, if it comes from a rest that nothing has ended.
    idle_since: Option<Instant>,
    visit: Visit,
    canceller: Canceller,
}

/// What came of a wait with a read under way.
enum Waited {
    Read(io::Result<Buffer>),
    /// Nothing came for [`WARM_IDLE`]; nothing is under way any more and no byte is lost.
    TimedOut,
    /// The drain wants the connection to end.
    Draining,
}

impl KeepAlive {
    fn new(visit: Visit, pace: Pace, idle_since: Option<Instant>) -> Self {
        KeepAlive { pace, since: Instant::now(), idle_since, visit, canceller: Canceller::new() }
    }

    fn into_idle(self, connection: Downstream) -> IdleConnection {
        let Downstream { stream, departure, .. } = connection;
        if let Some(departure) = &departure {
            departure.forget_waiter();
        }
        IdleConnection { stream, departure, since: self.since, visit: self.visit }
    }

    /// The first bytes of the next request, if they come soon.
    async fn wait(&mut self, connection: &Downstream, proxy: &Proxy) -> Waited {
        self.since = self.idle_since.take().unwrap_or_else(Instant::now);
        let (pace, limit) = match self.pace {
            Pace::New => (Pace::Slow, FIRST_REQUEST_WAIT),
            Pace::Brisk => (Pace::Brisk, WARM_IDLE),
            Pace::Slow => (Pace::Slow, Duration::ZERO),
        };
        let is_first = self.pace == Pace::New;
        self.pace = pace;
        let waited =
            if limit.is_zero() { Waited::TimedOut } else { self.wait_warm(connection, proxy, limit, is_first).await };
        match waited {
            // What is there already would not wake it where it rests.
            Waited::TimedOut if proxy.lifecycle.phase() != Phase::Serving || connection.stream.has_pending() => {
                last_look(connection)
            }
            waited => waited,
        }
    }

    async fn wait_warm(&mut self, connection: &Downstream, proxy: &Proxy, limit: Duration, is_first: bool) -> Waited {
        let Downstream { stream, deadline, upstream_deadline, .. } = connection;
        let dismissed = dismissed(proxy, upstream_deadline, is_first);
        let mut read = pin!(stream.cancelable_read(Buffer::take(), self.canceller.handle()));
        let limit = limit.min(proxy.timeouts.keepalive);
        let interrupted = race(deadline.reached(self.since + limit), dismissed);
        let (result, input) = match race(read.as_mut(), interrupted).await {
            Either::First(read) => read,
            Either::Second(interrupted) => {
                let canceller = std::mem::take(&mut self.canceller);
                self.canceller = canceller.cancel();
                // Data may have come just before the cancellation: only the result tells.
                match read.await {
                    (Err(error), _) if error.raw_os_error() == Some(libc::ECANCELED) => {
                        self.pace = Pace::Slow;
                        return if matches!(interrupted, Either::First(())) {
                            Waited::TimedOut
                        } else {
                            Waited::Draining
                        };
                    }
                    read => read,
                }
            }
        };
        Waited::Read(match result {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(input),
            Err(error) => Err(error),
        })
    }
}

/// The drain wants a connection that waits for a request to end: it does, unless one has come already. To close it over
/// unread bytes would reset it, and the client had been told that it goes on.
fn last_look(connection: &Downstream) -> Waited {
    let mut input = Buffer::take();
    match connection.stream.read_now(&mut input) {
        Ok(Some(1..)) => Waited::Read(Ok(input)),
        Ok(_) | Err(_) => Waited::Draining,
    }
}

/// Resolves when the drain wants a connection that waits for a request to end: at once, or, at the first one of a client
/// that has just connected, and would take the close for a failure, [`DRAIN_GRACE`] later.
async fn dismissed(proxy: &Proxy, deadline: &Deadline, is_first: bool) {
    proxy.lifecycle.reached(Phase::Draining).await;
    if is_first {
        deadline.reached(Instant::now() + DRAIN_GRACE).await;
    }
}

/// Closes so that the client sees the answer: the end of the stream is sent, and what the client still sends is read
/// and discarded, since closing over unread bytes would reset the connection and could take the answer with it.
async fn linger(connection: &Downstream) {
    connection.stream.shutdown_write();
    let due = Instant::now() + LINGER_LIMIT;
    let mut discarded = 0;
    let turns = Turns::default();
    while discarded < LINGER_BYTES_MAX && Instant::now() < due {
        let mut scrap = Buffer::take();
        match connection.stream.read_now(&mut scrap) {
            Ok(Some(0)) | Err(_) => return,
            Ok(Some(count)) => {
                discarded += count;
                turns.take().await;
            }
            Ok(None) => {
                drop(scrap);
                if !matches!(connection.deadline.before(due, connection.stream.readable()).await, Ok(Ok(()))) {
                    return;
                }
                turns.begin();
            }
        }
    }
}
