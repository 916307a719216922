//! Text from outside, cut to a bounded length.
//!
//! Invariant: the queue of an output is bounded by lines, so a line is bounded too.

use std::fmt;

/// Limit on the bytes of a text that are shown. No endpoint of the upstream has a path of half that; a client may send
/// 16 KiB.
const SHOWN_BYTES_MAX: usize = 1024;
/// Mark in place of the rest.
const MARK: &str = "…";

/// Shows the first KiB of a text, in whole characters, and a mark if there is more.
pub struct Shortened<'a>(pub &'a str);

impl fmt::Display for Shortened<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shortened(text) = *self;
        if text.len() <= SHOWN_BYTES_MAX {
            return formatter.write_str(text);
        }
        let mut end = SHOWN_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        formatter.write_str(&text[..end])?;
        formatter.write_str(MARK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_shown_up_to_its_last_whole_character_within_a_kib() {
        for (text, shown_bytes) in [
            ("x".repeat(1023) + "y", 1024),
            ("x".repeat(1025), 1024),
            ("x".repeat(1023) + "é", 1023),
            ("x".repeat(1022) + "é", 1024),
            ("x".repeat(1021) + "🦀🦀", 1021),
            ("é".repeat(5000), 1024),
        ] {
            let shown = Shortened(&text).to_string();
            assert!(text.starts_with(&shown[..shown_bytes]));
            assert_eq!(&shown[shown_bytes..], if text.len() > 1024 { MARK } else { "" });
        }
    }
}
