//! A head, copied without its credentials: what a field of keys holds is not copied at all.
//!
//! Invariant: a value of such a field, a parameter with such a name, and the user-info of a URL never stand in a copy.
//! It takes no more memory than its bound, and the work is linear in the length of the head: this runs on a shard.

use super::seen::{SeenKeys, ends_with};
use crate::http1::fields::{self, Known, push_decimal};
use crate::http1::head::{Field, RequestHead, ResponseHead, Version};

/// The part of a head that is copied: what is longer is hardly read by anybody.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The same of the answer to an attempt, of which an exchange may have several.
pub const ATTEMPT_HEAD_BYTES_MAX: usize = 8 * 1024;
/// The memory that a field takes beside its name and its value.
const FIELD_BYTES: usize = 64;
/// The longest name of a parameter that is looked at; a longer one nobody knows, and it is better masked.
const NAME_BYTES_MAX: usize = 64;
/// Stands for what is not copied.
pub const MASK: &[u8] = b"[masked]";

/// The ends of the segments of a name that say that it is the name of something secret; `tokens`, which are counted,
/// is none.
const SECRET_ENDS: [&[u8]; 16] = [
    b"key",
    b"token",
    b"secret",
    b"password",
    b"passwd",
    b"pass",
    b"pwd",
    b"auth",
    b"authorization",
    b"cookie",
    b"credential",
    b"credentials",
    b"jwt",
    b"sig",
    b"signature",
    // Browsers put keys into the subprotocols of a WebSocket.
    b"protocol",
];

/// A head without its credentials.
#[derive(Debug, Default)]
pub struct RecordedHead {
    pub line: Vec<u8>,
    /// The line was longer.
    pub line_is_cut: bool,
    pub fields: Vec<(String, Vec<u8>)>,
    /// The number of fields that were left out.
    pub left_out: usize,
}

impl RecordedHead {
    /// Copies the head of a request; `seen` gets what is needed to know its keys elsewhere.
    pub fn of_request(head: &RequestHead<'_>, seen: &mut SeenKeys) -> Self {
        let mut notes = Some(seen);
        // These first: nothing else in a request takes the room of its own key.
        note_fields(head.fields, is_known_secret, &mut notes);
        let mut line = Vec::new();
        line.extend_from_slice(&head.method.as_bytes()[..head.method.len().min(HEAD_BYTES_MAX)]);
        line.push(b' ');
        let target = head.target.as_bytes();
        let kept = &target[..target.len().min(HEAD_BYTES_MAX)];
        let is_cut = kept.len() < target.len();
        SecretScan { out: &mut line, seen: &mut notes, is_cut }.push(kept);
        if !is_cut {
            line.extend_from_slice(if head.version == Version::Http11 { b" HTTP/1.1" } else { b" HTTP/1.0" });
        }
        note_fields(head.fields, |name| !is_known_secret(name) && is_secret_name(name.as_bytes()), &mut notes);
        let mut copy = RecordedHead { line, line_is_cut: is_cut, ..RecordedHead::default() };
        copy.push_fields(head.fields, HEAD_BYTES_MAX, &mut notes);
        copy
    }

    /// Copies the head of an answer, as far as `bytes_max` lets it.
    pub fn of_response(head: &ResponseHead<'_>, bytes_max: usize) -> Self {
        let mut line = b"HTTP/1.1 ".to_vec();
        push_decimal(&mut line, u64::from(head.status));
        line.push(b' ');
        line.extend_from_slice(&head.reason[..head.reason.len().min(bytes_max)]);
        let mut copy = RecordedHead { line, ..RecordedHead::default() };
        copy.push_fields(head.fields, bytes_max, &mut None);
        copy
    }

