//! The content coding of an answer (RFC 9110 §8.4).

use crate::http1::fields::list_members;

/// The coding of a body's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentCoding {
    Identity,
    Gzip,
    Deflate,
    Brotli,
    Zstd,
    /// Unknown ones alone.
    Other,
    /// Several, at least one of which is known.
    Several,
}

impl ContentCoding {
    /// Adds those that the value of a `Content-Encoding` names.
    pub fn add(&mut self, value: &[u8]) {
        for name in list_members(value) {
            *self = match (*self, ContentCoding::named(name)) {
                (coding, ContentCoding::Identity) | (ContentCoding::Identity, coding) => coding,
                (ContentCoding::Other, ContentCoding::Other) => ContentCoding::Other,
                _ => ContentCoding::Several,
            };
        }
    }

    fn named(name: &[u8]) -> Self {
        // RFC 9110 §8.4.1: names are case-insensitive, and `x-gzip` is another one for gzip.
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("identity") {
            ContentCoding::Identity
        } else if is("gzip") || is("x-gzip") {
            ContentCoding::Gzip
        } else if is("deflate") {
            ContentCoding::Deflate
        } else if is("br") {
            ContentCoding::Brotli
        } else if is("zstd") {
            ContentCoding::Zstd
        } else {
            ContentCoding::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_are_known_by_their_names_and_no_other_hides_a_known_one() {
        use ContentCoding::{Brotli, Deflate, Gzip, Identity, Other, Several, Zstd};
        for (values, expected) in [
            (&[""][..], Identity),
            (&["identity"], Identity),
            (&["gzip"], Gzip),
            (&["X-GZIP"], Gzip),
            (&["deflate"], Deflate),
            (&["identity, br"], Brotli),
            (&["zstd", "identity"], Zstd),
            (&["gzip, br"], Several),
            (&["gzip", "gzip"], Several),
            (&["aws-chunked, gzip"], Several),
            (&["br", "utf-8, none"], Several),
            (&["utf-8", "none"], Other),
            (&["compress"], Other),
            (&["aws-chunked"], Other),
        ] {
            let mut coding = Identity;
            values.iter().for_each(|value| coding.add(value.as_bytes()));
            assert_eq!(coding, expected, "{values:?}");
        }
    }
}
