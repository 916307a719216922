//! A response body between its two connections: followed by its framing, and by its events if it has any.
//!
//! Invariant: `out` is what a client of this version gets for what was pushed so far, but for what the `mask` holds,
//! and with that it ends at a point from which the stream can be ended well or visibly cut. No I/O.

use std::rc::Rc;

use crate::capture::recording::Recording;
use crate::credentials::TokenTraces;
use crate::http1::body::{BodyError, BodyReader, Owed, Piece};
use crate::http1::framing::BodyLength;
use crate::http1::head::Version;
use crate::io::Buffer;
use crate::proxy::response::body_tap::BodyTap;
use crate::proxy::response::head::ResponseFacts;
use crate::proxy::response::mask::coded::CodedVerdict;
use crate::proxy::response::mask::{BodyMask, MaskLook};
use crate::proxy::response::refusal::{RefusalReader, RefusalReason};
use crate::proxy::sse::dialect::EventDialect;
use crate::proxy::sse::ending;
use crate::proxy::sse::opening::{Opening, OpeningReader};
use crate::proxy::sse::tracker::{EventTracker, StreamedText};
use crate::usage::answer::body::BodyUsage;
use crate::usage::answer::told::AnswerUsage;

/// The body between upstream and downstream.
// In this order, so that what each event of a stream needs is in few cache lines.
#[repr(C)]
pub struct BodyRelay {
    pub error: Option<BodyError>,
    /// Bytes came after the end of the answer: what follows on the connection is not to be trusted.
    pub has_surplus: bool,
    /// Something was masked.
    pub has_masked: bool,
    /// False also for a chunked body whose client knows no chunks.
    downstream_gets_chunks: bool,
    /// Its length is not told before: something can be added to it.
    has_open_end: bool,
    /// While the reason of an error decides whether it goes downstream. Boxed, since hardly any answer needs it.
    refusal: Option<Box<RefusalReader>>,
    /// Notes what goes downstream, where failed exchanges are kept.
    recording: Option<Rc<Recording>>,
    /// Looks at what goes by.
    tap: Option<Box<BodyTap>>,
    /// Keeps the attempt's token out of what goes downstream.
    mask: BodyMask,
    /// The bytes to be written downstream next.
    pub out: Buffer,
    pub reader: BodyReader,
    content: FollowedContent,
    /// While the first events decide whether the stream goes downstream.
    opening: Option<OpeningReader>,
}

/// The content of a body, as far as it is followed.
#[expect(clippy::large_enum_variant, reason = "a box would be an allocation for each answer")]
enum FollowedContent {
    /// An event stream that can be read.
    Events(EventTracker),
    /// JSON that is read for the usage that it tells.
    Json(BodyUsage),
    Opaque,
}

impl FollowedContent {
    fn events(&self) -> Option<&EventTracker> {
        match self {
            FollowedContent::Events(events) => Some(events),
            FollowedContent::Json(_) | FollowedContent::Opaque => None,
        }
    }

    fn events_mut(&mut self) -> Option<&mut EventTracker> {
        match self {
            FollowedContent::Events(events) => Some(events),
            FollowedContent::Json(_) | FollowedContent::Opaque => None,
        }
    }
}

impl BodyRelay {
    /// `out` holds the head, which is written with the first bytes of the body. `traces` are those of the attempt's
    /// token.
    pub fn new(facts: &ResponseFacts, version: Version, out: Buffer, traces: Rc<TokenTraces>) -> Self {
        let is_chunked = facts.body == BodyLength::Chunked;
        let follows_events = facts.is_event_stream && facts.is_identity_coded() && facts.body != BodyLength::None;
        BodyRelay {
            reader: BodyReader::new(facts.body),
            content: if follows_events {
                FollowedContent::Events(EventTracker::new())
            } else {
                FollowedContent::Opaque
            },
            has_open_end: is_chunked || facts.body == BodyLength::UntilClose,
            opening: None,
            refusal: None,
            recording: None,
            tap: None,
            mask: BodyMask::new(facts, traces),
            has_masked: false,
            downstream_gets_chunks: is_chunked && version != Version::Http10,
            out,
            error: None,
            has_surplus: false,
        }
    }

