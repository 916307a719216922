//! Heads of messages, by RFC 9112 §2 to §6 and RFC 9110 §5.

use std::collections::HashSet;

/// The form of a head that was read whole.
#[derive(Debug)]
pub struct Head<'a> {
    /// Without its line end.
    pub first_line: &'a [u8],
    pub fields: Vec<Field<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    pub name: &'a str,
    /// Without white space at its ends.
    pub value: &'a [u8],
}

/// The body that the fields announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    Nothing,
    Length(u64),
    Chunked,
    /// Readers could disagree about it, or it cannot be read.
    Unclear,
}

impl<'a> Head<'a> {
    /// Reads a head with the empty line that ends it; `None` of one that breaks the grammar.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut lines = lines(bytes.strip_suffix(b"\r\n\r\n")?)?.into_iter();
        let first_line = lines.next()?;
        Some(Head { first_line, fields: lines.map(field).collect::<Option<_>>()? })
    }

    /// The three parts of a request line that this program reads (RFC 9112 §3).
    pub fn request_line(&self) -> Option<(&'a str, &'a str, &'a str)> {
        let line = std::str::from_utf8(self.first_line).ok()?;
        let words: Vec<&str> = line.split(' ').collect();
        let [method, target, version] = words[..] else { return None };
        let is_target = !target.is_empty() && target.bytes().all(|byte| (0x21..0x7f).contains(&byte) && byte != b'#');
        (is_token(method.as_bytes()) && is_target && is_version(version)).then_some((method, target, version))
    }

    /// The status and the reason (RFC 9112 §4); the space before an empty reason may be missing.
    pub fn status_line(&self) -> Option<(&'a str, u16, &'a [u8])> {
        let (version, rest) = self.first_line.split_at_checked("HTTP/1.1 ".len())?;
        let version = std::str::from_utf8(version).ok()?.strip_suffix(' ')?;
        let (digits, rest) = rest.split_at_checked(3)?;
        let status: u16 = std::str::from_utf8(digits).ok()?.parse().ok()?;
        let is_status = digits.iter().all(u8::is_ascii_digit) && status >= 100;
        let reason = if rest.is_empty() { rest } else { rest.strip_prefix(b" ")? };
        (is_version(version) && is_status && is_text(reason)).then_some((version, status, reason))
    }

    /// The values of the fields of that name.
    pub fn values(&self, name: &str) -> Vec<&'a [u8]> {
        let named = self.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value).collect()
    }

    /// The names in `Connection`, in lower case (RFC 9110 §7.6.1).
    pub fn connection_options(&self) -> Vec<Vec<u8>> {
        let values = self.values("connection");
        let members = values.iter().flat_map(|value| value.split(|byte| *byte == b',')).map(trimmed);
        members.filter(|member| !member.is_empty()).map(<[u8]>::to_ascii_lowercase).collect()
    }

    /// Tells whether the sender keeps the connection (RFC 9112 §9.3).
    pub fn keeps_alive(&self, is_http10: bool) -> bool {
        let options: HashSet<Vec<u8>> = self.connection_options().into_iter().collect();
        !options.contains(&b"close"[..]) && (!is_http10 || options.contains(&b"keep-alive"[..]))
    }

    /// The body that the fields announce (RFC 9112 §6).
    pub fn announced(&self, is_http10: bool) -> Announced {
        match (&self.values("content-length")[..], &self.values("transfer-encoding")[..]) {
            ([], []) => Announced::Nothing,
            ([length], []) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
                std::str::from_utf8(length).unwrap().parse().map_or(Announced::Unclear, Announced::Length)
            }
            ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") && !is_http10 => Announced::Chunked,
            _ => Announced::Unclear,
        }
    }
}

/// Divides into lines that end in CRLF; `None` where a CR or LF stands alone. The last line has no end.
fn lines(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut lines = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        lines.push(line);
    }
    let last = lines.pop()?;
    let mut lines = lines.into_iter().map(|line| line.strip_suffix(b"\r")).collect::<Option<Vec<_>>>()?;
    lines.push(last);
    lines.iter().all(|line| !line.contains(&b'\r')).then_some(lines)
}

fn field(line: &[u8]) -> Option<Field<'_>> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], trimmed(&line[colon + 1..]));
    let name = std::str::from_utf8(name).ok().filter(|_| is_token(name))?;
    is_text(value).then_some(Field { name, value })
}

pub fn trimmed(bytes: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(is_text).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(is_text).map_or(start, |last| last + 1);
    &bytes[start..end]
}

pub fn is_token(bytes: &[u8]) -> bool {
    const MARKS: &[u8] = b"!#$%&'*+-.^_`|~";
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || MARKS.contains(byte))
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..))
}

/// Any minor version of HTTP/1 (RFC 9110 §2.5).
fn is_version(version: &str) -> bool {
    version.strip_prefix("HTTP/1.").is_some_and(|minor| matches!(minor.as_bytes(), [b'0'..=b'9']))
}

/// The name as servers see it that write `-`, `_` and `.` alike, in lower case.
pub fn loosened(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}

/// Fields of the opening handshake of a WebSocket (RFC 6455 §11.3).
pub const OF_WEBSOCKET: [&str; 5] = [
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
];

/// Tells whether a name, in lower case, is one of them to some servers and to others not: a key of this gateway may be
/// among the subprotocols, and none may be told twice, so that these go nowhere.
pub fn is_websocket_alias(name: &str) -> bool {
    let loosened = loosened(name);
    loosened != name && OF_WEBSOCKET.contains(&&*loosened)
}

/// Keys and cookies of a client, which no upstream may see.
pub const KEYS: [&str; 7] = [
    "authorization",
    "x-api-key",
    "api-key",
    "x-litellm-api-key",
    "x-goog-api-key",
    "ocp-apim-subscription-key",
    "cookie",
];

/// Fields that are meant for one hop (RFC 9110 §7.6.1), and those that frame the body.
pub const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
    "content-length",
];
