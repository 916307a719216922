//! The differences between what this program and another parser accept as a message of HTTP/1.1. Each is argued; an
//! input on which the two disagree and none of these is found is a fault of one of them.
//!
//! None is about a message that both accept: they see the same one then, and the same end of it.

use std::net::Ipv6Addr;

use crate::body::size_line;
use crate::message::is_token;
use crate::wire::Wire;

/// Something that one of the two accepts and the other refuses.
pub struct Difference {
    pub name: &'static str,
    pub why: &'static str,
    pub rule: &'static str,
    pub accepted_by: Parser,
    /// Tells whether a message has it.
    pub is_in: fn(&Wire<'_>) -> bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parser {
    /// The program's own.
    Own,
    Other,
}

/// Finds the difference for which a message is accepted by one of the two.
pub fn explains(accepted_by: Parser, wire: &Wire<'_>) -> Option<&'static Difference> {
    DIFFERENCES.iter().find(|difference| difference.accepted_by == accepted_by && (difference.is_in)(wire))
}

pub const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "a later minor version",
        why: "a recipient reads HTTP/1.2 to 1.9 as the highest version it knows; kawa knows 1.0 and 1.1 alone",
        rule: "RFC 9110 §2.5",
        accepted_by: Parser::Own,
        is_in: |wire| is_later_version(version(wire)),
    },
    Difference {
        name: "a value or a reason with bytes from 0x80 to 0x9F",
        why: "opaque data, which UTF-8 consists of, and goes on as it came; kawa takes them for control characters",
        rule: "RFC 9110 §5.5 (obs-text), RFC 9112 §4",
        accepted_by: Parser::Own,
        is_in: |wire| {
            let is_control = |byte: &u8| matches!(byte, 0x80..=0x9F);
            let reason = if wire.is_request { b"" } else { wire.first_line() };
            reason.iter().any(is_control)
                || wire.fields().any(|(_, value)| value.iter().any(is_control))
                || trailer_lines(wire).iter().any(|line| line.iter().any(is_control))
        },
    },
    Difference {
        name: "a cookie in no pairs",
        why: "the field is passed over as any other and goes nowhere; kawa divides it, and refuses what it cannot divide",
        rule: "RFC 6265 §4.2.1",
        accepted_by: Parser::Own,
        is_in: |wire| !wire.values("cookie").is_empty(),
    },
    Difference {
        name: "a target in no form",
        why: "the form is judged with the route, which takes none of these; kawa judges it with the head",
        rule: "RFC 9112 §3.2",
        accepted_by: Parser::Own,
        is_in: |wire| wire.is_request && !has_form(wire.word(1)),
    },
    Difference {
        name: "a status line that ends with the status",
        why: "some servers leave the space before an empty reason out; nothing can be read differently",
        rule: "RFC 9112 §4",
        accepted_by: Parser::Own,
        is_in: |wire| !wire.is_request && wire.first_line().len() == "HTTP/1.1 200".len(),
    },
    Difference {
        name: "a method or a field name that is no token",
        why: "an empty one, or one with a quote, a slash or a byte beyond ASCII: others see another name, or none",
        rule: "RFC 9110 §5.6.2, RFC 9112 §5",
        accepted_by: Parser::Other,
        is_in: |wire| {
            let mut names = wire.fields().map(|(name, _)| name).chain(wire.is_request.then(|| wire.word(0)));
            names.any(|name| !is_token(name)) || trailer_names(wire).iter().any(|name| !is_token(name))
        },
    },
    Difference {
        name: "a target that no URI has",
        why: "an empty one, a fragment, or bytes beyond ASCII, which the next hop may decode in its own way",
        rule: "RFC 9112 §3.2, RFC 3986 §2",
        accepted_by: Parser::Other,
        is_in: |wire| {
            let target = wire.word(1);
            wire.is_request && (target.is_empty() || target.iter().any(|byte| *byte == b'#' || !byte.is_ascii()))
        },
    },
    Difference {
        name: "a Host that is missing, repeated or none",
        why: "a server must answer 400; two hosts are the beginning of a request for another site",
        rule: "RFC 9112 §3.2",
        accepted_by: Parser::Other,
        is_in: |wire| {
            let hosts = wire.values("host");
            let may_be_missing = version(wire) == b"HTTP/1.0";
            wire.is_request
                && match hosts[..] {
                    [] => !may_be_missing,
                    [host] => !is_host(host),
                    _ => true,
                }
        },
    },
    Difference {
        name: "a transfer coding that is not chunked alone",
        why: "what is not understood must be answered with 501; kawa passes the coding on and reads the chunks",
        rule: "RFC 9112 §6.1, §7",
        accepted_by: Parser::Other,
        is_in: |wire| match wire.values("transfer-encoding")[..] {
            [] => false,
            [coding] => !coding.eq_ignore_ascii_case(b"chunked"),
            _ => true,
        },
    },
    Difference {
        name: "a length beside a transfer coding",
        why: "ought to be handled as an error: the classic of request smuggling; kawa drops the length",
        rule: "RFC 9112 §6.1, §6.3",
        accepted_by: Parser::Other,
        is_in: |wire| !wire.values("transfer-encoding").is_empty() && !wire.values("content-length").is_empty(),
    },
    Difference {
        name: "a transfer coding in HTTP/1.0",
        why: "a message with faulty framing, which ends with its connection",
        rule: "RFC 9112 §6.1",
        accepted_by: Parser::Other,
        is_in: |wire| !wire.values("transfer-encoding").is_empty() && version(wire) == b"HTTP/1.0",
    },
    Difference {
        name: "a repeated length",
        why: "may be refused even where both are equal; a proxy cannot know which one the next hop takes",
        rule: "RFC 9112 §6.3, RFC 9110 §8.6",
        accepted_by: Parser::Other,
        is_in: |wire| wire.values("content-length").len() > 1,
    },
    Difference {
        name: "a length beyond what signed numbers hold",
        why: "to many readers it is negative, so that they see another end",
        rule: "RFC 9110 §8.6",
        accepted_by: Parser::Other,
        is_in: |wire| wire.values("content-length").iter().any(|length| is_beyond_signed(length, 10)),
    },
    Difference {
        name: "a chunk size of more than 16 digits, or beyond what signed numbers hold",
        why: "recipients must anticipate large numbers; leading zeros without an end are work for nothing",
        rule: "RFC 9112 §7.1",
        accepted_by: Parser::Other,
        is_in: |wire| {
            wire.body().split(|byte| *byte == b'\n').any(|line| {
                let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                digits > 16 || is_beyond_signed(&line[..digits], 16)
            })
        },
    },
    Difference {
        name: "more than 16 KiB of chunk extensions",
        why: "a server ought to limit them, since nobody wants them; kawa gets none to see here",
        rule: "RFC 9112 §7.1.1",
        accepted_by: Parser::Other,
        is_in: |wire| without_extensions(wire.body()).1 > 16 * 1024,
    },
    Difference {
        name: "an expectation other than 100-continue",
        why: "may be answered with 417, and is",
        rule: "RFC 9110 §10.1.1",
        accepted_by: Parser::Other,
        is_in: |wire| wire.members("expect").iter().any(|member| !member.eq_ignore_ascii_case(b"100-continue")),
    },
    Difference {
        name: "many connection options",
        why: "each field of the head is looked up among them: a limit on work, ours",
        rule: "RFC 9110 §7.6.1",
        accepted_by: Parser::Other,
        is_in: |wire| wire.members("connection").len() > 32,
    },
    Difference {
        name: "a head, a line or a trailer section beyond the limits, or too many fields",
        why: "each hop has limits (431); kawa leaves them to the size of the buffer that it is given",
        rule: "RFC 9110 §5.4, RFC 9112 §3",
        accepted_by: Parser::Other,
        is_in: |wire| {
            let (line_bytes_max, head_bytes_max, fields_max) =
                if wire.is_request { (16 * 1024, 64 * 1024, 100) } else { (128 * 1024, 128 * 1024, 256) };
            let trailers = trailer_names(wire).len();
            wire.first_line().len() + 2 > line_bytes_max
                || wire.head_bytes() > head_bytes_max
                || wire.fields().count() > fields_max
                || trailers > 256
                || trailers > 0 && wire.body().len() > 16 * 1024
        },
    },
    Difference {
        name: "a status below 100, or with a sign",
        why: "is three digits, of which the first is the class",
        rule: "RFC 9112 §4, RFC 9110 §15",
        accepted_by: Parser::Other,
        is_in: |wire| !wire.is_request && !matches!(wire.word(1), [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9']),
    },
];

/// The version where the first line has it.
fn version<'a>(wire: &Wire<'a>) -> &'a [u8] {
    let line = wire.first_line();
    if wire.is_request { &line[line.len().saturating_sub("HTTP/1.1".len())..] } else { wire.word(0) }
}

