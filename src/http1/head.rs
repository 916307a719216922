//! Heads: finding where one ends as bytes drip in, and parsing a whole one in place.
//!
//! Invariant: [`HeadScanner`] looks at every byte once, however many reads bring the head, and its answer does not
//! depend on how the bytes were split. Line ends and sizes are its business; [`with_request`] and [`with_response`]
//! check everything else. What a field means is not decided here.

use std::fmt;

use memchr::memchr;

use super::fields::{is_text_byte, is_token, is_token_byte};

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

/// What a head's first line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartLine {
    Request,
    Status,
}

/// How large a head may be.
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

/// Why a message is refused. It never holds bytes of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadError {
    /// What is wrong, as the end of a sentence.
    Malformed(&'static str),
    /// The first line is too long.
    LineTooLong,
    HeadTooLarge,
    TooManyFields,
    /// A major version other than 1.
    UnsupportedVersion,
    /// A transfer coding other than chunked.
    UnsupportedTransferCoding,
}

impl HeadError {
    /// What is wrong, as the end of a sentence.
    pub fn as_str(self) -> &'static str {
        match self {
            HeadError::Malformed(what) => what,
            HeadError::LineTooLong => "the first line is too long",
            HeadError::HeadTooLarge => "the head is too large",
            HeadError::TooManyFields => "the head has too many fields",
            HeadError::UnsupportedVersion => "the HTTP version is not 1.0 or 1.1",
            HeadError::UnsupportedTransferCoding => "the transfer coding is not chunked",
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl std::error::Error for HeadError {}

/// Where a head is in the bytes that were scanned: `bytes[start..end]`; the body begins at `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadSpan {
    pub start: usize,
    pub end: usize,
}

/// Empty lines before a request line that are ignored (RFC 9112 §2.2 asks for at least one).
const EMPTY_LINES_MAX: u8 = 2;

/// The most fields a head can have here; the stack holds a slot for each.
const FIELDS_MAX: usize = 256;

/// Slots for a usual head: 1 KiB of stack to fill instead of 8.
const FIELDS_USUAL: usize = 32;

/// Finds the end of a head, line by line. One scanner serves one message.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeadScanner {
    /// Where the first line starts, behind empty lines.
    start: usize,
    /// Where the line starts whose end has not come yet.
    line_start: usize,
    /// Everything before this has been searched for a line end.
    searched: usize,
    lines: usize,
    empty_lines: u8,
}

impl HeadScanner {
    /// Looks on where the last call stopped. `bytes` is everything received from the start of this message; `None`
    /// asks for more.
    ///
    /// # Errors
    /// As soon as no further byte could make the head acceptable in its size, its line ends or its first line's form.
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
            // RFC 9112 §2.2 lets a recipient take a bare LF for a line end; smuggling lives on that.
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

