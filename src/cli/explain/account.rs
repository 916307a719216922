//! The account of one failed exchange, for a terminal.
//!
//! Invariant: what others wrote cannot move the cursor or fake a line: control characters are escaped, and so is what
//! turns the direction of text.

use std::fmt;
use std::path::Path;

use super::advice::advice;
use crate::capture::document::{CaptureDocument, CapturedAttempt, CapturedBody, CapturedHead, CapturedMessage};
use crate::cli::shown_text::ShownText;

/// The part of a body that is shown; the file has more.
const SHOWN_BYTES_MAX: usize = 2 * 1024;

/// Tells what became of an exchange.
pub struct ExchangeAccount<'a> {
    pub document: &'a CaptureDocument,
    pub file: &'a Path,
}

/// Returns the line of an exchange in a list.
pub fn line(document: &CaptureDocument) -> String {
    let status = document.status.map_or("no answer".to_owned(), |status| status.to_string());
    let (began, id, end) = (ShownText(&document.began), ShownText(&document.id), ShownText(&document.end));
    let request = format!("{} {}", ShownText(document.method.text()), ShownText(document.path.text()));
    format!("{began} {id} {request}: {status}, {end} (request id {})\n", ShownText(document.request_id.text()))
}

impl fmt::Display for ExchangeAccount<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CaptureDocument { request, attempts, passed_on, answer, .. } = self.document;
        self.write_summary(out)?;
        writeln!(out, "\nThe client asked")?;
        write_message(out, request)?;
        writeln!(out, "\nAttempts")?;
        if attempts.is_empty() {
            writeln!(out, "  none: nothing went to the upstream")?;
        }
        let mut last = 0;
        for attempt in attempts {
            // A capture of an earlier version has no numbers, and all attempts.
            let number = attempt.number.max(last + 1);
            if number > last + 1 {
                writeln!(out, "  ({} more attempts were not kept)", number - last - 1)?;
            }
            write_attempt(out, number, attempt)?;
            last = number;
        }
        if let Some(number) = passed_on {
            writeln!(out, "  The answer of attempt {number} was passed on.")?;
        }
        writeln!(out, "\nThe client got")?;
        write_message(out, answer)?;
        let advice = advice(self.document);
        if !advice.is_empty() {
            writeln!(out, "\nWhat it means")?;
        }
        advice.iter().try_for_each(|sentence| writeln!(out, "  {}", ShownText(sentence)))?;
        writeln!(out, "\nAll that was kept: {}", self.file.display())
    }
}

impl ExchangeAccount<'_> {
    fn write_summary(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let document = self.document;
        write!(out, "Exchange {}, request id {}", ShownText(&document.id), ShownText(document.request_id.text()))?;
        for (what, value) in [("trace", &document.trace_id), ("key", &document.key)] {
            if let Some(value) = value {
                write!(out, ", {what} {}", ShownText(value))?;
            }
        }
        writeln!(out)?;
        let request = format!("{} {}", ShownText(document.method.text()), ShownText(document.path.text()));
        writeln!(out, "{request} at {}", ShownText(&document.began))?;
        match document.status {
            Some(status) => write!(out, "The client got {status}")?,
            None => write!(out, "The client got no answer")?,
        }
        if let Some(first_byte) = document.first_byte_ms {
            write!(out, " after {first_byte} ms")?;
        }
        writeln!(out, "; it ended as {} after {} ms.", ShownText(&document.end), document.duration_ms)
    }
}

fn write_message(out: &mut fmt::Formatter<'_>, message: &CapturedMessage) -> fmt::Result {
    match &message.head {
        Some(head) => write_head(out, head, "  ")?,
        None => writeln!(out, "  nothing that could be read")?,
    }
    write_body(out, &message.body)
}

fn write_head(out: &mut fmt::Formatter<'_>, head: &CapturedHead, indent: &str) -> fmt::Result {
    writeln!(out, "{indent}{}", ShownText(head.line.text()))?;
    for (name, value) in &head.fields {
        writeln!(out, "{indent}{}: {}", ShownText(name.text()), ShownText(value.text()))?;
    }
    if head.left_out > 0 {
        writeln!(out, "{indent}({} more fields were not kept)", head.left_out)?;
    }
    Ok(())
}

