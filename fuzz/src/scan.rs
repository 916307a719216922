//! The end of a head, found in whatever reads it comes.

use flow_uring::fuzz::http1::{HeadError, HeadLimits, HeadScanner, HeadSpan, StartLine};

use crate::input::ways_to_split;
use crate::message::Head;

/// Scans `input` whole and in parts, which must give the same, and checks the result against the limits and against the
/// grammar. Returns the head.
pub fn assert_same_in_any_reads<'a>(input: &'a [u8], limits: &HeadLimits) -> Option<&'a [u8]> {
    let whole = scan(&[input], limits);
    for parts in ways_to_split(input) {
        assert_eq!(scan(&parts, limits), whole, "however it is split");
    }
    if let Some(span) = valid_head(input, limits) {
        assert_eq!(whole, Ok(Some(span)), "a valid head");
    }
    match whole {
        Ok(Some(HeadSpan { start, end })) => {
            check_found(input, start, end, limits);
            Some(&input[start..end])
        }
        Ok(None) => {
            assert!(input.len() <= limits.head_bytes_max + 4, "more is waited for than is accepted");
            assert!(
                input.windows(4).all(|bytes| bytes != b"\r\n\r\n") || input.starts_with(b"\r\n"),
                "its end has come"
            );
            None
        }
        Err(_) => None,
    }
}

/// The place of a head that begins the input, breaks no rule and no limit.
fn valid_head(input: &[u8], limits: &HeadLimits) -> Option<HeadSpan> {
    let empty_lines = if limits.start_line == StartLine::Request { 2 } else { 0 };
    let start = 2 * input.chunks(2).take(empty_lines).take_while(|line| line == b"\r\n").count();
    let end = start + input[start..].windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let head = Head::read(&input[start..end])?;
    let is_first_line = match limits.start_line {
        StartLine::Request => head.request_line().is_some(),
        StartLine::Status => head.status_line().is_some(),
    };
    let is_within_limits = end - start <= limits.head_bytes_max
        && head.first_line.len() + 2 <= limits.line_bytes_max
        && head.fields.len() <= limits.fields_max;
    (is_first_line && is_within_limits).then_some(HeadSpan { start, end })
}

fn scan(parts: &[&[u8]], limits: &HeadLimits) -> Result<Option<HeadSpan>, HeadError> {
    let mut scanner = HeadScanner::default();
    let mut received = Vec::new();
    for part in parts {
        received.extend_from_slice(part);
        match scanner.scan(&received, limits) {
            Ok(None) => {}
            found => return found,
        }
    }
    scanner.scan(&received, limits)
}

/// Two empty lines at most before a request, none before a response; nothing beyond a limit; one end.
fn check_found(input: &[u8], start: usize, end: usize, limits: &HeadLimits) {
    let lines_before: &[&[u8]] = match limits.start_line {
        StartLine::Request => &[b"", b"\r\n", b"\r\n\r\n"],
        StartLine::Status => &[b""],
    };
    assert!(lines_before.contains(&&input[..start]));
    let head = &input[start..end];
    assert!(head.len() <= limits.head_bytes_max);
    assert!(head.ends_with(b"\r\n\r\n"));
    assert_eq!(head.windows(4).filter(|bytes| bytes == b"\r\n\r\n").count(), 1);
    let lines: Vec<&[u8]> = head.split_inclusive(|byte| *byte == b'\n').collect();
    assert!(lines[0].len() <= limits.line_bytes_max);
    assert!(lines.len() - 2 <= limits.fields_max);
    assert!(lines.iter().all(|line| line.ends_with(b"\r\n")));
}

/// Checks that `written` is one head from its first byte to its last, however large.
pub fn assert_is_head(written: &[u8], start_line: StartLine) {
    let limits = HeadLimits { start_line, line_bytes_max: usize::MAX, head_bytes_max: usize::MAX, fields_max: 512 };
    let found = HeadScanner::default().scan(written, &limits);
    assert_eq!(found, Ok(Some(HeadSpan { start: 0, end: written.len() })));
}
