//! Parsing a whole head in place.
//!
//! Line ends and sizes, which `scanner` has checked, are not checked again; everything else is. The meaning of a field
//! is decided elsewhere.

use std::fmt;

use memchr::memchr;

use crate::http1::grammar::{is_text_byte, is_token};

/// The protocol version of a message. A later minor version is read as 1.1 (RFC 9110 §2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// One field line; the value is without white space at its ends.
pub type Field<'a> = httparse::Header<'a>;

#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    pub method: &'a str,
    /// Visible ASCII without `#`, not empty.
    pub target: &'a str,
    pub version: Version,
    pub fields: &'a [Field<'a>],
}

#[derive(Clone, Copy)]
pub struct ResponseHead<'a> {
    pub version: Version,
    /// From 100 to 999.
    pub status: u16,
    /// May be empty, and hold bytes that are not ASCII.
    pub reason: &'a [u8],
    pub fields: &'a [Field<'a>],
}

// Neither targets nor field values: they hold keys.
impl fmt::Debug for RequestHead<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RequestHead")
            .field("method", &self.method)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ResponseHead<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ResponseHead")
            .field("status", &self.status)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// The reason why a message is refused. It never holds bytes of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadError {
    /// The fault, as the end of a sentence.
    Malformed(&'static str),
    /// The first line is too long.
    LineTooLong,
    HeadTooLarge,
    TooManyFields,
    /// A major version other than 1.
    UnsupportedVersion,
    /// A transfer coding other than chunked.
    UnsupportedTransferCoding,
    /// No request, but the preface of HTTP/2 (RFC 9113 §3.4).
    Http2Preface,
}

