//! A downstream connection between two requests: the wait for the next one, and the idle connection.
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

/// The time for which a connection whose requests follow each other keeps a read with its buffer pending between two of
/// them: a read costs half of what parking and a read do. After that the connection is parked ([`crate::io::Parking`]).
const WARM_IDLE: Duration = Duration::from_millis(100);

/// The same for a client that has just connected, most likely for a request.
const FIRST_REQUEST_WAIT: Duration = Duration::from_secs(1);

/// A connection between two requests, without the buffers that it needs during one.
pub struct IdleConnection {
    stream: Stream,
    departure: Option<Departure>,
    since: Instant,
    /// Tells a first stay in the parking from a later one.
    pub visit: Visit,
}

impl IdleConnection {
    /// Returns the time at which it has been idle for too long.
    pub fn due(&self, proxy: &Proxy) -> Instant {
        self.since + proxy.resources.timeouts.keepalive
    }

    /// Returns whether neither bytes nor the end of the stream have arrived.
    pub fn is_quiet(&self) -> bool {
        self.stream.is_quiet()
    }

    /// Reads what has arrived; `None` if that is the end of the stream.
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

/// The expected time to a connection's next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// It has just connected, and most likely sends a request.
    New,
    /// Its last request came within [`WARM_IDLE`].
    Brisk,
    /// Its last request came later, or it has had its first one.
    Slow,
}

impl Pace {
    /// The time for which a read is kept pending; `None`: the connection is idle at once.
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
    /// The beginning of its idle time, if it was resumed by a false alarm.
    idle_since: Option<Instant>,
    visit: Visit,
    canceller: Canceller,
}

/// The result of a wait for the next request.
pub enum Waited {
    Read(io::Result<Buffer>),
    /// Nothing has arrived in time; no read is pending any more, and no byte is lost.
    TimedOut,
    /// The drain ends the connection.
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

    /// Makes an idle connection of one whose wait has timed out.
    pub fn into_idle(self, connection: Downstream) -> IdleConnection {
        let Downstream { stream, departure, .. } = connection;
        if let Some(departure) = &departure {
            departure.forget_waiter();
        }
        IdleConnection { stream, departure, since: self.since, visit: self.visit }
    }

    /// Waits for the first bytes of the next request, as long as they are expected soon.
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
            // Bytes that are there already would not wake it in the parking.
            Waited::TimedOut
                if proxy.resources.lifecycle.phase() != Phase::Serving || connection.stream.has_pending() =>
            {
                last_look(connection)
            }
            waited => waited,
        }
    }

    /// Reads, for `limit` at most.
    async fn read(&mut self, connection: &Downstream, proxy: &Proxy, limit: Duration) -> Waited {
        let Downstream { stream, deadline, upstream_deadline, .. } = connection;
        let draining = draining::wait_over(proxy, upstream_deadline, self.pace == Pace::New);
        let mut read = pin!(stream.cancelable_read(Buffer::take(), self.canceller.handle()));
        let limit = limit.min(proxy.resources.timeouts.keepalive);
        let interrupted = race(deadline.reached(self.since + limit), draining);
        let (result, input) = match race(read.as_mut(), interrupted).await {
            Either::First(read) => read,
            Either::Second(interrupted) => {
                let canceller = std::mem::take(&mut self.canceller);
                self.canceller = canceller.cancel();
                // Data may have arrived just before the cancellation: only the result tells.
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

/// Ends a connection that waits for a request during a drain, unless one has arrived already: a close over unread bytes
/// would be a reset, although the last response had promised to keep the connection alive.
fn last_look(connection: &Downstream) -> Waited {
    let mut input = Buffer::take();
    match connection.stream.read_now(&mut input) {
        Ok(Some(1..)) => Waited::Read(Ok(input)),
        Ok(_) | Err(_) => Waited::Draining,
    }
}
