//! The document of one failed exchange, as it stands in its file.
//!
//! Invariant: its texts are [`Masked`]; what is not is a number, a name of the configuration, or a word of this
//! program.

use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::head::{HEAD_BYTES_MAX, RecordedHead};
use super::masker::{Excerpt, ExchangeMasker, Masked, MaskedContent, Masker};
use super::recording::{AttemptNote, Notes, SAMPLE_BYTES_MAX};
use crate::observability::ExchangeRecord;

/// The form of the document; another one gets another number.
const VERSION: u32 = 1;

/// The reason why a body is not there.
const TOO_MUCH_WORK: &str = "left out: the search for keys in it would have taken too long";

/// The facts of an exchange that are known at its end.
#[derive(Debug)]
pub struct ExchangeFacts {
    id: String,
    request_id: String,
    trace_id: Option<String>,
    method: String,
    path: String,
    status: Option<u16>,
    end: &'static str,
    code: Option<&'static str>,
    credential: Option<String>,
    key: Option<String>,
    first_byte: Option<Duration>,
    duration: Duration,
    request_bytes: u64,
    response_bytes: u64,
}

impl ExchangeFacts {
    pub fn of(record: &ExchangeRecord<'_>) -> Self {
        ExchangeFacts {
            id: record.id.to_string(),
            request_id: record.request_id.to_owned(),
            trace_id: record.trace_id.map(str::to_owned),
            method: record.method.to_owned(),
            path: record.path.to_owned(),
            status: record.status,
            end: record.ending.as_str(),
            code: record.error_code,
            credential: record.credential.map(str::to_owned),
            key: record.key.map(str::to_owned),
            first_byte: record.first_byte,
            duration: record.duration,
            request_bytes: record.request_bytes,
            response_bytes: record.response_bytes,
        }
    }

    pub fn id(&self) -> &str {
        &self.id
    }
}

/// The document.
#[derive(Debug, Serialize, Deserialize)]
pub struct CaptureDocument {
    pub version: u32,
    pub id: String,
    pub request_id: Masked,
    pub trace_id: Option<String>,
    /// RFC 3339, UTC.
    pub began: String,
    pub ended: String,
    pub duration_ms: f64,
    pub first_byte_ms: Option<f64>,
    pub method: Masked,
    pub path: Masked,
    pub status: Option<u16>,
    /// The word of the log for how it ended.
    pub end: String,
    pub code: Option<String>,
    pub credential: Option<String>,
    pub key: Option<String>,
    pub request: CapturedMessage,
    pub attempts: Vec<CapturedAttempt>,
    /// The number of attempts between the first and the last of these that are not kept.
    #[serde(default)]
    pub attempts_left_out: usize,
    /// The number of the attempt whose answer was held back for a better one and passed on in the end.
    #[serde(default)]
    pub passed_on: Option<usize>,
    pub answer: CapturedMessage,
}

/// A message as far as it is kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct CapturedMessage {
    /// `None` if there was none, or it could not be read.
    pub head: Option<CapturedHead>,
    pub body: CapturedBody,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct CapturedHead {
    pub line: Masked,
    pub fields: Vec<(Masked, Masked)>,
    /// The number of fields that were too much.
    pub left_out: usize,
}

/// The beginning of a body: as text, or in base64 where it is none.
#[derive(Debug, Serialize, Deserialize)]
pub struct CapturedBody {
    /// The length of the whole body, as far as it came.
    pub bytes: u64,
    pub text: Option<Masked>,
    pub base64: Option<Masked>,
    /// The reason why there is neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct CapturedAttempt {
    /// Counted from 1.
    #[serde(default)]
    pub number: usize,
    pub credential: String,
    pub began_ms: f64,
    pub duration_ms: Option<f64>,
    pub status: Option<u16>,
    pub failure: Option<String>,
    pub decision: String,
    /// The head of the upstream's answer.
    pub head: Option<CapturedHead>,
}

