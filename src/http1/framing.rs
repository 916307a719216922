//! The length of a message's body, by its head.
//!
//! Invariant: a head whose body length two readers could see differently is an error, never a guess (RFC 9112 §6,
//! §11.2).

use super::fields;
use super::grammar::{is_token, trim_whitespace};
use super::head::{HeadError, Version};

/// The way in which a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body, and no field says so.
    None,
    /// `Content-Length`, be it 0.
    Known(u64),
    Chunked,
    /// Until the connection closes; responses only.
    UntilClose,
}

impl BodyLength {
    /// Tells whether not a byte of a body follows the head.
    pub fn is_empty(self) -> bool {
        matches!(self, BodyLength::None | BodyLength::Known(0))
    }

    /// Tells whether the length shows only at the end.
    pub fn is_open_ended(self) -> bool {
        matches!(self, BodyLength::Chunked | BodyLength::UntilClose)
    }
}

/// Applies RFC 9112 §6.3 to a response; `declared` is what [`LengthFields::declared`] returned, even where there is no
/// body.
pub fn response_body_length(declared: Option<BodyLength>, status: u16, request_was_head: bool) -> BodyLength {
    // Rule 1: these end with the head, whatever their fields say.
    if request_was_head || matches!(status, 100..=199 | 204 | 304) {
        return BodyLength::None;
    }
    // Rule 8: a response without either field goes on until the close.
    declared.unwrap_or(BodyLength::UntilClose)
}

/// The fields of a head that say how long its body is.
#[derive(Debug, Clone, Copy, Default)]
pub struct LengthFields<'h> {
    content_length: Occurrence<'h>,
    transfer_encoding: Occurrence<'h>,
}

/// The occurrences of a field that may come once.
#[derive(Debug, Clone, Copy, Default)]
enum Occurrence<'h> {
    #[default]
    Never,
    Once(&'h [u8]),
    Repeatedly,
}

impl<'h> Occurrence<'h> {
    fn add(&mut self, value: &'h [u8]) {
        *self = if matches!(self, Occurrence::Never) { Occurrence::Once(value) } else { Occurrence::Repeatedly };
    }
}

impl<'h> LengthFields<'h> {
    pub fn add_content_length(&mut self, value: &'h [u8]) {
        self.content_length.add(value);
    }

    pub fn add_transfer_encoding(&mut self, value: &'h [u8]) {
        self.transfer_encoding.add(value);
    }

    /// Applies RFC 9112 §6.3 to a request.
    ///
    /// # Errors
    /// When the fields are malformed, repeated, contradict each other or name a coding other than chunked.
    pub fn request_body_length(&self, version: Version) -> Result<BodyLength, HeadError> {
        // Rule 7: a request without either field has no body.
        Ok(self.declared(version)?.unwrap_or(BodyLength::None))
    }

    /// Returns [`BodyLength::Known`], [`BodyLength::Chunked`], or nothing when neither field is there.
    ///
    /// # Errors
    /// As [`LengthFields::request_body_length`].
    pub fn declared(&self, version: Version) -> Result<Option<BodyLength>, HeadError> {
        match (self.content_length, self.transfer_encoding) {
            (Occurrence::Never, Occurrence::Never) => Ok(None),
            (Occurrence::Repeatedly, _) => Err(HeadError::Malformed("Content-Length is repeated")),
            (_, Occurrence::Repeatedly) => Err(HeadError::Malformed("Transfer-Encoding is repeated")),
            // RFC 9112 §6.1: ought to be handled as an error, for it might be an attempt at smuggling.
            (Occurrence::Once(_), Occurrence::Once(_)) => {
                Err(HeadError::Malformed("Content-Length came with Transfer-Encoding"))
            }
            (Occurrence::Once(value), Occurrence::Never) => fields::parse_content_length(value)
                .map(|length| Some(BodyLength::Known(length)))
                .ok_or(HeadError::Malformed("Content-Length is no number below 2^63")),
            // RFC 9112 §6.1: a message of HTTP/1.0 with a transfer coding has faulty framing.
            (Occurrence::Never, Occurrence::Once(_)) if version == Version::Http10 => {
                Err(HeadError::Malformed("Transfer-Encoding came in an HTTP/1.0 message"))
            }
            (Occurrence::Never, Occurrence::Once(value)) => {
                check_transfer_coding(value).map(|()| Some(BodyLength::Chunked))
            }
        }
    }
}

