//! The bytes that are written into an event stream here: the event that ends a broken one well, the comment that shows
//! a silent one alive, and chunked framing that stays valid around them.
//!
//! Invariant: what the upstream sent stays as it is, so a client reads its whole events, and then the error.
//! Not here: when a stream counts as broken or silent.

use std::io::Write;

use crate::http1::body::Owed;
use crate::proxy::sse::dialect::EventDialect;
use crate::proxy::sse::events::HalfEvent;
use crate::proxy::sse::tokenizer::LineEnd;
use crate::proxy::sse::tracker::EventTracker;

/// Begins a comment.
const COMMENT: u8 = b':';

/// The most that an open chunk is filled up with; where more is missing, the answer is cut.
const FILL_BYTES_MAX: u64 = 64 * 1024;

/// Appends the bytes that end the broken stream well: what is half written is ended, then comes the event. After a
/// complete turn there is no event.
///
/// SDKs parse each event as JSON before they look for an error, also an empty one that has a name: half an event would
/// fail there. So an event without data takes the error's, and one that broke off in a JSON object is closed with the
/// error as a member.
///
/// `None`, with nothing appended, where neither the events nor the path tell the dialect (`by_path`, before the first
/// event): an error that a client does not know as one could make half an answer look whole, and a cut cannot.
pub fn error_event(
    out: &mut Vec<u8>,
    tracker: &EventTracker,
    by_path: Option<EventDialect>,
    message: &str,
) -> Option<()> {
    let dialect = tracker.events.dialect(by_path);
    let is_complete = tracker.turn_is_complete();
    if dialect.is_none() && !is_complete {
        return None;
    }
    if tracker.is_after_cr() {
        // The CR may be the first half of a CRLF. An LF completes it, and is no line of its own in any case.
        out.push(b'\n');
    }
    let mut lines = Lines { out, end: line_end(tracker.line_end()) };
    match dialect {
        Some(dialect) if !is_complete => append_error(&mut lines, tracker, dialect, message),
        Some(EventDialect::Gemini) => complete_half_event(&mut lines, tracker),
        _ => {}
    }
    Some(())
}

/// Appends the end of what is half written, and the event.
fn append_error(lines: &mut Lines<'_>, tracker: &EventTracker, dialect: EventDialect, message: &str) {
    // The half event gets all of them too. Of members that it has already, the last count.
    let members = dialect.error_members(message, tracker.events.next_sequence_number());
    let data = format!("{{{members}}}");
    let half = tracker.events.half_written(dialect, &members);
    let HalfEvent::Dataless { is_named } = half else {
        end_half_event(lines, tracker, &half, dialect.error_name());
        return append_event(lines, dialect.error_name(), &data);
    };
    // The last name of an event counts.
    let name = dialect.error_name().or(is_named.then_some(b"event:"));
    if let Some(rest) = tracker.rest_of_data_field() {
        // The line of its data has begun, and goes on with the error's.
        lines.push(&[rest, data.as_bytes()].concat());
        if let Some(name) = name {
            lines.push(name);
        }
        return lines.push(b"");
    }
    if !tracker.is_at_line_start() {
        lines.push(b"");
    }
    if dialect == EventDialect::Gemini {
        // Google's clients know no other fields, and no comments: an error on the lines after one would be lost.
        lines.push(b"");
        return append_event(lines, None, &data);
    }
    append_event(lines, name, &data);
}

/// Appends an event.
fn append_event(lines: &mut Lines<'_>, name: Option<&[u8]>, data: &str) {
    if let Some(name) = name {
        lines.push(name);
    }
    lines.push(format!("data: {data}").as_bytes());
    lines.push(b"");
}

/// Appends what ends an event that came after a complete turn. Google's clients read lines, not events: half a line
/// would fail there. Others drop it.
fn complete_half_event(lines: &mut Lines<'_>, tracker: &EventTracker) {
    let half = tracker.events.half_written(EventDialect::Gemini, "");
    if matches!(half, HalfEvent::Object { .. }) {
        end_half_event(lines, tracker, &half, None);
    } else if let (HalfEvent::Dataless { .. }, Some(rest)) = (half, tracker.rest_of_data_field()) {
        lines.push(&[rest, b"{}"].concat());
        lines.push(b"");
    }
}

