//! Interim responses (RFC 9110 §15.2): a server may send any number of them before the final one, so they have limits.

use super::fields::{self, Known};
use super::head::{HeadError, ResponseHead};

/// Interim responses to one request. Servers send one or two of them, and each that is passed on costs a write.
const HEADS_MAX: u8 = 16;

/// The bytes of their heads together.
const BYTES_MAX: u32 = 64 * 1024;

/// The interim responses that may still come before the final one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterimAllowance {
    heads: u8,
    bytes: u32,
}

impl Default for InterimAllowance {
    fn default() -> Self {
        InterimAllowance { heads: HEADS_MAX, bytes: BYTES_MAX }
    }
}

impl InterimAllowance {
    /// Accounts for one of them, with a status from 100 to 199, whose head is `head_bytes` long.
    ///
    /// # Errors
    /// There are too many of them, or this one announces a body.
    pub fn admit(&mut self, head: &ResponseHead<'_>, head_bytes: usize) -> Result<(), HeadError> {
        let heads = self.heads.checked_sub(1);
        let bytes = u32::try_from(head_bytes).ok().and_then(|head_bytes| self.bytes.checked_sub(head_bytes));
        let (Some(heads), Some(bytes)) = (heads, bytes) else {
            return Err(HeadError::Malformed(
                "more than 16 interim responses or 64 KiB of them come before the final one",
            ));
        };
        *self = InterimAllowance { heads, bytes };
        // RFC 9110 §8.6, RFC 9112 §6.1: a 1xx must not have them, and whoever reads them all the same takes what
        // follows for a body.
        let frames_body = |name| matches!(fields::known(name), Some(Known::ContentLength | Known::TransferEncoding));
        if head.fields.iter().any(|field| frames_body(field.name)) {
            return Err(HeadError::Malformed("an interim response announces a body"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::with_response;

    fn admit(allowance: &mut InterimAllowance, field_lines: &str, head_bytes: usize) -> Result<(), HeadError> {
        let head = format!("HTTP/1.1 103 Early Hints\r\n{field_lines}\r\n");
        with_response(head.as_bytes(), |head| allowance.admit(head, head_bytes)).expect("a valid head")
    }

    #[test]
    fn their_number_and_their_bytes_are_limited() {
        let mut allowance = InterimAllowance::default();
        for number in 0..16 {
            assert_eq!(admit(&mut allowance, "", 25), Ok(()), "number {number}");
        }
        assert!(admit(&mut allowance, "", 25).is_err());

        let mut allowance = InterimAllowance::default();
        assert_eq!(admit(&mut allowance, "", 60 * 1024), Ok(()));
        assert_eq!(admit(&mut allowance, "", 4 * 1024), Ok(()));
        assert!(admit(&mut allowance, "", 1).is_err());
        assert!(admit(&mut InterimAllowance::default(), "", 64 * 1024 + 1).is_err());
    }

    #[test]
    fn none_announces_a_body() {
        for field_lines in
            ["content-length: 5\r\n", "Content-Length: 0\r\n", "Link: </a>\r\nTransfer-Encoding: chunked\r\n"]
        {
            assert!(admit(&mut InterimAllowance::default(), field_lines, 25).is_err(), "{field_lines}");
        }
        let field_lines = "Link: </a>\r\nContent-Type: text/html\r\n";
        assert_eq!(admit(&mut InterimAllowance::default(), field_lines, 25), Ok(()));
    }
}