/// Checks a `Transfer-Encoding` value (RFC 9112 §6.1, §7): chunked alone is supported. A list with chunked before its
/// end is malformed; one that is well formed and names other codings is merely not supported.
fn check_transfer_coding(value: &[u8]) -> Result<(), HeadError> {
    const MALFORMED: HeadError = HeadError::Malformed("Transfer-Encoding is malformed or has chunked not last");
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut codings = value.split(|&byte| byte == b',').map(trim_whitespace).peekable();
    while let Some(coding) = codings.next() {
        let name_end = memchr::memchr(b';', coding).unwrap_or(coding.len());
        let name = trim_whitespace(&coding[..name_end]);
        // Chunked has no parameters (RFC 9112 §7.1), and applied twice it is no longer the end (§6.1).
        let is_misplaced_chunked =
            name.eq_ignore_ascii_case(b"chunked") && (codings.peek().is_some() || name.len() != coding.len());
        if !is_token(name) || is_misplaced_chunked {
            return Err(MALFORMED);
        }
    }
    Err(HeadError::UnsupportedTransferCoding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::fields::Known;
    use crate::http1::head::{Field, with_request, with_response};

    const UNSUPPORTED: Result<BodyLength, HeadError> = Err(HeadError::UnsupportedTransferCoding);

    fn lengths_of<'h>(fields: &'h [Field<'h>]) -> LengthFields<'h> {
        let mut lengths = LengthFields::default();
        for field in fields {
            match fields::known(field.name) {
                Some(Known::ContentLength) => lengths.add_content_length(field.value),
                Some(Known::TransferEncoding) => lengths.add_transfer_encoding(field.value),
                _ => {}
            }
        }
        lengths
    }

    fn of_request(version: &str, field_lines: &str) -> Result<BodyLength, HeadError> {
        let head = format!("POST /v1/messages HTTP/{version}\r\nHost: a\r\n{field_lines}\r\n");
        let length = with_request(head.as_bytes(), |head| lengths_of(head.fields).request_body_length(head.version));
        length.and_then(|length| length)
    }

    fn of_response(version: &str, status: u16, field_lines: &str, was_head: bool) -> Result<BodyLength, HeadError> {
        let head = format!("HTTP/{version} {status} X\r\n{field_lines}\r\n");
        let declared = with_response(head.as_bytes(), |head| lengths_of(head.fields).declared(head.version));
        Ok(response_body_length(declared.and_then(|declared| declared)?, status, was_head))
    }

    #[test]
    fn a_request_is_framed_by_its_one_length_or_by_chunks() {
        let rows = [
            ("RFC 9112 §6.3 rule 7", "1.1", "", BodyLength::None),
            ("RFC 9112 §6.3 rule 6", "1.1", "Content-Length: 5\r\n", BodyLength::Known(5)),
            ("RFC 9112 §6.3 rule 6", "1.0", "Content-Length: 5\r\n", BodyLength::Known(5)),
            ("RFC 9110 §8.6", "1.1", "content-length:0\r\n", BodyLength::Known(0)),
            ("RFC 9112 §6.3 rule 4", "1.1", "Transfer-Encoding: chunked\r\n", BodyLength::Chunked),
            ("RFC 9112 §7", "1.1", "transfer-encoding:\t CHUNKED \t\r\n", BodyLength::Chunked),
        ];
        for (rule, version, field_lines, expected) in rows {
            assert_eq!(of_request(version, field_lines), Ok(expected), "{rule}: {field_lines:?}");
        }
    }

    #[test]
    fn framing_that_two_readers_could_see_differently_is_malformed_in_requests_and_responses() {
        let rows = [
            ("RFC 9112 §6.1: both", "1.1", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            ("RFC 9112 §6.1: both", "1.1", "Transfer-Encoding: chunked\r\nX: y\r\nContent-Length: 5\r\n"),
            ("RFC 9112 §6.3: repeated", "1.1", "Content-Length: 5\r\nContent-Length: 6\r\n"),
            ("ours: repeated, even if equal", "1.1", "Content-Length: 5\r\ncontent-length: 5\r\n"),
            ("RFC 9110 §8.6: list", "1.1", "Content-Length: 5, 5\r\n"),
            ("RFC 9110 §8.6: signed", "1.1", "Content-Length: +5\r\n"),
            ("RFC 9110 §8.6: signed", "1.1", "Content-Length: -5\r\n"),
            ("RFC 9110 §8.6: hex", "1.1", "Content-Length: 0x5\r\n"),
            ("RFC 9110 §8.6: empty", "1.1", "Content-Length:\r\n"),
            ("RFC 9110 §8.6: overflow", "1.1", "Content-Length: 18446744073709551616\r\n"),
            ("ours: overflow of signed numbers", "1.1", "Content-Length: 9223372036854775808\r\n"),
            ("RFC 9112 §6.1: repeated", "1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            ("RFC 9112 §6.1: repeated", "1.1", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
            ("RFC 9112 §6.1: twice", "1.1", "Transfer-Encoding: chunked, chunked\r\n"),
            ("RFC 9112 §6.3 rule 4: not last", "1.1", "Transfer-Encoding: chunked, gzip\r\n"),
            ("RFC 9112 §6.3 rule 4: not last", "1.1", "Transfer-Encoding: gzip, chunked, identity\r\n"),
            ("RFC 9112 §7: parameters", "1.1", "Transfer-Encoding: chunked;q=1\r\n"),
            ("RFC 9112 §6.1: malformed", "1.1", "Transfer-Encoding:\r\n"),
            ("RFC 9112 §6.1: malformed", "1.1", "Transfer-Encoding: ,chunked\r\n"),
            ("RFC 9112 §6.1: malformed", "1.1", "Transfer-Encoding: chunked,\r\n"),
            ("RFC 9112 §6.1: malformed", "1.1", "Transfer-Encoding: \"chunked\"\r\n"),
            ("RFC 9112 §6.1: malformed", "1.1", "Transfer-Encoding: chunked chunked\r\n"),
            ("RFC 9112 §6.1: malformed", "1.1", "Transfer-Encoding: chunked\u{e9}\r\n"),
            ("RFC 9112 §6.1: HTTP/1.0", "1.0", "Transfer-Encoding: chunked\r\n"),
        ];
        for (rule, version, field_lines) in rows {
            let of_request = of_request(version, field_lines);
            assert!(matches!(of_request, Err(HeadError::Malformed(_))), "{rule}: {field_lines:?}: {of_request:?}");
            for (status, was_head) in [(200, false), (200, true), (204, false), (304, false)] {
                let of_response = of_response(version, status, field_lines, was_head);
                assert!(
                    matches!(of_response, Err(HeadError::Malformed(_))),
                    "{rule}: {field_lines:?}: {of_response:?}"
                );
            }
        }
    }

    #[test]
    fn other_transfer_codings_are_not_supported() {
        for value in
            ["gzip", "gzip, chunked", "identity", "xchunked", "chunked2", "gzip;level=9, chunked", "deflate,gzip"]
        {
            assert_eq!(of_request("1.1", &format!("Transfer-Encoding: {value}\r\n")), UNSUPPORTED, "{value}");
            assert_eq!(
                of_response("1.1", 200, &format!("Transfer-Encoding: {value}\r\n"), false),
                UNSUPPORTED,
                "{value}"
            );
        }
    }

    #[test]
    fn a_response_without_framing_lasts_until_the_close_unless_it_has_no_body() {
        let sized = "Content-Length: 5\r\n";
        let chunked = "Transfer-Encoding: chunked\r\n";
        let rows = [
            ("RFC 9112 §6.3 rule 8", "1.1", 200, "", false, BodyLength::UntilClose),
            ("RFC 9112 §6.3 rule 8", "1.0", 200, "", false, BodyLength::UntilClose),
            ("RFC 9112 §6.3 rule 6", "1.0", 200, sized, false, BodyLength::Known(5)),
            ("RFC 9112 §6.3 rule 6", "1.1", 500, "Content-Length: 0\r\n", false, BodyLength::Known(0)),
            ("RFC 9112 §6.3 rule 4", "1.1", 200, chunked, false, BodyLength::Chunked),
            ("RFC 9112 §6.3 rule 1: HEAD", "1.1", 200, sized, true, BodyLength::None),
            ("RFC 9112 §6.3 rule 1: HEAD", "1.1", 200, chunked, true, BodyLength::None),
            ("RFC 9112 §6.3 rule 1: HEAD", "1.1", 200, "", true, BodyLength::None),
            ("RFC 9112 §6.3 rule 1: 304", "1.1", 304, sized, false, BodyLength::None),
            ("RFC 9112 §6.3 rule 1: 204", "1.1", 204, chunked, false, BodyLength::None),
            ("RFC 9112 §6.3 rule 1: 1xx", "1.1", 103, sized, false, BodyLength::None),
            (
                "RFC 9112 §6.3 rule 6: 205 is no exception",
                "1.1",
                205,
                "Content-Length: 0\r\n",
                false,
                BodyLength::Known(0),
            ),
        ];
        for (rule, version, status, field_lines, was_head, expected) in rows {
            assert_eq!(
                of_response(version, status, field_lines, was_head),
                Ok(expected),
                "{rule}: {status} {field_lines:?}"
            );
        }
    }
}