    /// Reads the usage that the answer tells, if it is one that can be read. To be called before the first byte is
    /// pushed.
    /// With the name of the model, where that is wanted.
    pub fn count_usage(&mut self, facts: &ResponseFacts, wants_name: bool) {
        match &mut self.content {
            FollowedContent::Events(events) => events.count_usage(wants_name),
            content if facts.is_json && facts.is_identity_coded() && facts.body != BodyLength::None => {
                *content = FollowedContent::Json(BodyUsage::new(facts.content_length, wants_name));
            }
            FollowedContent::Json(_) | FollowedContent::Opaque => {}
        }
    }

    /// The usage that the answer has told; `None` where it is not read for it.
    pub fn usage(&self) -> Option<AnswerUsage> {
        match &self.content {
            FollowedContent::Events(events) => events.usage(),
            FollowedContent::Json(usage) => Some(usage.usage()),
            FollowedContent::Opaque => None,
        }
    }

    /// The text in the events that have come; `None` where they are not read for it.
    pub fn streamed_text(&self) -> Option<StreamedText> {
        self.content.events()?.text()
    }

    /// Begins to inspect the first events, for [`BodyRelay::opening`]. To be called before the first byte is pushed.
    pub fn inspect_opening(&mut self) {
        self.opening = Some(OpeningReader::new());
    }

    /// Lets `tap` look at the content. To be called before the first byte is pushed.
    pub fn set_tap(&mut self, tap: Option<Box<BodyTap>>) {
        self.tap = tap;
    }

    /// Returns what looks at the content.
    pub fn tap(&self) -> Option<&BodyTap> {
        self.tap.as_deref()
    }

    /// Tells the tap that the answer goes downstream.
    pub fn confirm_tap(&mut self) {
        if let Some(tap) = &mut self.tap {
            tap.confirm();
        }
    }

    /// The verdict on the stream by the events that were pushed so far.
    pub fn opening(&self) -> Opening {
        self.opening.as_ref().map_or(Opening::Harmless, OpeningReader::verdict)
    }

    pub fn inspects_opening(&self) -> bool {
        self.opening.is_some()
    }

    /// Begins to look for the reason of an error, for [`BodyRelay::refusal`]. To be called before the first byte is
    /// pushed.
    pub fn inspect_refusal(&mut self) {
        self.refusal = Some(Box::new(RefusalReader::new()));
    }

    pub fn inspects_refusal(&self) -> bool {
        self.refusal.is_some()
    }

    /// Returns whether more of the body may tell the reason of the error.
    pub fn wants_refusal(&self) -> bool {
        self.refusal.as_ref().is_some_and(|refusal| refusal.wants_more())
    }

    /// Returns the reason of the error by what was pushed so far.
    pub fn refusal(&self) -> Option<RefusalReason> {
        self.refusal.as_ref()?.reason()
    }

    /// Ends the inspection: what is pushed from here on is not held.
    pub fn end_inspection(&mut self) {
        self.opening = None;
        self.refusal = None;
    }

    /// Returns whether this is an event stream whose turn is over, by the whole events that were pushed.
    pub fn turn_is_complete(&self) -> bool {
        self.content.events().is_some_and(EventTracker::turn_is_complete)
    }

    /// Returns whether the content may end here: see [`EventTracker::may_end`].
    pub fn may_end(&self, by_path: Option<EventDialect>) -> bool {
        self.content.events().is_none_or(|events| events.may_end(by_path))
    }

    /// Notes what is in `out`, and from here on all that comes: the answer goes downstream.
    pub fn record(&mut self, recording: &Option<Rc<Recording>>) {
        if let Some(recording) = recording {
            recording.note_answer(self.out.filled());
            self.recording = Some(recording.clone());
        }
    }

    /// Follows `bytes` of the answer and appends what goes downstream of them to `out`.
    pub fn push(&mut self, bytes: &[u8]) {
        let start = self.out.len();
        self.follow(bytes);
        self.note_from(start);
    }

    fn note_from(&self, start: usize) {
        if let Some(recording) = &self.recording {
            recording.note_answer(&self.out.filled()[start..]);
        }
    }

