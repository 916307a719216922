//! Heads, trailers and chunk extensions: lines, whose structure stays whatever a secret is.

use memchr::memchr;

use crate::credentials::TokenTraces;
use crate::proxy::response::mask::masked_text::MASK;

/// The part of a status line before its reason, `HTTP/1.1 200 `.
const BEFORE_REASON_BYTES: usize = 13;

/// Masks the runs in a head as it goes downstream, as far as it is the upstream's: its reason and its fields. Returns
/// whether there was one.
pub fn mask_head(traces: &TokenTraces, head: &mut [u8]) -> bool {
    head.get_mut(BEFORE_REASON_BYTES..).is_some_and(|rest| mask_lines(traces, rest, 0))
}

/// Masks the runs in a piece of chunked framing, but for the size that it begins with. Returns whether there was one.
pub fn mask_framing(traces: &TokenTraces, framing: &mut [u8]) -> bool {
    let digits = framing.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let rest = &mut framing[digits..];
    // After the size line of the last chunk its trailers follow.
    let extension_bytes = if digits == 0 { 0 } else { memchr(b'\n', rest).unwrap_or(rest.len()) };
    mask_lines(traces, rest, extension_bytes)
}

/// Masks lines of which the first bytes are the extensions of a chunk, and all others lines of fields.
fn mask_lines(traces: &TokenTraces, lines: &mut [u8], extension_bytes: usize) -> bool {
    if !traces.may_be_in(lines) {
        return false;
    }
    let runs = traces.runs_in(lines);
    let extensions = structure_of_extensions(&lines[..extension_bytes]);
    for at in runs.iter().cloned().flatten() {
        if !extensions.get(at).copied().unwrap_or_else(|| is_structure(&lines[..=at])) {
            lines[at] = MASK;
        }
    }
    !runs.is_empty()
}

/// Tells whether the last of these bytes belongs to a line end, or is the colon after a field's name: a secret may be
/// any text.
fn is_structure(lines: &[u8]) -> bool {
    match lines.split_last() {
        Some((b'\r' | b'\n', _)) => true,
        Some((b':', before)) => !before.rsplit(|&byte| byte == b'\n').next().unwrap_or_default().contains(&b':'),
        _ => false,
    }
}

/// Tells of each byte whether extensions are made of it (RFC 9112 §7.1.1): a strict client would refuse a chunk without
/// it. A `*` may stand for any other byte of a name, a value or a quoted string.
fn structure_of_extensions(extensions: &[u8]) -> Vec<bool> {
    let mut place = ExtensionPlace::Outside;
    let is_structure = |&byte: &u8| {
        let (is_structure, next) = match (place, byte) {
            (ExtensionPlace::Outside, b'"') => (true, ExtensionPlace::Quoted),
            (ExtensionPlace::Outside, _) => (matches!(byte, b';' | b'=' | b' ' | b'\t'), ExtensionPlace::Outside),
            (ExtensionPlace::Quoted, b'"') => (true, ExtensionPlace::Outside),
            (ExtensionPlace::Quoted, b'\\') => (true, ExtensionPlace::Escaped),
            (ExtensionPlace::Quoted | ExtensionPlace::Escaped, _) => (false, ExtensionPlace::Quoted),
        };
        place = next;
        is_structure || byte == b'\r'
    };
    extensions.iter().map(is_structure).collect()
}

/// The place of a byte in the extensions of a chunk.
#[derive(Clone, Copy)]
enum ExtensionPlace {
    Outside,
    Quoted,
    /// After a backslash in a quoted string.
    Escaped,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Secret;

    const TOKEN: &str = "head.a-payload-of-more-than-thirty-two-bytes.a-signature-of-more-than-thirty-two-bytes";

    fn masked(secret: &str, head: &str) -> String {
        let traces = TokenTraces::new(TOKEN, &Secret::new(secret.to_owned()));
        let mut bytes = head.as_bytes().to_vec();
        assert_eq!(mask_head(&traces, &mut bytes), bytes != head.as_bytes(), "{head}");
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn reason_names_and_values_are_masked_and_the_lines_stay() {
        let [payload, signature] = [TOKEN.split('.').nth(1), TOKEN.split('.').nth(2)].map(|part| part.expect("a part"));
        let stars = |text: &str| "*".repeat(text.len());
        let head = |payload: &str, signature: &str| {
            format!("HTTP/1.1 401 no {payload}\r\nX-{signature}: x\r\nLocation: /?key={TOKEN_HEAD}{payload}\r\n\r\n")
        };
        assert_eq!(masked("the secret itself", &head(payload, signature)), head(&stars(payload), &stars(signature)));
    }

    const TOKEN_HEAD: &str = "head.";

    #[test]
    fn what_frames_a_head_stays_whatever_the_secret_is() {
        for (secret, head, expected) in [
            ("HTTP/1.1 200", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"),
            (
                "x-field: value",
                "HTTP/1.1 200 OK\r\nx-field: value\r\n\r\n",
                "HTTP/1.1 200 OK\r\n*******:******\r\n\r\n",
            ),
            ("a: b: c: d", "HTTP/1.1 200 OK\r\nx: a: b: c: d\r\n\r\n", "HTTP/1.1 200 OK\r\nx: **********\r\n\r\n"),
            ("one\r\ntwo: ", "HTTP/1.1 200 one\r\ntwo: 3\r\n\r\n", "HTTP/1.1 200 ***\r\n***:*3\r\n\r\n"),
        ] {
            assert_eq!(masked(secret, head), expected);
        }
    }

    #[test]
    fn the_size_of_a_chunk_stays_and_its_extensions_do_not() {
        let traces = TokenTraces::new(TOKEN, &Secret::new("abcdef01".to_owned()));
        let mut framing = b"abcdef01;abcdef01=\"abcdef01\"\r\n".to_vec();
        assert!(mask_framing(&traces, &mut framing));
        assert_eq!(framing, b"abcdef01;********=\"********\"\r\n");
    }
    #[test]
    fn extensions_stay_extensions_whatever_the_secret_is() {
        for (secret, framing, expected) in [
            (";a=\"b\";c=d", "5;a=\"b\";c=d\r\n", "5;*=\"*\";*=*\r\n"),
            ("b\";cdefg", "5 ; a=\"b\";cdefg\r\n", "5 ; a=\"*\";*****\r\n"),
            ("secret \\\"x", "5;a=\"secret \\\"x\"\r\n", "5;a=\"*******\\**\"\r\n"),
            ("x: y\r\nx: y", "0;a=\"x: y\"\r\nx: y\r\nx: y\r\n\r\n", "0;a=\"x: y\"\r\n*:**\r\n*:**\r\n\r\n"),
            ("a:secret:b", "0;\"a:secret:b\"\r\n\r\n", "0;\"**********\"\r\n\r\n"),
        ] {
            let traces = TokenTraces::new(TOKEN, &Secret::new(secret.to_owned()));
            let mut bytes = framing.as_bytes().to_vec();
            assert!(mask_framing(&traces, &mut bytes));
            assert_eq!(bytes.escape_ascii().to_string(), expected.as_bytes().escape_ascii().to_string());
        }
    }
}
