//! Text that must not be seen: credentials and tokens.
//!
//! Invariant: a [`Secret`] is read by [`Secret::expose`] alone (no `Display`, no `Serialize`, and `Debug` shows
//! nothing of it), and its memory is overwritten when it is dropped.

use std::fmt;

use zeroize::Zeroizing;

/// A secret text.
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(text: String) -> Self {
        Secret(Zeroizing::new(text))
    }

    /// Returns the text. Every call is a place where it could leak.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<Zeroizing<String>> for Secret {
    fn from(text: Zeroizing<String>) -> Self {
        Secret(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[REDACTED]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_a_secret_and_expose_all_of_it() {
        let secret = Secret::new("hunter2".into());
        assert_eq!(format!("{secret:?} {secret:#?}"), "[REDACTED] [REDACTED]");
        assert_eq!(secret.expose(), "hunter2");
    }
}
