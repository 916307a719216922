//! The path of a request: the checks that keep it below the upstream's base path, and the form in which it goes there.
//!
//! Invariant: a path that passes [`is_bad_path`] means the same to whoever decodes or normalises it; no byte of it is
//! changed here.

/// Path and query of a request that is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamPath<'a> {
    /// Whether the base path is to be put before it.
    pub needs_base: bool,
    /// Begins with `/`, or where an absolute-form target has no path, is empty or begins with `?`.
    pub path_and_query: &'a str,
    /// How many bytes of it are the base path; none where that is to be put before it.
    pub base_bytes: usize,
}

impl<'a> UpstreamPath<'a> {
    /// Without the query and without the base path.
    pub fn path(&self) -> &'a str {
        match split_query(self.path_and_query.get(self.base_bytes..).unwrap_or_default()).0 {
            "" => "/",
            path => path,
        }
    }

    /// Appends it in origin-form, as the upstream gets it.
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

/// What follows the base path, if that is a prefix that ends where a segment ends: empty, or begins with `/`, `?`, `#`.
pub fn strip_base_path<'a>(path_and_query: &'a str, base_path: &str) -> Option<&'a str> {
    path_and_query.strip_prefix(base_path).filter(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
}

/// Whether a path could mean another one to whoever decodes or normalises it: a segment `.` or `..`, with `/`, `\`,
/// `%2f` and `%5c` between segments, `%2e` for a dot, and parameters after `;` ignored; or a control byte, `\`, `%00`.
pub fn is_bad_path(path: &str) -> bool {
    // Most paths have nothing that needs a closer look.
    !path.bytes().all(is_plain_path_byte) && has_bad_segment(path)
}

/// Whether a byte in a path means itself to everybody, and cannot be part of a dot segment.
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
                Some(decoded @ (b'.' | b'/' | b'\\')) => (decoded, after),
                // Whatever else is encoded is just not a dot; the digits are looked at on their own.
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

/// What a path segment has been so far.
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

fn decode_hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    Some(digit(high)? * 16 + digit(low)?)
}

/// The path, and the query with its question mark.
pub fn split_query(path_and_query: &str) -> (&str, &str) {
    path_and_query.split_at(path_and_query.find('?').unwrap_or(path_and_query.len()))
}
