//! The request on its way upstream: what the copy holds first, then the body as the client sends it.
//!
//! Invariant: every byte is on its way upstream before the next is read from the client. Waiting for the client takes
//! no bytes from its socket, so an upload can be given up for another attempt without losing any.

use std::cell::RefCell;

use crate::config::{Limits, Timeouts};
use crate::http1::body::{BodyReader, Piece};
use crate::http1::framing::BodyLength;
use crate::io::{Buffer, Deadline, Stream, Turns};
use crate::observability::{Count, Counters};
use crate::proxy::error::GatewayError;
use crate::proxy::replay::budget::ReplayBudget;
use crate::proxy::replay::buffer::ReplayBuffer;
use crate::proxy::request::plan::body_too_large;
use crate::upstream::{Connection, TransportError};

/// Room for a read of body bytes.
const READ_ROOM: usize = 16 * 1024;

/// Why the request did not go upstream whole.
#[derive(Debug)]
pub enum UploadError {
    /// The client closed its side or the connection broke.
    ClientGone,
    /// The client's body cannot be accepted.
    Refused(GatewayError),
    Upstream(TransportError),
}

/// Where the body comes from.
pub struct Source<'a> {
    pub stream: &'a Stream,
    /// What was read and not yet taken for the body.
    pub input: &'a mut Buffer,
    pub body: &'a mut BodyReader,
    pub deadline: &'a Deadline,
}

/// Where the copy is kept, and how much of it.
#[derive(Clone, Copy)]
pub struct Keeper<'a> {
    pub copy: &'a RefCell<&'a mut ReplayBuffer>,
    pub limits: &'a Limits,
    pub budget: &'a ReplayBudget,
    pub counters: &'a Counters,
}

/// Sends the request until its last byte is written.
///
/// # Errors
/// See [`UploadError`].
///
/// # Cancel safety
/// Loses no byte of the client. The upstream connection can only be closed.
pub async fn upload(
    connection: &Connection,
    source: &mut Source<'_>,
    keeper: Keeper<'_>,
    timeouts: &Timeouts,
    turns: &Turns,
) -> Result<(), UploadError> {
    loop {
        while let Some((sealed, count)) = next_part(connection, keeper)? {
            connection.send(sealed, timeouts.upstream_write).await.map_err(UploadError::Upstream)?;
            keeper.copy.borrow_mut().mark_sent(count);
        }
        if source.body.is_complete() {
            return Ok(());
        }
        if source.input.is_empty() {
            turns.take().await;
            fill(source, timeouts).await?;
        }
        take_body(source, keeper).map_err(UploadError::Refused)?;
    }
}

/// Reads the body into the copy, and sends nothing yet. Returns whether all of it is there; otherwise the copy is whole as
/// far as it goes and has no room for what came next, which stays in the input.
///
/// # Errors
/// See [`UploadError`].
///
/// # Cancel safety
/// Loses no byte of the client.
pub async fn hold(
    source: &mut Source<'_>,
    keeper: Keeper<'_>,
    timeouts: &Timeouts,
    turns: &Turns,
) -> Result<bool, UploadError> {
    let limit_bytes = keeper.limits.replay_bytes_max;
    loop {
        if source.body.is_complete() {
            return Ok(keeper.copy.borrow().is_whole());
        }
        if !keeper.copy.borrow().has_room_for(source.input.len(), limit_bytes, keeper.budget) {
            return Ok(false);
        }
        take_body(source, keeper).map_err(UploadError::Refused)?;
        if source.input.is_empty() && !source.body.is_complete() {
            turns.take().await;
            fill(source, timeouts).await?;
        }
    }
}

fn next_part(connection: &Connection, keeper: Keeper<'_>) -> Result<Option<(Buffer, usize)>, UploadError> {
    let copy = keeper.copy.borrow();
    let part = copy.unsent();
    if part.is_empty() {
        return Ok(None);
    }
    Ok(Some((connection.seal(part).map_err(UploadError::Upstream)?, part.len())))
}

async fn fill(source: &mut Source<'_>, timeouts: &Timeouts) -> Result<(), UploadError> {
    loop {
        match source.deadline.within(timeouts.body, source.stream.readable()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(UploadError::ClientGone),
            Err(_) => return Err(UploadError::Refused(GatewayError::BodyTimeout)),
        }
        source.input.reserve(READ_ROOM);
        match source.stream.read_now(source.input) {
            Ok(Some(0)) | Err(_) => return Err(UploadError::ClientGone),
            Ok(Some(_)) => return Ok(()),
            // Readiness can be a false alarm.
            Ok(None) => {}
        }
    }
}

/// Looks at what has come of a body together with its head, before anything is done for the request.
///
/// # Errors
/// As [`take_body`].
pub fn check_start(length: BodyLength, start: &[u8], limits: &Limits) -> Result<(), GatewayError> {
    if length != BodyLength::Chunked {
        return Ok(());
    }
    let mut body = BodyReader::new(length);
    body.read(start, |_| {}).map_err(|error| GatewayError::BadRequest(error.as_str()))?;
    check_size(&body, limits)
}

fn check_size(body: &BodyReader, limits: &Limits) -> Result<(), GatewayError> {
    match limits.body_bytes_max {
        Some(limit) if body.data_bytes() > limit => Err(body_too_large(limit)),
        _ => Ok(()),
    }
}

/// Moves what belongs to the body from the input to the copy.
///
/// # Errors
/// The body breaks RFC 9112 §7.1 or is too large.
pub fn take_body(source: &mut Source<'_>, keeper: Keeper<'_>) -> Result<(), GatewayError> {
    let limits = keeper.limits;
    let mut copy = keeper.copy.borrow_mut();
    let read = source.body.read(source.input.filled(), |piece| {
        let (Piece::Data(bytes) | Piece::Framing(bytes)) = piece;
        if !copy.push(bytes, limits.replay_bytes_max, keeper.budget) {
            keeper.counters.add(Count::CopiesDropped);
            tracing::debug!("the request is too large to be kept for a second attempt");
        }
    });
    let consumed = read.map_err(|error| GatewayError::BadRequest(error.as_str()))?;
    source.input.consume(consumed);
    if source.input.is_empty() {
        // The next byte may be minutes away.
        *source.input = Buffer::none();
    }
    check_size(source.body, limits)
}
