//! The downstream connection: its socket, what was read from it, and what is reused from exchange to exchange.
//!
//! Invariant: while a connection rests it holds no buffer; `input` begins with the first byte that no exchange has
//! consumed.

use std::cell::RefCell;
use std::io;
use std::time::{Duration, Instant};

use crate::http1::body::BodyReader;
use crate::io::{Buffer, Deadline, Departure, Stream, WriteError, race};
use crate::proxy::replay::buffer::ReplayBuffer;
use crate::proxy::trail::Trail;

/// A downstream connection.
pub struct Downstream {
    pub stream: Stream,
    pub input: Buffer,
    /// Guards whatever this connection waits for at its own side.
    pub deadline: Deadline,
    /// Guards writes to the client.
    pub write_progress: Deadline,
    /// Guards what an exchange waits for at the upstream's side.
    pub upstream_deadline: Deadline,
    /// Set up with the first exchange that is forwarded.
    pub departure: Option<Departure>,
    /// The end of the exchange before, unless the connection has rested since then.
    pub served_until: Option<Instant>,
    pub replay: RefCell<ReplayBuffer>,
    /// Method, path and ids of the exchange under way, for its line in the log.
    pub method: String,
    pub path: String,
    /// Boxed, since the task of a connection has room for it more than once.
    pub trail: Box<Trail>,
}

/// A downstream connection on which nothing but an answer is relayed, by nobody who waits.
pub struct RestingDownstream {
    pub stream: Stream,
    input: Buffer,
    departure: Option<Departure>,
    method: String,
    pub path: String,
    trail: Box<Trail>,
}

impl RestingDownstream {
    /// Makes it one again that a task serves.
    pub fn resume(self) -> Downstream {
        let RestingDownstream { stream, input, departure, method, path, trail } = self;
        Downstream { input, method, path, trail, ..Downstream::new(stream, departure) }
    }
}

/// The request's side of a downstream connection: what is left of its body, and where it is kept.
pub struct Incoming<'a> {
    pub stream: &'a Stream,
    /// Read and not yet taken for the body.
    pub input: &'a mut Buffer,
    pub body: &'a mut BodyReader,
    pub deadline: &'a Deadline,
    pub replay: &'a RefCell<ReplayBuffer>,
    pub trail: &'a Trail,
}

/// The answer's side of a downstream connection, and the watch on its client.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    pub stream: &'a Stream,
    pub write_progress: &'a Deadline,
    pub upstream_deadline: &'a Deadline,
    /// Of the request.
    pub path: &'a str,
    pub trail: &'a Trail,
    departure: Option<&'a Departure>,
}

impl Downstream {
    pub fn new(stream: Stream, departure: Option<Departure>) -> Self {
        Downstream {
            stream,
            input: Buffer::none(),
            deadline: Deadline::default(),
            write_progress: Deadline::default(),
            upstream_deadline: Deadline::default(),
            departure,
            served_until: None,
            replay: RefCell::default(),
            method: String::new(),
            path: String::new(),
            trail: Box::default(),
        }
    }

    /// Lets go of all that is needed only while a task serves the connection.
    pub fn rest(self) -> RestingDownstream {
        let Downstream { stream, input, departure, method, path, trail, .. } = self;
        RestingDownstream { stream, input, departure, method, path, trail }
    }

    /// Lets [`Outgoing::departed`] tell from now on when the client goes.
    ///
    /// # Errors
    /// When the kernel refuses the watch.
    pub fn watch_departure(&mut self) -> io::Result<()> {
        if self.departure.is_none() {
            self.departure = Some(Departure::of(&self.stream)?);
        }
        Ok(())
    }

    /// Splits the connection into its two directions, which go on at the same time.
    pub fn split<'a>(&'a mut self, body: &'a mut BodyReader) -> (Incoming<'a>, Outgoing<'a>) {
        let Downstream {
            stream,
            input,
            deadline,
            write_progress,
            upstream_deadline,
            departure,
            replay,
            path,
            trail,
            ..
        } = self;
        let incoming = Incoming { stream, input, body, deadline, replay, trail };
        (incoming, Outgoing { stream, write_progress, upstream_deadline, path, trail, departure: departure.as_ref() })
    }

    /// The answer's side, while nothing of the request is read.
    pub fn outgoing(&self) -> Outgoing<'_> {
        let Downstream { stream, write_progress, upstream_deadline, departure, path, trail, .. } = self;
        Outgoing { stream, write_progress, upstream_deadline, path, trail, departure: departure.as_ref() }
    }

    /// Writes all of `bytes`; see [`Outgoing::write`].
    ///
    /// # Errors
    /// The client has gone or takes nothing more.
    pub async fn write(&self, bytes: Buffer, stall: Duration) -> Result<(), WriteError> {
        self.outgoing().write(bytes, stall).await
    }
}

// These return futures that hold what they need and not `self`: each is part of the task of a connection.
impl<'a> Outgoing<'a> {
    /// Writes all of `bytes`; `stall` is how long the client may take nothing.
    ///
    /// # Errors
    /// The client has gone or takes nothing more.
    pub fn write(&self, bytes: Buffer, stall: Duration) -> impl Future<Output = Result<(), WriteError>> + use<'a> {
        let Outgoing { stream, write_progress, .. } = *self;
        async move { stream.write_all(bytes, write_progress, stall).await.0 }
    }

    /// Writes all of `bytes`, which are what the pump left, as they go over the wire; see [`Outgoing::write`].
    ///
    /// # Errors
    /// As there.
    pub fn write_wire(&self, bytes: Buffer, stall: Duration) -> impl Future<Output = Result<(), WriteError>> + use<'a> {
        let Outgoing { stream, write_progress, .. } = *self;
        async move { stream.write_wire(bytes, write_progress, stall).await.0 }
    }

    /// Resolves when the client has gone. Only while nobody reads from the stream; what comes on it meanwhile is kept.
    pub fn left(&self) -> impl Future<Output = ()> + use<'a> {
        let Outgoing { stream, departure, .. } = *self;
        async move {
            race(departed(departure), stream.goodbye()).await;
        }
    }

    /// Resolves when the socket tells that its client has gone; never without a watch. A client that speaks TLS may go
    /// without its socket: see [`Stream::goodbye`].
    pub fn departed(&self) -> impl Future<Output = ()> + use<'a> {
        departed(self.departure)
    }
}

async fn departed(departure: Option<&Departure>) {
    match departure {
        Some(departure) => departure.happened().await,
        None => std::future::pending().await,
    }
}