fn is_later_version(version: &[u8]) -> bool {
    matches!(version, [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'])
}

/// Tells whether a target is a path or a URL with an authority.
fn has_form(target: &[u8]) -> bool {
    let scheme = target.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
    target.starts_with(b"/") || target[scheme..].starts_with(b"://")
}

/// `uri-host [ ":" port ]`, of which the host is not empty.
fn is_host(value: &[u8]) -> bool {
    let Ok(value) = std::str::from_utf8(value) else { return false };
    let (host, port) = match value.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<Ipv6Addr>().is_ok() => ("v6", port),
            _ => return false,
        },
        None => value.split_at(value.find(':').unwrap_or(value.len())),
    };
    let is_port = match port.strip_prefix(':') {
        // RFC 3986 §3.2.3: any digits, and none; no port is larger than 16 bits hold.
        Some(digits) => {
            digits.bytes().all(|digit| digit.is_ascii_digit()) && (digits.is_empty() || digits.parse::<u16>().is_ok())
        }
        None => port.is_empty(),
    };
    is_port && is_name(host.as_bytes())
}

/// A registered name (RFC 3986 §3.2.2).
fn is_name(mut host: &[u8]) -> bool {
    if host.is_empty() {
        return false;
    }
    while let [first, rest @ ..] = host {
        host = match (first, rest) {
            (b'%', [high, low, rest @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            (byte, rest) if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte) => rest,
            _ => return false,
        };
    }
    true
}

fn is_beyond_signed(digits: &[u8], base: u32) -> bool {
    let text = std::str::from_utf8(digits).unwrap_or_default();
    !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_hexdigit()) && i64::from_str_radix(text, base).is_err()
}

