//! The request head: the facts that its fields state, and the head that goes upstream for it.
//!
//! Invariant: no credential of the downstream and no field that is meant for this hop goes upstream; `Host`,
//! `Authorization` and the framing are ours whatever the request says. All other fields keep their order and bytes, and
//! there is always a request id.

use std::fmt;
use std::ops::Range;

use zeroize::Zeroizing;

use crate::http1::fields::{self, ConnectionOptions, Known, NamedFields};
use crate::http1::framing::{BodyLength, LengthFields};
use crate::http1::head::{HeadError, RequestHead, Version};
use crate::proxy::guard::key::is_key_protocol;
use crate::proxy::guard::origin::Caller;
use crate::proxy::request::gemini;
use crate::proxy::request::ids::REQUEST_ID;
use crate::proxy::request::path::UpstreamPath;
use crate::proxy::request::token_place::{TokenFields, TokenPlace};

const ACCEPT_ENCODING: &str = "Accept-Encoding";

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
    /// It asks for an upgrade to WebSocket; a forwarded one does so as RFC 6455 §4 has it.
    pub wants_websocket: bool,
}

impl RequestFacts {
    /// Returns whether `Connection` lists `upgrade`.
    pub fn lists_upgrade(&self) -> bool {
        self.connection.lists_upgrade()
    }
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
    let has_body = !body.is_empty();
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

/// The parts that the head for the upstream is written from.
#[derive(Clone, Copy)]
pub struct UpstreamHead<'a> {
    pub head: &'a RequestHead<'a>,
    pub path: UpstreamPath<'a>,
    pub upstream: &'a UpstreamIdentity,
    /// The whole value of `Authorization`.
    pub authorization: &'a [u8],
    /// As [`examine`] found them.
    pub facts: &'a RequestFacts,
    /// The request id to send in the place of the downstream's; `None`: that is passed on.
    pub own_id: Option<&'a str>,
    /// The answer must have no content coding, whatever the downstream takes: it is read for its usage.
    pub is_identity_asked: bool,
}

