//! The notes on one exchange while it runs, in case that it fails.
//!
//! Invariant: bounded, whatever comes: heads as [`RecordedHead`] bounds them, [`TAKEN_BYTES_MAX`] of each body,
//! [`ATTEMPTS_MAX`] attempts. It belongs to one shard.

use std::cell::RefCell;
use std::time::{Instant, SystemTime};

use zeroize::Zeroizing;

use super::head::{ATTEMPT_HEAD_BYTES_MAX, HEAD_BYTES_MAX, RecordedHead};
use super::masker::KEY_BYTES_MAX;
use super::seen::SeenKeys;
use crate::http1::body::{BodyReader, Piece};
use crate::http1::fields::{Known, known};
use crate::http1::framing::BodyLength;
use crate::http1::head::{RequestHead, ResponseHead, with_response};

/// The part of a body that is kept.
pub const SAMPLE_BYTES_MAX: usize = 16 * 1024;
/// The part that is taken, so that a key at the end of what is kept can be known.
const TAKEN_BYTES_MAX: usize = SAMPLE_BYTES_MAX + KEY_BYTES_MAX;
/// The attempts that are kept: the first, which tell how it began, and the last, which tell how it ended.
const FIRST_ATTEMPTS_MAX: usize = 4;
const ATTEMPTS_MAX: usize = FIRST_ATTEMPTS_MAX + 4;

/// The notes on one exchange, made by all who take part in it.
#[derive(Debug)]
pub struct Recording {
    notes: RefCell<Notes>,
}

/// The notes on one exchange.
#[derive(Debug)]
pub struct Notes {
    pub began: SystemTime,
    pub began_at: Instant,
    /// As the client sent it; `None` if it could not be read.
    pub request: Option<RecordedHead>,
    /// The keys that the request came with.
    pub seen: SeenKeys,
    pub request_body: BodySample,
    pub attempts: Vec<AttemptNote>,
    /// The attempts that have begun, those that are not kept included.
    attempts_begun: usize,
    /// The number of the attempt whose answer was held and passed on in the end.
    pub passed_on: Option<usize>,
    /// As it went downstream.
    pub answer: Option<RecordedHead>,
    /// As it went downstream, in its framing.
    answer_wire: BodySample,
}

/// The notes on one attempt.
#[derive(Debug)]
pub struct AttemptNote {
    /// Counted from 1, a repetition on a fresh connection included.
    pub number: usize,
    pub credential: String,
    pub began: Instant,
    pub ended: Option<Instant>,
    /// The head of the upstream's answer.
    pub head: Option<RecordedHead>,
    pub status: Option<u16>,
    /// The code of the error that it ended with.
    pub failure: Option<&'static str>,
    /// The consequence, in words.
    pub decision: &'static str,
}

/// The beginning of a body.
#[derive(Debug, Default)]
pub struct BodySample {
    bytes: Zeroizing<Vec<u8>>,
    is_cut: bool,
}

impl BodySample {
    fn push(&mut self, bytes: &[u8]) {
        let room = TAKEN_BYTES_MAX - self.bytes.len();
        self.is_cut |= bytes.len() > room;
        if room == 0 || bytes.is_empty() {
            return;
        }
        // At once: what grows would leave copies behind.
        self.bytes.reserve_exact(room);
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Tells whether there was more.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }
}

impl Recording {
    pub fn begin(now: Instant) -> Self {
        Recording { notes: RefCell::new(Notes::new(now)) }
    }

    /// Takes the notes out; what is noted from here on is lost.
    pub fn take(&self) -> Notes {
        let began = self.notes.borrow().began_at;
        self.notes.replace(Notes::new(began))
    }

    pub fn note_request(&self, head: &RequestHead<'_>) {
        let mut notes = self.notes.borrow_mut();
        let mut seen = SeenKeys::default();
        notes.request = Some(RecordedHead::of_request(head, &mut seen));
        notes.seen = seen;
    }

    /// Notes content of the request's body.
    pub fn note_request_body(&self, content: &[u8]) {
        self.notes.borrow_mut().request_body.push(content);
    }

    pub fn begin_attempt(&self, credential: &str, now: Instant) {
        let notes = &mut *self.notes.borrow_mut();
        if notes.attempts.len() == ATTEMPTS_MAX {
            notes.attempts.remove(FIRST_ATTEMPTS_MAX);
        }
        notes.attempts_begun += 1;
        notes.attempts.push(AttemptNote {
            number: notes.attempts_begun,
            credential: credential.to_owned(),
            began: now,
            ended: None,
            head: None,
            status: None,
            failure: None,
            decision: "",
        });
    }

    /// Returns the number of the attempt under way.
    pub fn attempt_number(&self) -> usize {
        self.notes.borrow().attempts_begun
    }

    /// Notes whose answer was passed on after it had been held, and that in words.
    pub fn note_passed_on(&self, number: usize, decision: &'static str) {
        let mut notes = self.notes.borrow_mut();
        notes.passed_on = Some(number);
        if let Some(attempt) = notes.attempts.iter_mut().find(|attempt| attempt.number == number) {
            attempt.decision = decision;
        }
    }

