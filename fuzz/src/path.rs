//! Paths, as a server may read them: decoded, with backslashes for slashes, without parameters.

/// Tells whether a server could read dot segments or control bytes in this path, as it stands or decoded once
/// (RFC 3986 §5.2.4, §2.1).
pub fn is_bad(path: &str) -> bool {
    let raw = path.as_bytes();
    let decoded = decoded(raw);
    let has_control = raw.iter().any(|byte| *byte <= b' ' || *byte == 0x7f);
    has_control || raw.contains(&b'\\') || decoded.contains(&0) || has_dot_segment(raw) || has_dot_segment(&decoded)
}

fn has_dot_segment(path: &[u8]) -> bool {
    path.split(|byte| matches!(byte, b'/' | b'\\')).any(|segment| {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        name == b"." || name == b".."
    })
}

/// Decodes the encoded bytes (RFC 3986 §2.1), once; what is no valid encoding stays as it is.
pub fn decoded(mut text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [byte, rest @ ..] = text {
        let digits = rest.get(..2).filter(|digits| *byte == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        match digits {
            Some(digits) => {
                out.push(u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap());
                text = &rest[2..];
            }
            None => {
                out.push(*byte);
                text = rest;
            }
        }
    }
    out
}

/// Splits into the path and the query with its question mark.
pub fn split_query(target: &str) -> (&str, &str) {
    target.split_at(target.find('?').unwrap_or(target.len()))
}

/// Tells whether a path and query is below the base path, which ends at the border of a segment.
pub fn is_below(path_and_query: &str, base_path: &str) -> bool {
    path_and_query.strip_prefix(base_path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}
