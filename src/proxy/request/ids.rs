//! The ids by which a request is known to others: its `x-request-id`, and the trace that it is a part of.
//!
//! Invariant: there always is a request id; it is the client's, where that is one that may be used, else one of the
//! gateway's own. Reused from exchange to exchange, so that nothing is allocated. Not here: `ExchangeId`, by which the
//! log numbers exchanges.

use std::fmt::Write;

use crate::http1::head::{Field, RequestHead};
use crate::observability::ExchangeId;

/// The name of the field, in lower case.
pub const REQUEST_ID: &str = "x-request-id";
const TRACE_PARENT: &str = "traceparent";

/// The longest request id of a client that is passed on: more than a UUID with any prefix, and no line of the log gets
/// long by it.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Room for an id of the gateway's own and a trace id.
const TEXT_BYTES: usize = 64;

/// The length of a trace id in a `traceparent`, in hexadecimal digits (W3C Trace Context §3.2.2.3).
const TRACE_ID_BYTES: usize = 32;
/// The length of a `traceparent` of version 00: `00-`, the trace id, `-`, 16 digits of the parent, `-`, two of flags.
const TRACE_PARENT_BYTES: usize = 55;

/// The ids of the exchange under way on a connection.
#[derive(Debug, Default)]
pub struct RequestIds {
    /// The request id, and after it the trace id, if there is one.
    text: String,
    /// The length of the request id.
    id_bytes: u8,
    is_own: bool,
}

impl RequestIds {
    /// Starts over with an id of the gateway's own: `seed` tells processes apart.
    pub fn begin(&mut self, seed: u64, exchange: ExchangeId) {
        self.text.clear();
        self.text.reserve(TEXT_BYTES);
        push_hex(&mut self.text, seed, 16);
        self.text.push('-');
        // As the exchange id in the log: see its `Display`.
        match char::from_digit(exchange.shard as u32, 10) {
            Some(digit) => self.text.push(digit),
            // A String takes every character.
            None => _ = write!(self.text, "{}", exchange.shard),
        }
        self.text.push('-');
        push_hex(&mut self.text, exchange.sequence, 1);
        self.is_own = true;
        self.end_id();
    }

    /// Notes the ids in the head of the request.
    pub fn note(&mut self, head: &RequestHead<'_>) {
        if let Some(id) = only_value(head.fields, REQUEST_ID).and_then(usable_id) {
            self.text.clear();
            self.text.push_str(id);
            self.is_own = false;
            self.end_id();
        }
        if let Some(trace) = only_value(head.fields, TRACE_PARENT).and_then(trace_id) {
            self.text.push_str(trace);
        }
    }

    fn end_id(&mut self) {
        // A client's is no longer than `REQUEST_ID_BYTES_MAX`, and an own one has three numbers.
        self.id_bytes = self.text.len() as u8;
    }

    /// The request id.
    pub fn request_id(&self) -> &str {
        &self.text[..usize::from(self.id_bytes)]
    }

    /// The request id, where it is to be put in the place of what the client sent, if it sent any.
    pub fn own(&self) -> Option<&str> {
        self.is_own.then(|| self.request_id())
    }

    pub fn trace_id(&self) -> Option<&str> {
        Some(&self.text[usize::from(self.id_bytes)..]).filter(|trace| !trace.is_empty())
    }
}

/// Appends a number in hexadecimal digits, at least so many. By hand: the formatter takes ten times as long, and each
/// request without an id has three numbers.
fn push_hex(text: &mut String, number: u64, digits_min: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (u64::BITS - number.leading_zeros()).div_ceil(4) as usize;
    for place in (0..digits.max(digits_min)).rev() {
        text.push(char::from(DIGITS[(number >> (4 * place)) as usize & 0xF]));
    }
}

/// Returns the value of the field of that name, in lower case, if there is exactly one.
fn only_value<'h>(fields: &[Field<'h>], name: &str) -> Option<&'h [u8]> {
    let mut found =
        fields.iter().filter(|field| field.name.len() == name.len() && field.name.eq_ignore_ascii_case(name));
    let first = found.next()?;
    found.next().is_none().then_some(first.value)
}

/// Returns the request id of a client if it is one that may be used: 1 to 128 bytes of visible ASCII.
fn usable_id(value: &[u8]) -> Option<&str> {
    let is_usable = (1..=REQUEST_ID_BYTES_MAX).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
    str::from_utf8(value).ok().filter(|_| is_usable)
}

