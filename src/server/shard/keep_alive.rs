//! A downstream connection between two requests: the wait for the next one, and the idle connection.
//!
//! Invariant: an idle connection holds no buffer, and no byte is lost when a wait ends.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::pin;
use std::time::{Duration, Instant};

use monoio::io::Canceller;

use super::draining;
use crate::config::Timeouts;
use crate::io::clock;
use crate::io::{Buffer, Departure, Either, GivesWay, Phase, Stream, Unread, race};
use crate::proxy::Proxy;
use crate::proxy::downstream::Downstream;

/// The time for which a connection whose requests follow each other keeps a read with its buffer pending between two of
/// them: a read costs half of what parking and a read do. After that the connection is parked ([`crate::io::Parking`]).
const WARM_IDLE: Duration = Duration::from_millis(100);

/// The same for a client that has just connected, most likely for a request. For so long it is not at rest: it does not
/// give way to newer ones before its request can have come.
pub const FIRST_REQUEST_WAIT: Duration = Duration::from_secs(1);

/// A connection between two requests, without the buffers that it needs during one.
pub struct IdleConnection {
    stream: Stream,
    departure: Option<Departure>,
    since: Instant,
    past: Past,
}

/// The part of its life that a connection has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// It has been accepted; its TLS handshake has not begun.
    Accepted,
    /// It may send requests, and has sent none.
    Ready,
    /// It has sent a request.
    Served,
}

/// The next step of an idle connection on which something has arrived.
pub enum NextStep {
    /// The TLS handshake of a client that was accepted at that time.
    Handshake(Stream, Instant),
    Resume(IdleConnection),
}

impl IdleConnection {
    /// For a client that has sent nothing of its TLS handshake since it was accepted.
    pub fn without_handshake(stream: Stream, since: Instant) -> Self {
        IdleConnection { stream, departure: None, since, past: Past::Accepted }
    }

    /// Returns the time at which it has been idle for too long.
    pub fn due(&self, timeouts: &Timeouts) -> Instant {
        match self.past {
            Past::Accepted => self.since + timeouts.handshake,
            Past::Ready | Past::Served => self.since + timeouts.keepalive,
        }
    }

    pub fn gives_way(&self) -> GivesWay {
        match self.past {
            Past::Accepted | Past::Ready => GivesWay::Early,
            Past::Served => GivesWay::Late,
        }
    }

    /// Returns for how long it has been idle.
    pub fn rested(&self) -> Duration {
        self.since.elapsed()
    }

    pub fn unread(&self) -> Unread {
        self.stream.unread()
    }

    /// Returns what comes next, now that something has arrived.
    pub fn next(self) -> NextStep {
        match self.past {
            Past::Accepted => NextStep::Handshake(self.stream, self.since),
            Past::Ready | Past::Served => NextStep::Resume(self),
        }
    }

    /// Reads what has arrived; `None` if that is the end of the stream.
    pub fn resume(self) -> Option<(Downstream, KeepAlive)> {
        let IdleConnection { stream, departure, since, past } = self;
        let pace = if since.elapsed() < WARM_IDLE { Pace::Brisk } else { Pace::Slow };
        let mut connection = Downstream::new(stream, departure);
        let mut input = Buffer::take();
        let (past, idle_since) = match connection.stream.read_now(&mut input) {
            Ok(Some(1..)) => {
                connection.input = input;
                (Past::Served, None)
            }
            // A false alarm, or a part of a TLS record: the connection is still idle.
            Ok(None) => (past, Some(since)),
            Ok(Some(0)) | Err(_) => return None,
        };
        Some((connection, KeepAlive::new(past, pace, idle_since)))
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
    past: Past,
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
        KeepAlive::new(Past::Ready, Pace::New, None)
    }

    fn new(past: Past, pace: Pace, idle_since: Option<Instant>) -> Self {
        KeepAlive { pace, since: clock::now(), idle_since, past, canceller: Canceller::new() }
    }

    /// Makes an idle connection of one whose wait has timed out.
    pub fn into_idle(self, connection: Downstream) -> IdleConnection {
        let Downstream { stream, departure, .. } = connection;
        if let Some(departure) = &departure {
            departure.forget_waiter();
        }
        IdleConnection { stream, departure, since: self.since, past: self.past }
    }

    /// Waits for the first bytes of the next request, as long as they are expected soon.
    pub async fn wait(&mut self, connection: &Downstream, proxy: &Proxy) -> Waited {
        self.since = self.idle_since.take().unwrap_or_else(clock::now);
        let keepalive_limit = proxy.resources.timeouts.keepalive;
        let mut waited = match self.pace.read_limit() {
            Some(limit) => self.read(connection, proxy, limit.min(keepalive_limit)).await,
            None => Waited::TimedOut,
        };
        // None is parked any more in a drain, and each has the grace.
        if matches!(waited, Waited::TimedOut) && proxy.resources.lifecycle.phase() != Phase::Serving {
            waited = self.read(connection, proxy, keepalive_limit).await;
        }
        self.pace = match (self.pace, &waited) {
            (Pace::Brisk, Waited::Read(_)) => Pace::Brisk,
            _ => Pace::Slow,
        };
        if let Waited::Read(_) = waited {
            self.past = Past::Served;
        }
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
        let draining = draining::wait_over(proxy, upstream_deadline, self.since);
        let mut read = pin!(stream.cancelable_read(Buffer::take(), self.canceller.handle()));
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
