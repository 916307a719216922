//! The bytes of the responses that the gateway makes itself: to errors, and to requests that need no upstream.
//!
//! Invariant: each is whole, and its `Connection` field is true. Not here: the texts and rows of errors (`error`), and
//! the error events of streams that break (`sse`).

use std::io::Write;

use crate::http1::fields;
use crate::proxy::error::table::{ALLOW, ErrorRow};
use crate::proxy::error::{Dialect, GatewayError};
use crate::proxy::guard::cors;
use crate::proxy::key_accounts::LimitReached;
use crate::proxy::request::ids::REQUEST_ID;

/// The parts of a local reply that depend on its request.
#[derive(Debug, Clone, Copy)]
pub struct ReplyHead<'a> {
    /// It answers a `HEAD`: the fields of the answer, `Content-Length` included, without its body (RFC 9110 §9.3.2).
    pub is_head: bool,
    /// The exchange allows the connection to persist; an error that closes it overrules this.
    pub keep_alive: bool,
    pub is_http10: bool,
    /// The origin of the page that made the request, which may read the answer.
    pub origin: Option<&'a str>,
    pub request_id: &'a str,
}

/// Appends the whole HTTP/1.1 response for `error`.
pub fn write_error(out: &mut Vec<u8>, error: &GatewayError, dialect: Dialect, reply: &ReplyHead<'_>) {
    let row = error.row();
    let reply = ReplyHead { keep_alive: reply.keep_alive && !row.closes, ..*reply };
    write_json(
        out,
        reply.is_head,
        |out| dialect.write_error(out, row.status, row.code, &error.message()),
        |out, length| {
            let ErrorRow { status, reason, code, fields, .. } = row;
            append(out, format_args!("HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\n"));
            append(out, format_args!("Content-Length: {length}\r\nX-Flow-Uring-Error: {code}\r\n{fields}"));
            if let GatewayError::LimitReached(reached) = error {
                push_limit_fields(out, reached);
            }
            end_head(out, &reply);
        },
    );
}

/// Appends when the limit may be less than reached. Of one of a day or a month SDKs would wait for some seconds and try
/// again, and agents as often as they may: `x-should-retry`, which those of Anthropic and OpenAI follow, tells them not
/// to.
fn push_limit_fields(out: &mut Vec<u8>, reached: &LimitReached) {
    append(out, format_args!("Retry-After: {}\r\n", reached.seconds));
    if reached.kind.is_long() {
        append(out, format_args!("x-should-retry: false\r\n"));
    }
}

