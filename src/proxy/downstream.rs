//! The client's side of a connection: its socket, what was read from it, and what is reused from exchange to exchange.
//!
//! Invariant: while a connection rests it holds no buffer; `input` begins with the first byte that no exchange has
//! consumed.

use std::io;
use std::time::Duration;

use crate::io::{Buffer, Deadline, Departure, Stream, WriteError, race};
use crate::proxy::replay::buffer::ReplayBuffer;

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
    pub request_copy: ReplayBuffer,
    /// Method and path of the exchange under way, for its line in the log.
    pub method: String,
    pub path: String,
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
            request_copy: ReplayBuffer::default(),
            method: String::new(),
            path: String::new(),
        }
    }

    /// From here on [`left`] tells when the client goes.
    ///
    /// # Errors
    /// When the kernel refuses the watch.
    pub fn watch_departure(&mut self) -> io::Result<()> {
        if self.departure.is_none() {
            self.departure = Some(Departure::of(&self.stream)?);
        }
        Ok(())
    }

    /// Writes all of `bytes`; `stall` is how long the client may take nothing.
    ///
    /// # Errors
    /// The client has gone or takes nothing more.
    pub async fn write(&self, bytes: Buffer, stall: Duration) -> Result<(), WriteError> {
        self.stream.write_all(bytes, &self.write_progress, stall).await.0
    }
}

/// Resolves when the client has gone. Only while nobody reads from `stream`; what comes on it meanwhile is kept.
pub async fn left(stream: &Stream, departure: Option<&Departure>) {
    race(departed(departure), stream.goodbye()).await;
}

/// Resolves when the socket of `departure` tells that its client has gone; never without a watch. A client that speaks TLS
/// may go without its socket: see [`Stream::goodbye`].
pub async fn departed(departure: Option<&Departure>) {
    match departure {
        Some(departure) => departure.happened().await,
        None => std::future::pending().await,
    }
}
