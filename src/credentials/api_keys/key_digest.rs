//! The digest that a key is kept as.
//!
//! Invariant: two digests are compared in constant time, by a map too.

use std::hash::{Hash, Hasher};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

/// The SHA-256 digest of a key.
#[derive(Clone, Copy)]
pub struct KeyDigest([u8; SHA256_OUTPUT_LEN]);

impl KeyDigest {
    pub fn of(key: &[u8]) -> Self {
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(digest(&SHA256, key).as_ref());
        KeyDigest(bytes)
    }

    /// Parses 64 hexadecimal digits in any case.
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        let nibble = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        if text.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(KeyDigest(bytes))
    }

    pub fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for KeyDigest {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for KeyDigest {}

impl Hash for KeyDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_written_and_read_in_hexadecimal_digits() {
        // By sha256sum.
        const OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let digest = KeyDigest::of(b"abc");
        assert_eq!(digest.to_hex(), OF_ABC);
        for text in [OF_ABC, &OF_ABC.to_ascii_uppercase()] {
            assert!(KeyDigest::from_hex(text) == Some(digest));
        }
        for text in ["", &OF_ABC[1..], &format!("{OF_ABC}0"), &OF_ABC.replace('b', "g"), &"é".repeat(32)] {
            assert!(KeyDigest::from_hex(text).is_none(), "{text}");
        }
    }
}
