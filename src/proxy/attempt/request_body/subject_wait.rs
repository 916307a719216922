//! The wait for the part of a request that says what it is about, where a credential rests for some requests.
//!
//! Invariant: nothing is sent, nothing is lost, and the wait, with what is looked through in it, ends with
//! [`WAIT_LIMIT`], with [`READ_BYTES_MAX`], and with the client.

use std::time::{Duration, Instant};

use crate::http1::body::BodyReader;
use crate::io::{Buffer, Either, race};
use crate::proxy::attempt::request_body::ask::ask_for_body;
use crate::proxy::attempt::request_body::upload::{READ_ROOM, take_body};
use crate::proxy::downstream::{Downstream, Incoming};
use crate::proxy::error::GatewayError;
use crate::proxy::failover::subject::{Subject, SubjectReader};
use crate::proxy::outcome::Outcome;
use crate::proxy::replay::budget::ReplayBudget;
use crate::proxy::replay::buffer::ReplayBuffer;
use crate::proxy::request::head::RequestFacts;
use crate::proxy::resources::Resources;

/// The longest wait: a client that sends its head first sends the rest at once.
const WAIT_LIMIT: Duration = Duration::from_millis(250);

/// The part of a request that is waited for. Clients that put the model after the messages send more than most chats
/// hold.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// Reads of the request until it is known what it is about, and returns that as far as it came to be known, and whether
/// the client was asked for the body, as it may have been before.
///
/// # Errors
/// The end of the exchange: the client has gone, or its body cannot be accepted.
pub async fn wait_for_subject(
    resources: &Resources,
    downstream: &mut Downstream,
    body: &mut BodyReader,
    facts: &RequestFacts,
    has_asked: bool,
) -> Result<(Option<Subject>, bool), Outcome> {
    let has_asked = has_asked || ask_for_body(resources, downstream, body, facts).await?;
    let due = Instant::now() + WAIT_LIMIT;
    let (mut incoming, outgoing) = downstream.split(body);
    let base_path = &resources.rules.upstream.base_path;
    let begun = SubjectReader::begin(&incoming.replay.borrow(), facts.body, base_path);
    let Some(mut reader) = begun else { return Ok((None, has_asked)) };
    let read = read_subject(&mut incoming, resources, &mut reader);
    let read = outgoing.upstream_deadline.before(due, read);
    // The interruption comes first: an attempt must not start for a client that has gone.
    let is_read = match race(outgoing.departed(), read).await {
        Either::First(()) => return Err(Outcome::CLIENT_GONE),
        Either::Second(is_read) => is_read,
    };
    if incoming.input.is_empty() {
        *incoming.input = Buffer::none();
    }
    if let Ok(read) = is_read {
        read.map_err(Outcome::Failed)?;
    }
    Ok((Some(reader.subject()), has_asked))
}

/// Reads of the request, and looks through it, until it is known what it is about.
///
/// # Errors
/// The body cannot be accepted.
///
/// # Cancel safety
/// Loses no byte of the client, and nothing of what was looked through.
async fn read_subject(
    incoming: &mut Incoming<'_>,
    resources: &Resources,
    reader: &mut SubjectReader,
) -> Result<(), GatewayError> {
    loop {
        reader.catch_up(incoming.replay).await;
        let limit_bytes = resources.limits.replay_bytes_max;
        let has_room = has_room(&incoming.replay.borrow(), reader.read_bytes(), limit_bytes, &resources.budget);
        if reader.is_settled() || incoming.body.is_complete() || !has_room {
            return Ok(());
        }
        if incoming.stream.readable().await.is_err() {
            return Ok(());
        }
        incoming.input.reserve(READ_ROOM);
        match incoming.stream.read_now(incoming.input) {
            // The upload finds out the same.
            Ok(Some(0)) | Err(_) => return Ok(()),
            Ok(_) => {}
        }
        take_body(incoming, resources)?;
    }
}

/// Tells whether one more read is within the limits, after so many bytes, and leaves the copy whole.
fn has_room(replay: &ReplayBuffer, read_bytes: usize, limit_bytes: usize, budget: &ReplayBudget) -> bool {
    read_bytes < READ_BYTES_MAX && replay.has_room_for(READ_ROOM, limit_bytes, budget)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn a_body_is_read_up_to_a_mebibyte_and_as_far_as_it_is_kept() {
        let budget = ReplayBudget::new(Arc::new(AtomicUsize::new(READ_ROOM)), READ_ROOM, 1);
        let mut replay = ReplayBuffer::default();
        replay.begin(&budget);
        for (read_bytes, limit_bytes, expected) in [
            (0, READ_ROOM, true),
            (1024 * 1024 - 1, READ_ROOM, true),
            (1024 * 1024, READ_ROOM, false),
            (0, READ_ROOM - 1, false),
        ] {
            assert_eq!(has_room(&replay, read_bytes, limit_bytes, &budget), expected, "{read_bytes} {limit_bytes}");
        }
        assert!(replay.push(b"x", 2 * READ_ROOM, &budget));
        assert!(!has_room(&replay, 1, 2 * READ_ROOM, &budget), "the budget of all requests has less left");
        replay.release(&budget);
    }
}
