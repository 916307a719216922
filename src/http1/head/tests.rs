use proptest::prelude::*;

use super::*;

const TINY: HeadLimits =
    HeadLimits { start_line: StartLine::Request, line_bytes_max: 20, head_bytes_max: 60, fields_max: 3 };

type Scanned = Result<Option<HeadSpan>, HeadError>;
type Parsed = (String, String, Version, Vec<(String, Vec<u8>)>);

/// Scans what has come after each read; `reads` are the offsets at which reads ended.
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
    let rows: [(&str, &[u8]); 43] = [
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
fn the_preface_of_http_2_is_told_apart_from_every_request() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_eq!(parse(preface), Err(HeadError::Http2Preface));
    assert_eq!(parse(&[b"\r\n", &preface[..]].concat()), Err(HeadError::Http2Preface), "RFC 9112 §2.2");
    assert!(begins_http2(preface) && begins_http2(&preface[..18]) && !begins_http2(&preface[..17]));
    for (head, error) in [
        ("PRI * HTTP/2.0\r\nHost: a\r\n\r\n", HeadError::UnsupportedVersion),
        ("PRI / HTTP/2.0\r\n\r\n", HeadError::UnsupportedVersion),
        ("PRI * HTTP/2.1\r\n\r\n", HeadError::UnsupportedVersion),
        ("GET * HTTP/2.0\r\n\r\n", HeadError::UnsupportedVersion),
    ] {
        assert_eq!(parse(head.as_bytes()), Err(error), "{head:?}");
        assert!(!begins_http2(head.as_bytes()), "{head:?}");
    }
    assert!(parse(b"PRI * HTTP/1.1\r\n\r\n").is_ok(), "a method as any other");
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
    for head in ["", "GET", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nA: b\r\n", "GET / HTTP/1.1\r\n\r\nA: b\r\n\r\n"] {
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
    assert_eq!(scanner.scan(head.as_bytes(), &HeadLimits::REQUEST), Ok(Some(HeadSpan { start: 0, end: head.len() })));
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
