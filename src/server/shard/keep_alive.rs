//! A downstream connection between two requests: the wait for the next one, and what stays of a connection that is idle.
//!
//! Invariant: an idle connection holds no buffer, and no byte is lost when a wait ends.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::pin;
use std::time::{Duration, Instant};

use monoio::io::Canceller;

use super::draining;
use crate::io::{Buffer, Departure, Either, Phase, Stream, Visit, race};
use crate::proxy::Proxy;
use crate::proxy::downstream::Downstream;

/// How long a connection whose requests follow each other keeps a read with its buffer under way between two of them: a
/// read costs half of what a rest and a read do. A client that thinks for longer rests (see [`crate::io::Parking`]).
const WARM_IDLE: Duration = Duration::from_millis(100);

/// As long for a client that has just connected: it most likely did so for a request.
const FIRST_REQUEST_WAIT: Duration = Duration::from_secs(1);

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

    /// Returns whether neither bytes nor the end of the stream have come.
    pub fn is_quiet(&self) -> bool {
        self.stream.is_quiet()
    }

    /// Reads what has come; `None` if that is the end of the stream.
    pub fn resume(self) -> Option<(Downstream, KeepAlive)> {
        let IdleConnection { stream, departure, since, .. } = self;
        let pace = if since.elapsed() < WARM_IDLE { Pace::Brisk } else { Pace::Slow };
        let mut connection = Downstream::new(stream, departure);
        let mut input = Buffer::take();
        let idle_since = match connection.stream.read_now(&mut input) {
            Ok(Some(1..)) => {
                connection.input = input;
                None
            }
            // A false alarm, or a part of a TLS record: the connection is still idle.
            Ok(None) => Some(since),
            Ok(Some(0)) | Err(_) => return None,
        };
        Some((connection, KeepAlive::new(Visit::Again, pace, idle_since)))
    }
}

impl AsRawFd for IdleConnection {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

/// How soon a connection's next request is to be expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// It has just connected, and most likely has something to say.
    New,
    /// Its last request came within [`WARM_IDLE`].
    Brisk,
    /// Its last request came later, or it has had its first one.
    Slow,
}

impl Pace {
    /// The time for which a read is kept under way; `None`: the connection is idle at once.
    fn read_limit(self) -> Option<Duration> {
        match self {
            Pace::New => Some(FIRST_REQUEST_WAIT),
            Pace::Brisk => Some(WARM_IDLE),
            Pace::Slow => None,
        }
    }
}

/// The wait of a connection for its next request.
pub struct KeepAlive {
    pace: Pace,
    since: Instant,
    /// Since when it is idle already, if it comes from a rest that nothing has ended.
    idle_since: Option<Instant>,
    visit: Visit,
    canceller: Canceller,
}

/// The result of a wait for the next request.
pub enum Waited {
    Read(io::Result<Buffer>),
    /// Nothing came for [`WARM_IDLE`]; nothing is under way any more and no byte is lost.
    TimedOut,
    /// The drain wants the connection to end.
    Draining,
}

impl KeepAlive {
    /// For a connection that has just been accepted.
    pub fn of_accepted() -> Self {
        KeepAlive::new(Visit::First, Pace::New, None)
    }

    fn new(visit: Visit, pace: Pace, idle_since: Option<Instant>) -> Self {
        KeepAlive { pace, since: Instant::now(), idle_since, visit, canceller: Canceller::new() }
    }

    pub fn into_idle(self, connection: Downstream) -> IdleConnection {
        let Downstream { stream, departure, .. } = connection;
        if let Some(departure) = &departure {
            departure.forget_waiter();
        }
        IdleConnection { stream, departure, since: self.since, visit: self.visit }
    }

    /// The first bytes of the next request, if they come soon.
    pub async fn wait(&mut self, connection: &Downstream, proxy: &Proxy) -> Waited {
        self.since = self.idle_since.take().unwrap_or_else(Instant::now);
        let waited = match self.pace.read_limit() {
            Some(limit) => self.read(connection, proxy, limit).await,
            None => Waited::TimedOut,
        };
        self.pace = match (self.pace, &waited) {
            (Pace::Brisk, Waited::Read(_)) => Pace::Brisk,
            _ => Pace::Slow,
        };
        match waited {
            // What is there already would not wake it where it rests.
            Waited::TimedOut if proxy.lifecycle.phase() != Phase::Serving || connection.stream.has_pending() => {
                last_look(connection)
            }
            waited => waited,
        }
    }

    /// Reads for at most `limit`.
    async fn read(&mut self, connection: &Downstream, proxy: &Proxy, limit: Duration) -> Waited {
        let Downstream { stream, deadline, upstream_deadline, .. } = connection;
        let draining = draining::wait_over(proxy, upstream_deadline, self.pace == Pace::New);
        let mut read = pin!(stream.cancelable_read(Buffer::take(), self.canceller.handle()));
        let limit = limit.min(proxy.timeouts.keepalive);
        let interrupted = race(deadline.reached(self.since + limit), draining);
        let (result, input) = match race(read.as_mut(), interrupted).await {
            Either::First(read) => read,
            Either::Second(interrupted) => {
                let canceller = std::mem::take(&mut self.canceller);
                self.canceller = canceller.cancel();
                // Data may have come just before the cancellation: only the result tells.
                match read.await {
                    (Err(error), _) if error.raw_os_error() == Some(libc::ECANCELED) => {
                        return match interrupted {
                            Either::First(()) => Waited::TimedOut,
                            Either::Second(()) => Waited::Draining,
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
