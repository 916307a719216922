//! The rules of RFC 9110 that field names, field values and chunk extensions are made of.

/// Returns whether this is a token of RFC 9110 §5.6.2, as methods, field names and chunk extension names are.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// Returns whether this byte may be in a field value, a reason or a quoted string: HTAB, SP, VCHAR or obs-text (RFC
/// 9110 §5.5).
pub fn is_text_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Trims the optional white space (SP and HTAB, RFC 9110 §5.6.3) at both ends.
pub fn trim_whitespace(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}
