//! A head, copied without its credentials: what a field of keys holds is not copied at all.
//!
//! Invariant: a value of such a field, a parameter with such a name, and the user-info of a URL never stand in a copy.

use aws_lc_rs::digest::{SHA256, digest};

use super::masker::SeenKey;
use crate::http1::fields::{self, Known, push_decimal};
use crate::http1::head::{Field, RequestHead, ResponseHead, Version};

/// The part of a head that is copied: what is longer is hardly read by anybody.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Stands for what is not copied.
pub const MASK: &[u8] = b"[masked]";

/// The ends of the segments of a name that say that it is the name of something secret; `tokens`, which are counted,
/// is none.
const SECRET_ENDS: [&[u8]; 13] = [
    b"key",
    b"token",
    b"secret",
    b"password",
    b"passwd",
    b"auth",
    b"authorization",
    b"cookie",
    b"credential",
    b"credentials",
    b"jwt",
    b"signature",
    // Browsers put keys into the subprotocols of a WebSocket.
    b"protocol",
];

/// A head without its credentials.
#[derive(Debug, Default)]
pub struct RecordedHead {
    pub line: Vec<u8>,
    pub fields: Vec<(String, Vec<u8>)>,
    /// The number of fields that were left out.
    pub left_out: usize,
}

impl RecordedHead {
    /// Copies the head of a request; `seen` gets what is needed to know its keys elsewhere.
    pub fn of_request(head: &RequestHead<'_>, seen: &mut Vec<SeenKey>) -> Self {
        let mut line = Vec::new();
        line.extend_from_slice(head.method.as_bytes());
        line.push(b' ');
        push_without_secrets(&mut line, head.target.as_bytes());
        line.extend_from_slice(if head.version == Version::Http11 { b" HTTP/1.1" } else { b" HTTP/1.0" });
        seen.extend(head.fields.iter().filter(|field| is_secret_field(field.name)).flat_map(keys_of));
        RecordedHead::with_fields(line, head.fields)
    }

    /// Copies the head of an answer.
    pub fn of_response(head: &ResponseHead<'_>) -> Self {
        let mut line = b"HTTP/1.1 ".to_vec();
        push_decimal(&mut line, u64::from(head.status));
        line.push(b' ');
        line.extend_from_slice(head.reason);
        RecordedHead::with_fields(line, head.fields)
    }