/// The lines of a body that look like fields: its trailers are among them.
fn trailer_lines<'a>(wire: &Wire<'a>) -> Vec<&'a [u8]> {
    if wire.values("transfer-encoding").is_empty() {
        return Vec::new();
    }
    wire.body().split(|byte| *byte == b'\n').filter(|line| line.contains(&b':')).collect()
}

fn trailer_names<'a>(wire: &Wire<'a>) -> Vec<&'a [u8]> {
    trailer_lines(wire).iter().filter_map(|line| line.split(|byte| *byte == b':').next()).collect()
}

/// Returns a chunked body without the extensions of its chunks, which kawa does not know and a recipient must ignore (RFC
/// 9112 §7.1.1), and how many bytes were left out. Only extensions that are well formed are.
pub fn without_extensions(body: &[u8]) -> (Vec<u8>, usize) {
    let (mut out, mut rest, mut left_out) = (Vec::with_capacity(body.len()), body, 0);
    while let Some(line_end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = rest.split_at(line_end + 1);
        let Some((size, extension)) = size_line(&line[..line_end]) else { break };
        out.extend_from_slice(&line[..line_end - 1 - extension.len()]);
        out.extend_from_slice(b"\r\n");
        left_out += extension.len();
        rest = after;
        // The end of the chunk's data is one line end more.
        let there = usize::try_from(size).map_or(rest.len(), |size| size.saturating_add(2).min(rest.len()));
        if size == 0 {
            break;
        }
        out.extend_from_slice(&rest[..there]);
        rest = &rest[there..];
    }
    out.extend_from_slice(rest);
    (out, left_out)
}

/// Returns a message without the empty lines before it, of which kawa takes none and a server should ignore one at least
/// (RFC 9112 §2.2).
pub fn without_empty_lines(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    for _ in 0..2 {
        rest = rest.strip_prefix(b"\r\n").unwrap_or(rest);
    }
    rest
}
