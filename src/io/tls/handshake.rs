//! The TLS handshake with one client, over a connection that was just accepted: what it does each time that the client
//! has sent something.
//!
//! Invariant: nothing here waits, and while the client is waited for no buffer is held.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::ServerConfig;

use super::session::Tls;
use crate::io::buffer::Buffer;
use crate::io::stream::Stream;

/// Type of a handshake record (RFC 8446 §5.1), with which every client begins.
const HANDSHAKE_RECORD: u8 = 22;

/// The reason why a connection does not speak TLS.
pub enum HandshakeError {
    /// It does not begin with a handshake record, but with these bytes: most likely plain HTTP, which can be answered.
    NotTls(Stream, Buffer),
    /// It has sent nothing so far, and may yet.
    Silent(Stream),
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

impl From<io::Error> for HandshakeFault {
    fn from(error: io::Error) -> Self {
        HandshakeFault::Io(error)
    }
}

impl From<rustls::Error> for HandshakeFault {
    fn from(error: rustls::Error) -> Self {
        HandshakeFault::Tls(error)
    }
}

/// A handshake that is not over.
pub(super) struct ClientHandshake {
    stream: Stream,
    state: State,
}

enum State {
    /// The client has sent nothing yet, and costs nothing but its socket.
    Connected(Arc<ServerConfig>),
    /// The client has begun. Bytes to be sent may wait for room in the socket; else its next flight is waited for.
    Begun { tls: Box<Tls>, unsent: Buffer },
}

/// The result of a step.
pub(super) enum Step {
    /// The client's socket is waited for: until it can be read, or written.
    Waits(ClientHandshake),
    Over(Result<Stream, HandshakeError>),
}

impl ClientHandshake {
    pub fn new(stream: Stream, config: Arc<ServerConfig>) -> Self {
        ClientHandshake { stream, state: State::Connected(config) }
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    pub fn into_stream(self) -> Stream {
        self.stream
    }

    /// Returns whether anything was read of the client.
    pub fn has_begun(&self) -> bool {
        matches!(self.state, State::Begun { .. })
    }

    /// Returns whether it waits until the socket can be written, and not until it can be read.
    pub fn waits_for_room(&self) -> bool {
        matches!(&self.state, State::Begun { unsent, .. } if !unsent.is_empty())
    }

    /// Goes on with what the client has sent, if anything: the one or two steps with public keys in them are the whole
    /// cost of a handshake.
    pub fn advance(self) -> Step {
        let ClientHandshake { stream, state } = self;
        let advanced = match state {
            State::Connected(config) => begin(stream, config),
            State::Begun { tls, unsent } => go_on(stream, tls, unsent),
        };
        advanced.unwrap_or_else(|fault| Step::Over(Err(HandshakeError::Failed(fault))))
    }
}

/// Reads the first bytes.
fn begin(stream: Stream, config: Arc<ServerConfig>) -> Result<Step, HandshakeFault> {
    let mut received = Buffer::take();
    if !receive(&stream, &mut received)? {
        return Ok(Step::Waits(ClientHandshake::new(stream, config)));
    }
    if received.filled()[0] != HANDSHAKE_RECORD {
        return Ok(Step::Over(Err(HandshakeError::NotTls(stream, received))));
    }
    // The client has still to send its Finished (RFC 8446 §4.4.4). One that has left while the turn was waited for
    // costs no work.
    receive(&stream, &mut received)?;
    let tls = Box::new(Tls::new(config)?);
    open(stream, tls, received)
}

/// Sends what had no room, or reads what has come.
fn go_on(stream: Stream, tls: Box<Tls>, unsent: Buffer) -> Result<Step, HandshakeFault> {
    if !unsent.is_empty() {
        return send(stream, tls, unsent);
    }
    let mut received = Buffer::take();
    if receive(&stream, &mut received)? { open(stream, tls, received) } else { send(stream, tls, Buffer::none()) }
}

fn open(stream: Stream, tls: Box<Tls>, received: Buffer) -> Result<Step, HandshakeFault> {
    let opened = tls.keep(received.filled());
    let mut out = received;
    out.clear();
    // If it has failed, this is an alert.
    tls.take_records(out.tail())?;
    if let Err(error) = opened {
        let _ = stream.flush_now(&mut out);
        return Err(error.into());
    }
    send(stream, tls, out)
}

fn send(stream: Stream, tls: Box<Tls>, mut unsent: Buffer) -> Result<Step, HandshakeFault> {
    stream.flush_now(&mut unsent)?;
    if !unsent.is_empty() {
        return Ok(Step::Waits(ClientHandshake { stream, state: State::Begun { tls, unsent } }));
    }
    if tls.is_handshaking() {
        return Ok(Step::Waits(ClientHandshake { stream, state: State::Begun { tls, unsent: Buffer::none() } }));
    }
    Ok(Step::Over(Ok(stream.secured(tls))))
}

/// Reads what is there now; false if there is nothing.
///
/// # Errors
/// Those of the socket, and its end: a client that has closed cannot finish a handshake.
fn receive(stream: &Stream, received: &mut Buffer) -> io::Result<bool> {
    match stream.read_now(received)? {
        Some(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Some(_) => Ok(true),
        None => Ok(false),
    }
}