/// Appends the rest of an event that has data, with its blank line. `name` is given to an object that is an error now.
fn end_half_event(lines: &mut Lines<'_>, tracker: &EventTracker, half: &HalfEvent, name: Option<&[u8]>) {
    let (rest, may_follow): (&[u8], bool) = match half {
        HalfEvent::Object { rest } => (rest, true),
        HalfEvent::Done { rest } => (rest, false),
        HalfEvent::Dataless { .. } | HalfEvent::Data => (b"", false),
    };
    match tracker.rest_of_data_field() {
        Some(field) if may_follow || field.is_empty() => lines.push(&[field, rest].concat()),
        field => {
            // A line of another field, or a field's name, is ended as it is.
            if field.is_some() || !tracker.is_at_line_start() {
                lines.push(b"");
            }
            // The lines of an event's data are joined by line ends, which JSON takes for white space.
            if may_follow {
                lines.push(&[b"data: ", rest].concat());
            }
        }
    }
    if let (Some(name), HalfEvent::Object { .. }) = (name, half) {
        lines.push(name);
    }
    lines.push(b"");
}

/// Appends what an open chunk after a complete turn is filled with, where line ends would make an event of one that is
/// half written: a comment without an end. Google's clients, for whom such an event has been completed, need line ends.
pub fn filling(out: &mut Vec<u8>, tracker: &EventTracker) {
    if tracker.is_between_events() || tracker.events.dialect(None) == Some(EventDialect::Gemini) {
        return;
    }
    if !tracker.is_at_line_start() {
        out.extend_from_slice(line_end(tracker.line_end()));
    }
    out.push(COMMENT);
}

/// Appends lines that end as those of the stream.
struct Lines<'a> {
    out: &'a mut Vec<u8>,
    end: &'static [u8],
}

impl Lines<'_> {
    fn push(&mut self, line: &[u8]) {
        self.out.extend_from_slice(line);
        self.out.extend_from_slice(self.end);
    }
}

fn line_end(line_end: LineEnd) -> &'static [u8] {
    match line_end {
        LineEnd::Lf => b"\n",
        LineEnd::CrLf => b"\r\n",
    }
}

/// The line that shows a silent stream alive; `None` where it cannot stand, and where the turn is over.
///
/// It is a comment that no blank line follows: at one, clients that keep the last `id` were seen to make an event of
/// nothing. Google's clients take a comment for data, or lose the event after it, and have no `id`: a blank line it is
/// for them.
///
/// While no event tells the dialect, the path does, in which Google's clients always name their method. Where it says
/// nothing, a comment is safe: those that read the grammar skip it. A byte order mark that comes only after the line is
/// not the stream's first character any more; no known server sends one.
pub fn heartbeat(tracker: &EventTracker, by_path: Option<EventDialect>) -> Option<&'static [u8]> {
    if !tracker.is_between_events() || tracker.turn_is_complete() {
        return None;
    }
    let is_gemini = tracker.events.dialect(by_path).or(by_path) == Some(EventDialect::Gemini);
    Some(match (tracker.line_end(), is_gemini) {
        (LineEnd::Lf, false) => b": ping\n",
        (LineEnd::CrLf, false) => b": ping\r\n",
        (end, true) => line_end(end),
    })
}

/// Appends `content` and the end of the body, so that a chunked answer which owes `owed` stays valid. An open chunk is
/// filled with the content, then with line ends, which say nothing in an event stream, or with more of the comment that
/// the content begins; what does not fit into it goes into a chunk of its own.
///
/// `None`, with nothing appended, where more than 64 KiB are missing: the caller cuts the answer.
pub fn end_chunked(out: &mut Vec<u8>, owed: Owed, content: &[u8]) -> Option<()> {
    let filler = if content.last() == Some(&COMMENT) { COMMENT } else { b'\n' };
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
            out.resize(out.len() + remaining - within.len(), filler);
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
