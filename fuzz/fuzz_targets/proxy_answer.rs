//! The answer of a proxy that is asked for a tunnel, in whatever reads it comes: a tunnel is open after a 2xx alone,
//! the next byte is the upstream's, and no answer makes the question last.

#![no_main]

use flow_uring::fuzz::tunnel::{ProxyVerdict, open_tunnel};
use flow_uring_fuzz::input::{Random, expanded};
use flow_uring_fuzz::message::Head;
use libfuzzer_sys::fuzz_target;

/// Limit on all heads of the answer together.
const ANSWER_BYTES_MAX: usize = 8 * 1024;
const FIELDS_MAX: usize = 64;
const REQUEST: &[u8] = b"CONNECT flow.test:443 HTTP/1.1\r\nHost: flow.test:443\r\n\r\n";
/// Pieces of one way to split an answer: each is a turn of the runtime.
const PARTS_MAX: usize = 40;

fuzz_target!(|data: &[u8]| {
    let answer = expanded(data);
    let reading = Reading::of(&answer);
    for parts in ways(&answer, reading.end) {
        let (end, asked, left) = open_tunnel(&parts);
        assert_eq!(asked, REQUEST);
        check(&answer, &reading, &parts, end, left);
    }
});

/// The whole, two parts at the end of the final head, and parts anywhere.
fn ways(answer: &[u8], end: Option<usize>) -> Vec<Vec<&[u8]>> {
    let mut ways = vec![vec![answer]];
    if let Some(end) = end.filter(|end| *end < answer.len()) {
        let (head, rest) = answer.split_at(end);
        ways.push(vec![head, rest]);
    }
    let mut random = Random::of(answer);
    let length_max = (2 * answer.len() / PARTS_MAX).max(1);
    let (mut parts, mut rest) = (Vec::new(), answer);
    while !rest.is_empty() {
        let (part, after) = rest.split_at((1 + random.below(length_max)).min(rest.len()));
        parts.push(part);
        rest = after;
    }
    ways.push(parts);
    ways
}

/// The heads of an answer, read as RFC 9112 has them.
#[derive(Debug)]
struct Reading {
    /// The status of the final one.
    status: Option<u16>,
    /// The place after it, or after the last head that was read.
    end: Option<usize>,
    /// Every head was valid.
    is_valid: bool,
}

impl Reading {
    fn of(answer: &[u8]) -> Self {
        let mut at = 0;
        loop {
            let rest = &answer[at..];
            let Some(length) = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|end| end + 4) else {
                return Reading { status: None, end: None, is_valid: rest.is_empty() || may_begin_head(rest) };
            };
            let head = Head::read(&rest[..length]).filter(|head| head.fields.len() <= FIELDS_MAX);
            let status_line = head.as_ref().and_then(Head::status_line);
            // httparse reads the two versions there are.
            let Some((_, status, _)) = status_line.filter(|(version, ..)| matches!(*version, "HTTP/1.0" | "HTTP/1.1"))
            else {
                return Reading { status: None, end: None, is_valid: false };
            };
            at += length;
            if !matches!(status, 100 | 102..=199) {
                return Reading { status: Some(status), end: Some(at), is_valid: true };
            }
        }
    }
}

/// Tells whether what has come of a head is the beginning of one with no doubt.
fn may_begin_head(rest: &[u8]) -> bool {
    b"HTTP/1.1 200 ".starts_with(rest)
}

fn check(answer: &[u8], reading: &Reading, parts: &[&[u8]], end: ProxyVerdict, left: usize) {
    if end == ProxyVerdict::Open {
        // What was read is heads alone, and nothing of what follows was taken.
        let read = &answer[..parts
            .iter()
            .scan(0, |sum, part| {
                *sum += part.len();
                Some(*sum)
            })
            .find(|sum| answer[..*sum].ends_with(b"\n\r\n") || answer[..*sum].ends_with(b"\n\n"))
            .unwrap_or(answer.len())];
        assert!(
            read.ends_with(b"\n\r\n") || read.ends_with(b"\n\n"),
            "bytes of the answer are taken for the upstream's"
        );
        assert!(read.len() <= ANSWER_BYTES_MAX);
        assert!(left <= answer.len() - read.len());
    }
    if !reading.is_valid {
        return;
    }
    let is_too_large = reading.end.unwrap_or(answer.len()) > ANSWER_BYTES_MAX;
    let is_alone = reading.end.is_none_or(|at| at == answer.len());
    let was_told_apart = reading.end.is_some_and(|at| {
        parts
            .iter()
            .scan(0, |sum, part| {
                *sum += part.len();
                Some(*sum)
            })
            .any(|sum| sum == at)
    });
    match (reading.status, end) {
        (_, ProxyVerdict::Malformed(_)) if is_too_large => {}
        (None, end) => {
            assert!(matches!(end, ProxyVerdict::Closed | ProxyVerdict::Malformed(_)) && end != ProxyVerdict::Open)
        }
        (Some(200..=299), ProxyVerdict::Open) => assert!((is_alone || was_told_apart) && !is_too_large),
        (Some(200..=299), end) => {
            // The proxy has said more than an answer.
            assert!(
                matches!(end, ProxyVerdict::Malformed(_)) && !is_alone && !was_told_apart,
                "{end:?} of {reading:?}"
            );
        }
        (Some(status @ (408 | 429 | 500 | 502..=504)), end) => assert_eq!(end, ProxyVerdict::Failed(status)),
        (Some(status), end) => assert_eq!(end, ProxyVerdict::Refused(status)),
    }
}