    fn with_fields(mut line: Vec<u8>, fields: &[Field<'_>]) -> Self {
        line.truncate(HEAD_BYTES_MAX);
        let mut copy = RecordedHead { line, ..RecordedHead::default() };
        let mut bytes = copy.line.len();
        for field in fields {
            bytes += field.name.len() + field.value.len();
            if bytes > HEAD_BYTES_MAX {
                copy.left_out += 1;
                continue;
            }
            let mut value = Vec::new();
            if is_secret_field(field.name) {
                value.extend_from_slice(MASK);
            } else {
                push_without_secrets(&mut value, field.value);
            }
            copy.fields.push((field.name.to_owned(), value));
        }
        copy
    }
}

/// Tells whether the values of such a field are credentials: those that are removed from requests and answers, and
/// whatever has such a name.
fn is_secret_field(name: &str) -> bool {
    let is_known = matches!(
        fields::known(name),
        Some(Known::Authorization | Known::DownstreamKey | Known::ProxyAuthorization | Known::SetCookie)
    );
    is_known || is_secret_name(name.as_bytes())
}

/// Returns the keys that a field may hold: its value, and what follows a scheme.
fn keys_of(field: &Field<'_>) -> impl Iterator<Item = SeenKey> + use<> {
    let after_scheme = memchr::memchr(b' ', field.value).map(|at| fields::trim_whitespace(&field.value[at..]));
    [Some(field.value), after_scheme].into_iter().flatten().map(seen_key).collect::<Vec<_>>().into_iter()
}

fn seen_key(key: &[u8]) -> SeenKey {
    SeenKey { bytes: key.len(), digest: digest(&SHA256, key).as_ref().to_vec() }
}

/// Tells whether a name is that of something secret, whatever case it is in and whether `_` or `.` stands for `-`.
pub fn is_secret_name(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    name.split(|byte| !byte.is_ascii_alphanumeric()).any(|part| SECRET_ENDS.iter().any(|end| part.ends_with(end)))
}

/// Appends a target or a value: parameters with the name of something secret, as in `?key=…`, and the user-info of a URL
/// are masked.
fn push_without_secrets(out: &mut Vec<u8>, text: &[u8]) {
    let is_end = |byte: &u8| matches!(byte, b'&' | b'#' | b';' | b'"' | b'\'' | b'<' | b'>' | b',') || *byte <= b' ';
    let mut rest = text;
    while let Some(&byte) = rest.first() {
        if let Some(after) = rest.strip_prefix(b"://") {
            out.extend_from_slice(b"://");
            let authority =
                after.iter().position(|byte| matches!(byte, b'/' | b'?') || is_end(byte)).unwrap_or(after.len());
            rest = match memchr::memrchr(b'@', &after[..authority]) {
                Some(at) => {
                    out.extend_from_slice(MASK);
                    &after[at..]
                }
                None => after,
            };
            continue;
        }
        out.push(byte);
        rest = &rest[1..];
        if !matches!(byte, b'?' | b'&' | b';') {
            continue;
        }
        let Some(name) = rest.iter().position(|byte| *byte == b'=' || is_end(byte)) else { continue };
        if rest[name] == b'=' && is_secret_parameter(&rest[..name]) {
            out.extend_from_slice(&rest[..=name]);
            out.extend_from_slice(MASK);
            let value = &rest[name + 1..];
            rest = &value[value.iter().position(is_end).unwrap_or(value.len())..];
        }
    }
}

/// As [`is_secret_name`], of a name that may have encoded bytes (RFC 3986 §2.1): then it is better masked.
fn is_secret_parameter(name: &[u8]) -> bool {
    is_secret_name(name) || name.contains(&b'%')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::{with_request, with_response};

    fn shown(head: &RecordedHead) -> String {
        let fields = head.fields.iter().map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value)));
        format!("{}\n{}", String::from_utf8_lossy(&head.line), fields.collect::<String>())
    }

    fn request(head: &str) -> String {
        with_request(head.as_bytes(), |head| shown(&RecordedHead::of_request(head, &mut Vec::new()))).expect("a head")
    }

    #[test]
    fn no_credential_of_a_head_is_copied_however_its_field_is_spelt() {
        for name in [
            "Authorization",
            "x-api-key",
            "X_Api_Key",
            "api.key",
            "X-Litellm-Api-Key",
            "x-goog-api-key",
            "Cookie",
            "Ocp-Apim-Subscription-Key",
            "Proxy-Authorization",
            "proxy_authorization",
            "Set-Cookie",
            "set_cookie",
            "X-Auth-Token",
            "x-my-secret",
            "APIKEY",
            "Sec-WebSocket-Protocol",
            "x.amz.security.token",
        ] {
            let copy = request(&format!("GET / HTTP/1.1\r\nHost: h\r\n{name}: hunter2\r\n\r\n"));
            assert_eq!(copy, format!("GET / HTTP/1.1\nHost: h\n{name}: [masked]\n"));
        }
        for name in ["x-ratelimit-remaining-tokens", "Keys", "Content-Type", "x-request-id", "authority"] {
            let copy = request(&format!("GET / HTTP/1.1\r\nHost: h\r\n{name}: shown\r\n\r\n"));
            assert!(copy.contains(&format!("{name}: shown\n")), "{copy}");
        }
        let answer = b"HTTP/1.1 401 No\r\nSet-Cookie: a=b\r\nLocation: https://u:p@h/x?token=t#f\r\n\r\n";
        let copy = with_response(answer, |head| shown(&RecordedHead::of_response(head))).expect("a head");
        assert_eq!(copy, "HTTP/1.1 401 No\nSet-Cookie: [masked]\nLocation: https://[masked]@h/x?token=[masked]#f\n");
    }

    #[test]
    fn parameters_with_the_name_of_a_secret_are_masked_and_all_others_stay() {
        for (target, expected) in [
            ("/v1?key=k&alt=sse", "/v1?key=[masked]&alt=sse"),
            ("/v1?alt=sse&api_key=k", "/v1?alt=sse&api_key=[masked]"),
            (
                "/v1?access_token=k;apiKey=l&X-Amz-Signature=m",
                "/v1?access_token=[masked];apiKey=[masked]&X-Amz-Signature=[masked]",
            ),
            ("/v1?k%65y=k", "/v1?k%65y=[masked]"),
            ("/v1?max_tokens=5&keyword=a&key", "/v1?max_tokens=5&keyword=a&key"),
            ("/key=k", "/key=k"),
            ("http://user:pass@h:1/v1?key=", "http://[masked]@h:1/v1?key=[masked]"),
            ("http://h/@?x=://a@b", "http://h/@?x=://[masked]@b"),
        ] {
            let mut out = Vec::new();
            push_without_secrets(&mut out, target.as_bytes());
            assert_eq!(String::from_utf8(out).expect("text"), expected);
        }
    }

    #[test]
    fn a_long_head_is_cut_and_says_so() {
        let lines: String = (0..50).map(|index| format!("x-{index}: {}\r\n", "v".repeat(1000))).collect();
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        let copy =
            with_request(head.as_bytes(), |head| RecordedHead::of_request(head, &mut Vec::new())).expect("a head");
        assert!((10..20).contains(&copy.fields.len()), "{}", copy.fields.len());
        assert_eq!(copy.fields.len() + copy.left_out, 51);
    }
}