    /// Notes the head of the upstream's answer to the attempt under way.
    pub fn note_upstream(&self, head: &ResponseHead<'_>) {
        if let Some(attempt) = self.notes.borrow_mut().attempts.last_mut() {
            attempt.status = Some(head.status);
            attempt.head = Some(RecordedHead::of_response(head, ATTEMPT_HEAD_BYTES_MAX));
        }
    }

    /// Notes how the attempt under way ended, and what follows.
    pub fn end_attempt(&self, failure: Option<&'static str>, decision: &'static str, now: Instant) {
        if let Some(attempt) = self.notes.borrow_mut().attempts.last_mut() {
            attempt.ended = Some(now);
            attempt.failure = failure;
            attempt.decision = decision;
        }
    }

    /// Notes bytes of the final answer that go downstream, the first of which begin with its head.
    pub fn note_answer(&self, bytes: &[u8]) {
        let mut notes = self.notes.borrow_mut();
        if notes.answer.is_some() {
            return notes.answer_wire.push(bytes);
        }
        let end = memchr::memmem::find(bytes, b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
        let (head, body) = bytes.split_at(end);
        notes.answer =
            Some(with_response(head, |head| RecordedHead::of_response(head, HEAD_BYTES_MAX)).unwrap_or_default());
        notes.answer_wire.push(body);
    }
}

impl Notes {
    fn new(now: Instant) -> Self {
        Notes {
            began: SystemTime::now(),
            began_at: now,
            request: None,
            seen: SeenKeys::default(),
            request_body: BodySample::default(),
            attempts: Vec::new(),
            attempts_begun: 0,
            passed_on: None,
            answer: None,
            answer_wire: BodySample::default(),
        }
    }

    /// Returns the number of attempts that are not kept.
    pub fn attempts_left_out(&self) -> usize {
        self.attempts_begun - self.attempts.len()
    }

    /// Returns the content of the answer that was taken, without its framing, and whether there was more.
    pub fn answer_content(&self) -> (Zeroizing<Vec<u8>>, bool) {
        let is_cut = self.answer_wire.is_cut();
        let wire = self.answer_wire.bytes();
        let is_coding = |(name, _): &(String, Vec<u8>)| known(name) == Some(Known::TransferEncoding);
        if !self.answer.as_ref().is_some_and(|head| head.fields.iter().any(is_coding)) {
            return (Zeroizing::new(wire.to_vec()), is_cut);
        }
        let mut content = Zeroizing::new(Vec::with_capacity(wire.len()));
        // What is malformed of it is malformed by the upstream, and ends the content here as it does for its client.
        let _ = BodyReader::new(BodyLength::Chunked).read(wire, |piece| {
            if let Piece::Data(data) = piece {
                content.extend_from_slice(data);
            }
        });
        (content, is_cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_body_is_kept_up_to_its_bound() {
        let recording = Recording::begin(Instant::now());
        for _ in 0..100 {
            recording.note_request_body(&[b'x'; 1000]);
        }
        recording.note_answer(b"HTTP/1.1 500 No\r\nX: 1\r\n\r\nbody");
        recording.note_answer(&[b'y'; 100_000]);
        let notes = recording.take();
        let (answer, is_cut) = notes.answer_content();
        assert_eq!((notes.request_body.bytes().len(), answer.len()), (TAKEN_BYTES_MAX, TAKEN_BYTES_MAX));
        assert!(answer.starts_with(b"bodyy") && is_cut && notes.request_body.is_cut());
        assert!(recording.take().request_body.bytes().is_empty());
    }

    #[test]
    fn the_framing_of_an_answer_is_not_kept() {
        let recording = Recording::begin(Instant::now());
        recording.note_answer(b"HTTP/1.1 502 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
        recording.note_answer(b"3\r\ncde\r\n5\r\nfg");
        let (content, is_cut) = recording.take().answer_content();
        assert_eq!((content.as_slice(), is_cut), (&b"abcdefg"[..], false));
    }

    #[test]
    fn of_many_attempts_the_first_and_the_last_are_kept() {
        for (begun, kept) in [
            (0, &[][..]),
            (3, &[1, 2, 3]),
            (8, &[1, 2, 3, 4, 5, 6, 7, 8]),
            (9, &[1, 2, 3, 4, 6, 7, 8, 9]),
            (1000, &[1, 2, 3, 4, 997, 998, 999, 1000]),
        ] {
            let recording = Recording::begin(Instant::now());
            (0..begun).for_each(|_| recording.begin_attempt("a", Instant::now()));
            recording.end_attempt(None, "ended", Instant::now());
            let notes = recording.take();
            assert_eq!(notes.attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), kept);
            assert_eq!(notes.attempts_left_out(), begun - kept.len());
            assert!(notes.attempts.last().is_none_or(|attempt| attempt.decision == "ended"));
        }
    }

    #[test]
    fn it_is_noted_whose_answer_was_passed_on_also_where_it_is_not_kept() {
        for (number, decided) in [(2, 1), (5, 0), (9, 1)] {
            let recording = Recording::begin(Instant::now());
            (0..9).for_each(|_| recording.begin_attempt("a", Instant::now()));
            recording.note_passed_on(number, "passed on");
            let notes = recording.take();
            assert_eq!(notes.passed_on, Some(number));
            let of = notes.attempts.iter().filter(|attempt| attempt.decision == "passed on");
            assert_eq!(of.map(|attempt| attempt.number).collect::<Vec<_>>(), vec![number; decided]);
        }
    }
}
