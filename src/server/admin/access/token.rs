//! The token of the admin pages: one line of a file that only its owner can read.

use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use crate::credentials::Secret;
use crate::credentials::private_file;
use crate::whole_file::{FileKinds, ReadFault};

/// Fewer can be guessed: 16 characters of a random token are 80 bits and more.
const TOKEN_CHARS_MIN: usize = 16;
/// Room for any token in a field of a head.
const TOKEN_CHARS_MAX: usize = 1024;

/// The token, kept as its digest alone.
#[derive(PartialEq, Eq)]
pub struct AdminToken {
    digest: [u8; SHA256_OUTPUT_LEN],
}

impl AdminToken {
    /// Reads the token of a file.
    ///
    /// # Errors
    /// It cannot be read, or does not hold one line with a token.
    pub fn load(path: &Path, kinds: FileKinds) -> Result<LoadedToken, AdminTokenError> {
        let failed = |fault| AdminTokenError { path: path.to_owned(), fault };
        let (text, metadata) = private_file::read(path, kinds).map_err(|fault| failed(TokenFault::Unread(fault)))?;
        let token = AdminToken::parse(&text).ok_or_else(|| failed(TokenFault::Form))?;
        let warning = private_file::exposure_warning(path, &metadata, "the token of the admin pages");
        Ok(LoadedToken { token, secret: Secret::new(line_of(&text).to_owned()), warning })
    }

    /// Takes the token of a file's text; `None` if it does not hold one line of visible ASCII, or too short a one.
    pub fn parse(text: &str) -> Option<Self> {
        let line = line_of(text);
        let is_token = (TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&line.len())
            && line.bytes().all(|byte| byte.is_ascii_graphic());
        is_token.then(|| AdminToken { digest: digest_of(line) })
    }

    /// Tells whether this is the token. Takes as long if it is not.
    pub fn is(&self, shown: &Secret) -> bool {
        verify_slices_are_equal(&self.digest, &digest_of(shown.expose())).is_ok()
    }
}

impl AdminToken {
    /// Returns a digest of the token and these bytes.
    pub fn bind(&self, bytes: &[u8; SHA256_OUTPUT_LEN]) -> [u8; SHA256_OUTPUT_LEN] {
        digest_of_bytes(&[self.digest, *bytes].concat())
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[REDACTED]")
    }
}

fn line_of(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text).trim()
}

/// Returns the digest of a secret text.
pub fn digest_of(text: &str) -> [u8; SHA256_OUTPUT_LEN] {
    digest_of_bytes(text.as_bytes())
}

fn digest_of_bytes(bytes: &[u8]) -> [u8; SHA256_OUTPUT_LEN] {
    let mut result = [0; SHA256_OUTPUT_LEN];
    result.copy_from_slice(digest(&SHA256, bytes).as_ref());
    result
}

/// A token that was read.
#[derive(Debug)]
pub struct LoadedToken {
    pub token: AdminToken,
    /// Itself, for who has to show it.
    pub secret: Secret,
    pub warning: Option<String>,
}

/// The reason why a file gives no token.
#[derive(Debug)]
pub struct AdminTokenError {
    pub path: PathBuf,
    fault: TokenFault,
}

#[derive(Debug)]
enum TokenFault {
    Unread(ReadFault),
    Form,
}

impl fmt::Display for AdminTokenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.fault {
            TokenFault::Unread(fault) => write!(formatter, "--admin-token-file {path}: {fault}"),
            TokenFault::Form => write!(
                formatter,
                "--admin-token-file {path}: expected one line of {TOKEN_CHARS_MIN} to {TOKEN_CHARS_MAX} visible ASCII \
                 characters, such as openssl rand -hex 32 prints"
            ),
        }
    }
}

impl std::error::Error for AdminTokenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            TokenFault::Unread(fault) => Some(fault),
            TokenFault::Form => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_line_that_cannot_be_guessed_and_is_never_shown() {
        for (text, is_token) in [
            ("0123456789abcdef", true),
            ("\u{feff}  0123456789abcdef\r\n", true),
            ("0123456789abcde", false),
            ("", false),
            ("0123456789abcdef\n0123456789abcdef", false),
            ("0123456789 abcdef", false),
            ("0123456789abcdéf", false),
            (&"x".repeat(1024), true),
            (&"x".repeat(1025), false),
        ] {
            assert_eq!(AdminToken::parse(text).is_some(), is_token, "{text}");
        }
        let token = AdminToken::parse("0123456789abcdef").expect("a token");
        assert_eq!(format!("{token:?}"), "[REDACTED]");
        let shown = ["0123456789abcdef", "0123456789abcdeF", "", "0123456789abcdef0"];
        assert_eq!(shown.map(|shown| token.is(&Secret::new(shown.into()))), [true, false, false, false]);
    }
}
