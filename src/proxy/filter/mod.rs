//! The filter `anthropic-compat`: what clients of Anthropic's Messages API ask for and the upstream does not know.
//!
//! A request that it is for is held until its body is whole, then its head loses `anthropic-beta` and its body the
//! member that goes with it. Invariant: both go or neither does, all other bytes are the client's, and a request that is
//! not filtered goes upstream as without the filter. Held bodies are part of the copy that is kept for a second attempt
//! and within its limits. Off, the filter costs a request one comparison (see `plan`).

pub mod json_edit;

use std::cell::RefCell;
use std::ops::Range;

use crate::http1::body::{BodyReader, Piece};
use crate::http1::fields;
use crate::http1::framing::BodyLength;
use crate::http1::head::RequestHead;
use crate::io::{Either, Phase, Turns, race};
use crate::observability::{Count, Ending, ExchangeId};
use crate::proxy::attempt::Outcome;
use crate::proxy::attempt::upload::{Keeper, Source, UploadError, hold};
use crate::proxy::downstream::{Downstream, departed};
use crate::proxy::error::GatewayError;
use crate::proxy::replay::budget::ReplayBudget;
use crate::proxy::replay::buffer::ReplayBuffer;
use crate::proxy::request::head::RequestFacts;
use crate::proxy::request::plan::Forward;
use crate::proxy::{Proxy, Written};

/// The one path, without query and base path.
const PATH: &str = "/v1/messages";
/// What marks a request for that API; other clients of the path speak another dialect.
const MARKS: [&str; 3] = ["anthropic-version", BETA, "x-api-key"];
/// Names features that may be used. One of them stands for the member below.
const BETA: &str = "anthropic-beta";
const MEMBER: &str = "context_management";

/// Why a request that the filter is for goes upstream as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unfiltered {
    /// It has a `Content-Encoding`.
    Encoded,
    /// It is longer than what is kept of a request, or all that the process keeps is too much already.
    TooLarge,
    /// It is not one valid JSON object.
    NotAnObject,
}

impl Unfiltered {
    fn as_str(self) -> &'static str {
        match self {
            Unfiltered::Encoded => "it has a Content-Encoding",
            Unfiltered::TooLarge => "it is too large to be kept",
            Unfiltered::NotAnObject => "it is not a JSON object",
        }
    }
}

/// Whether the filter is for the request with this head and this path.
pub fn is_for(head: &RequestHead<'_>, path: &str, facts: &RequestFacts) -> bool {
    let has_body = !matches!(facts.body, BodyLength::None | BodyLength::Known(0));
    let is_mark = |name: &str| MARKS.iter().any(|mark| name.eq_ignore_ascii_case(mark));
    has_body && path == PATH && head.fields.iter().any(|field| is_mark(field.name))
}

impl Proxy {
    /// Holds the request, whose head stands in the copy, until its body is whole, and filters it. One that cannot be
    /// filtered is as it was afterwards.
    ///
    /// # Errors
    /// How the exchange ends, if the body does not come whole.
    pub async fn filter(
        &self,
        id: ExchangeId,
        downstream: &mut Downstream,
        body: &mut BodyReader,
        forward: &mut Forward<Written>,
    ) -> Result<(), Outcome> {
        let held = self.hold(downstream, body, &forward.facts).await?;
        let copy = &mut downstream.request_copy;
        let filtered = held.and_then(|()| edit(copy, forward.facts.body, &mut forward.written, &self.budget));
        if let Err(unfiltered) = filtered {
            self.activity.counters.add(Count::Unfiltered);
            tracing::debug!(%id, reason = unfiltered.as_str(), "a request is not filtered");
        }
        Ok(())
    }

    /// Reads the body into the copy, unless it need not or cannot be held.
    async fn hold(
        &self,
        downstream: &mut Downstream,
        body: &mut BodyReader,
        facts: &RequestFacts,
    ) -> Result<Result<(), Unfiltered>, Outcome> {
        let Proxy { limits, budget, timeouts, lifecycle, activity, .. } = self;
        let copy = &downstream.request_copy;
        if head_of(copy).split_inclusive(|byte| *byte == b'\n').any(|line| is_field(line, "content-encoding")) {
            return Ok(Err(Unfiltered::Encoded));
        }
        let missing = match facts.body {
            BodyLength::Known(length) => length - body.data_bytes(),
            BodyLength::None | BodyLength::Chunked | BodyLength::UntilClose => 0,
        };
        let fits = |missing| copy.has_room_for(missing, limits.replay_bytes_max, budget);
        if !usize::try_from(missing).is_ok_and(fits) {
            return Ok(Err(Unfiltered::TooLarge));
        }
        self.ask_for_body(downstream, body, facts).await?;
        let Downstream { stream, input, deadline, departure, request_copy, .. } = downstream;
        let copy = RefCell::new(request_copy);
        let keeper = Keeper { copy: &copy, limits, budget, counters: &activity.counters };
        let mut source = Source { stream, input, body, deadline };
        let turns = Turns::default();
        // The interruptions come first: an attempt must not start for a client that has gone.
        let interrupted = race(departed(departure.as_ref()), lifecycle.reached(Phase::Expired));
        match race(interrupted, hold(&mut source, keeper, timeouts, &turns)).await {
            Either::Second(Ok(true)) => Ok(Ok(())),
            Either::Second(Ok(false)) => Ok(Err(Unfiltered::TooLarge)),
            Either::Second(Err(UploadError::Refused(error))) => Err(Outcome::Failed(error)),
            Either::Second(Err(UploadError::ClientGone | UploadError::Upstream(_)))
            | Either::First(Either::First(())) => Err(Outcome::ClientGone(Ending::ClientDisconnected)),
            Either::First(Either::Second(())) => Err(Outcome::Failed(GatewayError::Draining)),
        }
    }
}

