//! The dialects of error bodies.

use std::fmt;
use std::io::Write;

/// The API whose error bodies the caller understands, by the path of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Anthropic,
    OpenAi,
}

impl Dialect {
    /// Returns Anthropic's for `/v1/messages` and paths below it, also below a base path, and OpenAI's for all others.
    pub fn of_path(path: impl AsRef<[u8]>) -> Self {
        const MESSAGES: &[u8] = b"/v1/messages";
        let path = path.as_ref();
        let path = &path[..memchr::memchr2(b'?', b'#', path).unwrap_or(path.len())];
        // Paths are short: to prepare a fast search takes longer than a plain one.
        let is_messages = path
            .windows(MESSAGES.len())
            .zip(MESSAGES.len()..)
            .any(|(part, end)| part == MESSAGES && matches!(path.get(end), None | Some(b'/')));
        if is_messages { Self::Anthropic } else { Self::OpenAi }
    }

    /// Appends an error made here as a JSON body.
    pub fn write_error(self, out: &mut Vec<u8>, status: u16, code: &str, message: &str) {
        match self {
            Self::Anthropic => {
                let kind = anthropic_type(status);
                append(out, format_args!(r#"{{"type":"error","error":{{"type":"{kind}","message":"#));
                append_json_string(out, message);
            }
            Self::OpenAi => {
                append(out, format_args!(r#"{{"error":{{"message":"#));
                append_json_string(out, message);
                append(out, format_args!(r#","type":"flow_uring_error","code":"{code}""#));
            }
        }
        out.extend_from_slice(b"}}");
    }
}

/// Anthropic's name for a status (its API reference, "Errors").
pub const fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

/// Appends `text` with its quotes and escapes.
pub fn append_json_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a Vec takes every byte, and a string is always JSON");
}

fn append(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes every byte");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_tells_the_dialect() {
        for path in ["/v1/messages", "/v1/messages/count_tokens", "/flow-llm-proxy/v1/messages?beta=true"] {
            assert_eq!(Dialect::of_path(path), Dialect::Anthropic, "{path}");
        }
        for path in ["/v1/messages_of", "/v1/chat/completions", "/", "", "/v1/models?next=/v1/messages", "/v1/message"]
        {
            assert_eq!(Dialect::of_path(path), Dialect::OpenAi, "{path}");
        }
    }
}
