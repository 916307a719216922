//! The bytes of a reply of the admin listener. Each closes its connection.

use std::borrow::Cow;
use std::io::Write;

use serde::Serialize;

pub const JSON: &str = "application/json";

/// The line that keeps a reply out of every cache.
const NO_STORE: &str = "Cache-Control: no-store\r\n";

/// A whole reply.
#[derive(Debug)]
pub struct AdminReply {
    pub status: u16,
    pub content_type: &'static str,
    /// Further header lines, each with its end, or nothing.
    pub fields: String,
    /// The line about caches.
    pub caching: &'static str,
    pub body: Cow<'static, [u8]>,
}

impl AdminReply {
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Self {
        AdminReply { status, content_type, fields: String::new(), caching: NO_STORE, body: body.into() }
    }

    /// Makes a reply with `value` as its body.
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        // Only a map with other keys than texts could not be written.
        let mut body = serde_json::to_vec(value).unwrap_or_default();
        body.push(b'\n');
        AdminReply::new(status, JSON, body)
    }

    /// Adds header lines, each with its end.
    pub fn with_fields(mut self, fields: impl Into<String>) -> Self {
        self.fields = fields.into();
        self
    }

    /// Appends the reply to `out`. The reply to a `HEAD` is the same without its body (RFC 9110 §9.3.2).
    pub fn write(&self, out: &mut Vec<u8>, head_only: bool) {
        let AdminReply { status, content_type, fields, caching, body } = self;
        // RFC 9110 §15.4.5: a 304 has no body, and its length would be that of the 200.
        let length = if *status == 304 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        write!(
            out,
            "HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\n{length}{caching}X-Content-Type-Options: nosniff\r\n\
             Referrer-Policy: no-referrer\r\n{fields}Connection: close\r\n\r\n",
            reason(*status)
        )
        .expect("a Vec takes every byte");
        if !head_only {
            out.extend_from_slice(body);
        }
    }
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
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
