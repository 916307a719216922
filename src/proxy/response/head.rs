//! The upstream's response head: the facts that its fields state, and the head that goes downstream for it.
//!
//! Invariant: status, reason and all fields are the upstream's, except those that are meant for its own hop,
//! `Set-Cookie`, the framing, a `Location` that would lead past this program, and the field that marks errors made
//! here.

use std::time::Duration;

use crate::http1::fields::{self, ConnectionOptions, Known, NamedFields};
use crate::http1::framing::{self, BodyLength, LengthFields};
use crate::http1::head::{HeadError, ResponseHead, Version};
use crate::http1::keep_alive::KeepAliveFields;
use crate::proxy::guard::cors;
use crate::proxy::request::ids::REQUEST_ID;
use crate::proxy::response::coding::ContentCoding;
use crate::proxy::response::location::{LocationRewrite, push_location};
use crate::usage::cost::Usd;

/// The facts about a response that decide how it is relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseFacts {
    pub status: u16,
    pub version: Version,
    pub body: BodyLength,
    /// The value of `Content-Length`, also if there is no body (a response to `HEAD`, a 304).
    pub content_length: Option<u64>,
    pub connection: ConnectionOptions,
    /// The upstream keeps the connection, and the connection's state after this response is certain.
    pub keep_alive: bool,
    /// The longest that the connection may rest before it is used again, where the upstream has said so.
    pub rest_limit: Option<Duration>,
    pub is_event_stream: bool,
    /// The body is JSON (RFC 8259, or a suffix of RFC 6839 §3.1).
    pub is_json: bool,
    pub coding: ContentCoding,
    /// The cost of the answer, where the upstream tells it (LiteLLM's `x-litellm-response-cost`, a number as Python
    /// writes one).
    pub cost: Option<Usd>,
}

impl ResponseFacts {
    /// Returns whether the body has no content coding.
    pub fn is_identity_coded(&self) -> bool {
        self.coding == ContentCoding::Identity
    }

    /// Returns whether the close of the connection is what ends the body for a downstream of that version.
    pub fn is_close_delimited_for(&self, version: Version) -> bool {
        match self.body {
            BodyLength::UntilClose => true,
            BodyLength::Chunked => version == Version::Http10,
            BodyLength::None | BodyLength::Known(_) => false,
        }
    }
}

/// Checks the fields about the message itself, in one pass.
///
/// # Errors
/// The framing breaks RFC 9112 §6, or `Connection` lists too many options.
pub fn examine(head: &ResponseHead<'_>, request_was_head: bool) -> Result<ResponseFacts, HeadError> {
    let mut lengths = LengthFields::default();
    let mut connection = ConnectionOptions::default();
    let mut keep_alive = KeepAliveFields::default();
    let (mut is_event_stream, mut is_json) = (false, false);
    let mut coding = ContentCoding::Identity;
    let mut cost = None;
    for field in head.fields {
        match fields::known(field.name) {
            Some(Known::ContentLength) => lengths.add_content_length(field.value),
            Some(Known::TransferEncoding) => lengths.add_transfer_encoding(field.value),
            Some(Known::Connection) => connection.add(field.value),
            Some(Known::KeepAlive) => keep_alive.add(field.value),
            Some(Known::ContentType) => {
                let media_type = media_type(field.value);
                is_event_stream |= media_type.eq_ignore_ascii_case(b"text/event-stream");
                is_json |= names_json(media_type);
            }
            Some(Known::ContentEncoding) => coding.add(field.value),
            Some(Known::ResponseCost) => cost = dollars(field.value),
            _ => {}
        }
    }
    connection.check_count()?;
    let rest_limit = keep_alive.rest_limit();
    let declared = lengths.declared(head.version)?;
    let body = framing::response_body_length(declared, head.status, request_was_head);
    // RFC 9110 §8.6, RFC 9112 §6.1: a 204 must not announce a body; an upstream that does may send one, too.
    let may_be_followed = head.status == 204 && !matches!(declared, None | Some(BodyLength::Known(0)));
    Ok(ResponseFacts {
        status: head.status,
        version: head.version,
        body,
        content_length: match declared {
            Some(BodyLength::Known(length)) => Some(length),
            _ => None,
        },
        connection,
        keep_alive: connection.keeps_alive(head.version)
            && body != BodyLength::UntilClose
            && !may_be_followed
            && rest_limit != Some(Duration::ZERO),
        rest_limit,
        is_event_stream,
        is_json,
        coding,
        cost,
    })
}

fn dollars(value: &[u8]) -> Option<Usd> {
    Usd::from_dollars(std::str::from_utf8(value).ok()?.trim_ascii().parse().ok()?)
}

/// Returns a content type without its parameters.
fn media_type(content_type: &[u8]) -> &[u8] {
    let end = memchr::memchr(b';', content_type).unwrap_or(content_type.len());
    fields::trim_whitespace(&content_type[..end])
}

