//! The bytes that are written into an event stream here: the event that ends a broken one well, the comment that shows
//! a silent one alive, and chunked framing that stays valid around them.
//!
//! Invariant: what the upstream sent stays as it is, so a client reads its whole events, and then the error.
//! Not here: when a stream counts as broken or silent.

use std::io::Write;

use crate::http1::body::Owed;
use crate::proxy::error::{Dialect, append_json_string};
use crate::proxy::sse::tokenizer::LineEnd;
use crate::proxy::sse::tracker::EventTracker;
use crate::proxy::sse::unfinished_json;

/// The name of Anthropic's error events.
const ERROR_NAME: &[u8] = b"event: error";

/// The most that an open chunk is filled up with; where more is missing, the answer is cut.
const FILL_BYTES_MAX: u64 = 64 * 1024;

/// Appends the bytes that end the broken stream well: what is half written is ended, then comes the event. After a
/// complete turn there is no event, and nothing that would finish another one.
pub fn error_event(out: &mut Vec<u8>, tracker: &EventTracker, dialect: Dialect, message: &str) {
    if tracker.is_after_cr() {
        // The CR may be the first half of a CRLF. An LF completes it, and is no line of its own in any case.
        out.push(b'\n');
    }
    if tracker.turn_is_complete() {
        return;
    }
    let members = error_members(dialect, message);
    let half = HalfEvent::of(tracker, &members);
    let line_end = match tracker.line_end() {
        LineEnd::Lf => "\n",
        LineEnd::CrLf => "\r\n",
    };
    let mut push_line = |line: &[u8]| {
        out.extend_from_slice(line);
        out.extend_from_slice(line_end.as_bytes());
    };
    let is_mid_line = !tracker.is_at_line_start();
    match &half {
        HalfEvent::Object { closing } => {
            push_line(closing);
            if dialect == Dialect::Anthropic {
                push_line(ERROR_NAME);
            }
            push_line(b"");
        }
        HalfEvent::Data if is_mid_line => {
            push_line(b"");
            push_line(b"");
        }
        HalfEvent::Dataless { .. } if is_mid_line => push_line(b""),
        HalfEvent::Data => push_line(b""),
        HalfEvent::Dataless { .. } => {}
    }
    match (dialect, half) {
        (Dialect::Anthropic, _) => push_line(ERROR_NAME),
        // The last name of an event counts.
        (Dialect::OpenAi, HalfEvent::Dataless { is_named: true }) => push_line(b"event:"),
        (Dialect::OpenAi, _) => {}
    }
    push_line(format!("data: {{{members}}}").as_bytes());
    push_line(b"");
}

/// The event in which a stream broke off.
///
/// SDKs parse each event as JSON before they look for an error, also an empty one that has a name: half an event would
/// fail there. So an event without data takes the error's, and one that broke off in a JSON object is closed with the
/// error as a member.
enum HalfEvent {
    /// No data has come, nor the field's name: it becomes the error event.
    Dataless { is_named: bool },
    /// Its last line is the beginning of a JSON object, which `closing` completes with the error as a member.
    Object { closing: Vec<u8> },
    /// Data that is ended as it is.
    Data,
}

impl HalfEvent {
    fn of(tracker: &EventTracker, members: &str) -> Self {
        let event = tracker.half_written();
        match tracker.unfinished_data().and_then(|data| unfinished_json::closing(data, members)) {
            Some(closing) => HalfEvent::Object { closing },
            None if event.has_data() => HalfEvent::Data,
            None => HalfEvent::Dataless { is_named: event.has_name() },
        }
    }
}

/// The comment that shows a silent stream alive; `None` where it cannot stand, and where the turn is over.
///
/// No blank line follows it: at one, clients that keep the last `id` were seen to make an event of nothing. A byte order
/// mark that comes only after the comment is not the stream's first character any more; no known server sends one.
pub fn heartbeat(tracker: &EventTracker) -> Option<&'static [u8]> {
    if !tracker.is_between_events() || tracker.turn_is_complete() {
        return None;
    }
    Some(match tracker.line_end() {
        LineEnd::Lf => b": ping\n",
        LineEnd::CrLf => b": ping\r\n",
    })
}

/// The members of the error's JSON object.
fn error_members(dialect: Dialect, message: &str) -> String {
    let mut text = Vec::new();
    append_json_string(&mut text, message);
    let text = String::from_utf8_lossy(&text);
    match dialect {
        Dialect::Anthropic => format!(r#""type":"error","error":{{"type":"api_error","message":{text}}}"#),
        Dialect::OpenAi => {
            format!(r#""error":{{"message":{text},"type":"upstream_error","code":"upstream_disconnected"}}"#)
        }
    }
}

/// Appends `content` and the end of the body, so that a chunked answer which owes `owed` stays valid. An open chunk is
/// filled with the content, then with line ends, which say nothing in an event stream; what does not fit into it goes
/// into a chunk of its own.
///
/// `None`, with nothing appended, where more than 64 KiB are missing: the caller cuts the answer.
pub fn end_chunked(out: &mut Vec<u8>, owed: Owed, content: &[u8]) -> Option<()> {
    let mut rest = content;
    match owed {
        Owed::Nothing => {}
        Owed::ChunkData { remaining } => {
            if remaining > FILL_BYTES_MAX {
                return None;
            }
            let remaining = usize::try_from(remaining).ok()?;
            let (within, beyond) = content.split_at(content.len().min(remaining));
            out.extend_from_slice(within);
            out.resize(out.len() + remaining - within.len(), b'\n');
            out.extend_from_slice(b"\r\n");
            rest = beyond;
        }
        Owed::ChunkEnd => out.extend_from_slice(b"\r\n"),
    }
    if !rest.is_empty() {
        append_chunk(out, rest);
    }
    out.extend_from_slice(b"0\r\n\r\n");
    Some(())
}

/// Appends `content`, which is not empty, as a chunk of its own (RFC 9112 §7.1).
pub fn append_chunk(out: &mut Vec<u8>, content: &[u8]) {
    write!(out, "{:x}\r\n", content.len()).expect("a Vec takes every byte");
    out.extend_from_slice(content);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
