//! The request on its way upstream: what the copy holds first, then the body as the client sends it.
//!
//! Invariant: every byte is on its way upstream before the next is read from the client. Waiting for the client takes
//! no bytes from its socket, so an upload can be given up for another attempt without losing any.

use std::cell::RefCell;
use std::time::Duration;

use crate::config::{Limits, Timeouts};
use crate::http1::body::{BodyError, BodyReader, Piece};
use crate::http1::framing::BodyLength;
use crate::io::clock;
use crate::io::{Buffer, Turns};
use crate::observability::Count;
use crate::proxy::downstream::Incoming;
use crate::proxy::error::GatewayError;
use crate::proxy::replay::buffer::ReplayBuffer;
use crate::proxy::request::plan::body_too_large;
use crate::proxy::resources::Resources;
use crate::upstream::{Connection, TransportError};

/// Room for a read of body bytes.
pub const READ_ROOM: usize = 16 * 1024;

/// A body that is read for nothing but the connection is no larger: more takes longer than to connect anew.
const DISCARDED_BYTES_MAX: u64 = 256 * 1024;

/// Time for such a body to come: its client has sent it long ago, as far as there was room.
const DISCARD_LIMIT: Duration = Duration::from_secs(1);

/// Reasons why the request did not go upstream whole.
#[derive(Debug)]
pub enum UploadError {
    /// The client closed its side or the connection broke.
    ClientGone,
    /// The client's body cannot be accepted.
    Refused(GatewayError),
    Upstream(TransportError),
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
    incoming: &mut Incoming<'_>,
    resources: &Resources,
    turns: &Turns,
) -> Result<(), UploadError> {
    let Timeouts { upstream_write, body, .. } = resources.timeouts;
    loop {
        while let Some((sealed, count)) = next_part(connection, incoming)? {
            connection.send(sealed, upstream_write).await.map_err(UploadError::Upstream)?;
            incoming.replay.borrow_mut().mark_sent(count);
            // A copy that is sent again may be long, and an upstream may take it as fast as it is sent.
            if !incoming.replay.borrow().unsent().is_empty() {
                turns.take().await;
            }
        }
        if incoming.body.is_complete() {
            return Ok(());
        }
        if incoming.input.is_empty() {
            turns.take().await;
            fill(incoming, body).await?;
        }
        take_body(incoming, resources).map_err(UploadError::Refused)?;
    }
}

/// Reads the body into the copy, as long as `wants_more` of what the copy holds, and sends nothing yet. `wants_more` is
/// asked after each read, also after the last one; work of its that takes long is to be [spent](crate::io::turns::spend).
/// Returns whether all of the body is there; otherwise the copy is whole as far as it goes, and what it has no room for
/// stays in the input.
///
/// # Errors
/// See [`UploadError`].
///
/// # Cancel safety
/// Loses no byte of the client. `wants_more` may be interrupted too.
pub async fn hold(
    incoming: &mut Incoming<'_>,
    resources: &Resources,
    turns: &Turns,
    mut wants_more: impl AsyncFnMut(&RefCell<ReplayBuffer>) -> bool,
) -> Result<bool, UploadError> {
    let limit_bytes = resources.limits.replay_bytes_max;
    loop {
        let goes_on = wants_more(incoming.replay).await;
        if incoming.body.is_complete() {
            return Ok(incoming.replay.borrow().is_whole());
        }
        if !goes_on || !incoming.replay.borrow().is_whole() {
            return Ok(false);
        }
        if incoming.input.is_empty() {
            turns.take().await;
            fill(incoming, resources.timeouts.body).await?;
        }
        if !incoming.replay.borrow().has_room_for(incoming.input.len(), limit_bytes, &resources.budget) {
            return Ok(false);
        }
        take_body(incoming, resources).map_err(UploadError::Refused)?;
    }
}

/// Reads a body and keeps nothing of it. Returns whether it came to its end: it may be too large, late or malformed.
pub async fn discard(incoming: &mut Incoming<'_>, length: BodyLength) -> bool {
    if matches!(length, BodyLength::Known(bytes) if bytes > DISCARDED_BYTES_MAX) {
        return false;
    }
    let (due, turns) = (clock::now() + DISCARD_LIMIT, Turns::default());
    loop {
        let Ok(consumed) = incoming.body.read_within(incoming.input.filled(), DISCARDED_BYTES_MAX, |_| {}) else {
            return false;
        };
        incoming.input.consume(consumed);
        if incoming.body.is_complete() {
            return true;
        }
        turns.take().await;
        if fill(incoming, due.saturating_duration_since(clock::now())).await.is_err() {
            return false;
        }
    }
}

fn next_part(connection: &Connection, incoming: &Incoming<'_>) -> Result<Option<(Buffer, usize)>, UploadError> {
    let replay = incoming.replay.borrow();
    let part = replay.unsent();
    if part.is_empty() {
        return Ok(None);
    }
    let sealed = connection.seal(part, replay.unsent_secret_bytes()).map_err(UploadError::Upstream)?;
    Ok(Some((sealed, part.len())))
}

async fn fill(incoming: &mut Incoming<'_>, limit: Duration) -> Result<(), UploadError> {
    loop {
        match incoming.deadline.within(limit, incoming.stream.readable()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(UploadError::ClientGone),
            Err(_) => return Err(UploadError::Refused(GatewayError::BodyTimeout)),
        }
        incoming.input.reserve(READ_ROOM);
        match incoming.stream.read_now(incoming.input) {
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
    follow(&mut body, start, limits, |_| {}).map(|_| ())
}

/// Moves what belongs to the body from the input to the copy.
///
/// # Errors
/// The body breaks RFC 9112 §7.1 or is too large.
pub fn take_body(incoming: &mut Incoming<'_>, resources: &Resources) -> Result<(), GatewayError> {
    let Resources { limits, budget, activity, .. } = resources;
    let mut replay = incoming.replay.borrow_mut();
    let recording = incoming.trail.recording.as_deref();
    let consumed = follow(incoming.body, incoming.input.filled(), limits, |piece| {
        if let (Some(recording), Piece::Data(content)) = (recording, &piece) {
            recording.note_request_body(content);
        }
        let (Piece::Data(bytes) | Piece::Framing(bytes)) = piece;
        if !replay.push(bytes, limits.replay_bytes_max, budget) {
            activity.counters.add(Count::CopiesDropped);
            tracing::debug!("the request is too large to be kept for a second attempt");
        }
    })?;
    incoming.input.consume(consumed);
    if incoming.input.is_empty() {
        // The next byte may be minutes away.
        *incoming.input = Buffer::none();
    }
    Ok(())
}

/// Follows a body within its limits. A chunk that is too large is refused by its size line, before a byte of it goes
/// upstream.
fn follow(
    body: &mut BodyReader,
    input: &[u8],
    limits: &Limits,
    emit: impl FnMut(Piece<'_>),
) -> Result<usize, GatewayError> {
    let content_bytes_max = limits.body_bytes_max.unwrap_or(u64::MAX);
    body.read_within(input, content_bytes_max, emit).map_err(|error| match error {
        BodyError::TooLarge => body_too_large(content_bytes_max),
        error => GatewayError::BadRequest(error.as_str()),
    })
}
