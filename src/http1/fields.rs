//! Field names this program knows, and the grammar of the few field values it reads.
//!
//! Invariant: [`known`] ignores case and compares a name with one candidate. What is done with a field is decided where
//! heads are written.

use std::net::Ipv6Addr;

use super::head::{Field, HeadError, Version};

pub use super::grammar::{is_token, trim_whitespace};

/// The longest list of connection options that is accepted. Real ones name one or two; every field of the head is
/// looked up in the list, which costs fields × options.
pub const CONNECTION_OPTIONS_MAX: usize = 32;

/// A field that this program handles in some way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    Authorization,
    /// A key or cookie that the downstream sent for its own sake: `Cookie`, `X-Api-Key` and the like; and whatever
    /// servers take for a field of keys.
    DownstreamKey,
    Connection,
    ContentEncoding,
    ContentLength,
    ContentType,
    Expect,
    /// `X-Flow-Uring-Error`, by which an answer made here is told from the upstream's.
    FlowUringError,
    /// A name that servers take for a field that frames a message or is meant for one hop.
    HopAlias,
    Host,
    KeepAlive,
    Location,
    Origin,
    ProxyAuthorization,
    ProxyConnection,
    RequestId,
    /// `X-Litellm-Response-Cost`, the cost of an answer in US dollars.
    ResponseCost,
    SecFetchSite,
    SetCookie,
    Te,
    /// `traceparent` or `tracestate` (W3C Trace Context).
    Trace,
    Trailer,
    TransferEncoding,
    Upgrade,
    /// `Sec-WebSocket-Accept` (RFC 6455 §11.3), as all that follow.
    WebSocketAccept,
    WebSocketExtensions,
    WebSocketKey,
    WebSocketProtocol,
    WebSocketVersion,
    XAccelBuffering,
}

impl Known {
    /// Returns whether the field is meant for the next hop alone (RFC 9110 §7.6.1), leaving aside what `Connection`
    /// names.
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Known::Connection
                | Known::HopAlias
                | Known::KeepAlive
                | Known::ProxyAuthorization
                | Known::ProxyConnection
                | Known::Te
                | Known::TransferEncoding
                | Known::Upgrade
        )
    }

    /// Returns whether the field is a part of the opening handshake of a WebSocket (RFC 6455 §4).
    pub fn is_of_websocket(self) -> bool {
        matches!(
            self,
            Known::WebSocketAccept
                | Known::WebSocketExtensions
                | Known::WebSocketKey
                | Known::WebSocketProtocol
                | Known::WebSocketVersion
        )
    }

    /// The field that an alias of this one counts as; `None`: an alias of it does no harm, or none can be written.
    fn alias(self) -> Option<Known> {
        match self {
            // One that holds a key is removed as such: keys are read in fields of the proper names alone.
            Known::DownstreamKey | Known::ProxyAuthorization => Some(Known::DownstreamKey),
            Known::ContentLength | Known::TransferEncoding | Known::KeepAlive | Known::ProxyConnection => {
                Some(Known::HopAlias)
            }
            // A key of this gateway may be among the subprotocols, and the others must not be told twice.
            known if known.is_of_websocket() => Some(Known::HopAlias),
            Known::SetCookie | Known::FlowUringError => Some(self),
            _ => None,
        }
    }
}