impl CaptureDocument {
    pub fn new(facts: ExchangeFacts, notes: &Notes, masker: &Masker) -> Self {
        let mask = Masking { masker: masker.of_exchange(notes.seen.as_slice()) };
        let text = |text: &str| mask.masker.text(text.as_bytes());
        // In this order: where there is too much to search, it is the request's body that is left out first.
        let request_head = notes.request.as_ref().map(|head| mask.head(head));
        let answer_head = notes.answer.as_ref().map(|head| mask.head(head));
        let attempts = notes.attempts.iter().map(|attempt| mask.attempt(attempt, notes.began_at)).collect();
        let (method, path) = (text(&facts.method), text(&facts.path));
        let (content, answer_is_cut) = notes.answer_content();
        let answer_body = mask.body(&content, answer_is_cut, facts.response_bytes);
        let sample = &notes.request_body;
        let request_body = mask.body(sample.bytes(), sample.is_cut(), facts.request_bytes);
        CaptureDocument {
            version: VERSION,
            request_id: text(&facts.request_id),
            trace_id: facts.trace_id,
            began: rfc3339(notes.began),
            ended: rfc3339(notes.began + facts.duration),
            duration_ms: milliseconds(facts.duration),
            first_byte_ms: facts.first_byte.map(milliseconds),
            method,
            path,
            status: facts.status,
            end: facts.end.to_owned(),
            code: facts.code.map(str::to_owned),
            credential: facts.credential,
            key: facts.key,
            request: CapturedMessage { head: request_head, body: request_body },
            attempts,
            attempts_left_out: notes.attempts_left_out(),
            passed_on: notes.passed_on,
            answer: CapturedMessage { head: answer_head, body: answer_body },
            id: facts.id,
        }
    }
}

/// The masker of one exchange, with the forms of what it masks.
struct Masking<'a> {
    masker: ExchangeMasker<'a>,
}

impl Masking<'_> {
    fn head(&self, head: &RecordedHead) -> CapturedHead {
        let text = |bytes: &[u8]| self.masker.text(bytes);
        let RecordedHead { line, line_is_cut: is_cut, fields, left_out } = head;
        CapturedHead {
            line: self.masker.excerpt(Excerpt { bytes: line, is_cut: *is_cut, bytes_max: HEAD_BYTES_MAX }),
            fields: fields.iter().map(|(name, value)| (text(name.as_bytes()), text(value))).collect(),
            left_out: *left_out,
        }
    }

    fn body(&self, content: &[u8], is_cut: bool, bytes: u64) -> CapturedBody {
        // What was made here is not counted as a body of the upstream's.
        let bytes = bytes.max(content.len() as u64);
        let excerpt = Excerpt { bytes: content, is_cut, bytes_max: SAMPLE_BYTES_MAX };
        let (text, base64, note) = match self.masker.content(excerpt, |bytes| BASE64_STANDARD.encode(bytes)) {
            MaskedContent::Text(text) => (Some(text), None, None),
            MaskedContent::Encoded(base64) => (None, Some(base64), None),
            MaskedContent::LeftOut => (None, None, Some(TOO_MUCH_WORK.to_owned())),
        };
        CapturedBody { bytes, text, base64, note }
    }

    fn attempt(&self, attempt: &AttemptNote, began: Instant) -> CapturedAttempt {
        let AttemptNote { credential, head, status, failure, decision, .. } = attempt;
        CapturedAttempt {
            number: attempt.number,
            credential: credential.clone(),
            began_ms: milliseconds(attempt.began.saturating_duration_since(began)),
            duration_ms: attempt.ended.map(|ended| milliseconds(ended.saturating_duration_since(attempt.began))),
            status: *status,
            failure: failure.map(str::to_owned),
            decision: (*decision).to_owned(),
            head: head.as_ref().map(|head| self.head(head)),
        }
    }
}

/// Converts to milliseconds, to the microsecond.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// Writes a time in RFC 3339, in UTC, to the millisecond.
pub fn rfc3339(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second, millisecond) = time.to_hms_milli();
    format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z", u8::from(month))
}