    fn push_fields(&mut self, fields: &[Field<'_>], bytes_max: usize, seen: &mut Option<&mut SeenKeys>) {
        // What was masked may be longer than what it stands for.
        self.line_is_cut |= self.line.len() > bytes_max;
        self.line.truncate(bytes_max);
        let mut bytes = self.line.len();
        for field in fields {
            let others = bytes + FIELD_BYTES + field.name.len();
            let mut value = Vec::new();
            if is_secret_field(field.name) {
                value.extend_from_slice(MASK);
            } else if others + field.value.len() <= bytes_max {
                SecretScan { out: &mut value, seen, is_cut: false }.push(field.value);
            } else {
                bytes = bytes_max;
            }
            bytes = bytes.max(others + value.len());
            if bytes >= bytes_max {
                self.left_out += 1;
                continue;
            }
            self.fields.push((field.name.to_owned(), value));
        }
    }
}

/// Notes the keys in those fields whose name `is_secret`.
fn note_fields(fields: &[Field<'_>], is_secret: impl Fn(&str) -> bool, seen: &mut Option<&mut SeenKeys>) {
    let Some(seen) = seen else { return };
    for field in fields.iter().filter(|field| is_secret(field.name)) {
        seen.note_field(field.name, field.value);
    }
}

/// Tells whether the values of such a field are credentials: those that are removed from requests and answers, and
/// whatever has such a name.
fn is_secret_field(name: &str) -> bool {
    is_known_secret(name) || is_secret_name(name.as_bytes())
}

fn is_known_secret(name: &str) -> bool {
    matches!(
        fields::known(name),
        Some(Known::Authorization | Known::DownstreamKey | Known::ProxyAuthorization | Known::SetCookie)
    )
}

/// Tells whether a name is that of something secret, whatever case it is in and whether `_` or `.` stands for `-`.
pub fn is_secret_name(name: &[u8]) -> bool {
    let parts = name.split(|byte| !byte.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    parts.into_iter().any(|part| SECRET_ENDS.iter().any(|end| ends_with(part, end)))
}

/// As [`is_secret_name`], of a parameter, whose name may be too long or have encoded bytes (RFC 3986 §2.1): then it is
/// better masked.
fn is_secret_parameter(name: &[u8]) -> bool {
    name.len() > NAME_BYTES_MAX || name.contains(&b'%') || is_secret_name(name)
}

/// The copying of a target or a value: parameters with the name of something secret, as in `?key=…`, and the user-info
/// of a URL are masked. No byte is looked at more than a few times: what ends a name or a host begins the next.
struct SecretScan<'a, 'b> {
    out: &'a mut Vec<u8>,
    /// Gets what is masked.
    seen: &'a mut Option<&'b mut SeenKeys>,
    /// The text is the beginning of a longer one.
    is_cut: bool,
}

impl SecretScan<'_, '_> {
    fn push(mut self, text: &[u8]) {
        let mut rest = text;
        while let Some(&byte) = rest.first() {
            if let Some(after) = rest.strip_prefix(b"://") {
                self.out.extend_from_slice(b"://");
                rest = self.push_user_info(after);
                continue;
            }
            self.out.push(byte);
            rest = &rest[1..];
            if matches!(byte, b'?' | b'&' | b';') {
                rest = self.push_parameter(rest);
            }
        }
    }

    /// Masks the user-info at the start of `rest`, if there is one, and returns what follows.
    fn push_user_info<'t>(&mut self, rest: &'t [u8]) -> &'t [u8] {
        let end = find(rest, |byte| byte == b'/' || ends_parameter(byte));
        let authority = &rest[..end.unwrap_or(rest.len())];
        let at = match memchr::memrchr(b'@', authority) {
            Some(at) => at,
            // Where it is cut nobody knows what it was.
            None if end.is_none() && self.is_cut => rest.len(),
            None => return rest,
        };
        self.out.extend_from_slice(MASK);
        if let Some(seen) = self.seen {
            seen.note_user_info(&rest[..at]);
        }
        &rest[at..]
    }

    /// Masks the value of the parameter at the start of `rest`, if it is secret, and returns what follows.
    fn push_parameter<'t>(&mut self, rest: &'t [u8]) -> &'t [u8] {
        let Some(name) = find(rest, |byte| byte == b'=' || ends_parameter(byte)) else { return rest };
        if rest[name] != b'=' || !is_secret_parameter(&rest[..name]) {
            return rest;
        }
        self.out.extend_from_slice(&rest[..=name]);
        self.out.extend_from_slice(MASK);
        let value = &rest[name + 1..];
        // A value may have a `?` in it (RFC 3986 §3.4).
        let end = find(value, |byte| byte != b'?' && ends_parameter(byte)).unwrap_or(value.len());
        if let Some(seen) = self.seen {
            seen.note_value(&value[..end]);
        }
        &value[end..]
    }
}

fn find(text: &[u8], is_it: impl Fn(u8) -> bool) -> Option<usize> {
    text.iter().position(|byte| {
        #[cfg(test)]
        tests::LOOKS.with(|looks| looks.set(looks.get() + 1));
        is_it(*byte)
    })
}

