//! `secrets.json`: a JSON array of credentials, comments allowed.
//!
//! Invariant: all mistakes of a file are reported together, each by index, field and expectation, and nothing that is
//! reported, from here or from a parser below, holds a value of the file.

mod writing;

use std::io::Read;
use std::path::Path;

use json_comments::CommentSettings;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::private_file;
use super::secrets_entry::{JsonKind, LoadedCredentials, read_entries};
use super::secrets_error::{SecretsFault, SecretsFileError, SecretsMistake};
use super::snapshot::ENTRIES_MAX;
use crate::whole_file::{self, FileKinds};

pub use writing::{NewEntry, extended, written};

/// Reads a secrets file.
///
/// # Errors
/// When it cannot be read, is not JSON, or holds mistakes; the error names the path.
pub fn load(path: &Path, kinds: FileKinds) -> Result<LoadedCredentials, SecretsFileError> {
    let failed = |fault| SecretsFileError { path: path.to_owned(), fault };
    let (text, metadata) = private_file::read(path, kinds).map_err(|fault| failed(fault.into()))?;
    let mut loaded = from_json(&text).map_err(failed)?;
    if let Some(warning) = private_file::exposure_warning(path, &metadata, "every client secret") {
        loaded.warnings.insert(0, warning);
    }
    Ok(loaded)
}

/// Reads the text of a secrets file.
///
/// # Errors
/// When it is not JSON or holds mistakes.
pub fn from_json(text: &str) -> Result<LoadedCredentials, SecretsFault> {
    let text = strip_comments(text.strip_prefix('\u{feff}').unwrap_or(text))?;
    let syntax = |error: serde_json::Error| SecretsFault::Syntax {
        line: error.line(),
        column: error.column(),
        what: syntax_of(&error),
    };
    // Borrowed from the text, so that the values stay in memory that is erased.
    let document: &RawValue = serde_json::from_str(&text).map_err(syntax)?;
    let kind = JsonKind::of(document);
    if kind != JsonKind::Array {
        return Err(SecretsFault::Mistakes(vec![SecretsMistake::whole_file(format!(
            "expected an array of credentials, [{{…}}, …], found {kind}"
        ))]));
    }
    let values: Vec<&RawValue> = serde_json::from_str(document.get()).map_err(syntax)?;
    if values.is_empty() || values.len() > ENTRIES_MAX {
        let form = format!("expected 1 to {ENTRIES_MAX} credentials, found {}", values.len());
        return Err(SecretsFault::Mistakes(vec![SecretsMistake::whole_file(form)]));
    }
    read_entries(&values)
}

/// Replaces comments by spaces, so that positions stay true. `#` comments are in neither JSON5 nor JavaScript, and are
/// not accepted.
fn strip_comments(text: &str) -> Result<Zeroizing<String>, SecretsFault> {
    let mut stripped = Zeroizing::new(Vec::with_capacity(text.len() + 1));
    // Byte by byte, so that the line of a mistake is known; the file is small.
    let mut reader = CommentSettings::c_style().strip_comments(text.as_bytes());
    let mut byte = [0_u8];
    loop {
        match reader.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => stripped.push(byte[0]),
            Err(_) => {
                let line = 1 + stripped.iter().filter(|byte| **byte == b'\n').count();
                return Err(SecretsFault::Comment { line });
            }
        }
    }
    whole_file::into_text(stripped).map_err(SecretsFault::Read)
}

/// Describes a syntax error without the parser's own words, which could hold parts of the file one day.
fn syntax_of(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => "the text ends too early",
        _ => "a syntax error (a missing or surplus comma, quote or bracket?)",
    }
}

#[cfg(test)]
mod tests;