/// Looks up a field name, which is a token; ignores case.
///
/// Servers that hand fields on as variables write `-` as `_` (RFC 3875 §4.1.18), and some of them `.` too: to them
/// `X_Api_Key` is `X-Api-Key`, and would get past its removal. A name that differs from a removed one in such bytes
/// alone is known as something that is removed too, and is never read.
pub fn known(name: &str) -> Option<Known> {
    let name = name.as_bytes();
    let first = name.first()? | CASE_BIT;
    let (spelling, known) = match (name.len(), first) {
        (2, b't') => ("te", Known::Te),
        (4, b'h') => ("host", Known::Host),
        (6, b'c') => ("cookie", Known::DownstreamKey),
        (6, b'e') => ("expect", Known::Expect),
        (6, b'o') => ("origin", Known::Origin),
        (7, b'a') => ("api-key", Known::DownstreamKey),
        (7, b't') => ("trailer", Known::Trailer),
        (7, b'u') => ("upgrade", Known::Upgrade),
        (8, b'l') => ("location", Known::Location),
        (9, b'x') => ("x-api-key", Known::DownstreamKey),
        (10, b'c') => ("connection", Known::Connection),
        (10, b'k') => ("keep-alive", Known::KeepAlive),
        (10, b's') => ("set-cookie", Known::SetCookie),
        (10, b't') => ("tracestate", Known::Trace),
        (11, b't') => ("traceparent", Known::Trace),
        (12, b'c') => ("content-type", Known::ContentType),
        (12, b'x') => ("x-request-id", Known::RequestId),
        (13, b'a') => ("authorization", Known::Authorization),
        (14, b'c') => ("content-length", Known::ContentLength),
        (14, b's') => ("sec-fetch-site", Known::SecFetchSite),
        (14, b'x') => ("x-goog-api-key", Known::DownstreamKey),
        (16, b'c') => ("content-encoding", Known::ContentEncoding),
        (16, b'p') => ("proxy-connection", Known::ProxyConnection),
        (17, b's') => ("sec-websocket-key", Known::WebSocketKey),
        (17, b't') => ("transfer-encoding", Known::TransferEncoding),
        (17, b'x') if name[2] | CASE_BIT == b'l' => ("x-litellm-api-key", Known::DownstreamKey),
        (17, b'x') => ("x-accel-buffering", Known::XAccelBuffering),
        (18, b'x') => ("x-flow-uring-error", Known::FlowUringError),
        (19, b'p') => ("proxy-authorization", Known::ProxyAuthorization),
        (20, b's') => ("sec-websocket-accept", Known::WebSocketAccept),
        (21, b's') => ("sec-websocket-version", Known::WebSocketVersion),
        (22, b's') => ("sec-websocket-protocol", Known::WebSocketProtocol),
        (23, b'x') => ("x-litellm-response-cost", Known::ResponseCost),
        (24, b's') => ("sec-websocket-extensions", Known::WebSocketExtensions),
        (25, b'o') => ("ocp-apim-subscription-key", Known::DownstreamKey),
        _ => return None,
    };
    if is_spelled(name, spelling.as_bytes()) {
        return Some(known);
    }
    // An alias ends as the name does, and hardly any other name of this length and first letter.
    let last = name.last()? | CASE_BIT;
    if spelling.as_bytes().last() == Some(&last) { alias_of(known, name, spelling.as_bytes()) } else { None }
}

/// The bit in which a letter's lower case differs from its upper case.
const CASE_BIT: u8 = 0x20;

/// Compares a field name with a spelling of the same length, ignoring case, eight bytes at a time: every field of
/// every head is looked up, and byte by byte that was a tenth of all instructions of an exchange.
///
/// `spelling` is in lower case, of letters and hyphens. These, and in a token no other byte, become a letter or a
/// hyphen with [`CASE_BIT`] set.
fn is_spelled(name: &[u8], spelling: &[u8]) -> bool {
    const WORD_CASE_BITS: u64 = u64::from_ne_bytes([CASE_BIT; 8]);
    let (words, rest) = name.as_chunks::<8>();
    let (spelling_words, spelling_rest) = spelling.as_chunks::<8>();
    let is_same_word = |(word, spelling): (&[u8; 8], &[u8; 8])| {
        u64::from_ne_bytes(*word) | WORD_CASE_BITS == u64::from_ne_bytes(*spelling)
    };
    words.iter().zip(spelling_words).all(is_same_word)
        && rest.iter().zip(spelling_rest).all(|(byte, spelling)| byte | CASE_BIT == *spelling)
}

/// Returns what a name counts as that differs from the spelling of `known`, of the same length, in `_` or `.` for `-`
/// alone, apart from case.
#[cold]
#[inline(never)]
fn alias_of(known: Known, name: &[u8], spelling: &[u8]) -> Option<Known> {
    let is_same = |(byte, spelling): (&u8, &u8)| match spelling {
        b'-' => matches!(byte, b'-' | b'_' | b'.'),
        letter => byte | CASE_BIT == *letter,
    };
    known.alias().filter(|_| name.iter().zip(spelling).all(is_same))
}

/// Returns the members of a comma-separated list (RFC 9110 §5.6.1), trimmed; empty members are skipped.
pub fn list_members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim_whitespace).filter(|member| !member.is_empty())
}

/// The options that a head's `Connection` fields list (RFC 9110 §7.6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectionOptions {
    lists_close: bool,
    lists_keep_alive: bool,
    lists_upgrade: bool,
    /// Number of all other options; each may name a field of the head that is to be removed with `Connection`. In 32
    /// bits: a head has 64 KiB at most, and the task of a connection has room for this.
    others_count: u32,
}