/// Tells whether a byte ends a parameter, wherever it stands: in a target or amid the words of a value.
fn ends_parameter(byte: u8) -> bool {
    matches!(byte, b'?' | b'&' | b'#' | b';' | b'"' | b'\'' | b'<' | b'>' | b',') || byte <= b' '
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::http1::head::{with_request, with_response};

    thread_local! {
        /// The bytes that were looked at in search of an end.
        pub static LOOKS: Cell<usize> = const { Cell::new(0) };
    }

    fn shown(head: &RecordedHead) -> String {
        let fields = head.fields.iter().map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value)));
        format!("{}\n{}", String::from_utf8_lossy(&head.line), fields.collect::<String>())
    }

    fn request(head: &str) -> String {
        with_request(head.as_bytes(), |head| shown(&RecordedHead::of_request(head, &mut SeenKeys::default())))
            .expect("a head")
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
        let copy =
            with_response(answer, |head| shown(&RecordedHead::of_response(head, HEAD_BYTES_MAX))).expect("a head");
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
            (
                "/v1?sig=k&pwd=k&pass=k&passwd=k&X-Amz-Credential=k",
                "/v1?sig=[masked]&pwd=[masked]&pass=[masked]&passwd=[masked]&X-Amz-Credential=[masked]",
            ),
            ("/v1?a?key=k?l&b=c?token=d", "/v1?a?key=[masked]&b=c?token=[masked]"),
            ("/key=k", "/key=k"),
            ("http://user:pass@h:1/v1?key=", "http://[masked]@h:1/v1?key=[masked]"),
            ("http://h/@?x=://a@b", "http://h/@?x=://[masked]@b"),
        ] {
            let mut out = Vec::new();
            SecretScan { out: &mut out, seen: &mut None, is_cut: false }.push(target.as_bytes());
            assert_eq!(String::from_utf8(out).expect("text"), expected);
        }
    }

    #[test]
    fn the_bytes_that_are_looked_at_grow_with_the_text_and_not_faster() {
        const BYTES: usize = 16_300;
        for part in ["?", "&", ";", "?a", "?=", "?key=", "://", "://a@", "?a&", "a"] {
            for end in ["", "=", "&"] {
                let text = part.repeat(BYTES / part.len()) + end;
                LOOKS.set(0);
                SecretScan { out: &mut Vec::new(), seen: &mut None, is_cut: false }.push(text.as_bytes());
                assert!(LOOKS.get() <= 2 * BYTES, "{part} {end}: {}", LOOKS.get());
            }
        }
    }

    #[test]
    fn a_target_that_is_cut_shows_nothing_secret_at_its_end() {
        for end in ["?key=hunter2-and-more", "?x=http://hunter2:hunter2-and-more@h", "?x=http://hunter2-and-more@h"] {
            let target = format!("/{}{end}", "a".repeat(HEAD_BYTES_MAX - end.len() + 5));
            let fields = [];
            let head = RequestHead { method: "GET", target: &target, version: Version::Http11, fields: &fields };
            let copy = RecordedHead::of_request(&head, &mut SeenKeys::default());
            let line = String::from_utf8(copy.line).expect("text");
            assert!(copy.line_is_cut && !line.contains("hunter2") && line.len() <= HEAD_BYTES_MAX, "{line}");
        }
    }

    #[test]
    fn a_copy_takes_no_more_memory_than_its_bound() {
        // Each is masked by more bytes than it has.
        let secrets = "a;%=".repeat(3000);
        let short: String = (0..200).map(|_| "a:\r\n").collect();
        for lines in [format!("x: {secrets}\r\n"), short, format!("key: {secrets}\r\n")] {
            let head = format!("GET /?{secrets} HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
            let copy = with_request(head.as_bytes(), |head| RecordedHead::of_request(head, &mut SeenKeys::default()));
            let copy = copy.expect("a head");
            let bytes: usize = copy.fields.iter().map(|(name, value)| FIELD_BYTES + name.len() + value.len()).sum();
            assert!(copy.line.len() + bytes <= HEAD_BYTES_MAX, "{bytes}");
        }
    }

    #[test]
    fn the_keys_of_a_request_are_noted_wherever_they_stand() {
        let head = "GET http://user-name:pass-word@h/?key=of-the-query&x=no-secret HTTP/1.1\r\nHost: h\r\n\
            X-Auth-Token: of-a-field\r\nReferer: http://h/?token=of-a-referer\r\nCookie: a=of-a-cookie\r\n\
            Authorization: Basic b2YtYmFzaWM6c2Vzc2FtZS0x\r\n\r\n";
        let mut seen = SeenKeys::default();
        with_request(head.as_bytes(), |head| RecordedHead::of_request(head, &mut seen)).expect("a head");
        let mut expected = SeenKeys::default();
        for key in ["of-basic", "sessame-1", "b2YtYmFzaWM6c2Vzc2FtZS0x", "user-name", "pass-word"].into_iter().chain([
            "of-the-query",
            "of-a-field",
            "of-a-cookie",
        ]) {
            expected.note_value(key.as_bytes());
        }
        let missing = expected.as_slice().iter().filter(|key| !seen.as_slice().contains(key)).count();
        assert_eq!((missing, seen.as_slice().len()), (0, 8));
    }

    #[test]
    fn a_long_head_is_cut_and_says_so() {
        let lines: String = (0..50).map(|index| format!("x-{index}: {}\r\n", "v".repeat(1000))).collect();
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        let copy = with_request(head.as_bytes(), |head| RecordedHead::of_request(head, &mut SeenKeys::default()))
            .expect("a head");
        assert!((10..20).contains(&copy.fields.len()), "{}", copy.fields.len());
        assert_eq!(copy.fields.len() + copy.left_out, 51);
    }
}
