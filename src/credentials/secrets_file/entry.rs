//! The entries of a secrets file: from JSON values to credentials.
//!
//! Invariant: a wrong entry is noted and the next one is read, so that all mistakes are found; values are borrowed from
//! the text until they are secrets, so that no copy stays behind that is not erased.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::error::{SecretsFault, SecretsMistake};
use crate::credentials::commented_json::{JsonKind, fields, found, text_of};
use crate::credentials::credential::Credential;
use crate::credentials::secret::Secret;
use crate::credentials::snapshot::Credentials;

const WEIGHT_MAX: u16 = 1000;
/// Limit on the unknown fields that the one warning names.
const UNKNOWN_FIELDS_NAMED_MAX: usize = 8;
/// Number of characters of a `clientId` in the name of an entry that has none.
const NAME_FROM_CLIENT_ID_CHARS: usize = 8;

const KNOWN_FIELDS: [&str; 7] = ["clientId", "clientSecret", "tenant", "name", "agent", "appToAccess", "weight"];

/// The content of a secrets file.
#[derive(Debug)]
pub struct LoadedCredentials {
    pub credentials: Credentials,
    /// Warnings for the operator: that others can read the file, which fields are ignored.
    pub warnings: Vec<String>,
}

/// Reads all entries of the array.
pub(super) fn read_entries(values: &[&RawValue]) -> Result<LoadedCredentials, SecretsFault> {
    let mut entries = Vec::with_capacity(values.len());
    let mut mistakes = Vec::new();
    let mut unknown_fields = BTreeSet::new();
    let mut taken_names = HashSet::new();
    for (index, value) in values.iter().enumerate() {
        let mut entry = EntryReader { index, fields: BTreeMap::new(), mistakes: &mut mistakes };
        match fields(value) {
            Some(fields) => entry.fields = fields.into_iter().collect(),
            // It is JSON, or the file would not have been read so far.
            None => {
                entry.mistake(None, format!("expected an object, {{…}}, found {}", found(value, JsonKind::Object)));
                continue;
            }
        }
        let unknown = entry.fields.keys().filter(|field| !KNOWN_FIELDS.contains(&field.as_ref()));
        unknown_fields.extend(unknown.map(|field| field.clone().into_owned()));
        if let Some(mut credential) = entry.read() {
            credential.name = unique_name(credential.name, &mut taken_names);
            entries.push(credential);
        }
    }
    if mistakes.is_empty() {
        let warnings = unknown_fields_warning(&unknown_fields).into_iter().collect();
        Ok(LoadedCredentials { credentials: Credentials::new(entries), warnings })
    } else {
        Err(SecretsFault::Mistakes(mistakes))
    }
}

/// Reads one object and notes its mistakes.
struct EntryReader<'a> {
    index: usize,
    fields: BTreeMap<Cow<'a, str>, &'a RawValue>,
    mistakes: &'a mut Vec<SecretsMistake>,
}

impl EntryReader<'_> {
    fn read(mut self) -> Option<Credential> {
        let client_id = self.required("clientId");
        let client_secret = self.required("clientSecret").map(Secret::from);
        let tenant = self.required("tenant");
        let name = self.optional("name");
        // Checked for form only: the upstream's tools use them, the token does not.
        self.optional("agent");
        self.optional("appToAccess");
        let weight = self.weight();
        let (client_id, client_secret, tenant, weight) = (client_id?, client_secret?, tenant?, weight?);
        let (client_id, tenant) = (client_id.to_string(), tenant.to_string());
        let name = name.unwrap_or_else(|| default_name(&client_id));
        Some(Credential { name, client_id, client_secret, tenant, weight })
    }

    fn required(&mut self, field: &'static str) -> Option<Zeroizing<String>> {
        let found = match self.fields.remove(field) {
            None => "none".to_owned(),
            Some(value) => match text_of(value) {
                Some(text) if !text.trim().is_empty() => return Some(text),
                Some(_) => "a blank one".to_owned(),
                None => found(value, JsonKind::String),
            },
        };
        self.mistake(Some(field), format!("expected a non-blank string, found {found}"));
        None
    }

    /// Reads a field that may be missing; a blank string or `null` counts as missing.
    fn optional(&mut self, field: &'static str) -> Option<String> {
        let value = self.fields.remove(field).filter(|value| JsonKind::of(value) != JsonKind::Null)?;
        match text_of(value) {
            Some(text) if text.chars().any(char::is_control) => {
                self.mistake(Some(field), "expected a string without control characters".into());
                None
            }
            Some(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            None => {
                self.mistake(Some(field), format!("expected a string, found {}", found(value, JsonKind::String)));
                None
            }
        }
    }

    fn weight(&mut self) -> Option<u16> {
        let Some(value) = self.fields.remove("weight") else { return Some(1) };
        if JsonKind::of(value) == JsonKind::Null {
            return Some(1);
        }
        let weight = value.get().parse().ok().filter(|weight| (1..=WEIGHT_MAX).contains(weight));
        if weight.is_none() {
            self.mistake(Some("weight"), format!("expected a whole number from 1 to {WEIGHT_MAX}"));
        }
        weight
    }

    fn mistake(&mut self, field: Option<&'static str>, expected: String) {
        self.mistakes.push(SecretsMistake { index: Some(self.index), field, expected });
    }
}

fn default_name(client_id: &str) -> String {
    let printable = client_id.trim().chars().filter(|character| !character.is_control());
    format!("config-{}", printable.take(NAME_FROM_CLIENT_ID_CHARS).collect::<String>())
}

/// Returns the name itself, or with `#2`, `#3`, … if it is taken.
fn unique_name(name: String, taken: &mut HashSet<String>) -> String {
    let mut unique = name.clone();
    let mut number = 2;
    while !taken.insert(unique.clone()) {
        unique = format!("{name}#{number}");
        number += 1;
    }
    unique
}

fn unknown_fields_warning(fields: &BTreeSet<String>) -> Option<String> {
    if fields.is_empty() {
        return None;
    }
    // Quoted by `Debug`, which escapes what could fake a line of its own.
    let named: Vec<String> = fields.iter().take(UNKNOWN_FIELDS_NAMED_MAX).map(|field| format!("{field:?}")).collect();
    let more = if fields.len() > named.len() { ", …" } else { "" };
    Some(format!("the secrets file has unknown fields, which are ignored: {}{more}", named.join(", ")))
}