fn names_json(media_type: &[u8]) -> bool {
    const SUFFIX: &[u8] = b"+json";
    let suffix = &media_type[media_type.len().saturating_sub(SUFFIX.len())..];
    media_type.eq_ignore_ascii_case(b"application/json") || suffix.eq_ignore_ascii_case(SUFFIX)
}

/// The downstream as the recipient of a response: its version, its connection and its page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipient<'a> {
    pub version: Version,
    pub keep_alive: bool,
    /// The origin of its page, which may read the response whatever the upstream says.
    pub origin: Option<&'a str>,
    /// Sent where the upstream sends none.
    pub request_id: &'a str,
}

/// Appends the head that goes downstream, and returns the length of `out` with all that is the upstream's in it: fields
/// of this program follow. `location` is `None` if the downstream itself named the upstream.
///
/// If [`ResponseFacts::is_close_delimited_for`] holds, `Connection: close` is sent whatever `recipient` says.
pub fn write(
    out: &mut Vec<u8>,
    head: &ResponseHead<'_>,
    facts: &ResponseFacts,
    recipient: &Recipient<'_>,
    location: Option<&LocationRewrite<'_>>,
) -> usize {
    push_status_line(out, head);
    let named = facts.connection.named(head.fields);
    let is_decoded = facts.body == BodyLength::Chunked && recipient.version == Version::Http10;
    let (mut is_buffering_told, mut has_request_id) = (false, false);
    for field in head.fields {
        match fields::known(field.name) {
            known if !is_forwarded(known, field.name, &named) => continue,
            // RFC 9112 §7.1.3: the announcement of trailers is removed with them.
            Some(Known::Trailer) if is_decoded => continue,
            Some(Known::Location) => {
                push_location(out, field.name, field.value, location);
                continue;
            }
            Some(Known::XAccelBuffering) => is_buffering_told = true,
            Some(Known::RequestId) => has_request_id = true,
            None if recipient.origin.is_some() && cors::is_page_field(field.name) => continue,
            _ => {}
        }
        fields::push_field(out, field.name, field.value);
    }
    let upstream_bytes = out.len();
    if !has_request_id {
        fields::push_field(out, REQUEST_ID, recipient.request_id.as_bytes());
    }
    if facts.is_event_stream && !is_buffering_told {
        fields::push_field(out, "X-Accel-Buffering", b"no");
    }
    if let Some(origin) = recipient.origin {
        cors::push_page_fields(out, origin);
    }
    push_framing(out, facts, recipient.version);
    push_connection(out, facts, recipient);
    out.extend_from_slice(b"\r\n");
    upstream_bytes
}

/// Appends a 1xx other than 100 and 101 as it goes to an HTTP/1.1 downstream.
pub fn write_interim(out: &mut Vec<u8>, head: &ResponseHead<'_>) {
    push_status_line(out, head);
    // They are rare, and none of their other fields is read.
    let named = NamedFields::gather(head.fields);
    for field in head.fields {
        if is_forwarded(fields::known(field.name), field.name, &named) {
            fields::push_field(out, field.name, field.value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the status line (RFC 9112 §4), with the space before the reason also if there is no reason.
pub(super) fn push_status_line(out: &mut Vec<u8>, head: &ResponseHead<'_>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    fields::push_decimal(out, u64::from(head.status));
    out.push(b' ');
    out.extend_from_slice(head.reason);
    out.extend_from_slice(b"\r\n");
}

pub(super) fn is_forwarded(known: Option<Known>, name: &str, named: &NamedFields<'_>) -> bool {
    match known {
        Some(Known::SetCookie | Known::ContentLength | Known::FlowUringError) => false,
        // As in a request.
        Some(Known::ContentType | Known::RequestId | Known::Trace) => true,
        Some(known) if known.is_hop_by_hop() => false,
        _ => !named.contain(name),
    }
}

fn push_framing(out: &mut Vec<u8>, facts: &ResponseFacts, version: Version) {
    let length = match facts.body {
        BodyLength::Known(length) => Some(length),
        // RFC 9110 §8.6: a response to HEAD and a 304 state the length of a GET's; a 1xx and a 204 must not.
        BodyLength::None if !matches!(facts.status, 100..=199 | 204) => facts.content_length,
        _ => None,
    };
    if let Some(length) = length {
        fields::push_content_length(out, length);
    }
    if facts.body == BodyLength::Chunked && version == Version::Http11 {
        fields::push_field(out, "Transfer-Encoding", b"chunked");
    }
}

/// Appends the `Connection` field (RFC 9112 §9.3 and §9.6).
fn push_connection(out: &mut Vec<u8>, facts: &ResponseFacts, recipient: &Recipient<'_>) {
    if !recipient.keep_alive || facts.is_close_delimited_for(recipient.version) {
        fields::push_field(out, "Connection", b"close");
    } else if recipient.version == Version::Http10 {
        fields::push_field(out, "Connection", b"keep-alive");
    }
}

#[cfg(test)]
mod tests;
