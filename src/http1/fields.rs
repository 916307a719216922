//! Field names this program knows, and the grammar of the few field values it reads.
//!
//! Invariant: [`known`] ignores case and compares a name with at most three candidates.
//! What is done with a field is not decided here, but by those who write heads.

use std::net::Ipv6Addr;

use super::head::{Field, HeadError, Version};

/// The longest list of connection options that is accepted. Real ones name one or two; looking up every field in the
/// list costs fields × options, which this bounds.
pub const CONNECTION_OPTIONS_MAX: usize = 32;

/// A field that this program treats in some way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    Authorization,
    /// A key or cookie that the downstream sent for itself: `Cookie`, `X-Api-Key` and their like.
    DownstreamKey,
    Connection,
    ContentEncoding,
    ContentLength,
    ContentType,
    Expect,
    Host,
    KeepAlive,
    Location,
    Origin,
    ProxyAuthorization,
    ProxyConnection,
    SecFetchSite,
    SetCookie,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    XAccelBuffering,
}

impl Known {
    /// Meant for the next hop alone (RFC 9110 §7.6.1), apart from what `Connection` names.
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Known::Connection
                | Known::KeepAlive
                | Known::ProxyAuthorization
                | Known::ProxyConnection
                | Known::Te
                | Known::TransferEncoding
                | Known::Upgrade
        )
    }
}

/// Looks a field name, which is a token, up, ignoring case.
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
        (12, b'c') => ("content-type", Known::ContentType),
        (13, b'a') => ("authorization", Known::Authorization),
        (14, b'c') => ("content-length", Known::ContentLength),
        (14, b's') => ("sec-fetch-site", Known::SecFetchSite),
        (14, b'x') => ("x-goog-api-key", Known::DownstreamKey),
        (16, b'c') => ("content-encoding", Known::ContentEncoding),
        (16, b'p') => ("proxy-connection", Known::ProxyConnection),
        (17, b't') => ("transfer-encoding", Known::TransferEncoding),
        (17, b'x') if is_spelled(name, b"x-litellm-api-key") => return Some(Known::DownstreamKey),
        (17, b'x') => ("x-accel-buffering", Known::XAccelBuffering),
        (19, b'p') => ("proxy-authorization", Known::ProxyAuthorization),
        (25, b'o') => ("ocp-apim-subscription-key", Known::DownstreamKey),
        _ => return None,
    };
    is_spelled(name, spelling.as_bytes()).then_some(known)
}

/// What tells a letter's lower case from its upper case.
const CASE_BIT: u8 = 0x20;

/// Whether a field name is spelled like that, which is of the same length, ignoring case. Eight bytes at a time: every
/// field of every head is looked up, and byte by byte that was a tenth of all instructions of an exchange.
///
/// `spelling` is in lower case, of letters and hyphens. These, and in a token no other byte, become a letter or a hyphen
/// with [`CASE_BIT`] set.
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

/// The members of a comma-separated list (RFC 9110 §5.6.1), trimmed; empty members are skipped.
pub fn list_members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim_whitespace).filter(|member| !member.is_empty())
}

/// What a head's `Connection` fields list (RFC 9110 §7.6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectionOptions {
    lists_close: bool,
    lists_keep_alive: bool,
    /// Of all others; each may name a field of the head that is to be removed with `Connection`.
    others_count: usize,
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
                self.others_count += 1;
            }
        }
    }

    /// # Errors
    /// Where there are more than [`CONNECTION_OPTIONS_MAX`] beside `close` and `keep-alive`.
    pub fn check_count(&self) -> Result<(), HeadError> {
        if self.others_count > CONNECTION_OPTIONS_MAX {
            return Err(HeadError::Malformed("Connection lists too many options"));
        }
        Ok(())
    }

    /// Whether the sender keeps the connection after this message (RFC 9112 §9.3).
    pub fn keeps_alive(&self, version: Version) -> bool {
        !self.lists_close && (version == Version::Http11 || self.lists_keep_alive)
    }

    /// The fields that are meant for this hop alone, of the head whose options these are. Hardly any head names one, so
    /// their names are not gathered where they are counted.
    pub fn named<'h>(&self, fields: &[Field<'h>]) -> NamedFields<'h> {
        if self.others_count == 0 { NamedFields::default() } else { NamedFields::gather(fields) }
    }
}

/// The names that `Connection` lists, which allocate nothing where there are none.
#[derive(Default)]
pub struct NamedFields<'h> {
    names: Vec<&'h [u8]>,
}