/// Appends the answer to `GET` and `HEAD` of `/` and `/api/hello`: who this is, and that it lives.
pub fn write_liveness(out: &mut Vec<u8>, reply: &ReplyHead<'_>) {
    const BODY: &str = concat!(r#"{"name":"flow-uring","version":""#, env!("CARGO_PKG_VERSION"), r#"","status":"ok"}"#);
    write_json(
        out,
        reply.is_head,
        |out| out.extend_from_slice(BODY.as_bytes()),
        |out, length| {
            append(out, format_args!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"));
            append(out, format_args!("Content-Length: {length}\r\nCache-Control: no-store\r\n"));
            end_head(out, reply);
        },
    );
}

/// Appends the answer to `OPTIONS *`. RFC 9110 §8.6: a 204 has no `Content-Length`.
pub fn write_options(out: &mut Vec<u8>, reply: &ReplyHead<'_>) {
    append(out, format_args!("HTTP/1.1 204 No Content\r\n{ALLOW}"));
    end_head(out, reply);
}

/// Appends the answer to a CORS preflight; `fields` are whole lines.
pub fn write_preflight(out: &mut Vec<u8>, fields: &[u8], reply: &ReplyHead<'_>) {
    append(out, format_args!("HTTP/1.1 204 No Content\r\n"));
    out.extend_from_slice(fields);
    end_head(out, reply);
}

/// Appends the fields that all these heads have, and their end.
fn end_head(out: &mut Vec<u8>, reply: &ReplyHead<'_>) {
    if let Some(origin) = reply.origin {
        cors::push_page_fields(out, origin);
    }
    fields::push_field(out, REQUEST_ID, reply.request_id.as_bytes());
    append(out, format_args!("{}\r\n", ConnectionField::of(reply.keep_alive, reply.is_http10).field()));
}

/// Appends the interim answer that asks for the body.
pub fn write_continue(out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
}

/// The `Connection` field of a local reply (RFC 9112 §9.3).
#[derive(Clone, Copy)]
enum ConnectionField {
    /// None: the connection persists, as is the rule in HTTP/1.1.
    Persists,
    /// The connection persists because an HTTP/1.0 request asked for it.
    KeepAlive,
    Close,
}

impl ConnectionField {
    const fn of(keep_alive: bool, http10: bool) -> Self {
        match (keep_alive, http10) {
            (false, _) => Self::Close,
            (true, false) => Self::Persists,
            (true, true) => Self::KeepAlive,
        }
    }

    const fn field(self) -> &'static str {
        match self {
            Self::Persists => "",
            Self::KeepAlive => "Connection: keep-alive\r\n",
            Self::Close => "Connection: close\r\n",
        }
    }
}

/// Appends head and body. The body is written first, since the head states its length, and then they change places.
fn write_json(
    out: &mut Vec<u8>,
    head_only: bool,
    body: impl FnOnce(&mut Vec<u8>),
    head: impl FnOnce(&mut Vec<u8>, usize),
) {
    let start = out.len();
    body(out);
    let body_length = out.len() - start;
    if head_only {
        out.truncate(start);
        return head(out, body_length);
    }
    head(out, body_length);
    out[start..].rotate_left(body_length);
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes every byte");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::error::dialect::anthropic_type;
    use crate::proxy::error::table::tests::all_errors;

    fn reply(is_head: bool, keep_alive: bool, is_http10: bool) -> ReplyHead<'static> {
        ReplyHead { is_head, keep_alive, is_http10, origin: None, request_id: "id-1" }
    }

    fn written(error: &GatewayError, dialect: Dialect, head_only: bool, keep_alive: bool, http10: bool) -> String {
        let mut out = b"before".to_vec();
        write_error(&mut out, error, dialect, &reply(head_only, keep_alive, http10));
        String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
    }

    fn field<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
        head.lines().filter_map(|line| line.split_once(": ")).filter(|(n, _)| *n == name).map(|(_, v)| v).collect()
    }

    #[test]
    fn every_error_is_answered_with_a_whole_response_in_both_dialects() {
        for error in all_errors() {
            for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
                let ErrorRow { status, reason, code, closes, .. } = *error.row();
                let text = written(&error, dialect, false, true, false);
                let (head, body) = text.split_once("\r\n\r\n").unwrap();
                assert_eq!(head.lines().next().unwrap(), format!("HTTP/1.1 {status} {reason}"));
                assert_eq!(field(head, "Content-Type"), ["application/json"]);
                assert_eq!(field(head, "Content-Length"), [body.len().to_string()], "{error:?}");
                assert_eq!(field(head, "X-Flow-Uring-Error"), [code]);
                assert_eq!(field(head, "x-request-id"), ["id-1"]);
                assert_eq!(field(head, "Connection").contains(&"close"), closes);
                assert_eq!(field(head, "Allow").len(), usize::from(status == 405));
                assert_eq!(field(head, "Upgrade").len(), usize::from(status == 426));
                assert_eq!(field(head, "WWW-Authenticate").len(), usize::from(status == 401));
                let body: serde_json::Value = serde_json::from_str(body).unwrap();
                assert_eq!(body["error"]["message"], error.message().as_ref());
                match dialect {
                    Dialect::Anthropic => {
                        assert_eq!(body["type"], "error");
                        assert_eq!(body["error"]["type"], anthropic_type(status));
                    }
                    Dialect::OpenAi => {
                        assert_eq!(body["error"]["type"], "flow_uring_error");
                        assert_eq!(body["error"]["code"], code);
                    }
                }
            }
        }
    }

    #[test]
    fn our_503_asks_for_a_retry_within_a_minute() {
        let text = written(&GatewayError::Draining, Dialect::OpenAi, false, true, false);
        let seconds: u64 = field(&text, "Retry-After")[0].parse().unwrap();
        assert!(seconds <= 60);
    }

    #[test]
    fn the_answer_to_a_head_request_has_the_length_and_no_body() {
        let whole = written(&GatewayError::UpstreamClosed, Dialect::OpenAi, false, true, false);
        let head = written(&GatewayError::UpstreamClosed, Dialect::OpenAi, true, true, false);
        assert!(head.ends_with("\r\n\r\n"));
        assert_eq!(whole.split_once("\r\n\r\n").unwrap().0, head.strip_suffix("\r\n\r\n").unwrap());
    }

    #[test]
    fn connection_says_what_becomes_of_it() {
        let connection = |error: &GatewayError, keep_alive, http10| {
            let text = written(error, Dialect::OpenAi, false, keep_alive, http10);
            field(&text, "Connection").join(",")
        };
        assert_eq!(connection(&GatewayError::UpstreamClosed, true, false), "");
        assert_eq!(connection(&GatewayError::UpstreamClosed, true, true), "keep-alive");
        assert_eq!(connection(&GatewayError::UpstreamClosed, false, false), "close");
        assert_eq!(connection(&GatewayError::UpstreamClosed, false, true), "close");
        assert_eq!(connection(&GatewayError::BadPath, true, true), "close");
        assert_eq!(connection(&GatewayError::WebsocketNotSupported, true, false), "upgrade,close");
    }

    #[test]
    fn liveness_options_and_continue_are_whole_answers() {
        let mut out = Vec::new();
        write_liveness(&mut out, &reply(false, true, false));
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(field(head, "Content-Length"), [body.len().to_string()]);
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["name"], "flow-uring");
        assert_eq!(body["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(body["status"], "ok");

        let mut head_only = Vec::new();
        write_liveness(&mut head_only, &reply(true, true, false));
        assert_eq!(head_only, [head.as_bytes(), b"\r\n\r\n"].concat());

        let mut out = Vec::new();
        write_options(&mut out, &reply(false, true, false));
        assert_eq!(out, format!("HTTP/1.1 204 No Content\r\n{ALLOW}x-request-id: id-1\r\n\r\n").into_bytes());

        let mut out = Vec::new();
        write_continue(&mut out);
        assert_eq!(out, b"HTTP/1.1 100 Continue\r\n\r\n");
    }
}
