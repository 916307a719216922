//! Heads, trailers and chunk extensions: lines, whose structure stays whatever a secret is.

use crate::credentials::TokenTraces;
use crate::proxy::response::mask::masked_text::MASK;

/// The part of a status line before its reason, `HTTP/1.1 200 `.
const BEFORE_REASON_BYTES: usize = 13;

/// Masks the runs in a head as it goes downstream, as far as it is the upstream's: its reason and its fields. Returns
/// whether there was one.
pub fn mask_head(traces: &TokenTraces, head: &mut [u8]) -> bool {
    head.get_mut(BEFORE_REASON_BYTES..).is_some_and(|rest| mask_lines(traces, rest))
}

/// Masks the runs in a piece of chunked framing, but for the size that it begins with. Returns whether there was one.
pub fn mask_framing(traces: &TokenTraces, framing: &mut [u8]) -> bool {
    let digits = framing.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    mask_lines(traces, &mut framing[digits..])
}

fn mask_lines(traces: &TokenTraces, lines: &mut [u8]) -> bool {
    if !traces.may_be_in(lines) {
        return false;
    }
    let runs = traces.runs_in(lines);
    for at in runs.iter().cloned().flatten() {
        if !is_structure(&lines[..=at]) {
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
}
