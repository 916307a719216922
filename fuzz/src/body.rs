//! The chunked coding, by RFC 9112 §7.1: a whole body at once.

use crate::message::{Head, is_token, trimmed};

/// Limits on the extensions and on the trailer section of a body.
const EXTENSION_BYTES_MAX: usize = 16 * 1024;
const TRAILER_BYTES_MAX: usize = 16 * 1024;
const TRAILERS_MAX: usize = 256;

/// The reading of some bytes as a chunked body.
#[derive(Debug, Default)]
pub struct Chunked<'a> {
    /// The content up to the end, or to where it stops or breaks.
    pub content: Vec<u8>,
    pub end: End<'a>,
}

/// The end of a reading.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum End<'a> {
    /// The last chunk and its trailers are whole.
    Whole {
        body_bytes: usize,
        /// The trailer section without the empty line.
        trailers: &'a [u8],
    },
    /// More is to come.
    #[default]
    Missing,
    /// No further byte could make it valid. It may be too early to say so.
    Broken,
}

impl<'a> Chunked<'a> {
    pub fn read(input: &'a [u8]) -> Self {
        let mut body = Chunked::default();
        let (mut rest, mut extension_bytes) = (input, 0);
        loop {
            let Some(line_end) = position(rest, b"\n") else {
                body.end = if may_begin_size_line(rest, extension_bytes) { End::Missing } else { End::Broken };
                return body;
            };
            let Some((size, extension)) = size_line(&rest[..line_end]) else { return body.broken() };
            extension_bytes += extension.len();
            if extension_bytes > EXTENSION_BYTES_MAX {
                return body.broken();
            }
            rest = &rest[line_end + 1..];
            if size == 0 {
                return body.with_trailers(input, rest);
            }
            let there = usize::try_from(size).map_or(rest.len(), |size| size.min(rest.len()));
            body.content.extend_from_slice(&rest[..there]);
            rest = &rest[there..];
            if (there as u64) < size {
                return body;
            }
            match rest {
                [] | [b'\r'] => return body,
                [b'\r', b'\n', after @ ..] => rest = after,
                _ => return body.broken(),
            }
        }
    }

    fn broken(mut self) -> Self {
        self.end = End::Broken;
        self
    }

    /// Reads the trailer section (RFC 9112 §7.1.2): field lines, and an empty one.
    fn with_trailers(mut self, input: &'a [u8], rest: &'a [u8]) -> Self {
        let section_bytes =
            if rest.starts_with(b"\r\n") { Some(2) } else { position(rest, b"\r\n\r\n").map(|at| at + 4) };
        let lines_are_ended = |bytes: &[u8]| bytes.split_inclusive(|byte| *byte == b'\n').all(is_ended_or_open);
        self.end = match section_bytes {
            Some(length) if length > TRAILER_BYTES_MAX => End::Broken,
            Some(2) => End::Whole { body_bytes: input.len() - rest.len() + 2, trailers: b"" },
            Some(length) => {
                let trailers = &rest[..length - 2];
                if are_trailers(trailers) {
                    End::Whole { body_bytes: input.len() - rest.len() + length, trailers }
                } else {
                    End::Broken
                }
            }
            None if rest.len() > TRAILER_BYTES_MAX || !lines_are_ended(rest) => End::Broken,
            None => End::Missing,
        };
        self
    }
}

/// Tells whether a line that has an end has CRLF.
fn is_ended_or_open(line: &[u8]) -> bool {
    !line.ends_with(b"\n") || line.ends_with(b"\r\n")
}

fn are_trailers(lines: &[u8]) -> bool {
    let as_head = [b"x\r\n", lines, b"\r\n"].concat();
    Head::read(&as_head).is_some_and(|head| head.fields.len() <= TRAILERS_MAX)
}

/// Splits a size line, without its LF, into the size and the extensions.
pub fn size_line(line: &[u8]) -> Option<(u64, &[u8])> {
    let line = line.strip_suffix(b"\r")?;
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, extensions) = line.split_at(digits);
    let is_size = (1..=16).contains(&digits.len());
    // What a signed number cannot hold is refused: other readers of it could take it for a negative one.
    let size = i64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()? as u64;
    (is_size && are_extensions(extensions)).then_some((size, extensions))
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112 §7.1.1).
fn are_extensions(text: &[u8]) -> bool {
    if text.is_empty() {
        return true;
    }
    let mut parts = split_outside_quotes(text).into_iter();
    let nothing_before_first = parts.next().is_some_and(|before| trimmed(before).is_empty());
    let mut parts = parts.peekable();
    nothing_before_first && parts.peek().is_some() && is_list_of_extensions(parts.collect())
}

/// White space may stand at both ends of a part, but not after the last of all.
fn is_list_of_extensions(parts: Vec<&[u8]>) -> bool {
    let is_last_tight = parts.last().is_some_and(|last| last.last().is_some_and(|byte| !matches!(byte, b' ' | b'\t')));
    is_last_tight && parts.into_iter().all(|part| is_extension(trimmed(part)))
}

fn is_extension(part: &[u8]) -> bool {
    match position(part, b"=") {
        None => is_token(part),
        Some(at) => {
            let value = trimmed(&part[at + 1..]);
            is_token(trimmed(&part[..at])) && (is_token(value) || is_quoted(value))
        }
    }
}

/// Splits at `;`, but not within a quoted string.
fn split_outside_quotes(text: &[u8]) -> Vec<&[u8]> {
    let (mut parts, mut start, mut is_quoted, mut at) = (Vec::new(), 0, false, 0);
    while at < text.len() {
        match text[at] {
            b'"' => is_quoted = !is_quoted,
            b'\\' if is_quoted => at += 1,
            b';' if !is_quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    parts.push(&text[start..]);
    parts
}

/// A quoted string of RFC 9110 §5.6.4.
fn is_quoted(text: &[u8]) -> bool {
    let is_text = |byte: u8| byte == b'\t' || byte >= b' ' && byte != 0x7f;
    let Some(mut inside) = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")) else { return false };
    while let [byte, rest @ ..] = inside {
        inside = match (byte, rest) {
            (b'"', _) | (b'\\', []) => return false,
            (b'\\', [escaped, rest @ ..]) if is_text(*escaped) => rest,
            (byte, rest) if is_text(*byte) && *byte != b'\\' => rest,
            _ => return false,
        };
    }
    true
}

/// Tells whether a size line whose end has not come may become one, as far as a reader must see at once.
fn may_begin_size_line(line: &[u8], extension_bytes: usize) -> bool {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let extension = line.len().saturating_sub(digits + 1);
    (digits > 0 || line.is_empty()) && digits <= 16 && extension_bytes + extension <= EXTENSION_BYTES_MAX
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
