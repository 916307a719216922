//! The bytes of a reply of the admin listener. Each closes its connection.

use std::io::Write;

use serde::Serialize;
use serde_json::json;

use super::route::{AdminRefusal, PATHS};
use crate::http1::head::HeadError;

pub const JSON: &str = "application/json";

/// A whole reply.
#[derive(Debug)]
pub struct AdminReply {
    pub status: u16,
    pub content_type: &'static str,
    /// Further header lines, each with its end, or nothing.
    pub fields: String,
    pub body: Vec<u8>,
}

impl AdminReply {
    /// Makes a reply with `value` as its body.
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        // Only a map with other keys than texts could not be written.
        let mut body = serde_json::to_vec(value).unwrap_or_default();
        body.push(b'\n');
        AdminReply { status, content_type: JSON, fields: String::new(), body }
    }

    /// Appends the reply to `out`. The reply to a `HEAD` is the same without its body (RFC 9110 §9.3.2).
    pub fn write(&self, out: &mut Vec<u8>, head_only: bool) {
        let AdminReply { status, content_type, fields, body } = self;
        let length = body.len();
        write!(
            out,
            "HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n{fields}Connection: close\r\n\r\n",
            reason(*status)
        )
        .expect("a Vec takes every byte");
        if !head_only {
            out.extend_from_slice(body);
        }
    }
}

impl From<AdminRefusal> for AdminReply {
    fn from(refusal: AdminRefusal) -> Self {
        let (status, code, message) = match refusal {
            AdminRefusal::Unreadable(HeadError::LineTooLong | HeadError::HeadTooLarge | HeadError::TooManyFields) => {
                (431, "head_too_large", "The request head is too large; send fewer or shorter fields.".to_owned())
            }
            AdminRefusal::Unreadable(HeadError::UnsupportedVersion) => {
                (505, "http_version_not_supported", "The request's HTTP version is not supported; use HTTP/1.1.".into())
            }
            AdminRefusal::Unreadable(error) => (400, "bad_request", format!("The request is malformed: {error}.")),
            AdminRefusal::ForeignHost => (
                403,
                "host_not_allowed",
                "The Host field does not name this machine; ask by a loopback address, or by localhost.".into(),
            ),
            AdminRefusal::WebPage => {
                (403, "origin_not_allowed", "Web pages may not ask the admin listener; use a program instead.".into())
            }
            AdminRefusal::NotFound => {
                (404, "not_found", "There is no such page here; the paths that there are follow.".into())
            }
            AdminRefusal::MethodNotAllowed => {
                (405, "method_not_allowed", "Pages can be read only; use GET or HEAD.".into())
            }
        };
        let mut body = json!({"error": {"message": message, "type": "flow_uring_error", "code": code}});
        if refusal == AdminRefusal::NotFound {
            body["paths"] = PATHS.map(|(path, _)| path).as_slice().into();
        }
        let allow = if refusal == AdminRefusal::MethodNotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
        let mut reply = AdminReply::json(status, &body);
        reply.fields = format!("X-Flow-Uring-Error: {code}\r\n{allow}");
        reply
    }
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(refusal: AdminRefusal, head_only: bool) -> String {
        let mut out = Vec::new();
        AdminReply::from(refusal).write(&mut out, head_only);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn refusals_say_what_to_do() {
        for (refusal, status, part) in [
            (
                AdminRefusal::Unreadable(HeadError::HeadTooLarge),
                "431 Request Header Fields Too Large",
                "head_too_large",
            ),
            (AdminRefusal::Unreadable(HeadError::Malformed("x")), "400 Bad Request", "malformed: x."),
            (AdminRefusal::Unreadable(HeadError::UnsupportedVersion), "505 HTTP Version Not Supported", "use HTTP/1.1"),
            (AdminRefusal::ForeignHost, "403 Forbidden", "localhost"),
            (AdminRefusal::WebPage, "403 Forbidden", "Web pages"),
            (AdminRefusal::NotFound, "404 Not Found", r#""paths":["/healthz","/readyz","/metrics","/api/state"]"#),
            (AdminRefusal::MethodNotAllowed, "405 Method Not Allowed", "Allow: GET, HEAD\r\n"),
        ] {
            let answer = written(refusal, false);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")) && answer.contains(part), "{answer}");
            assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
            let head = written(refusal, true);
            assert!(answer.starts_with(&head) && head.ends_with("\r\n\r\n") && head.len() < answer.len());
        }
    }
}
