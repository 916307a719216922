//! Comments as in C, in JSON: a whole text at once.

/// Replaces comments by as many spaces, but for line ends; `None` where a comment or a string does not end, or a slash
/// begins neither.
pub fn without_comments(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let length = match (first, tail) {
            (b'"', _) => {
                let length = string_bytes(rest)?;
                out.extend_from_slice(&rest[..length]);
                length
            }
            (b'/', [b'/', ..]) => {
                let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                out.resize(out.len() + length, b' ');
                length
            }
            (b'/', [b'*', inside @ ..]) => {
                let length = inside.windows(2).position(|bytes| bytes == b"*/")? + 4;
                out.extend(rest[..length].iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
                length
            }
            (b'/', _) => return None,
            _ => {
                out.push(first);
                1
            }
        };
        rest = &rest[length..];
    }
    Some(out)
}

/// The length of the string that a text begins with, with its quotes.
fn string_bytes(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}