    /// A TLS hello or other noise is refused at its first byte, not after a time limit.
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

/// Parses a request head and hands it to `use_head`, whose result it returns.
///
/// `head` is a span that [`HeadScanner`] found: that its lines end in CRLF has been checked there.
///
/// # Errors
/// Where the request line or a field line breaks RFC 9112 §3 or §5.
pub fn with_request<R>(head: &[u8], use_head: impl FnOnce(&RequestHead<'_>) -> R) -> Result<R, HeadError> {
    let (line, field_lines) = split_first_line(head)?;
    let (method, target, version) = parse_request_line(line)?;
    with_fields(field_lines, |fields| use_head(&RequestHead { method, target, version, fields }))
}

/// Parses a response head and hands it to `use_head`; as [`with_request`].
///
/// # Errors
/// Where the status line or a field line breaks RFC 9112 §4 or §5.
pub fn with_response<R>(head: &[u8], use_head: impl FnOnce(&ResponseHead<'_>) -> R) -> Result<R, HeadError> {
    let (line, field_lines) = split_first_line(head)?;
    let (version, status, reason) = parse_status_line(line)?;
    with_fields(field_lines, |fields| use_head(&ResponseHead { version, status, reason, fields }))
}

/// Parses field lines that end with the empty line, and nothing after it.
pub(super) fn with_fields<R>(lines: &[u8], use_fields: impl FnOnce(&[Field<'_>]) -> R) -> Result<R, HeadError> {
    let mut slots = [httparse::EMPTY_HEADER; FIELDS_USUAL];
    match parse_fields(lines, &mut slots) {
        Err(HeadError::TooManyFields) => with_many_fields(lines, use_fields),
        parsed => parsed.map(use_fields),
    }
}

/// Apart, so that a usual head does not pay for this stack frame.
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

/// What the scanner asks of a first line before the rest of the head has come: an HTTP/0.9 request has no rest.
fn check_start_line_form(line: &[u8], limits: &HeadLimits) -> Result<(), HeadError> {
    match limits.start_line {
        StartLine::Request => split_version(line).map(|_| ()),
        StartLine::Status if line.starts_with(b"HTTP/") => Ok(()),
        StartLine::Status => Err(HeadError::Malformed("the response does not begin with a status line")),
    }
}

/// RFC 9112 §3: `method SP request-target SP HTTP-version`.
fn parse_request_line(line: &[u8]) -> Result<(&str, &str, Version), HeadError> {
    // RFC 9113 §3.4: an HTTP/1.1 server is meant to fail on this; a 505 would be taken for an answer.
    if line == b"PRI * HTTP/2.0" {
        return Err(HeadError::Malformed("this is the preface of HTTP/2, which is not spoken here"));
    }
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
fn split_version(line: &[u8]) -> Result<(&[u8], &[u8]), HeadError> {
    const FORM_BYTES: usize = " HTTP/1.1".len();
    line.len()
        .checked_sub(FORM_BYTES)
        .map(|at| line.split_at(at))
        .filter(|(_, version)| version.starts_with(b" HTTP/"))
        .map(|(rest, version)| (rest, &version[1..]))
        .ok_or(HeadError::Malformed("the request line does not end in an HTTP version"))
}

/// RFC 9112 §2.3: `HTTP/` and two digits.
fn parse_version(version: &[u8]) -> Result<Version, HeadError> {
    match version {
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9'] => Ok(Version::Http11),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(HeadError::UnsupportedVersion),
        _ => Err(HeadError::Malformed("the HTTP version is malformed")),
    }
}

/// RFC 9112 §4: `HTTP-version SP status-code SP [ reason-phrase ]`. The last space is not insisted on: servers omit it.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TINY: HeadLimits =
        HeadLimits { start_line: StartLine::Request, line_bytes_max: 20, head_bytes_max: 60, fields_max: 3 };

    type Scanned = Result<Option<HeadSpan>, HeadError>;
    type Parsed = (String, String, Version, Vec<(String, Vec<u8>)>);

    /// Scans what has come after each read; `reads` are where reads ended.
    fn scan_in_reads(bytes: &[u8], limits: &HeadLimits, reads: impl IntoIterator<Item = usize>) -> Scanned {
        let mut scanner = HeadScanner::default();
        for end in reads.into_iter().chain([bytes.len()]) {
            match scanner.scan(&bytes[..end], limits) {
                Ok(None) => {}
                found => return found,
            }
        }
        Ok(None)
    }

    fn parse(bytes: &[u8]) -> Result<Parsed, HeadError> {
        let span = scan_in_reads(bytes, &HeadLimits::REQUEST, [])?.ok_or(HeadError::Malformed("incomplete"))?;
        with_request(&bytes[span.start..span.end], |head| {
            let fields = head.fields.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect();
            (head.method.to_owned(), head.target.to_owned(), head.version, fields)
        })
    }

    fn parse_response(bytes: &[u8]) -> Result<(Version, u16, Vec<u8>, usize), HeadError> {
        let span = scan_in_reads(bytes, &HeadLimits::RESPONSE, [])?.ok_or(HeadError::Malformed("incomplete"))?;
        with_response(&bytes[span.start..span.end], |head| {
            (head.version, head.status, head.reason.to_vec(), head.fields.len())
        })
    }

    #[test]
    fn a_request_is_read_in_place() {
        let (method, target, version, fields) = parse(
            b"POST /v1/messages?beta=true HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nx-Text:\t caf\xe9 \"\x09\" \r\n\r\nbody",
        )
        .unwrap();
        assert_eq!((method.as_str(), target.as_str(), version), ("POST", "/v1/messages?beta=true", Version::Http11));
        let expected: [(&str, &[u8]); 3] = [("Host", b"a"), ("X-Empty", b""), ("x-Text", b"caf\xe9 \"\x09\"")];
        assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_vec())));
    }

    #[test]
    fn versions_of_major_1_are_read_as_one_of_two() {
        for (version, expected) in [("1.0", Version::Http10), ("1.1", Version::Http11), ("1.2", Version::Http11)] {
            assert_eq!(parse(format!("GET / HTTP/{version}\r\n\r\n").as_bytes()).unwrap().2, expected, "{version}");
        }
    }

    #[test]
    fn the_head_ends_where_the_body_begins() {
        let bytes = b"\r\n\r\nGET / HTTP/1.1\r\nA: b\r\n\r\n\r\nGET";
        assert_eq!(scan_in_reads(bytes, &HeadLimits::REQUEST, []), Ok(Some(HeadSpan { start: 4, end: 28 })));
    }

    #[test]
    fn malformed_requests_are_refused() {
        let rows: [(&str, &[u8]); 44] = [
            ("RFC 9112 §2.2: three empty lines", b"\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
            ("RFC 9112 §2.2: bare LF", b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
            ("RFC 9112 §2.2: bare LF", b"GET / HTTP/1.1\r\nHost: a\n\r\n"),
            ("RFC 9112 §2.2: bare LF", b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
            ("RFC 9112 §2.2: bare LF before", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("RFC 9112 §2.2: bare CR as a line end", b"GET / HTTP/1.1\rHost: a\r\n\r\n"),
            ("RFC 9112 §2.2: bare CR in a value", b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"),
            ("RFC 9112 §2.2: CR CR LF", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"),
            ("RFC 9112 §2.2: CR CR LF", b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"),
            ("RFC 9112 §2.2: bare CR before", b"\rGET / HTTP/1.1\r\n\r\n"),
            ("RFC 9112 §2.2: white space before the first field", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
            ("RFC 9112 §2.2: white space before the first field", b"GET / HTTP/1.1\r\n\tHost: a\r\n\r\n"),
            ("RFC 9112 §2.2: white space alone", b"GET / HTTP/1.1\r\n \r\nHost: a\r\n\r\n"),
            ("RFC 9112 §5.1: white space before the colon", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
            ("RFC 9112 §5.1: white space before the colon", b"GET / HTTP/1.1\r\nHost\t: a\r\n\r\n"),
            ("RFC 9112 §5.2: folded", b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n"),
            ("RFC 9112 §5.2: folded", b"GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n"),
            ("RFC 9112 §5.2: folded empty value", b"GET / HTTP/1.1\r\nHost:\r\n a\r\n\r\n"),
            ("RFC 9110 §5.5: NUL", b"GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n"),
            ("RFC 9110 §5.5: control byte", b"GET / HTTP/1.1\r\nX: \x01\r\n\r\n"),
            ("RFC 9110 §5.5: escape", b"GET / HTTP/1.1\r\nX: a\x1b[0m\r\n\r\n"),
            ("RFC 9110 §5.5: DEL", b"GET / HTTP/1.1\r\nX: a\x7fb\r\n\r\n"),
            ("RFC 9112 §5: no colon", b"GET / HTTP/1.1\r\nHost\r\n\r\n"),
            ("RFC 9110 §5.1: empty name", b"GET / HTTP/1.1\r\n: a\r\n\r\n"),
            ("RFC 9110 §5.1: name not a token", b"GET / HTTP/1.1\r\nHo(st: a\r\n\r\n"),
            ("RFC 9110 §5.1: name not a token", b"GET / HTTP/1.1\r\nH\xf6st: a\r\n\r\n"),
            ("RFC 9110 §9.1: method not a token", b"G(T / HTTP/1.1\r\n\r\n"),
            ("RFC 9110 §9.1: empty method", b" / HTTP/1.1\r\n\r\n"),
            ("RFC 9112 §3: leading white space", b" GET / HTTP/1.1\r\n\r\n"),
            ("RFC 9112 §3: two spaces", b"GET  / HTTP/1.1\r\n\r\n"),
            ("RFC 9112 §3: two spaces", b"GET /  HTTP/1.1\r\n\r\n"),
            ("RFC 9112 §3: tab", b"GET\t/ HTTP/1.1\r\n\r\n"),
            ("RFC 9112 §3: white space at the end", b"GET / HTTP/1.1 \r\n\r\n"),
            ("RFC 9112 §3.2: no target", b"GET HTTP/1.1\r\n\r\n"),
            ("RFC 9112 §3.2: white space in the target", b"GET /a b HTTP/1.1\r\n\r\n"),
            ("RFC 9112 §3.2: control byte in the target", b"GET /\x01 HTTP/1.1\r\n\r\n"),
            ("RFC 9112 §3.2: not ASCII", b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n"),
            ("RFC 9112 §3.2: fragment", b"GET /a#b HTTP/1.1\r\n\r\n"),
            ("ours: HTTP/0.9", b"GET /\r\n\r\n"),
            ("RFC 9112 §2.3: lower case", b"GET / http/1.1\r\n\r\n"),
            ("RFC 9112 §2.3: two digits", b"GET / HTTP/1.10\r\n\r\n"),
            ("RFC 9112 §2.3: no minor version", b"GET / HTTP/1\r\n\r\n"),
            ("RFC 9113 §3.4: HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            ("a TLS hello", b"\x16\x03\x01\x02\x00\x01"),
        ];
        for (rule, bytes) in rows {
            let parsed = parse(bytes);
            assert!(
                matches!(parsed, Err(HeadError::Malformed(what)) if what != "incomplete"),
                "{rule}: {}: {parsed:?}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn other_major_versions_are_told_apart_from_malformed_ones() {
        for version in ["0.9", "2.0", "3.0", "9.9"] {
            let parsed = parse(format!("GET / HTTP/{version}\r\n\r\n").as_bytes());
            assert_eq!(parsed, Err(HeadError::UnsupportedVersion), "{version}");
        }
        assert_eq!(parse_response(b"HTTP/2.0 200 OK\r\n\r\n"), Err(HeadError::UnsupportedVersion));
    }

    #[test]
    fn what_cannot_become_a_head_is_refused_before_its_end() {
        let rows: [(&[u8], HeadError); 6] = [
            (b"\x16", HeadError::Malformed("the request does not begin with a method")),
            (b"\r\n\0", HeadError::Malformed("the request does not begin with a method")),
            (b"GET /\r\n", HeadError::Malformed("the request line does not end in an HTTP version")),
            (b"GET / HTTP/1.1\n", HeadError::Malformed("a line ends without CR LF")),
            (b"GET / HTTP/1.1\r\nA: b\n", HeadError::Malformed("a line ends without CR LF")),
            (b"GET /aaaaaaaaaaaaaaaa", HeadError::LineTooLong),
        ];
        for (bytes, expected) in rows {
            assert_eq!(scan_in_reads(bytes, &TINY, []), Err(expected), "{}", bytes.escape_ascii());
        }
        let limits = HeadLimits { start_line: StartLine::Status, ..TINY };
        for bytes in [&b"\0"[..], b"ICY 200 OK\r\n", b"\r\n"] {
            let scanned = scan_in_reads(bytes, &limits, []);
            assert!(matches!(scanned, Err(HeadError::Malformed(_))), "{}: {scanned:?}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_head_may_be_exactly_as_large_as_its_limits() {
        let line = |bytes: usize| format!("GET /{} HTTP/1.1\r\n", "a".repeat(bytes - "GET / HTTP/1.1\r\n".len()));
        let head = |bytes: usize| {
            let start = "GET / HTTP/1.1\r\nX: ";
            format!("{start}{}\r\n\r\n", "a".repeat(bytes - start.len() - 4))
        };
        let fields = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(count));
        let limits = HeadLimits::REQUEST;
        let rows = [
            (line(limits.line_bytes_max) + "\r\n", Ok(())),
            (line(limits.line_bytes_max + 1) + "\r\n", Err(HeadError::LineTooLong)),
            (head(limits.head_bytes_max), Ok(())),
            (head(limits.head_bytes_max + 1), Err(HeadError::HeadTooLarge)),
            (fields(limits.fields_max), Ok(())),
            (fields(limits.fields_max + 1), Err(HeadError::TooManyFields)),
        ];
        for (bytes, expected) in rows {
            assert_eq!(parse(bytes.as_bytes()).map(|_| ()), expected, "{} bytes", bytes.len());
        }
    }

    #[test]
    fn empty_lines_before_a_request_do_not_count_as_head() {
        let head = b"\r\n\r\nGET /a HTTP/1.1\r\n\r\n";
        let limits = HeadLimits { line_bytes_max: 17, head_bytes_max: 19, ..TINY };
        assert_eq!(scan_in_reads(head, &limits, []), Ok(Some(HeadSpan { start: 4, end: 23 })));
    }

    #[test]
    fn a_response_can_have_more_fields_than_a_request() {
        let head = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(count));
        for count in [0, 1, 32, 33, 256] {
            assert_eq!(parse_response(head(count).as_bytes()), Ok((Version::Http11, 200, b"OK".to_vec(), count)));
        }
        assert_eq!(parse_response(head(257).as_bytes()), Err(HeadError::TooManyFields));
        // The slots on the stack are a bound of their own.
        assert_eq!(with_response(head(257).as_bytes(), |_| ()), Err(HeadError::TooManyFields));
    }

    #[test]
    fn status_lines_are_read_with_any_reason() {
        let rows: [(&[u8], Version, u16, &[u8]); 6] = [
            (b"HTTP/1.1 200 OK", Version::Http11, 200, b"OK"),
            (b"HTTP/1.1 200 ", Version::Http11, 200, b""),
            (b"HTTP/1.1 200", Version::Http11, 200, b""),
            (b"HTTP/1.0 404 Not\tFound ", Version::Http10, 404, b"Not\tFound "),
            (b"HTTP/1.1 418 caf\xe9 \xff", Version::Http11, 418, b"caf\xe9 \xff"),
            (b"HTTP/1.1 999 x", Version::Http11, 999, b"x"),
        ];
        for (line, version, status, reason) in rows {
            let head = [line, b"\r\n\r\n"].concat();
            assert_eq!(parse_response(&head), Ok((version, status, reason.to_vec(), 0)), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn malformed_responses_are_refused() {
        let rows: [(&str, &[u8]); 16] = [
            ("RFC 9112 §4: no version", b"200 OK\r\n\r\n"),
            ("RFC 9112 §4: another protocol", b"ICY 200 OK\r\n\r\n"),
            ("RFC 9112 §4: lower case", b"http/1.1 200 OK\r\n\r\n"),
            ("RFC 9112 §4: two digits", b"HTTP/1.1 20 OK\r\n\r\n"),
            ("RFC 9112 §4: four digits", b"HTTP/1.1 2000 OK\r\n\r\n"),
            ("RFC 9110 §15: below 100", b"HTTP/1.1 099 OK\r\n\r\n"),
            ("RFC 9112 §4: signed", b"HTTP/1.1 +20 OK\r\n\r\n"),
            ("RFC 9112 §4: two spaces", b"HTTP/1.1  200 OK\r\n\r\n"),
            ("RFC 9112 §4: tab", b"HTTP/1.1\t200 OK\r\n\r\n"),
            ("RFC 9112 §4: no status", b"HTTP/1.1\r\n\r\n"),
            ("RFC 9112 §4: control byte in the reason", b"HTTP/1.1 200 O\0K\r\n\r\n"),
            ("RFC 9112 §2.2: bare CR in the reason", b"HTTP/1.1 200 O\rK\r\n\r\n"),
            ("RFC 9112 §2.2: empty line before", b"\r\nHTTP/1.1 200 OK\r\n\r\n"),
            ("RFC 9112 §2.2: bare LF", b"HTTP/1.1 200 OK\n\n"),
            ("RFC 9112 §5.2: folded", b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"),
            ("RFC 9112 §5.1: white space before the colon", b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n"),
        ];
        for (rule, bytes) in rows {
            let parsed = parse_response(bytes);
            assert!(
                matches!(parsed, Err(HeadError::Malformed(what)) if what != "incomplete"),
                "{rule}: {}: {parsed:?}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn a_head_is_parsed_whole_or_not_at_all() {
        for head in
            ["", "GET", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nA: b\r\n", "GET / HTTP/1.1\r\n\r\nA: b\r\n\r\n"]
        {
            let parsed = with_request(head.as_bytes(), |_| ());
            assert!(matches!(parsed, Err(HeadError::Malformed(_))), "{head:?}: {parsed:?}");
        }
    }

    #[test]
    fn a_head_that_drips_in_is_searched_once() {
        let head = format!("GET / HTTP/1.1\r\n{}\r\n", "Some-Field: some value\r\n".repeat(90));
        let mut scanner = HeadScanner::default();
        for end in 0..head.len() {
            assert_eq!(scanner.scan(&head.as_bytes()[..end], &HeadLimits::REQUEST), Ok(None));
            assert_eq!(scanner.searched, end, "the next call begins where this one ended");
        }
        assert_eq!(
            scanner.scan(head.as_bytes(), &HeadLimits::REQUEST),
            Ok(Some(HeadSpan { start: 0, end: head.len() }))
        );
    }

    /// Heads close to valid ones, and to the limits of [`TINY`].
    fn nearly_heads() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just(&b"GET / HTTP/1.1\r\n"[..]),
            Just(&b"GET /aaa HTTP/1.1\r\n"[..]),
            Just(&b"HTTP/1.1 200 OK\r\n"[..]),
            Just(&b"A: b\r\n"[..]),
            Just(&b"Host: localhost\r\n"[..]),
            Just(&b"\r\n"[..]),
            Just(&b"\r"[..]),
            Just(&b"\n"[..]),
            Just(&b" "[..]),
            Just(&b"aaaaaaaa"[..]),
            Just(&b"\0"[..]),
            Just(&b"\xff"[..]),
        ];
        prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_head_split_anywhere_is_the_same_head(bytes in nearly_heads(), start_line in prop_oneof![Just(StartLine::Request), Just(StartLine::Status)]) {
            let limits = HeadLimits { start_line, ..TINY };
            let whole = scan_in_reads(&bytes, &limits, []);
            prop_assert_eq!(scan_in_reads(&bytes, &limits, 0..bytes.len()), whole, "byte by byte");
            for at in 0..bytes.len() {
                prop_assert_eq!(scan_in_reads(&bytes, &limits, [at]), whole, "split at {}", at);
            }
        }

        #[test]
        fn no_bytes_make_the_scanner_or_the_parsers_panic(bytes: Vec<u8>, nearly in nearly_heads()) {
            for bytes in [bytes, nearly] {
                let _ = parse(&bytes);
                let _ = parse_response(&bytes);
                let _ = with_request(&bytes, |_| ());
                let _ = with_response(&bytes, |_| ());
            }
        }
    }
}
