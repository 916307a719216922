//! The request head: the facts that its fields state, and the head that goes upstream for it.
//!
//! Invariant: no credential of the downstream and no field that is meant for this hop goes upstream; `Host`,
//! `Authorization` and the framing are ours whatever the request says. All other fields keep their order and bytes.

use std::fmt;
use std::ops::Range;

use crate::http1::fields::{self, ConnectionOptions, Known, NamedFields};
use crate::http1::framing::{BodyLength, LengthFields};
use crate::http1::head::{HeadError, RequestHead, Version};
use crate::proxy::guard::origin::Caller;
use crate::proxy::request::path::UpstreamPath;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Trace,
    Connect,
    Other,
}

impl Method {
    /// Returns the method of that name; methods are case-sensitive (RFC 9110 §9.1).
    pub fn of(name: &str) -> Self {
        match name {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "PATCH" => Method::Patch,
            "DELETE" => Method::Delete,
            "OPTIONS" => Method::Options,
            "TRACE" => Method::Trace,
            "CONNECT" => Method::Connect,
            _ => Method::Other,
        }
    }

    /// Returns whether RFC 9110 §9.2.2 calls the method idempotent.
    pub fn is_idempotent(self) -> bool {
        matches!(self, Method::Get | Method::Head | Method::Put | Method::Delete | Method::Options | Method::Trace)
    }

    /// Returns whether a request without a body needs `Content-Length: 0` (RFC 9110 §8.6).
    fn expects_body(self) -> bool {
        matches!(self, Method::Post | Method::Put | Method::Patch)
    }
}

/// The facts about a request that decide how it is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestFacts {
    pub method: Method,
    pub version: Version,
    pub body: BodyLength,
    connection: ConnectionOptions,
    /// The downstream keeps the connection.
    pub keep_alive: bool,
    /// The downstream waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    pub wants_websocket: bool,
}

/// An error in the head of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestError {
    Head(HeadError),
    /// An expectation other than `100-continue`.
    UnsupportedExpectation,
}

impl fmt::Display for RequestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Head(error) => error.fmt(formatter),
            RequestError::UnsupportedExpectation => formatter.write_str("the expectation is not 100-continue"),
        }
    }
}

impl std::error::Error for RequestError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RequestError::Head(error) => Some(error),
            RequestError::UnsupportedExpectation => None,
        }
    }
}

impl From<HeadError> for RequestError {
    fn from(error: HeadError) -> Self {
        RequestError::Head(error)
    }
}

/// Checks the fields about the message itself, in one pass, and notes in `caller` those about its origin.
///
/// # Errors
/// `Host`, the framing, `Connection` or `Expect` cannot be accepted.
pub fn examine<'h>(head: &RequestHead<'h>, caller: &mut Caller<'h>) -> Result<RequestFacts, RequestError> {
    let mut lengths = LengthFields::default();
    let mut connection = ConnectionOptions::default();
    let mut expectation = Expectation::None;
    let mut wants_websocket = false;
    for field in head.fields {
        match fields::known(field.name) {
            // RFC 9112 §3.2: exactly one, also where an absolute-form target overrides it.
            Some(Known::Host) if caller.host.replace(field.value).is_some() => {
                return Err(HeadError::Malformed("Host is repeated").into());
            }
            Some(Known::ContentLength) => lengths.add_content_length(field.value),
            Some(Known::TransferEncoding) => lengths.add_transfer_encoding(field.value),
            Some(Known::Connection) => connection.add(field.value),
            Some(Known::Expect) => expectation.add(field.value),
            Some(Known::Upgrade) => wants_websocket |= lists_websocket(field.value),
            Some(known @ (Known::Origin | Known::SecFetchSite)) => caller.note(known, field),
            _ => {}
        }
    }
    check_host(caller.host, head.version)?;
    connection.check_count()?;
    let body = lengths.request_body_length(head.version)?;
    // RFC 9110 §10.1.1 and §7.8: neither Expect nor Upgrade means anything in HTTP/1.0.
    let is_http11 = head.version == Version::Http11;
    if is_http11 && expectation == Expectation::Other {
        return Err(RequestError::UnsupportedExpectation);
    }
    let has_body = !matches!(body, BodyLength::None | BodyLength::Known(0));
    Ok(RequestFacts {
        method: Method::of(head.method),
        version: head.version,
        body,
        connection,
        keep_alive: connection.keeps_alive(head.version),
        expects_continue: is_http11 && has_body && expectation == Expectation::Continue,
        wants_websocket: is_http11 && wants_websocket,
    })
}

/// Requires a valid `Host` (RFC 9112 §3.2); HTTP/1.0 may do without the field.
fn check_host(host: Option<&[u8]>, version: Version) -> Result<(), HeadError> {
    match host {
        Some(host) if fields::is_valid_host(host) => Ok(()),
        Some(_) => Err(HeadError::Malformed("Host is invalid")),
        None if version == Version::Http10 => Ok(()),
        None => Err(HeadError::Malformed("Host is missing")),
    }
}

