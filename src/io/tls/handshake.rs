//! The TLS handshake with a client, over a connection that was just accepted.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;

use super::session::Tls;
use crate::io::buffer::Buffer;
use crate::io::deadline::Deadline;
use crate::io::stream::Stream;

/// Type of a handshake record (RFC 8446 §5.1), with which every client begins.
const HANDSHAKE_RECORD: u8 = 22;

/// The reason why a connection does not speak TLS.
pub enum HandshakeError {
    /// It does not begin with a handshake record, but with these bytes: most likely plain HTTP, which can be answered.
    NotTls(Stream, Buffer),
    /// The client closed, took too long, or supports nothing that this side supports.
    Failed(HandshakeFault),
}

#[derive(Debug)]
pub enum HandshakeFault {
    Late,
    Io(io::Error),
    Tls(rustls::Error),
}

impl fmt::Display for HandshakeFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandshakeFault::Late => formatter.write_str("it took too long"),
            HandshakeFault::Io(error) => error.fmt(formatter),
            HandshakeFault::Tls(error) => error.fmt(formatter),
        }
    }
}

impl From<HandshakeFault> for HandshakeError {
    fn from(fault: HandshakeFault) -> Self {
        HandshakeError::Failed(fault)
    }
}

/// Performs the handshake on a connection that was just accepted, within `limit`.
///
/// # Errors
/// See [`HandshakeError`].
///
/// # Cancel safety
/// Not cancel safe: the connection can only be closed.
pub async fn accept(stream: Stream, config: Arc<ServerConfig>, limit: Duration) -> Result<Stream, HandshakeError> {
    let due = Instant::now() + limit;
    let (deadline, progress) = (Deadline::default(), Deadline::default());
    let tls = Tls::new(config).map_err(HandshakeFault::Tls)?;
    let mut is_first = true;
    while tls.is_handshaking() {
        let read = deadline.before(due, stream.read(Buffer::take())).await;
        let (result, received) = read.map_err(|_| HandshakeFault::Late)?;
        if result.map_err(HandshakeFault::Io)? == 0 {
            return Err(HandshakeFault::Io(io::ErrorKind::UnexpectedEof.into()).into());
        }
        if std::mem::take(&mut is_first) && received.filled()[0] != HANDSHAKE_RECORD {
            return Err(HandshakeError::NotTls(stream, received));
        }
        let opened = tls.keep(received.filled());
        drop(received);
        // If it has failed, this is an alert.
        let mut out = Buffer::take();
        tls.take_records(out.tail()).map_err(HandshakeFault::Io)?;
        let left = due.saturating_duration_since(Instant::now());
        let written = stream.write_all(out, &progress, left).await.0;
        opened.map_err(HandshakeFault::Tls)?;
        written.map_err(|_| HandshakeFault::Late)?;
    }
    Ok(stream.secured(tls))
}
