//! The answer to a client that speaks HTTP/2 (RFC 9113): frames that it understands, where it would take an HTTP/1.1
//! response for noise.

/// Types of frames (RFC 9113 §6.5, §6.8).
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// The error code by which a server asks for HTTP/1.1 (RFC 9113 §7).
const HTTP_1_1_REQUIRED: u32 = 0xd;

/// Appends the preface of a server, which is a `SETTINGS` frame (RFC 9113 §3.4), and a `GOAWAY` that says why nothing
/// will be served. Its last stream is 0: no request was looked at, so each may be sent again.
pub fn write_go_away(out: &mut Vec<u8>, message: &str) {
    const LAST_STREAM: u32 = 0;
    push_frame_head(out, 0, SETTINGS);
    push_frame_head(out, size_of_val(&LAST_STREAM) + size_of_val(&HTTP_1_1_REQUIRED) + message.len(), GOAWAY);
    out.extend_from_slice(&LAST_STREAM.to_be_bytes());
    out.extend_from_slice(&HTTP_1_1_REQUIRED.to_be_bytes());
    // Debug data, which clients show.
    out.extend_from_slice(message.as_bytes());
}

/// Appends the head of a frame of the whole connection, without flags (RFC 9113 §4.1).
fn push_frame_head(out: &mut Vec<u8>, length: usize, kind: u8) {
    const FLAGS: u8 = 0;
    const CONNECTION: u32 = 0;
    debug_assert!(length <= 16 * 1024, "RFC 9113 §4.2: what every peer takes");
    let [.., high, middle, low] = length.to_be_bytes();
    out.extend_from_slice(&[high, middle, low, kind, FLAGS]);
    out.extend_from_slice(&CONNECTION.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::error::GatewayError;

    #[test]
    fn the_answer_is_settings_and_a_go_away_with_the_message() {
        let mut out = b"before".to_vec();
        write_go_away(&mut out, "why");
        assert_eq!(out, b"before\0\0\0\x04\0\0\0\0\0\0\0\x0b\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0dwhy");
        let mut out = Vec::new();
        let message = "x".repeat(0x1234 - 8);
        write_go_away(&mut out, &message);
        assert_eq!(out[9..18], *b"\0\x12\x34\x07\0\0\0\0\0");
        let message = GatewayError::Http2NotSupported.message();
        assert!(message.contains("HTTP/1.1"), "{message}");
    }
}