impl ConnectionOptions {
    /// Adds the options of one field.
    pub fn add(&mut self, value: &[u8]) {
        for option in list_members(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.lists_close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.lists_keep_alive = true;
            } else {
                self.lists_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
                self.others_count += 1;
            }
        }
    }

    /// # Errors
    /// When there are more than [`CONNECTION_OPTIONS_MAX`] options other than `close` and `keep-alive`.
    pub fn check_count(&self) -> Result<(), HeadError> {
        if self.others_count as usize > CONNECTION_OPTIONS_MAX {
            return Err(HeadError::Malformed("Connection lists too many options"));
        }
        Ok(())
    }

    /// Returns whether the sender asks for, or announces, another protocol (RFC 9110 §7.8).
    pub fn lists_upgrade(&self) -> bool {
        self.lists_upgrade
    }

    /// Returns whether the sender keeps the connection open after this message (RFC 9112 §9.3).
    pub fn keeps_alive(&self, version: Version) -> bool {
        !self.lists_close && (version == Version::Http11 || self.lists_keep_alive)
    }

    /// Returns the names of the fields that are meant for this hop alone; `fields` is the head whose options these
    /// are. Hardly any head names one, so their names are not gathered while they are counted.
    pub fn named<'h>(&self, fields: &[Field<'h>]) -> NamedFields<'h> {
        if self.others_count == 0 { NamedFields::default() } else { NamedFields::gather(fields) }
    }
}

/// The names that `Connection` lists. Allocates nothing when there are none.
#[derive(Default)]
pub struct NamedFields<'h> {
    names: Vec<&'h [u8]>,
}

impl<'h> NamedFields<'h> {
    /// Gathers the names from the `Connection` fields of a head; those beyond [`CONNECTION_OPTIONS_MAX`] are left out.
    #[cold]
    pub fn gather(fields: &[Field<'h>]) -> Self {
        let is_other =
            |option: &&[u8]| !option.eq_ignore_ascii_case(b"close") && !option.eq_ignore_ascii_case(b"keep-alive");
        let connection = fields.iter().filter(|field| known(field.name) == Some(Known::Connection));
        let options = connection.flat_map(|field| list_members(field.value)).filter(is_other);
        NamedFields { names: options.take(CONNECTION_OPTIONS_MAX).collect() }
    }

    /// Returns whether a field of that name is among them.
    pub fn contain(&self, field_name: &str) -> bool {
        self.names.iter().any(|name| name.eq_ignore_ascii_case(field_name.as_bytes()))
    }
}

/// The largest length of a body or a chunk. Many readers keep lengths in signed 64-bit numbers: to them more than this
/// would be negative, so that they see another end of the message (RFC 9110 §8.6: a recipient must expect overflow).
pub const LENGTH_MAX: u64 = i64::MAX as u64;

/// Parses a `Content-Length` value: digits alone, up to [`LENGTH_MAX`].
pub fn parse_content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let length = value.iter().try_fold(0u64, |length, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    });
    length.filter(|length| *length <= LENGTH_MAX)
}

/// Returns whether this is a `Host` value with a host: `uri-host [ ":" port ]` (RFC 9110 §7.2, RFC 3986 §3.2).
///
/// An empty host is refused, as an http URI cannot have one (RFC 9110 §4.2.1).
pub fn is_valid_host(value: &[u8]) -> bool {
    let (host_is_valid, after_host) = match value.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = memchr::memchr(b']', rest) else { return false };
            (is_ipv6(&rest[..end]), &rest[end + 1..])
        }
        None => {
            let end = memchr::memchr(b':', value).unwrap_or(value.len());
            (is_registered_name(&value[..end]), &value[end..])
        }
    };
    host_is_valid && is_empty_or_port(after_host)
}

/// Appends a number in decimal digits.
pub fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20]; // u64::MAX has 20 digits.
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends one field line.
pub fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends a `Content-Length` line.
pub fn push_content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    push_decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

fn is_ipv6(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// Returns whether this is a `reg-name` of RFC 3986 §3.2.2, which covers IPv4 addresses, and not empty.
fn is_registered_name(mut bytes: &[u8]) -> bool {
    if bytes.is_empty() {
        return false;
    }
    while let [byte, rest @ ..] = bytes {
        bytes = match (byte, rest) {
            (b'%', [high, low, rest @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            (b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~', _) => rest,
            (b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=', _) => rest,
            _ => return false,
        };
    }
    true
}

fn is_empty_or_port(after_host: &[u8]) -> bool {
    match after_host {
        [] => true,
        [b':', port @ ..] => port.is_empty() || parse_content_length(port).is_some_and(|port| port <= 65_535),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