/// Returns the trace id of a `traceparent` (W3C Trace Context §3.2.2): `version-traceid-parentid-flags` in lower case,
/// neither id all zeros. A version after 00 may append more after another `-`; ff is none.
fn trace_id(value: &[u8]) -> Option<&str> {
    let text = str::from_utf8(value).ok()?;
    let mut parts = text.splitn(5, '-');
    let [version, trace, parent, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let is_hex = |part: &str, bytes: usize| {
        part.len() == bytes && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_id = |part: &str, bytes: usize| is_hex(part, bytes) && part.bytes().any(|byte| byte != b'0');
    let is_valid = is_hex(version, 2)
        && version != "ff"
        && is_id(trace, TRACE_ID_BYTES)
        && is_id(parent, 16)
        && is_hex(flags, 2)
        && (version != "00" || text.len() == TRACE_PARENT_BYTES);
    is_valid.then_some(trace)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http1::head::with_request;

    const EXCHANGE: ExchangeId = ExchangeId { shard: 3, sequence: 0x1a };
    const OWN: &str = "00000000000000ff-3-1a";
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn ids(field_lines: &str) -> RequestIds {
        let mut ids = RequestIds::default();
        ids.begin(0xff, EXCHANGE);
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{field_lines}\r\n");
        with_request(request.as_bytes(), |head| ids.note(head)).expect("a head");
        ids
    }

    #[test]
    fn a_valid_id_of_the_client_is_used_and_any_other_replaced() {
        let longest = "x".repeat(128);
        for id in ["1", "req_01ABC-d.e/f+g=", "~!\"#", &longest] {
            let ids = ids(&format!("X-Request-Id: {id}\r\n"));
            assert_eq!((ids.request_id(), ids.own()), (id, None));
        }
        for field_lines in [
            String::new(),
            "x-request-id: \r\n".into(),
            "x-request-id: a b\r\n".into(),
            "x-request-id: a\tb\r\n".into(),
            "x-request-id: caf\u{e9}\r\n".into(),
            format!("x-request-id: {longest}x\r\n"),
            "x-request-id: a\r\nX-REQUEST-ID: a\r\n".into(),
            "x-request-ids: a\r\n".into(),
        ] {
            let ids = ids(&field_lines);
            assert_eq!((ids.request_id(), ids.own()), (OWN, Some(OWN)), "{field_lines:?}");
        }
    }

    #[test]
    fn a_trace_id_is_known_by_a_valid_traceparent_alone() {
        let parent = "00f067aa0ba902b7";
        for value in [
            format!("00-{TRACE}-{parent}-01"),
            format!("01-{TRACE}-{parent}-00"),
            format!("cc-{TRACE}-{parent}-01-what-comes"),
        ] {
            assert_eq!(trace_id(value.as_bytes()), Some(TRACE), "{value}");
        }
        for value in [
            format!("ff-{TRACE}-{parent}-01"),
            format!("00-{TRACE}-{parent}-01-more"),
            format!("00-{TRACE}-{parent}-01-"),
            format!("00-{TRACE}-{parent}"),
            format!("00-{TRACE}-{parent}-1"),
            format!("00-{TRACE}-{parent}-0x"),
            format!("0-{TRACE}-{parent}-01"),
            format!("00-{}-{parent}-01", TRACE.to_uppercase()),
            format!("00-{}-{parent}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{TRACE}0-{parent}-01"),
            String::new(),
        ] {
            assert_eq!(trace_id(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn ids_of_the_exchange_before_are_forgotten() {
        let line = format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n");
        let mut both = ids(&format!("x-request-id: mine\r\n{line}"));
        assert_eq!((both.request_id(), both.trace_id()), ("mine", Some(TRACE)));
        assert_eq!(ids(&line).trace_id(), Some(TRACE));
        assert_eq!(ids(&format!("{line}{line}")).trace_id(), None, "which of two is it?");
        both.begin(0xff, EXCHANGE);
        assert_eq!((both.request_id(), both.trace_id()), (OWN, None));
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_client_are_too_strange(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let trace = trace_id(&value);
            prop_assert!(trace.is_none_or(|trace| trace.len() == TRACE_ID_BYTES));
            let id = usable_id(&value);
            prop_assert!(id.is_none_or(|id| !id.contains(char::is_whitespace)));
        }
    }
}
