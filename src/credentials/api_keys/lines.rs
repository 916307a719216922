//! The plain form of keys: `name:key`, one a line, or with commas between them.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::collected::CollectedKeys;
use super::error::Mistakes;
use super::form::{is_key, is_name, key_form, name_form};
use super::key_digest::KeyDigest;
use super::keys::{ApiKey, ApiKeys, LoadedKeys};
use super::policy::KeyPolicy;

/// Begins a line that is skipped.
const COMMENT: char = '#';
const FORM: &str = "name:key";

impl ApiKeys {
    /// Reads lines of `name:key`; empty ones and those that begin with `#` are skipped.
    ///
    /// # Errors
    /// Every mistake of the text.
    pub fn from_lines(text: &str) -> Result<LoadedKeys, Vec<String>> {
        read_entries("line", trimmed_lines(text).enumerate().filter(|(_, line)| !line.starts_with(COMMENT)))
    }

    /// Reads `name:key,name:key`.
    ///
    /// # Errors
    /// Every mistake of the text.
    pub fn from_list(text: &str) -> Result<LoadedKeys, Vec<String>> {
        read_entries("entry", text.split(',').map(str::trim).enumerate())
    }
}

/// Rewrites lines of `name:key` as a JSON array with a line each; the keys stay as they are.
///
/// # Errors
/// As [`ApiKeys::from_lines`].
pub fn as_json(text: &str) -> Result<Zeroizing<String>, Vec<String>> {
    let left = ApiKeys::from_lines(text)?.keys.len();
    // More than they can grow by, so that no copy stays behind.
    let mut json = Zeroizing::new(String::with_capacity(2 * text.len() + 64 * (left + text.lines().count())));
    json.push_str("[\n");
    let mut left = left;
    for line in trimmed_lines(text) {
        if let Some(comment) = line.strip_prefix(COMMENT) {
            json.push_str(&format!("  //{comment}\n"));
        } else if let Some((name, key)) = line.split_once(':') {
            left -= 1;
            let key = Zeroizing::new(serde_json::Value::from(key.trim_start()).to_string());
            for part in ["  {\"name\": \"", name.trim_end(), "\", \"key\": ", &key, "}"] {
                json.push_str(part);
            }
            json.push_str(if left > 0 { ",\n" } else { "\n" });
        } else {
            json.push('\n');
        }
    }
    json.push_str("]\n");
    Ok(json)
}

/// Returns the first key of lines or a list that is among `keys`.
pub fn first_key(text: &str, keys: &ApiKeys) -> Option<Zeroizing<String>> {
    let shown = text.split(['\n', ',']).filter_map(|entry| Some(entry.split_once(':')?.1.trim()));
    shown.filter(|key| keys.find(key.as_bytes()).is_some()).map(|key| Zeroizing::new(key.to_owned())).next()
}

fn trimmed_lines(text: &str) -> impl Iterator<Item = &str> {
    text.strip_prefix('\u{feff}').unwrap_or(text).lines().map(str::trim)
}

/// Reads entries that are numbered from 0; `unit` is the word for them in messages, which count from 1.
fn read_entries<'a>(
    unit: &'static str,
    entries: impl Iterator<Item = (usize, &'a str)>,
) -> Result<LoadedKeys, Vec<String>> {
    let policy = Arc::default();
    let mut collected = CollectedKeys::new(Mistakes::default());
    for (index, entry) in entries.filter(|(_, entry)| !entry.is_empty()) {
        let place = format!("{unit} {}", index + 1);
        match read_entry(entry, &policy) {
            Err(expected) => collected.mistakes.note(|| format!("{place}: {expected}")),
            Ok(key) => collected.add(place, key),
        }
    }
    collected.finish(FORM)
}

fn read_entry(entry: &str, policy: &Arc<KeyPolicy>) -> Result<ApiKey, String> {
    let (name, key) = entry.split_once(':').ok_or("expected name:key, found no colon")?;
    let (name, key) = (name.trim_end(), key.trim_start());
    if !is_name(name) {
        return Err(format!("expected {} before the colon", name_form()));
    }
    if !is_key(key) {
        return Err(format!("expected {} after the colon", key_form()));
    }
    let digest = KeyDigest::of(key.as_bytes());
    Ok(ApiKey { name: name.into(), bytes: Some(key.len()), digest, policy: policy.clone() })
}
