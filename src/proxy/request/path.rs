//! The path of a request: the checks that keep it below the upstream's base path, and its form when it goes upstream.
//!
//! Invariant: a path that is not [bad](is_bad_path) stays below the base path however it is decoded or normalized. No
//! byte of it is changed here.

/// Path and query of a request that is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamPath<'a> {
    /// The base path is to be put before it.
    pub needs_base: bool,
    /// Begins with `/`; or, if an absolute-form target has no path, is empty or begins with `?`.
    pub path_and_query: &'a str,
    /// The length of the base path at its beginning; 0 if that is to be put before it.
    pub base_bytes: usize,
}

impl<'a> UpstreamPath<'a> {
    /// Returns the path without the query and without the base path.
    pub fn path(&self) -> &'a str {
        match split_query(self.path_and_query.get(self.base_bytes..).unwrap_or_default()).0 {
            "" => "/",
            path => path,
        }
    }

    /// Returns the query without its `?`; empty where there is none.
    pub fn query(&self) -> &'a str {
        split_query(self.path_and_query).1.trim_start_matches('?')
    }

    /// Appends path and query in origin-form, as the upstream gets them.
    pub fn push_to(&self, out: &mut Vec<u8>, base_path: &str) {
        if self.needs_base {
            out.extend_from_slice(base_path.as_bytes());
        }
        if !self.path_and_query.starts_with('/') {
            out.push(b'/');
        }
        out.extend_from_slice(self.path_and_query.as_bytes());
    }
}

/// Returns the rest after the base path, if that is a prefix that ends with a segment: it is empty or begins with `/`,
/// `?` or `#`.
pub fn strip_base_path<'a>(path_and_query: &'a str, base_path: &str) -> Option<&'a str> {
    path_and_query.strip_prefix(base_path).filter(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
}

/// Returns whether a path could become another one when it is decoded or normalized: a segment `.` or `..`, with `/`,
/// `\`, `%2f` and `%5c` between segments, `%2e` for a dot, and parameters after `;` or `%3b` ignored; or a control byte,
/// `\`, `%00`.
pub fn is_bad_path(path: &str) -> bool {
    // Most paths consist of plain bytes, which needs one pass.
    !path.bytes().all(is_plain_path_byte) && has_bad_segment(path)
}

/// Returns whether a byte of a path has no encoding or special meaning, and cannot be part of a dot segment.
fn is_plain_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'~' | b':' | b'@')
}

fn has_bad_segment(path: &str) -> bool {
    let mut segment = Segment::Dots(0);
    let mut rest = path.as_bytes();
    while let [byte, after @ ..] = rest {
        let (byte, after) = match (byte, after) {
            (b'%', [high, low, after @ ..]) => match decode_hex(*high, *low) {
                Some(0) => return true,
                Some(decoded @ (b'.' | b'/' | b'\\' | b';')) => (decoded, after),
                // Any other encoded byte is not a dot; the digits are read as bytes of their own.
                _ => (b'%', &rest[1..]),
            },
            (b'\\', _) => return true,
            (byte, after) => (*byte, after),
        };
        rest = after;
        segment = match (byte, segment) {
            (0..=0x20 | 0x7f, _) => return true,
            (b'/' | b'\\', segment) if segment.is_dot_segment() => return true,
            (b'/' | b'\\', _) => Segment::Dots(0),
            (b';', segment) if segment.is_dot_segment() => return true,
            (b'.', Segment::Dots(dots @ 0..=1)) => Segment::Dots(dots + 1),
            _ => Segment::Name,
        };
    }
    segment.is_dot_segment()
}

/// The bytes of a path segment so far.
#[derive(Clone, Copy)]
enum Segment {
    Dots(u8),
    Name,
}

impl Segment {
    fn is_dot_segment(self) -> bool {
        matches!(self, Segment::Dots(1..=2))
    }
}

/// Decodes the two digits of an encoded byte.
pub fn decode_hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    Some(digit(high)? * 16 + digit(low)?)
}

/// Divides into the path, and the query with its question mark.
pub fn split_query(path_and_query: &str) -> (&str, &str) {
    path_and_query.split_at(path_and_query.find('?').unwrap_or(path_and_query.len()))
}
