//! The API keys that callers must present, each with a name for the log and what it may do.
//!
//! A file has `name:key` lines (`lines`) or a JSON array (`document`) of entries (`entry`); both forms share the form of
//! names and keys (`form`), limits (`limit_field`) and the rules between keys (`collected`). The result is `keys` by
//! their `key_digest`, each with its `policy`. `error` says why not, `writing` adds an entry to a file. Not here: how
//! limits are kept.

mod collected;
mod document;
mod entry;
mod error;
mod form;
mod key_digest;
mod keys;
mod limit_field;
mod lines;
mod policy;
mod writing;

use std::fs::Metadata;
use std::path::Path;

use zeroize::Zeroizing;

use self::form::KeysForm;
use super::private_file;
use super::secret::Secret;
use crate::whole_file::{FileKinds, ReadFault};

pub use error::{ApiKeysFault, ApiKeysFileError};
pub use form::{API_KEY_BYTES_MAX, credential_form, is_credential, is_model, is_name, model_form, name_form};
pub use keys::{ApiKeyId, ApiKeys, LoadedKeys};
pub use limit_field::LimitField;
pub use lines::as_json;
pub use policy::{KeyLimits, KeyPolicy, ModelPattern};
pub use writing::{NEW_KEY_PREFIX, NEW_KEY_SUFFIX_BYTES, NewPermissions, UnaddedKey, add_key, new_key};

/// Limit on the size of a file: room for as many keys as there may be, each with limits and lists.
const FILE_BYTES_MAX: usize = 32 * 1024 * 1024;

impl ApiKeys {
    /// Reads a file of keys, in either form.
    ///
    /// # Errors
    /// When it cannot be read or has mistakes; the error names the path.
    pub fn load(path: &Path, kinds: FileKinds) -> Result<LoadedKeys, ApiKeysFileError> {
        let failed = |fault| ApiKeysFileError { path: path.to_owned(), fault };
        let (text, metadata) = read_keys(path, kinds).map_err(|fault| failed(fault.into()))?;
        let mut loaded = ApiKeys::from_text(&text).map_err(failed)?;
        loaded.warnings.splice(..0, private_file::exposure_warning(path, &metadata, "every API key"));
        Ok(loaded)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// It is no JSON where it begins like that, or has mistakes.
    pub fn from_text(text: &str) -> Result<LoadedKeys, ApiKeysFault> {
        match KeysForm::of(text) {
            KeysForm::Json => document::from_json(text),
            KeysForm::Lines => ApiKeys::from_lines(text).map_err(ApiKeysFault::Mistakes),
        }
    }

    /// As [`ApiKeys::first_plain`], of a file.
    ///
    /// # Errors
    /// It cannot be read any more, as where it is a pipe.
    pub fn first_plain_of(&self, path: &Path, kinds: FileKinds) -> Result<Option<Secret>, ReadFault> {
        Ok(self.first_plain(&read_keys(path, kinds)?.0))
    }

    /// Returns the first key that a text in one of the forms, or a list with commas, has as it is: of hashed ones
    /// nobody can show any. `self` was read from that text.
    pub fn first_plain(&self, text: &str) -> Option<Secret> {
        let first = match KeysForm::of(text) {
            KeysForm::Json => document::first_key(text, self),
            KeysForm::Lines => lines::first_key(text, self),
        };
        first.map(Secret::from)
    }
}

/// Reads the text of a file of keys.
///
/// # Errors
/// As [`private_file::read`].
pub fn read_keys(path: &Path, kinds: FileKinds) -> Result<(Zeroizing<String>, Metadata), ReadFault> {
    private_file::read_up_to(path, FILE_BYTES_MAX, kinds)
}

#[cfg(test)]
mod tests;
