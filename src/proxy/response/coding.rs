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
    /// An unknown one, or several.
    Other,
}

impl ContentCoding {
    /// Adds those that the value of a `Content-Encoding` names.
    pub fn add(&mut self, value: &[u8]) {
        for name in list_members(value) {
            *self = match (*self, ContentCoding::named(name)) {
                (coding, ContentCoding::Identity) | (ContentCoding::Identity, coding) => coding,
                _ => ContentCoding::Other,
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
    fn one_coding_is_known_by_its_name_and_several_are_not() {
        use ContentCoding::{Brotli, Deflate, Gzip, Identity, Other, Zstd};
        for (values, expected) in [
            (&[""][..], Identity),
            (&["identity"], Identity),
            (&["gzip"], Gzip),
            (&["X-GZIP"], Gzip),
            (&["deflate"], Deflate),
            (&["identity, br"], Brotli),
            (&["zstd", "identity"], Zstd),
            (&["gzip, br"], Other),
            (&["gzip", "gzip"], Other),
            (&["compress"], Other),
            (&["aws-chunked"], Other),
        ] {
            let mut coding = Identity;
            values.iter().for_each(|value| coding.add(value.as_bytes()));
            assert_eq!(coding, expected, "{values:?}");
        }
    }
}
