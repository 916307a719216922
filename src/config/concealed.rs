//! The value of a setting that may hold a password and is not shown.
//!
//! Invariant: it is read by [`Concealed::expose`] alone (no `Display`, and `Debug` shows nothing of it), and its memory
//! is zeroed on drop. Credentials and tokens have a type of their own, in `credentials`.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

/// A text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Concealed(Zeroizing<String>);

impl From<Zeroizing<String>> for Concealed {
    fn from(text: Zeroizing<String>) -> Self {
        Concealed(text)
    }
}

impl Concealed {
    pub fn new(text: String) -> Self {
        Concealed(Zeroizing::new(text))
    }

    /// Returns the text itself. Every call is a place where it could leak.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Concealed {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Concealed::new(text.to_owned()))
    }
}

impl fmt::Debug for Concealed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[REDACTED]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_it_and_expose_all() {
        let Ok(concealed) = "hunter2".parse::<Concealed>();
        assert_eq!(format!("{concealed:?} {concealed:#?}"), "[REDACTED] [REDACTED]");
        assert_eq!(concealed.expose(), "hunter2");
    }
}