impl HeadError {
    /// Returns the fault as the end of a sentence.
    pub fn as_str(self) -> &'static str {
        match self {
            HeadError::Malformed(what) => what,
            HeadError::LineTooLong => "the first line is too long",
            HeadError::HeadTooLarge => "the head is too large",
            HeadError::TooManyFields => "the head has too many fields",
            HeadError::UnsupportedVersion => "the HTTP version is not 1.0 or 1.1",
            HeadError::UnsupportedTransferCoding => "the transfer coding is not chunked",
            HeadError::Http2Preface => "it begins with the preface of HTTP/2, which is not spoken here",
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl std::error::Error for HeadError {}

/// The part of HTTP/2's preface (RFC 9113 §3.4) that has the form of a head; `SM` and two line ends follow.
const HTTP2_PREFACE_HEAD: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// Tells whether these first bytes of a connection are those of HTTP/2.
pub fn begins_http2(bytes: &[u8]) -> bool {
    bytes.starts_with(HTTP2_PREFACE_HEAD)
}

/// Limit on the fields of a head; the stack holds a slot for each.
pub const FIELDS_MAX: usize = 256;

/// Slots for an ordinary head: 1 KiB of stack to fill instead of 8.
const FIELDS_USUAL: usize = 32;

/// Parses a request head and hands it to `use_head`, whose result it returns.
///
/// `head` is a span that [`HeadScanner`](super::HeadScanner) found, which has checked that its lines end in CRLF.
///
/// # Errors
/// When the request line or a field line breaks RFC 9112 §3 or §5.
pub fn with_request<R>(head: &[u8], use_head: impl FnOnce(&RequestHead<'_>) -> R) -> Result<R, HeadError> {
    if head == HTTP2_PREFACE_HEAD {
        return Err(HeadError::Http2Preface);
    }
    let (line, field_lines) = split_first_line(head)?;
    let (method, target, version) = parse_request_line(line)?;
    with_fields(field_lines, |fields| use_head(&RequestHead { method, target, version, fields }))
}

/// Parses a response head and hands it to `use_head`; as [`with_request`].
///
/// # Errors
/// When the status line or a field line breaks RFC 9112 §4 or §5.
pub fn with_response<R>(head: &[u8], use_head: impl FnOnce(&ResponseHead<'_>) -> R) -> Result<R, HeadError> {
    let (line, field_lines) = split_first_line(head)?;
    let (version, status, reason) = parse_status_line(line)?;
    with_fields(field_lines, |fields| use_head(&ResponseHead { version, status, reason, fields }))
}

/// Parses field lines that end with the empty line, and nothing after it.
pub fn with_fields<R>(lines: &[u8], use_fields: impl FnOnce(&[Field<'_>]) -> R) -> Result<R, HeadError> {
    let mut slots = [httparse::EMPTY_HEADER; FIELDS_USUAL];
    match parse_fields(lines, &mut slots) {
        Err(HeadError::TooManyFields) => with_many_fields(lines, use_fields),
        parsed => parsed.map(use_fields),
    }
}

/// A function of its own, so that an ordinary head does not pay for this stack frame.
#[cold]
#[inline(never)]
fn with_many_fields<R>(lines: &[u8], use_fields: impl FnOnce(&[Field<'_>]) -> R) -> Result<R, HeadError> {
    let mut slots = [httparse::EMPTY_HEADER; FIELDS_MAX];
    parse_fields(lines, &mut slots).map(use_fields)
}

fn parse_fields<'h, 'b: 'h>(lines: &'b [u8], slots: &'h mut [Field<'b>]) -> Result<&'h [Field<'h>], HeadError> {
    match httparse::parse_headers(lines, slots) {
        Ok(httparse::Status::Complete((parsed_bytes, fields))) if parsed_bytes == lines.len() => Ok(fields),
        Ok(_) => Err(HeadError::Malformed("the head does not end with its first empty line")),
        Err(httparse::Error::TooManyHeaders) => Err(HeadError::TooManyFields),
        Err(httparse::Error::HeaderName) => Err(HeadError::Malformed(
            "a field name is invalid, or a line is folded or has white space before its colon",
        )),
        Err(_) => Err(HeadError::Malformed("a field value has a control byte or a bare CR")),
    }
}

fn split_first_line(head: &[u8]) -> Result<(&[u8], &[u8]), HeadError> {
    let line_end = memchr(b'\n', head).ok_or(HeadError::Malformed("the head has no whole line"))?;
    let line = head[..line_end].strip_suffix(b"\r").ok_or(HeadError::Malformed("a line ends without CR LF"))?;
    Ok((line, &head[line_end + 1..]))
}

/// Parses `method SP request-target SP HTTP-version` (RFC 9112 §3).
fn parse_request_line(line: &[u8]) -> Result<(&str, &str, Version), HeadError> {
    let (rest, version) = split_version(line)?;
    let space = memchr(b' ', rest).ok_or(HeadError::Malformed("the request line has no target"))?;
    let (method, target) = (&rest[..space], &rest[space + 1..]);
    if !is_token(method) {
        return Err(HeadError::Malformed("the method is not a token"));
    }
    let version = parse_version(version)?;
    if target.is_empty() || !target.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(HeadError::Malformed("the request target is empty or holds a byte that a URI cannot have"));
    }
    Ok((ascii(method)?, ascii(target)?, version))
}

/// Splits ` HTTP/x.y` off a request line, whatever x and y are.
pub fn split_version(line: &[u8]) -> Result<(&[u8], &[u8]), HeadError> {
    const FORM_BYTES: usize = " HTTP/1.1".len();
    line.len()
        .checked_sub(FORM_BYTES)
        .map(|at| line.split_at(at))
        .filter(|(_, version)| version.starts_with(b" HTTP/"))
        .map(|(rest, version)| (rest, &version[1..]))
        .ok_or(HeadError::Malformed("the request line does not end in an HTTP version"))
}

/// Parses `HTTP/` and two digits (RFC 9112 §2.3).
fn parse_version(version: &[u8]) -> Result<Version, HeadError> {
    match version {
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9'] => Ok(Version::Http11),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(HeadError::UnsupportedVersion),
        _ => Err(HeadError::Malformed("the HTTP version is malformed")),
    }
}

/// Parses `HTTP-version SP status-code SP [ reason-phrase ]` (RFC 9112 §4). The last space may be missing, as some
/// servers omit it.
fn parse_status_line(line: &[u8]) -> Result<(Version, u16, &[u8]), HeadError> {
    const MALFORMED: HeadError = HeadError::Malformed("the status line is malformed");
    let (version, rest) = line.split_at_checked("HTTP/1.1".len()).ok_or(MALFORMED)?;
    let version = parse_version(version)?;
    let [b' ', hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9', rest @ ..] = rest else {
        return Err(MALFORMED);
    };
    let status = [hundreds, tens, ones].iter().fold(0, |status, &&digit| status * 10 + u16::from(digit - b'0'));
    let reason = match rest {
        [] => rest,
        [b' ', reason @ ..] if reason.iter().all(|&byte| is_text_byte(byte)) => reason,
        _ => return Err(MALFORMED),
    };
    Ok((version, status, reason))
}

fn ascii(bytes: &[u8]) -> Result<&str, HeadError> {
    std::str::from_utf8(bytes).map_err(|_| HeadError::Malformed("the request line is not ASCII"))
}
