//! Answers as they stand on the wire, read as simply as can be.

use crate::body::{Chunked, End};
use crate::message::{Announced, Head};

/// A final answer, with the interim ones before it.
#[derive(Debug, Clone)]
pub struct Answer {
    pub interims: Vec<u16>,
    pub status: u16,
    /// With the empty line.
    pub head: Vec<u8>,
    pub content: Vec<u8>,
    pub end: AnswerEnd,
    pub is_close_delimited: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerEnd {
    Whole,
    /// More was to come.
    Missing,
    /// Its framing breaks.
    Broken,
}

/// The reading of the bytes from the beginning of an answer on.
#[derive(Debug)]
pub enum Read {
    /// An answer, whole or as far as it came, and the bytes that it takes.
    Answer(Answer, usize),
    /// Its head has not come whole.
    Nothing,
    /// It is none.
    Broken(&'static str),
}

impl Answer {
    pub fn values(&self, name: &str) -> Vec<String> {
        let head = Head::read(&self.head).expect("it was read before");
        head.values(name).iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    }

    pub fn value(&self, name: &str) -> Option<String> {
        self.values(name).pop()
    }
}

/// Reads one final answer. `has_ended`: the connection ended well after these bytes.
pub fn read(bytes: &[u8], is_for_head: bool, has_ended: bool) -> Read {
    let (mut interims, mut start) = (Vec::new(), 0);
    loop {
        let rest = &bytes[start..];
        let Some(length) = memchr::memmem::find(rest, b"\r\n\r\n").map(|at| at + 4) else { return Read::Nothing };
        let Some(head) = Head::read(&rest[..length]) else { return Read::Broken("the grammar of the head") };
        let Some((version, status, _)) = head.status_line() else { return Read::Broken("the status line") };
        start += length;
        if matches!(status, 100..200) && status != 101 {
            interims.push(status);
            continue;
        }
        let announced = match status {
            _ if is_for_head => Announced::Nothing,
            101 | 204 | 304 => Announced::Nothing,
            _ => head.announced(version == "HTTP/1.0"),
        };
        let has_framing = ["content-length", "transfer-encoding"].iter().any(|name| !head.values(name).is_empty());
        let is_close_delimited =
            announced == Announced::Nothing && !has_framing && !is_for_head && !matches!(status, 101 | 204 | 304);
        let Some((content, end, body_bytes)) = body(&bytes[start..], announced, is_close_delimited, has_ended) else {
            return Read::Broken("the framing");
        };
        let head = rest[..length].to_vec();
        let answer = Answer { interims, status, head, content, end, is_close_delimited };
        return Read::Answer(answer, start + body_bytes);
    }
}

/// Returns the content, its end, and the bytes that it takes.
fn body(
    rest: &[u8],
    announced: Announced,
    is_close_delimited: bool,
    has_ended: bool,
) -> Option<(Vec<u8>, AnswerEnd, usize)> {
    Some(match announced {
        Announced::Unclear => return None,
        Announced::Nothing if is_close_delimited => {
            let end = if has_ended { AnswerEnd::Whole } else { AnswerEnd::Missing };
            (rest.to_vec(), end, rest.len())
        }
        Announced::Nothing => (Vec::new(), AnswerEnd::Whole, 0),
        Announced::Length(length) => {
            let there = usize::try_from(length).map_or(rest.len(), |length| length.min(rest.len()));
            let end = if there as u64 == length { AnswerEnd::Whole } else { AnswerEnd::Missing };
            (rest[..there].to_vec(), end, there)
        }
        Announced::Chunked => {
            let body = Chunked::read(rest);
            let (end, length) = match body.end {
                End::Whole { body_bytes, .. } => (AnswerEnd::Whole, body_bytes),
                End::Missing => (AnswerEnd::Missing, rest.len()),
                End::Broken => (AnswerEnd::Broken, rest.len()),
            };
            (body.content, end, length)
        }
    })
}

/// Counts the whole final answers at the beginning of `bytes`, the first of which are for requests with these methods.
/// Returns their number and the bytes that they take.
pub fn whole_answers(bytes: &[u8], are_for_head: &[bool]) -> (usize, usize) {
    let (mut count, mut start) = (0, 0);
    while let Read::Answer(answer, length) =
        read(&bytes[start..], are_for_head.get(count).copied().unwrap_or_default(), false)
    {
        if answer.end != AnswerEnd::Whole {
            break;
        }
        (count, start) = (count + 1, start + length);
        if answer.status == 101 {
            break;
        }
    }
    (count, start)
}