/// The expectations in the `Expect` fields (RFC 9110 §10.1.1).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expectation {
    None,
    Continue,
    Other,
}

impl Expectation {
    fn add(&mut self, value: &[u8]) {
        for member in fields::list_members(value) {
            *self = match *self {
                Expectation::None | Expectation::Continue if member.eq_ignore_ascii_case(b"100-continue") => {
                    Expectation::Continue
                }
                _ => Expectation::Other,
            };
        }
    }
}

/// Returns whether `websocket` is in a list of `protocol-name [ "/" protocol-version ]` (RFC 9110 §7.8).
fn lists_websocket(upgrade: &[u8]) -> bool {
    fields::list_members(upgrade).any(|protocol| {
        let name_end = memchr::memchr(b'/', protocol).unwrap_or(protocol.len());
        protocol[..name_end].eq_ignore_ascii_case(b"websocket")
    })
}

/// The base path and the authority of the upstream.
#[derive(Debug, Clone)]
pub struct UpstreamIdentity {
    /// As in [`crate::proxy::request::target::TargetRules`].
    pub base_path: String,
    /// The value of `Host`.
    pub authority: String,
}

/// Appends the head that goes upstream, and returns the range of `out` that holds the value of `Authorization`.
/// `authorization` is that whole value; `facts` are those of [`examine`].
pub fn write(
    out: &mut Vec<u8>,
    head: &RequestHead<'_>,
    path: UpstreamPath<'_>,
    upstream: &UpstreamIdentity,
    authorization: &[u8],
    facts: &RequestFacts,
) -> Range<usize> {
    let authorization = write_fields(out, head, path, upstream, authorization, facts, |_| true);
    match facts.body {
        BodyLength::Chunked => fields::push_field(out, "Transfer-Encoding", b"chunked"),
        BodyLength::Known(length) => fields::push_content_length(out, length),
        BodyLength::None if facts.method.expects_body() => fields::push_content_length(out, 0),
        // A request cannot last until the close.
        BodyLength::None | BodyLength::UntilClose => {}
    }
    out.extend_from_slice(b"\r\n");
    authorization
}

/// Appends the request line and all fields but those that frame the body; `keeps` is asked about each field of the
/// downstream that would be forwarded.
fn write_fields(
    out: &mut Vec<u8>,
    head: &RequestHead<'_>,
    path: UpstreamPath<'_>,
    upstream: &UpstreamIdentity,
    authorization: &[u8],
    facts: &RequestFacts,
    keeps: impl Fn(&str) -> bool,
) -> Range<usize> {
    out.extend_from_slice(head.method.as_bytes());
    out.push(b' ');
    path.push_to(out, &upstream.base_path);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    // RFC 9110 §7.2 asks for Host to come first.
    fields::push_field(out, "Host", upstream.authority.as_bytes());
    let named = facts.connection.named(head.fields);
    for field in head.fields.iter().filter(|field| is_forwarded(field.name, &named) && keeps(field.name)) {
        fields::push_field(out, field.name, field.value);
    }
    fields::push_field(out, "Authorization", authorization);
    let value_end = out.len() - "\r\n".len();
    value_end - authorization.len()..value_end
}

/// The head of a request whose body is to be filtered: without `anthropic-beta`, and open until the length of the body is
/// known. Trailers are not kept (RFC 9110 §6.5.1), so nothing announces them.
#[derive(Debug)]
pub struct FilteredHead {
    bytes: Vec<u8>,
    authorization: Range<usize>,
}

impl FilteredHead {
    /// Writes the head as [`write()`] does; `None` of a request whose body is encoded, which cannot be filtered.
    pub fn new(
        head: &RequestHead<'_>,
        path: UpstreamPath<'_>,
        upstream: &UpstreamIdentity,
        authorization: &[u8],
        facts: &RequestFacts,
    ) -> Option<Self> {
        if head.fields.iter().any(|field| field.name.eq_ignore_ascii_case("content-encoding")) {
            return None;
        }
        let is_kept =
            |name: &str| !name.eq_ignore_ascii_case("anthropic-beta") && !name.eq_ignore_ascii_case("trailer");
        let mut bytes = Vec::new();
        let authorization = write_fields(&mut bytes, head, path, upstream, authorization, facts, is_kept);
        Some(FilteredHead { bytes, authorization })
    }

    /// Ends the head with a body of `length` bytes, and returns it with the place of the value of `Authorization`.
    pub fn with_length(mut self, length: u64) -> (Vec<u8>, Range<usize>) {
        fields::push_content_length(&mut self.bytes, length);
        self.bytes.extend_from_slice(b"\r\n");
        (self.bytes, self.authorization)
    }
}

fn is_forwarded(name: &str, named: &NamedFields<'_>) -> bool {
    match fields::known(name) {
        Some(Known::Host | Known::Authorization | Known::DownstreamKey | Known::ContentLength | Known::Expect) => false,
        // A downstream must not be able to make the upstream guess what the body is.
        Some(Known::ContentType) => true,
        Some(known) if known.is_hop_by_hop() => false,
        _ => !named.contain(name),
    }
}

#[cfg(test)]
mod tests;