impl UpstreamHead<'_> {
    /// Appends the head, and returns the place of the token in it.
    pub fn write(&self, out: &mut Vec<u8>) -> TokenPlace {
        let token = self.write_fields(out, |_, _| {});
        self.write_framing(out);
        token
    }

    /// Appends the head as [`UpstreamHead::write`] does, and notes in it what changes with a filtered body: `None` of a
    /// body that is encoded, which cannot be filtered.
    pub fn write_filterable(&self, out: &mut Vec<u8>) -> (TokenPlace, Option<Box<FilterableHead>>) {
        let mut removed = Vec::new();
        let mut is_encoded = false;
        let token = self.write_fields(out, |name, line| {
            is_encoded |= name.eq_ignore_ascii_case("content-encoding");
            if name.eq_ignore_ascii_case("anthropic-beta") || name.eq_ignore_ascii_case("trailer") {
                removed.push(line);
            }
        });
        let framing = out.len();
        self.write_framing(out);
        // Boxed: every request would keep room for it.
        (token, (!is_encoded).then(|| Box::new(FilterableHead { removed, framing })))
    }

    /// Appends the request line and all fields but those that frame the body, and gives `written` the name of each
    /// field of the downstream with the place of its line.
    fn write_fields(&self, out: &mut Vec<u8>, mut written: impl FnMut(&str, Range<usize>)) -> TokenPlace {
        let UpstreamHead { head, path, upstream, authorization, facts, own_id, is_identity_asked } = *self;
        out.extend_from_slice(head.method.as_bytes());
        out.push(b' ');
        let token_fields = if gemini::is_passed_through(path) {
            gemini::push_without_key(out, path, &upstream.base_path);
            TokenFields::GoogApiKeyToo
        } else {
            path.push_to(out, &upstream.base_path);
            TokenFields::Authorization
        };
        out.extend_from_slice(b" HTTP/1.1\r\n");
        // RFC 9110 §7.2 asks for Host to come first.
        fields::push_field(out, "Host", upstream.authority.as_bytes());
        let named = facts.connection.named(head.fields);
        let keeps_id = own_id.is_none();
        let is_upgrade = facts.wants_websocket;
        for field in head.fields {
            let passage = passage(field.name, &named, keeps_id, is_upgrade);
            let is_coding = is_identity_asked && field.name.eq_ignore_ascii_case(ACCEPT_ENCODING);
            if passage == FieldPassage::Removed || is_coding {
                continue;
            }
            let start = out.len();
            match passage {
                FieldPassage::WithoutKey => push_protocols(out, field.name, field.value),
                FieldPassage::Whole | FieldPassage::Removed => fields::push_field(out, field.name, field.value),
            }
            written(field.name, start..out.len());
        }
        if let Some(id) = own_id {
            fields::push_field(out, REQUEST_ID, id.as_bytes());
        }
        if is_identity_asked {
            fields::push_field(out, ACCEPT_ENCODING, b"identity");
        }
        TokenPlace::push(out, token_fields, authorization)
    }

    /// Appends the field that frames the body, and the end of the head.
    fn write_framing(&self, out: &mut Vec<u8>) {
        if self.facts.wants_websocket {
            out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
            return;
        }
        match self.facts.body {
            BodyLength::Chunked => fields::push_field(out, "Transfer-Encoding", b"chunked"),
            BodyLength::Known(length) => fields::push_content_length(out, length),
            BodyLength::None if self.facts.method.expects_body() => fields::push_content_length(out, 0),
            // A request cannot last until the close.
            BodyLength::None | BodyLength::UntilClose => {}
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// The places in a written head that change with a filtered body: the lines of `anthropic-beta` go, and so do those of
/// `Trailer`, since trailers are not kept (RFC 9110 §6.5.1), and the body is framed by its length.
#[derive(Debug)]
pub struct FilterableHead {
    /// Before the token, in their order.
    removed: Vec<Range<usize>>,
    /// The first byte of the field that frames the body, which is the last one.
    framing: usize,
}

impl FilterableHead {
    /// Returns `head`, in which `token` has its place, for a filtered body of `length` bytes.
    pub fn filtered(&self, head: &[u8], token: &TokenPlace, length: u64) -> (Zeroizing<Vec<u8>>, TokenPlace) {
        // Room for a longer Content-Length, or for one in the place of a Transfer-Encoding: a vector that grows would
        // leave a copy of the token that is not zeroed.
        let mut out = Zeroizing::new(Vec::with_capacity(head.len() + 40));
        let mut from = 0;
        for line in &self.removed {
            out.extend_from_slice(&head[from..line.start]);
            from = line.end;
        }
        out.extend_from_slice(&head[from..self.framing]);
        fields::push_content_length(&mut out, length);
        out.extend_from_slice(b"\r\n");
        (out, token.moved_back(self.removed.iter().map(ExactSizeIterator::len).sum()))
    }
}

/// The part of a field that goes upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldPassage {
    Removed,
    Whole,
    /// All but the key of the caller among the subprotocols.
    WithoutKey,
}

fn passage(name: &str, named: &NamedFields<'_>, keeps_id: bool, is_upgrade: bool) -> FieldPassage {
    let known = fields::known(name);
    match known {
        // Without extensions every message can be read along (RFC 6455 §9.1: what is not agreed on is not used).
        Some(Known::WebSocketExtensions) if is_upgrade => FieldPassage::Removed,
        Some(Known::WebSocketProtocol) if is_upgrade || !named.contain(name) => FieldPassage::WithoutKey,
        Some(known) if is_upgrade && known.is_of_websocket() => FieldPassage::Whole,
        known if is_forwarded(known, name, named, keeps_id) => FieldPassage::Whole,
        _ => FieldPassage::Removed,
    }
}

/// Appends a field of subprotocols without the key of a caller; nothing where that is all there is.
fn push_protocols(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    if !fields::list_members(value).any(is_key_protocol) {
        return fields::push_field(out, name, value);
    }
    let others: Vec<&[u8]> = fields::list_members(value).filter(|protocol| !is_key_protocol(protocol)).collect();
    if !others.is_empty() {
        fields::push_field(out, name, &others.join(&b", "[..]));
    }
}

fn is_forwarded(known: Option<Known>, name: &str, named: &NamedFields<'_>, keeps_id: bool) -> bool {
    match known {
        Some(Known::Host | Known::Authorization | Known::DownstreamKey | Known::ContentLength | Known::Expect) => false,
        // A downstream must not be able to make the upstream guess what the body is.
        Some(Known::ContentType) => true,
        // Always passed on, a stated deviation from RFC 9110 §7.6.1: they are for all recipients, so a `Connection` must
        // not name them, and a request whose trace could be cut off by it could not be followed.
        Some(Known::Trace) => true,
        Some(Known::RequestId) => keeps_id,
        Some(known) if known.is_hop_by_hop() => false,
        _ => !named.contain(name),
    }
}

#[cfg(test)]
mod tests;
