//! `secrets.json`: a JSON array of credentials, comments allowed.
//!
//! Invariant: all mistakes of a file are reported together, each by index, field and expectation, and nothing that is
//! reported, from here or from a parser below, holds a value of the file.

mod entry;
mod error;
mod writing;

use std::path::Path;

use self::entry::read_entries;
use super::commented_json::{JsonKind, document, elements, strip_comments};
use super::private_file;
use super::snapshot::ENTRIES_MAX;
use crate::whole_file::FileKinds;

pub use entry::LoadedCredentials;
pub use error::{SecretsFault, SecretsFileError, SecretsMistake};
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
    let document = document(&text)?;
    let Some(values) = elements(document) else {
        let form = format!("expected an array of credentials, [{{…}}, …], found {}", JsonKind::of(document));
        return Err(SecretsFault::Mistakes(vec![SecretsMistake::whole_file(form)]));
    };
    if values.is_empty() || values.len() > ENTRIES_MAX {
        let form = format!("expected 1 to {ENTRIES_MAX} credentials, found {}", values.len());
        return Err(SecretsFault::Mistakes(vec![SecretsMistake::whole_file(form)]));
    }
    read_entries(&values)
}

#[cfg(test)]
mod tests;
