//! Finding the end of a head as bytes come in.
//!
//! Invariant: [`HeadScanner`] looks at every byte once, however many reads bring the head, and its result does not
//! depend on how the bytes were split. It checks line ends and sizes; `parse` checks everything else.

use memchr::memchr;

use super::parse::{FIELDS_MAX, HeadError, split_version};
use crate::http1::grammar::is_token_byte;

/// The kind of a head's first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartLine {
    Request,
    Status,
}

/// Limits on the size of a head.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    pub start_line: StartLine,
    /// The first line with its CRLF.
    pub line_bytes_max: usize,
    /// From the first line to the empty line, both included.
    pub head_bytes_max: usize,
    pub fields_max: usize,
}

impl HeadLimits {
    /// Room for long URLs and large cookies; what nginx and HAProxy accept by default is a quarter of it.
    pub const REQUEST: HeadLimits = HeadLimits {
        start_line: StartLine::Request,
        line_bytes_max: 16 * 1024,
        head_bytes_max: 64 * 1024,
        fields_max: 100,
    };
    /// The upstream is trusted more than the downstream, but not with all memory.
    pub const RESPONSE: HeadLimits = HeadLimits {
        start_line: StartLine::Status,
        line_bytes_max: 128 * 1024,
        head_bytes_max: 128 * 1024,
        fields_max: FIELDS_MAX,
    };
}

/// The place of a head in the bytes that were scanned: `bytes[start..end]`; the body begins at `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadSpan {
    pub start: usize,
    pub end: usize,
}

/// Empty lines before a request line that are ignored (RFC 9112 §2.2 asks for at least one).
const EMPTY_LINES_MAX: u8 = 2;

/// Finds the end of a head, line by line. One scanner serves one message.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeadScanner {
    /// Offset of the first line, after empty lines.
    start: usize,
    /// Offset of the line whose end has not come yet.
    line_start: usize,
    /// Everything before this has been searched for a line end.
    pub(super) searched: usize,
    lines: usize,
    empty_lines: u8,
}

impl HeadScanner {
    /// Continues where the last call stopped. `bytes` is everything received from the start of this message; `None`
    /// asks for more.
    ///
    /// # Errors
    /// As soon as no further byte could make the size, the line ends or the form of the first line acceptable.
    pub fn scan(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<HeadSpan>, HeadError> {
        loop {
            self.check_first_byte(bytes, limits)?;
            let unsearched = bytes.get(self.searched..).unwrap_or_default();
            let Some(found) = memchr(b'\n', unsearched) else {
                self.searched = self.searched.max(bytes.len());
                return self.check_size(self.searched, limits).map(|()| None);
            };
            let line_end = self.searched + found + 1;
            self.check_size(line_end, limits)?;
            let line = &bytes[self.line_start..line_end];
            // RFC 9112 §2.2 lets a recipient take a bare LF for a line end; request smuggling depends on that.
            let Some(line) = line.strip_suffix(b"\r\n") else {
                return Err(HeadError::Malformed("a line ends without CR LF"));
            };
            self.line_start = line_end;
            self.searched = line_end;
            match (self.lines, line) {
                (0, []) => self.skip_empty_line(line_end, limits)?,
                (_, []) => return Ok(Some(HeadSpan { start: self.start, end: line_end })),
                (0, line) => {
                    check_start_line_form(line, limits)?;
                    self.lines = 1;
                }
                _ if self.lines > limits.fields_max => return Err(HeadError::TooManyFields),
                _ => self.lines += 1,
            }
        }
    }

    /// Refuses a TLS hello or other noise at its first byte, rather than after a time limit.
    fn check_first_byte(&self, bytes: &[u8], limits: &HeadLimits) -> Result<(), HeadError> {
        match bytes.get(self.start) {
            Some(&byte) if self.lines == 0 && byte != b'\r' && !is_token_byte(byte) => {
                Err(HeadError::Malformed(match limits.start_line {
                    StartLine::Request => "the request does not begin with a method",
                    StartLine::Status => "the response does not begin with a status line",
                }))
            }
            _ => Ok(()),
        }
    }

    fn check_size(&self, end: usize, limits: &HeadLimits) -> Result<(), HeadError> {
        let head_bytes = end - self.start;
        if self.lines == 0 && head_bytes > limits.line_bytes_max {
            return Err(HeadError::LineTooLong);
        }
        if head_bytes > limits.head_bytes_max { Err(HeadError::HeadTooLarge) } else { Ok(()) }
    }

    fn skip_empty_line(&mut self, line_end: usize, limits: &HeadLimits) -> Result<(), HeadError> {
        if limits.start_line == StartLine::Status || self.empty_lines == EMPTY_LINES_MAX {
            return Err(HeadError::Malformed("empty lines come before the first line"));
        }
        self.empty_lines += 1;
        self.start = line_end;
        Ok(())
    }
}

/// Checks the form of a first line before the rest of the head has come: an HTTP/0.9 request has no rest.
fn check_start_line_form(line: &[u8], limits: &HeadLimits) -> Result<(), HeadError> {
    match limits.start_line {
        StartLine::Request => split_version(line).map(|_| ()),
        StartLine::Status if line.starts_with(b"HTTP/") => Ok(()),
        StartLine::Status => Err(HeadError::Malformed("the response does not begin with a status line")),
    }
}