    fn follow(&mut self, bytes: &[u8]) {
        if self.error.is_some() {
            return;
        }
        let bytes = self.push_whole_chunks(bytes);
        if bytes.is_empty() {
            return;
        }
        let BodyRelay { reader, content, opening, refusal, tap, mask, downstream_gets_chunks, out, .. } = self;
        let mut has_masked = false;
        let read = reader.read(bytes, |piece| match piece {
            Piece::Data(data) => {
                has_masked |= mask.push(data, content.events_mut(), out);
                if let FollowedContent::Json(usage) = content {
                    usage.read(data);
                }
                if let Some(opening) = opening {
                    opening.observe(data);
                }
                if let Some(refusal) = refusal {
                    refusal.observe(data);
                }
                if let Some(tap) = tap {
                    tap.observe(data);
                }
            }
            Piece::Framing(framing) if *downstream_gets_chunks => has_masked |= mask.push_framing(framing, out),
            Piece::Framing(_) => {}
        });
        self.has_masked |= has_masked;
        match read {
            Ok(consumed) => self.has_surplus |= consumed < bytes.len(),
            Err(error) => self.error = Some(error),
        }
        if self.error.is_some() || self.reader.is_complete() {
            self.finish(self.error.is_some());
        }
    }

    /// Follows the chunks at the start of `bytes` that are whole and that nothing looks into but the mask and the tracker
    /// of events: most events come as one, which is copied in one piece. Returns what follows them.
    fn push_whole_chunks<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        let reads_json = matches!(self.content, FollowedContent::Json(_));
        let looks_into = self.opening.is_some() || self.refusal.is_some() || reads_json;
        let BodyRelay { reader, content, tap, mask, has_masked, downstream_gets_chunks, out, .. } = self;
        if looks_into || tap.as_ref().is_some_and(|tap| tap.wants_more()) {
            return bytes;
        }
        while let Some(chunk) = reader.whole_chunk(bytes) {
            let data = chunk.data();
            let (whole, rest) = bytes.split_at(chunk.length());
            match (mask.look(&whole[data.clone()], content.events_mut()), content.events()) {
                (MaskLook::Push, _) => return bytes,
                (MaskLook::PushObserved, Some(events)) => {
                    let framing = |mask: &mut BodyMask, part, out: &mut Buffer| {
                        *downstream_gets_chunks && mask.push_framing(part, out)
                    };
                    *has_masked |= framing(mask, &whole[..data.start], out);
                    *has_masked |= mask.push_observed(&whole[data.clone()], events, out);
                    *has_masked |= framing(mask, &whole[data.end..], out);
                }
                (MaskLook::Pass | MaskLook::PushObserved, _) => {
                    out.append(if *downstream_gets_chunks { whole } else { &whole[data] });
                }
            }
            reader.take_whole(chunk);
            bytes = rest;
        }
        bytes
    }

    /// Appends what the mask holds to `out`: no more follows. Of a body that `is_cut` the beginning of a token is masked
    /// too.
    pub fn end(&mut self, is_cut: bool) {
        let start = self.out.len();
        self.finish(is_cut);
        self.note_from(start);
    }

    fn finish(&mut self, is_cut: bool) {
        self.has_masked |= self.mask.finish(is_cut, &mut self.out);
    }

    /// Returns whether more of an error with a content coding is searched before any of it goes downstream.
    pub fn wants_coded(&mut self) -> bool {
        self.mask.coded().is_some_and(|(error, _)| error.wants_more())
    }

    /// Returns whether this is an error whose content coding hides it.
    pub fn is_coded_error(&mut self) -> bool {
        self.mask.coded().is_some()
    }

    /// Judges an error with a content coding by what was pushed, which is all of it if it `is_complete`; `None` where it
    /// is no such error.
    pub fn judge_coded(&mut self, is_complete: bool) -> Option<CodedVerdict> {
        self.mask.coded().map(|(error, traces)| error.judge(traces, is_complete))
    }

    /// The comment line for a stream that has been silent, in the framing that goes downstream, to be written after
    /// `out`. `None` where it cannot be put: not an event stream that can be ended well, within an event or a chunk, after
    /// the last event of the turn or of the body, or before bytes that the mask holds.
    pub fn heartbeat(&self, by_path: Option<EventDialect>) -> Option<Buffer> {
        let is_over = self.error.is_some() || self.reader.is_complete();
        if is_over || !self.has_open_end || self.mask.holds_any() {
            return None;
        }
        let comment = ending::heartbeat(self.content.events()?, by_path)?;
        let mut out = Buffer::take();
        if !self.downstream_gets_chunks {
            out.append(comment);
        } else if self.reader.owed() == Owed::Nothing {
            // A size line of which only a part has come is not in `out` yet.
            ending::append_chunk(out.tail(), comment);
        } else {
            return None;
        }
        Some(out)
    }

    /// The bytes that end the stream well; `None` where it must be cut. `by_path` is the dialect of a stream whose
    /// events have told none yet.
    pub fn ending(&self, by_path: Option<EventDialect>, message: &str) -> Option<Buffer> {
        let events = self.content.events().filter(|_| self.has_open_end)?;
        let mut event = Buffer::take();
        ending::error_event(event.tail(), events, by_path, message)?;
        if !self.downstream_gets_chunks {
            return Some(event);
        }
        let owed = self.reader.owed();
        if events.turn_is_complete() && matches!(owed, Owed::ChunkData { .. }) {
            ending::filling(event.tail(), events);
        }
        let mut out = Buffer::take();
        ending::end_chunked(out.tail(), owed, event.filled())?;
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::fields::ConnectionOptions;
    use crate::proxy::response::coding::ContentCoding;
    use crate::proxy::sse::reference::{dechunked, parse, streams};
    use crate::proxy::sse::tokenizer::BYTE_ORDER_MARK;

    fn relay(body: BodyLength, version: Version, has_events: bool) -> BodyRelay {
        let facts = ResponseFacts {
            status: 200,
            version: Version::Http11,
            body,
            content_length: None,
            connection: ConnectionOptions::default(),
            keep_alive: true,
            rest_limit: None,
            is_event_stream: has_events,
            is_json: false,
            coding: ContentCoding::Identity,
            cost: None,
        };
        BodyRelay::new(&facts, version, Buffer::none(), Rc::new(TokenTraces::none()))
    }

    fn heartbeat_after(body: BodyLength, version: Version, bytes: &str) -> Option<String> {
        let mut relay = relay(body, version, true);
        relay.push(bytes.as_bytes());
        relay.heartbeat(None).map(|out| String::from_utf8(out.filled().to_vec()).expect("text"))
    }

    fn chunked(stream: &[u8], chunk_length: usize) -> Vec<u8> {
        let mut raw = Vec::new();
        stream.chunks(chunk_length).for_each(|chunk| ending::append_chunk(&mut raw, chunk));
        raw.extend_from_slice(b"0\r\nX-Trailer: 1\r\n\r\n");
        raw
    }

    #[test]
    fn a_heartbeat_stands_between_events_only() {
        let cases = [
            ("", Some(": ping\n")),
            (": hello\n", Some(": ping\n")),
            (": hello\n\n", Some(": ping\n")),
            ("data: 1\n\n", Some(": ping\n")),
            ("data: 1\r\n\r\n", Some(": ping\r\n")),
            ("data: 1\r\n\r\n: hello\r\n", Some(": ping\r\n")),
            ("data: [DONE]\n\ndata: more\n\n", Some(": ping\n")),
            ("data: 1\r\r", None),
            ("data: 1\r\n\r", None),
            ("d", None),
            ("data: 1", None),
            ("data: 1\n", None),
            ("data: 1\n: hello\n", None),
            ("id: 1\n", None),
            ("data: 1\n\nevent: x\n", None),
            (": hel", None),
            ("data: [DONE]\n\n", None),
            ("event: message_stop\ndata: {}\n\n: bye\n\n", None),
        ];
        for (bytes, expected) in cases {
            let offered = heartbeat_after(BodyLength::UntilClose, Version::Http11, bytes);
            assert_eq!(offered.as_deref(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_heartbeat_of_gemini_is_a_blank_line() {
        for (bytes, by_path) in [("", Some(EventDialect::Gemini)), ("data: {\"candidates\":[]}\n\n", None)] {
            let mut relay = relay(BodyLength::UntilClose, Version::Http11, true);
            relay.push(bytes.as_bytes());
            assert_eq!(relay.heartbeat(by_path).expect("a heartbeat").filled(), b"\n");
        }
    }

    #[test]
    fn a_heartbeat_is_a_chunk_between_two_chunks() {
        let cases = [
            ("", Some("7\r\n: ping\n\r\n")),
            ("9\r\ndata: 1\n\n\r\n", Some("7\r\n: ping\n\r\n")),
            ("9\r\ndata: 1\n\n\r\n1", Some("7\r\n: ping\n\r\n")),
            ("9\r\ndata: 1\n\n\r", None),
            ("9\r\ndata: 1\n\n", None),
            ("a\r\ndata: 1\n\n", None),
            ("9\r\ndata: 1\n\n\r\n0\r\n\r\n", None),
            ("9\r\ndata: 1\n\n\r\nx", None),
        ];
        for (bytes, expected) in cases {
            let offered = heartbeat_after(BodyLength::Chunked, Version::Http11, bytes);
            assert_eq!(offered.as_deref(), expected, "{bytes:?}");
        }
        let decoded = heartbeat_after(BodyLength::Chunked, Version::Http10, "a\r\ndata: 1\n\n");
        assert_eq!(decoded.as_deref(), Some(": ping\n"), "a client that gets no chunks");
    }

    #[test]
    fn after_a_complete_turn_a_half_event_stays_one_whatever_fills_its_chunk() {
        for half in ["data: {\"a", "data: {}", "data: {}\n", "data: {}\r", "event: x", "event: x\r", "id", ": hi", ""] {
            let stream = format!("event: message_stop\ndata: {{}}\n\n{half}");
            for missing in [1, 2, 3, 100] {
                let mut relay = relay(BodyLength::Chunked, Version::Http11, true);
                relay.push(format!("{:x}\r\n{stream}", stream.len() + missing).as_bytes());
                let ending = relay.ending(None, "x").expect("a clean end");
                let decoded = dechunked(&[relay.out.filled(), ending.filled()].concat());
                assert_eq!(parse(&decoded).len(), 1, "{half:?} {missing}");
            }
        }
    }

    #[test]
    fn a_stream_whose_length_was_told_is_followed_and_cut() {
        let mut relay = relay(BodyLength::Known(100), Version::Http11, true);
        relay.push(b"data: [DONE]\n\n");
        assert!(relay.turn_is_complete());
        assert!(relay.ending(Some(EventDialect::Chat), "x").is_none());
    }

    #[test]
    fn what_is_no_event_stream_that_can_be_ended_well_has_no_heartbeat() {
        assert!(relay(BodyLength::UntilClose, Version::Http11, false).heartbeat(None).is_none());
        assert!(relay(BodyLength::Known(100), Version::Http11, true).heartbeat(None).is_none());
        assert!(relay(BodyLength::None, Version::Http11, true).heartbeat(None).is_none());
    }

    /// The bytes that go downstream when `raw` comes in two reads with a heartbeat between, where one is offered.
    fn with_heartbeat(body: BodyLength, version: Version, (before, after): (&[u8], &[u8])) -> Option<Vec<u8>> {
        let mut relay = relay(body, version, true);
        relay.push(before);
        let heartbeat = relay.heartbeat(None)?;
        relay.out.append(heartbeat.filled());
        relay.push(after);
        assert_eq!(relay.error, None);
        Some(relay.out.filled().to_vec())
    }

    #[test]
    fn a_heartbeat_wherever_it_is_offered_leaves_the_events_as_they_were() {
        let mut offered = 0;
        // A byte order mark has to be the first of all: see `ending::heartbeat`.
        for stream in streams().into_iter().filter(|stream| !stream.starts_with(BYTE_ORDER_MARK)) {
            let events = parse(&stream);
            for (body, chunk_length) in [
                (BodyLength::UntilClose, None),
                (BodyLength::Chunked, Some(1)),
                (BodyLength::Chunked, Some(7)),
                (BodyLength::Chunked, Some(1000)),
            ] {
                let raw = chunk_length.map_or_else(|| stream.clone(), |length| chunked(&stream, length));
                for (cut, version) in (0..=raw.len()).flat_map(|cut| [(cut, Version::Http11), (cut, Version::Http10)]) {
                    let Some(out) = with_heartbeat(body, version, raw.split_at(cut)) else { continue };
                    offered += 1;
                    let has_chunks = body == BodyLength::Chunked && version == Version::Http11;
                    let decoded = if has_chunks { dechunked(&without_trailer(out)) } else { out };
                    assert_eq!(parse(&decoded), events, "{} at {cut}", raw.escape_ascii());
                    assert!(decoded.len() > stream.len(), "{} at {cut}", raw.escape_ascii());
                }
            }
        }
        assert!(offered > 100, "only {offered} heartbeats");
    }

    fn without_trailer(mut raw: Vec<u8>) -> Vec<u8> {
        let body = raw.strip_suffix(b"X-Trailer: 1\r\n\r\n").expect("the trailer").len();
        raw.truncate(body);
        raw.extend_from_slice(b"\r\n");
        raw
    }
}
