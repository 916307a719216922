//! UTF-8 (RFC 3629), checked in a text that comes in parts.

/// The beginning of a letter of several bytes that a part ended within.
#[derive(Debug, Default)]
pub struct SplitLetter {
    bytes: [u8; 4],
    length: usize,
}

impl SplitLetter {
    /// Takes the next bytes of the text; false where they are no text.
    pub fn read(&mut self, mut text: &[u8]) -> bool {
        while self.length > 0 {
            let Some((&byte, rest)) = text.split_first() else { return true };
            // No letter has more than four bytes, so one that is not whole has room.
            self.bytes[self.length] = byte;
            self.length += 1;
            text = rest;
            match std::str::from_utf8(&self.bytes[..self.length]) {
                Ok(_) => self.length = 0,
                Err(error) if error.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        let Err(error) = std::str::from_utf8(text) else { return true };
        let rest = &text[error.valid_up_to()..];
        let is_split = error.error_len().is_none();
        if is_split {
            self.bytes[..rest.len()].copy_from_slice(rest);
            self.length = rest.len();
        }
        is_split
    }

    /// Tells whether the text does not end within a letter.
    pub fn is_whole(&self) -> bool {
        self.length == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn any_split_of_any_bytes_is_text_or_not_as_the_whole_is(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "a".as_bytes(), "é".as_bytes(), "€".as_bytes(), "😀".as_bytes(),
                    b"\x80", b"\xc0\xaf", b"\xe0\x80", b"\xed\xa0\x80", b"\xf0\x9f", b"\xf4\x90", b"\xff",
                ]),
                0..6,
            ),
            piece in 1_usize..8,
        ) {
            let text = parts.concat();
            let mut letter = SplitLetter::default();
            let is_text = text.chunks(piece).all(|piece| letter.read(piece)) && letter.is_whole();
            prop_assert_eq!(is_text, std::str::from_utf8(&text).is_ok());
        }
    }
}