/// Filters a request that is whole in its copy. A body that came in chunks is then framed by its length; its trailers
/// are not kept (RFC 9110 §6.5.1).
///
/// Needs the body in one piece as long as it takes, so a shard holds one such piece at a time beside what the budget
/// counts. It is done in one turn: 1 to 2 ms a MiB.
fn edit(
    copy: &mut ReplayBuffer,
    length: BodyLength,
    written: &mut Written,
    budget: &ReplayBudget,
) -> Result<(), Unfiltered> {
    let mut body = content_of(copy, length).ok_or(Unfiltered::NotAnObject)?;
    let cuts = json_edit::cuts(&body, MEMBER).ok_or(Unfiltered::NotAnObject)?;
    json_edit::cut(&mut body, &cuts);
    let (head, authorization) = without_beta(head_of(copy), &written.authorization, body.len() as u64);
    copy.rewrite(&head, &body, budget);
    written.authorization = authorization;
    Ok(())
}

/// The head in a copy of which nothing was sent: it ends with the first empty line (RFC 9112 §2.1).
fn head_of(copy: &ReplayBuffer) -> &[u8] {
    let first = copy.parts().next().unwrap_or_default();
    let end = memchr::memmem::find(first, b"\r\n\r\n").map_or(first.len(), |at| at + "\r\n\r\n".len());
    &first[..end]
}

/// What the body says without its framing.
fn content_of(copy: &ReplayBuffer, length: BodyLength) -> Option<Vec<u8>> {
    let mut skipped = head_of(copy).len();
    let mut content = Vec::with_capacity(copy.parts().map(<[u8]>::len).sum());
    let mut reader = BodyReader::new(length);
    for part in copy.parts() {
        let read = reader.read(&part[skipped..], |piece| {
            if let Piece::Data(bytes) = piece {
                content.extend_from_slice(bytes);
            }
        });
        read.ok()?;
        skipped = 0;
    }
    Some(content)
}

/// The head as it goes upstream with a body of `length` bytes and no trailers, and where in it the value of `Authorization` is, which
/// is at `authorization` in `head`.
fn without_beta(head: &[u8], authorization: &Range<usize>, length: u64) -> (Vec<u8>, Range<usize>) {
    // Room for a longer Content-Length, or for one in the place of a Transfer-Encoding.
    let mut out = Vec::with_capacity(head.len() + 20);
    let mut removed_before = 0;
    let mut start = 0;
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        if is_field(line, "content-length") || is_field(line, "transfer-encoding") {
            fields::push_content_length(&mut out, length);
        } else if !is_field(line, BETA) && !is_field(line, "trailer") {
            out.extend_from_slice(line);
        } else if start < authorization.start {
            removed_before += line.len();
        }
        start += line.len();
    }
    (out, authorization.start - removed_before..authorization.end - removed_before)
}

/// Whether a line of a head that is on its way upstream is the field of this name.
fn is_field(line: &[u8], name: &str) -> bool {
    let named = line.split_at_checked(name.len());
    named.is_some_and(|(start, rest)| start.eq_ignore_ascii_case(name.as_bytes()) && rest.starts_with(b":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_loses_the_field_and_gets_the_length() {
        for (framing, beta, behind) in [
            ("Content-Length: 100", "anthropic-beta: a\r\n", ""),
            ("Transfer-Encoding: chunked", "Anthropic-Beta: a,b\r\nANTHROPIC-BETA: \r\nTrailer: x\r\n", ""),
            ("Content-Length: 1", "", ""),
            // Nothing of ours stands there today.
            ("Content-Length: 100", "anthropic-beta: a\r\n", "anthropic-beta: b\r\n"),
        ] {
            let with = |beta: &str, behind: &str, framing: &str| {
                format!(
                    "POST /v1/messages HTTP/1.1\r\nHost: h\r\n{beta}X-Anthropic-Beta: x\r\nanthropic-beta2: \
                     y\r\nanthropic-version: z\r\nAuthorization: Bearer ours\r\n{behind}{framing}\r\n\r\n"
                )
            };
            let head = with(beta, behind, framing);
            let start = head.find("Bearer").expect("it is there");
            let (found, authorization) = without_beta(head.as_bytes(), &(start..start + 11), 99);
            assert_eq!(String::from_utf8(found.clone()).expect("text"), with("", "", "Content-Length: 99"), "{head}");
            assert_eq!(&found[authorization], b"Bearer ours", "{head}");
        }
    }
}