impl<'h> NamedFields<'h> {
    /// Gathers them from the `Connection` fields of a head; beyond [`CONNECTION_OPTIONS_MAX`] they are left out.
    #[cold]
    pub fn gather(fields: &[Field<'h>]) -> Self {
        let is_other =
            |option: &&[u8]| !option.eq_ignore_ascii_case(b"close") && !option.eq_ignore_ascii_case(b"keep-alive");
        let connection = fields.iter().filter(|field| known(field.name) == Some(Known::Connection));
        let options = connection.flat_map(|field| list_members(field.value)).filter(is_other);
        NamedFields { names: options.take(CONNECTION_OPTIONS_MAX).collect() }
    }

    /// Whether a field of that name is among them.
    pub fn contain(&self, field_name: &str) -> bool {
        self.names.iter().any(|name| name.eq_ignore_ascii_case(field_name.as_bytes()))
    }
}

/// A `Content-Length` value: digits alone, in range of `u64` (RFC 9110 §8.6: a recipient must expect overflow).
pub fn parse_content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |length, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}

/// Whether this is a `Host` value with a host: `uri-host [ ":" port ]` (RFC 9110 §7.2, RFC 3986 §3.2).
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

/// A token of RFC 9110 §5.6.2: what methods, field names and chunk extension names are made of.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// A byte of a field value, a reason or a quoted string: HTAB, SP, VCHAR or obs-text (RFC 9110 §5.5).
pub fn is_text_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Without the optional white space (SP and HTAB, RFC 9110 §5.6.3) at both ends.
pub fn trim_whitespace(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
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

/// `reg-name` of RFC 3986 §3.2.2, which covers IPv4 addresses, but not empty.
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [(&str, Known); 24] = [
        ("TE", Known::Te),
        ("Host", Known::Host),
        ("Cookie", Known::DownstreamKey),
        ("Expect", Known::Expect),
        ("Origin", Known::Origin),
        ("Api-Key", Known::DownstreamKey),
        ("Trailer", Known::Trailer),
        ("Upgrade", Known::Upgrade),
        ("Location", Known::Location),
        ("X-Api-Key", Known::DownstreamKey),
        ("Connection", Known::Connection),
        ("Keep-Alive", Known::KeepAlive),
        ("Set-Cookie", Known::SetCookie),
        ("Content-Type", Known::ContentType),
        ("Authorization", Known::Authorization),
        ("Content-Length", Known::ContentLength),
        ("Sec-Fetch-Site", Known::SecFetchSite),
        ("X-Goog-Api-Key", Known::DownstreamKey),
        ("Content-Encoding", Known::ContentEncoding),
        ("Transfer-Encoding", Known::TransferEncoding),
        ("X-Litellm-Api-Key", Known::DownstreamKey),
        ("X-Accel-Buffering", Known::XAccelBuffering),
        ("Proxy-Authorization", Known::ProxyAuthorization),
        ("Ocp-Apim-Subscription-Key", Known::DownstreamKey),
    ];

    #[test]
    fn every_known_name_is_found_in_any_case() {
        for (name, expected) in NAMES.into_iter().chain([("Proxy-Connection", Known::ProxyConnection)]) {
            for spelling in [name.to_owned(), name.to_ascii_lowercase(), name.to_ascii_uppercase()] {
                assert_eq!(known(&spelling), Some(expected), "{spelling}");
            }
        }
    }

    #[test]
    fn a_name_that_differs_in_one_byte_is_not_known() {
        for (name, _) in NAMES {
            for at in 0..name.len() {
                let mut other = name.to_owned().into_bytes();
                other[at] = b'~';
                assert_eq!(known(std::str::from_utf8(&other).unwrap()), None, "{name} at {at}");
            }
            assert_eq!(known(&format!("{name}s")), None, "{name}s");
        }
        assert_eq!(known(""), None);
    }

    #[test]
    fn content_length_is_digits_alone() {
        let rows: [(&[u8], Option<u64>); 16] = [
            (b"0", Some(0)),
            (b"42", Some(42)),
            (b"007", Some(7)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b"99999999999999999999999999", None),
            (b"", None),
            (b"+1", None),
            (b"-1", None),
            (b"0x10", None),
            (b"1f", None),
            (b"1 ", None),
            (b"1,1", None),
            (b"1, 1", None),
            (b"1.0", None),
            ("\u{0661}".as_bytes(), None),
        ];
        for (value, expected) in rows {
            assert_eq!(parse_content_length(value), expected, "{}", value.escape_ascii());
        }
    }

    #[test]
    fn host_is_a_host_and_perhaps_a_port() {
        let valid = [
            "localhost",
            "127.0.0.1:8899",
            "flow.ciandt.com",
            "a_b.example:80",
            "[::1]",
            "[::1]:8899",
            "[2001:db8::1]:",
            "x:65535",
            "host.docker.internal:1",
            "ex%41mple",
            "xn--bcher-kva.example",
            "a,b",
        ];
        for host in valid {
            assert!(is_valid_host(host.as_bytes()), "{host}");
        }
        let invalid = [
            "",
            ":80",
            "a b",
            "a:b",
            "a:65536",
            "a:80:80",
            "user@host",
            "http://host",
            "host/",
            "host?",
            "host#",
            "[::1",
            "::1",
            "[]",
            "[:::1]",
            "[::1]x",
            "[::1]80",
            "[127.0.0.1]",
            "a%4",
            "a%zz",
            "a%z4",
            "a%4z",
            "a\\b",
            "\"a\"",
            "<a>",
            "h\u{e9}",
            "a:+1",
            "a:-1",
            "[v1.a]",
            "[fe80::1%25eth0]",
        ];
        for host in invalid {
            assert!(!is_valid_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn a_list_is_read_without_its_empty_members() {
        let members: Vec<&[u8]> = list_members(b" ,a,\t b c ,, d").collect();
        assert_eq!(members, [&b"a"[..], b"b c", b"d"]);
        assert_eq!(list_members(b" ,\t,").count(), 0);
    }

    fn options_of(fields: &[Field<'_>]) -> ConnectionOptions {
        let mut options = ConnectionOptions::default();
        fields
            .iter()
            .filter(|field| known(field.name) == Some(Known::Connection))
            .for_each(|field| options.add(field.value));
        options
    }

    #[test]
    fn a_connection_persists_as_rfc_9112_section_9_3_says() {
        let rows: [(Version, &[&str], bool); 9] = [
            (Version::Http11, &[], true),
            (Version::Http11, &["keep-alive"], true),
            (Version::Http11, &["Close"], false),
            (Version::Http11, &["upgrade, close"], false),
            (Version::Http11, &["keep-alive", "close"], false),
            (Version::Http11, &["closed, enclose"], true),
            (Version::Http10, &[], false),
            (Version::Http10, &["Keep-Alive"], true),
            (Version::Http10, &["keep-alive, close"], false),
        ];
        for (version, values, expected) in rows {
            let fields: Vec<Field<'_>> =
                values.iter().map(|value| Field { name: "Connection", value: value.as_bytes() }).collect();
            assert_eq!(options_of(&fields).keeps_alive(version), expected, "{version:?} {values:?}");
        }
    }

    #[test]
    fn connection_options_beyond_the_bound_are_refused() {
        let list = |count: usize| vec!["x"; count].join(",");
        for (count, accepted) in [(CONNECTION_OPTIONS_MAX, true), (CONNECTION_OPTIONS_MAX + 1, false)] {
            let value = list(count) + ", close, close, keep-alive";
            let fields = [Field { name: "Connection", value: value.as_bytes() }];
            assert_eq!(options_of(&fields).check_count().is_ok(), accepted, "{count}");
        }
    }

    #[test]
    fn connection_options_name_fields_in_any_case_and_over_several_lines() {
        let fields = [
            Field { name: "connection", value: b"close, X-One" },
            Field { name: "Other", value: b"x-three" },
            Field { name: "CONNECTION", value: b"x-two" },
        ];
        let named = options_of(&fields).named(&fields);
        assert!(named.contain("x-one") && named.contain("X-TWO"));
        assert!(!named.contain("x-three") && !named.contain("close") && !named.contain(""));
    }

    proptest! {
        #[test]
        fn numbers_are_written_as_they_are_read(number: u64) {
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            prop_assert_eq!(String::from_utf8_lossy(&out), number.to_string());
            prop_assert_eq!(parse_content_length(&out), Some(number));
        }

        #[test]
        fn trimming_removes_white_space_at_the_ends_alone(bytes: Vec<u8>) {
            let text: String = bytes.iter().map(|&byte| char::from(byte % 0x80)).collect();
            prop_assert_eq!(trim_whitespace(text.as_bytes()), text.trim_matches([' ', '\t']).as_bytes());
        }

        #[test]
        fn no_host_makes_it_panic(bytes: Vec<u8>) {
            is_valid_host(&bytes);
        }
    }
}
