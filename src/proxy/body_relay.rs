//! A response body between its two connections: followed by its framing, and by its events if it has any.
//!
//! Invariant: `out` is what a client of this version gets for what was taken so far, and ends at a point from which the
//! stream can be ended well or visibly cut. No I/O.

use super::error::Dialect;
use super::response_head::ResponseFacts;
use super::sse::{self, EventTracker};
use crate::http1::body::{BodyError, BodyReader, Owed, Piece};
use crate::http1::framing::BodyLength;
use crate::http1::head::Version;
use crate::io::Buffer;

/// The body between upstream and client: what was taken and is to be written next.
pub struct BodyRelay {
    pub reader: BodyReader,
    /// Only of an event stream that can be ended well.
    pub events: Option<EventTracker>,
    is_chunked: bool,
    /// A chunked body for a client that knows no chunks.
    is_decoded: bool,
    pub out: Buffer,
    pub error: Option<BodyError>,
    /// Bytes came behind the end of the answer: what follows on the connection is not to be trusted.
    pub has_surplus: bool,
}

impl BodyRelay {
    /// `out` holds the head, which is written with the first bytes of the body.
    pub fn new(facts: &ResponseFacts, version: Version, out: Buffer) -> Self {
        let is_chunked = facts.body == BodyLength::Chunked;
        let can_end_well = is_chunked || facts.body == BodyLength::UntilClose;
        let follows_events = facts.is_event_stream && facts.is_identity_coded && can_end_well;
        BodyRelay {
            reader: BodyReader::new(facts.body),
            events: follows_events.then(EventTracker::new),
            is_chunked,
            is_decoded: is_chunked && version == Version::Http10,
            out,
            error: None,
            has_surplus: false,
        }
    }

    /// Follows `bytes` of the answer and moves what the client gets of them to `out`.
    pub fn take(&mut self, bytes: &[u8]) {
        if self.error.is_some() {
            return;
        }
        let BodyRelay { reader, events, is_decoded, out, .. } = self;
        let read = reader.read(bytes, |piece| match piece {
            Piece::Data(data) => {
                out.append(data);
                if let Some(events) = events {
                    events.observe(data);
                }
            }
            Piece::Framing(framing) if !*is_decoded => out.append(framing),
            Piece::Framing(_) => {}
        });
        match read {
            Ok(consumed) => self.has_surplus |= consumed < bytes.len(),
            Err(error) => self.error = Some(error),
        }
    }

    /// What ends the stream well; `None` where it must be cut.
    pub fn ending(&self, dialect: Dialect, message: &str) -> Option<Buffer> {
        let events = self.events.as_ref()?;
        let mut event = Buffer::take();
        sse::error_event(event.tail(), events, dialect, message);
        if !self.is_chunked || self.is_decoded {
            return Some(event);
        }
        let owed: Owed = self.reader.owed();
        let mut out = Buffer::take();
        sse::end_chunked(out.tail(), owed, event.filled())?;
        Some(out)
    }
}
