//! A JSON file of keys: an array of entries, comments allowed, one of which may hold the defaults of the others.
//!
//! Invariant: as of `secrets.json`, all mistakes are reported together and none holds a value of the file.

use std::fmt;
use std::sync::Arc;

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::collected::CollectedKeys;
use super::entry::{DEFAULTS, KeyEntry, KeyEntryReader};
use super::error::{ApiKeysFault, Mistakes};
use super::keys::{ApiKey, ApiKeys, KEYS_MAX, LoadedKeys};
use super::policy::KeyPolicy;
use crate::credentials::commented_json::{JsonKind, document, elements, fields, strip_comments, text_of};

const FORM: &str = "{\"name\": …, \"key\": …}";

/// Reads the text of a file that begins with an array.
///
/// # Errors
/// It is no JSON, or holds mistakes.
pub fn from_json(text: &str) -> Result<LoadedKeys, ApiKeysFault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let bare = strip_comments(text)?;
    if bare.trim_start().starts_with('#') {
        let line = 1 + lines_in(&bare[..bare.len() - bare.trim_start().len()]);
        let mistake = format!("line {line}: expected a comment that begins with //, as in JSON with comments");
        return Err(ApiKeysFault::Mistakes(vec![mistake]));
    }
    let values = entries(&bare)?;
    let mut mistakes = Mistakes::default();
    let entries = read_entries(&bare, &values, &mut mistakes);
    let defaults = defaults(&entries, &mut mistakes);
    let can_compare = mistakes.is_empty();
    let mut collected = CollectedKeys::new(mistakes);
    for (place, entry) in entries {
        let Some((digest, bytes)) = entry.key else { continue };
        // What the same name may do can only be compared where the defaults are known.
        let policy = match can_compare && !entry.own.is_empty() {
            true => Arc::new(entry.own.completed(&defaults)),
            false => defaults.clone(),
        };
        collected.add(place, ApiKey { name: entry.name.into(), bytes, digest, policy });
    }
    collected.finish(FORM).map_err(ApiKeysFault::Mistakes)
}

/// Parses a text without comments into its entries.
///
/// # Errors
/// It is no array, or one of too many.
pub fn entries(bare: &str) -> Result<Vec<&RawValue>, ApiKeysFault> {
    let document = document(bare)?;
    let wrong = |form: String| ApiKeysFault::Mistakes(vec![form]);
    let values = elements(document).ok_or_else(|| {
        let kind = JsonKind::of(document);
        wrong(format!("expected an array of keys, [{{…}}, …], or lines of name:key, found {kind}"))
    })?;
    // One more for the defaults.
    if values.len() > KEYS_MAX + 1 {
        return Err(wrong(format!("expected 1 to {KEYS_MAX} keys, found {}", values.len())));
    }
    Ok(values)
}

/// Returns the first key that is written as it is.
pub fn first_key(text: &str, keys: &ApiKeys) -> Option<Zeroizing<String>> {
    let bare = strip_comments(text.strip_prefix('\u{feff}').unwrap_or(text)).ok()?;
    let values = entries(&bare).ok()?;
    let shown = values.into_iter().filter_map(|value| {
        let (_, key) = fields(value)?.into_iter().find(|(name, _)| name == "key")?;
        text_of(key)
    });
    shown.into_iter().find(|key| keys.find(key.as_bytes()).is_some())
}

/// The place of an entry.
#[derive(Clone, Copy)]
struct EntryPlace {
    index: usize,
    line: usize,
}

impl fmt::Display for EntryPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "entry [{}] (line {})", self.index, self.line)
    }
}

fn read_entries(bare: &str, values: &[&RawValue], mistakes: &mut Mistakes) -> Vec<(EntryPlace, KeyEntry)> {
    let mut entries = Vec::with_capacity(values.len());
    let (mut line, mut counted_to) = (1, 0);
    for (index, value) in values.iter().enumerate() {
        let begin = offset(bare, value);
        line += lines_in(&bare[counted_to..begin]);
        counted_to = begin;
        let place = |of: &RawValue| {
            let line = line + lines_in(&bare[begin..offset(bare, of).max(begin)]);
            EntryPlace { index, line }.to_string()
        };
        let entry = KeyEntryReader { mistakes, place: &place }.read(value);
        entries.extend(entry.map(|entry| (EntryPlace { index, line }, entry)));
    }
    entries
}

/// Finds the defaults, of which there may be one entry.
fn defaults(entries: &[(EntryPlace, KeyEntry)], mistakes: &mut Mistakes) -> Arc<KeyPolicy> {
    let mut all = entries.iter().filter(|(_, entry)| entry.name == DEFAULTS);
    let first = all.next();
    for (place, _) in all {
        mistakes
            .note(|| format!("{place}, \"name\": expected one entry \"{DEFAULTS}\" with the defaults, found another"));
    }
    first.map_or_else(Arc::default, |(_, entry)| Arc::new(entry.own.completed(&KeyPolicy::default())))
}

/// Returns where in `text` a value begins that was parsed from it.
fn offset(text: &str, value: &RawValue) -> usize {
    let offset = value.get().as_ptr().addr().wrapping_sub(text.as_ptr().addr());
    offset.min(text.len())
}

fn lines_in(text: &str) -> usize {
    memchr::memchr_iter(b'\n', text.as_bytes()).count()
}
