//! The text of a JSON file of keys: one with a new key, of which it has the digest alone.
//!
//! Invariant: an existing text stays as it is, byte for byte, but for what is added.

use std::fmt;

use aws_lc_rs::rand;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::document::{entries, from_json};
use super::error::ApiKeysFault;
use super::form::KeysForm;
use super::key_digest::KeyDigest;
use super::limit_field::LimitField;
use super::policy::KeyPolicy;
use crate::credentials::commented_json::{fields, strip_comments, text_of};
use crate::credentials::secret::Secret;

/// Begins a key that was made here, by which people and scanners of secrets know it.
pub const NEW_KEY_PREFIX: &str = "fu-";
/// 256 bits, which nobody guesses.
const NEW_KEY_RANDOM_BYTES: usize = 32;
/// The length of the base64 without padding of so many bytes (RFC 4648 §5).
pub const NEW_KEY_SUFFIX_BYTES: usize = (NEW_KEY_RANDOM_BYTES * 4).div_ceil(3);
/// The fields of an entry by which two of one name must be the same.
const PERMISSIONS: [&str; 3] = ["limits", "models", "credentials"];

/// The permissions of a new key.
pub enum NewPermissions<'a> {
    Stated(&'a KeyPolicy),
    /// Those of the key of the same name that it replaces.
    OfSameName,
}

/// The reason why a key cannot be added.
#[derive(Debug)]
pub enum UnaddedKey {
    /// The file has lines, which cannot hold a digest.
    Lines,
    NameTaken,
    NameUnknown,
    /// The file is not valid, or would not be any more.
    NotValid(ApiKeysFault),
}

/// Makes a key; `None` where the system gives no random bytes.
pub fn new_key() -> Option<Secret> {
    let mut bytes = Zeroizing::new([0; NEW_KEY_RANDOM_BYTES]);
    rand::fill(&mut *bytes).ok()?;
    let random = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(*bytes));
    Some(Secret::new([NEW_KEY_PREFIX, &random].concat()))
}

/// Returns the text of a file with one more key; `text` is that of the file, if there is one.
///
/// # Errors
/// See [`UnaddedKey`].
pub fn add_key(
    text: Option<&str>,
    name: &str,
    key: &Secret,
    permissions: NewPermissions<'_>,
) -> Result<Zeroizing<String>, UnaddedKey> {
    let digest = KeyDigest::of(key.expose().as_bytes());
    let (mark, body) = match text {
        Some(text) => text.split_at(text.len() - text.strip_prefix('\u{feff}').unwrap_or(text).len()),
        None => ("", ""),
    };
    if !body.trim().is_empty() && KeysForm::of(body) == KeysForm::Lines {
        return Err(UnaddedKey::Lines);
    }
    let body = if body.trim().is_empty() { "[\n]\n" } else { body };
    // As long as it was, since comments become spaces.
    let bare = strip_comments(body)?;
    let values = entries(&bare)?;
    let same = values.iter().find(|value| name_of(value).is_some_and(|known| *known == name));
    let fields = match (permissions, same) {
        (NewPermissions::Stated(_), Some(_)) => return Err(UnaddedKey::NameTaken),
        (NewPermissions::OfSameName, None) => return Err(UnaddedKey::NameUnknown),
        (NewPermissions::Stated(policy), None) => stated(policy),
        (NewPermissions::OfSameName, Some(same)) => copied(same),
    };
    let entry = format!("  {{\"name\": \"{name}\", \"key_sha256\": \"{}\"{fields}}}", digest.to_hex());
    // An array ends with its bracket.
    let end = bare.trim_end().len() - 1;
    let end_of_last = bare[..end].trim_end().len();
    let comma = if values.is_empty() { "" } else { "," };
    let (kept, after_last) = (&body[..end_of_last], body[end_of_last..end].trim_end());
    let extended = Zeroizing::new(format!("{mark}{kept}{comma}{after_last}\n{entry}\n{}", &body[end..]));
    from_json(&extended)?;
    Ok(extended)
}

fn name_of(entry: &RawValue) -> Option<Zeroizing<String>> {
    let fields = fields(entry)?;
    text_of(fields.iter().find(|(name, _)| name == "name")?.1)
}

/// Writes the permissions as fields of an entry that follow others.
fn stated(policy: &KeyPolicy) -> String {
    let limits = LimitField::ALL.into_iter().filter_map(|field| Some((field.name(), field.written(&policy.limits)?)));
    let limits: Vec<String> = limits.map(|(name, limit)| format!("\"{name}\": {limit}")).collect();
    let list = |names: Vec<&str>| Value::from(names).to_string();
    let models = policy.models.as_ref().map(|models| list(models.iter().map(|model| model.text()).collect()));
    let credentials = policy.credentials.as_ref();
    let credentials = credentials.map(|names| list(names.iter().map(String::as_str).collect()));
    let limits = (!limits.is_empty()).then(|| format!("{{{}}}", limits.join(", ")));
    let written = PERMISSIONS.into_iter().zip([limits, models, credentials]);
    written.filter_map(|(name, value)| Some(format!(", \"{name}\": {}", value?))).collect()
}

/// Writes the permissions that another entry has, so that defaults go on to hold for both.
fn copied(entry: &RawValue) -> String {
    let fields = fields(entry).unwrap_or_default();
    let permissions = fields.iter().filter(|(name, _)| PERMISSIONS.contains(&name.as_ref()));
    let on_a_line = |value: &RawValue| {
        let parsed: Result<Value, _> = serde_json::from_str(value.get());
        parsed.map_or_else(|_| value.get().to_owned(), |value| value.to_string())
    };
    permissions.map(|(name, value)| format!(", \"{name}\": {}", on_a_line(value))).collect()
}

impl UnaddedKey {
    /// The file has lines with mistakes.
    pub fn of_lines(mistakes: Vec<String>) -> Self {
        UnaddedKey::NotValid(ApiKeysFault::Mistakes(mistakes))
    }
}

impl<T: Into<ApiKeysFault>> From<T> for UnaddedKey {
    fn from(fault: T) -> Self {
        UnaddedKey::NotValid(fault.into())
    }
}

impl fmt::Display for UnaddedKey {
    /// Writes the end of a sentence that begins with the file.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnaddedKey::Lines => formatter.write_str(
                "has lines of name:key, which hold neither hashes nor limits: add --convert to rewrite it as JSON, \
                 with the same keys, or name another --api-keys-file",
            ),
            UnaddedKey::NameTaken => formatter.write_str(
                "has a key of that name: choose another name, or add --another for a second key that is to replace it",
            ),
            UnaddedKey::NameUnknown => {
                formatter.write_str("has no key of that name: leave --another out for the first one")
            }
            UnaddedKey::NotValid(fault) => fault.fmt(formatter),
        }
    }
}