fn write_body(out: &mut fmt::Formatter<'_>, body: &CapturedBody) -> fmt::Result {
    if body.bytes == 0 {
        return Ok(());
    }
    let (text, form) = match (&body.text, &body.base64) {
        (Some(text), _) => (text.text(), ""),
        (None, Some(base64)) => (base64.text(), ", in base64"),
        (None, None) => ("", ""),
    };
    if let Some(note) = &body.note {
        return writeln!(out, "  Body of {} bytes, {}", body.bytes, ShownText(note));
    }
    let mut end = text.len().min(SHOWN_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let more = if end < text.len() { ", the beginning of it" } else { "" };
    writeln!(out, "  Body of {} bytes{form}{more}:", body.bytes)?;
    text[..end].lines().try_for_each(|line| writeln!(out, "  | {}", ShownText(line)))
}

fn write_attempt(out: &mut fmt::Formatter<'_>, number: usize, attempt: &CapturedAttempt) -> fmt::Result {
    write!(out, "  {number}. by {}, begun after {} ms: ", ShownText(&attempt.credential), attempt.began_ms)?;
    match (attempt.status, &attempt.failure) {
        (Some(status), None) => write!(out, "answered {status}")?,
        (Some(status), Some(failure)) => write!(out, "answered {status}, then {}", ShownText(failure))?,
        (None, Some(failure)) => write!(out, "{}", ShownText(failure))?,
        (None, None) => write!(out, "no answer")?,
    }
    if let Some(duration) = attempt.duration_ms {
        write!(out, ", over after {duration} ms")?;
    }
    if !attempt.decision.is_empty() {
        write!(out, "; {}", ShownText(&attempt.decision))?;
    }
    writeln!(out)?;
    attempt.head.as_ref().map_or(Ok(()), |head| write_head(out, head, "     "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::shown_text::is_obeyed;

    fn document(status: u16, path: &str, body: &str) -> CaptureDocument {
        let head = |line: &str| serde_json::json!({"line": line, "fields": [["X-One", path]], "left_out": 0});
        let attempt = serde_json::json!({
            "credential": "team-a", "began_ms": 0.5, "duration_ms": 2.5, "status": status, "failure": null,
            "decision": "its answer was passed on", "head": head("HTTP/1.1 429 No")
        });
        let value = serde_json::json!({
            "version": 1, "id": "0-1a", "request_id": "r-1", "trace_id": null, "began": "2026-11-30T07:14:37.000Z",
            "ended": "2026-11-30T07:14:38.000Z", "duration_ms": 12.5, "first_byte_ms": 3.25, "method": "POST",
            "path": path, "status": status, "end": "ok", "code": null, "credential": "team-a", "key": "alice",
            "request": {"head": head("POST /v1 HTTP/1.1"), "body": {"bytes": body.len(), "text": body, "base64": null}},
            "attempts": [attempt],
            "answer": {"head": head("HTTP/1.1 429 No"), "body": {"bytes": 0, "text": "", "base64": null}}
        });
        serde_json::from_value(value).expect("a document")
    }

    #[test]
    fn an_account_tells_all_and_what_to_do() {
        let account =
            ExchangeAccount { document: &document(429, "/v1", "{\"a\":1}\n{}"), file: Path::new("f.json") }.to_string();
        for part in [
            "Exchange 0-1a, request id r-1, key alice\nPOST /v1 at 2026-11-30T07:14:37.000Z\n",
            "The client got 429 after 3.25 ms; it ended as ok after 12.5 ms.\n",
            "  POST /v1 HTTP/1.1\n  X-One: /v1\n  Body of 10 bytes:\n  | {\"a\":1}\n  | {}\n",
            "  1. by team-a, begun after 0.5 ms: answered 429, over after 2.5 ms; its answer was passed on\n",
            "What it means\n  The upstream gave this answer. A limit of requests or tokens is reached",
            "All that was kept: f.json\n",
        ] {
            assert!(account.contains(part), "{part}\n---\n{account}");
        }
    }

    #[test]
    fn attempts_that_were_not_kept_and_a_body_that_was_left_out_are_told() {
        let mut document = document(429, "/v1", "");
        let attempt = |number: usize| {
            let value = serde_json::json!({
                "number": number, "credential": "team-a", "began_ms": 0, "duration_ms": null, "status": 429,
                "failure": null, "decision": "", "head": null
            });
            serde_json::from_value(value).expect("an attempt")
        };
        document.attempts = [1, 2, 9].map(attempt).into();
        document.passed_on = Some(5);
        document.request.body = serde_json::from_value(serde_json::json!({
            "bytes": 9, "text": null, "base64": null, "note": "left out"
        }))
        .expect("a body");
        let text = ExchangeAccount { document: &document, file: Path::new("f") }.to_string();
        for part in [
            "  2. by team-a, begun after 0 ms: answered 429\n  (6 more attempts were not kept)\n  9. by team-a, ",
            "  The answer of attempt 5 was passed on.\n",
            "  Body of 9 bytes, left out\n",
        ] {
            assert!(text.contains(part), "{part}\n---\n{text}");
        }
    }

    #[test]
    fn nothing_of_a_capture_reaches_the_terminal_as_a_command() {
        const EVIL: &str = "a\x1b[2J\u{9b}31m\rfake\u{202e}\u{2066}\u{2028}\0";
        let document = document(404, EVIL, &format!("{EVIL}\n{EVIL}"));
        let text = ExchangeAccount { document: &document, file: Path::new("f") }.to_string() + &line(&document);
        assert!(text.chars().all(|character| character == '\n' || !is_obeyed(character)), "{text:?}");
        assert!(text.contains("a\\u{1b}[2J\\u{9b}31m\\rfake\\u{202e}"), "{text}");
    }

    #[test]
    fn a_long_body_is_shortened_within_its_characters() {
        let body = format!("{}é", "x".repeat(SHOWN_BYTES_MAX - 1));
        let text = ExchangeAccount { document: &document(404, "/", &body), file: Path::new("f") }.to_string();
        assert!(text.contains(&format!(
            "Body of {} bytes, the beginning of it:\n  | {}\n",
            body.len(),
            "x".repeat(SHOWN_BYTES_MAX - 1)
        )));
    }
}
