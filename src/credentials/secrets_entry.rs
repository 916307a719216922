//! The entries of a secrets file: from JSON values to credentials.
//!
//! Invariant: a wrong entry is noted and the next one is read, so that all mistakes are found; values are moved out of
//! the JSON document, not copied, so that no second copy of a secret stays behind.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Map, Value};

use super::credential::Credential;
use super::secret::Secret;
use super::secrets_error::{SecretsFault, SecretsMistake};
use super::snapshot::Credentials;

const WEIGHT_MAX: u64 = 1000;
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
pub(super) fn read_entries(values: Vec<Value>) -> Result<LoadedCredentials, SecretsFault> {
    let mut entries = Vec::with_capacity(values.len());
    let mut mistakes = Vec::new();
    let mut unknown_fields = BTreeSet::new();
    let mut taken_names = HashSet::new();
    for (index, value) in values.into_iter().enumerate() {
        let mut entry = EntryReader { index, fields: Map::new(), mistakes: &mut mistakes };
        match value {
            Value::Object(fields) => entry.fields = fields,
            other => {
                entry.mistake(None, format!("expected an object, {{…}}, found {}", kind_of(&other)));
                continue;
            }
        }
        unknown_fields.extend(entry.fields.keys().filter(|field| !KNOWN_FIELDS.contains(&field.as_str())).cloned());
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
    fields: Map<String, Value>,
    mistakes: &'a mut Vec<SecretsMistake>,
}

impl EntryReader<'_> {
    fn read(mut self) -> Option<Credential> {
        let client_id = self.required("clientId");
        let client_secret = self.required("clientSecret").map(Secret::new);
        let tenant = self.required("tenant");
        let name = self.optional("name");
        // Checked for form only: the upstream's tools use them, the token does not.
        self.optional("agent");
        self.optional("appToAccess");
        let weight = self.weight();
        let (client_id, client_secret, tenant, weight) = (client_id?, client_secret?, tenant?, weight?);
        let name = name.unwrap_or_else(|| default_name(&client_id));
        Some(Credential { name, client_id, client_secret, tenant, weight })
    }

    fn required(&mut self, field: &'static str) -> Option<String> {
        let found = match self.fields.remove(field) {
            Some(Value::String(text)) if !text.trim().is_empty() => return Some(text),
            Some(Value::String(_)) => "a blank one",
            Some(other) => kind_of(&other),
            None => "none",
        };
        self.mistake(Some(field), format!("expected a non-blank string, found {found}"));
        None
    }

    /// Reads a field that may be missing; a blank string or `null` counts as missing.
    fn optional(&mut self, field: &'static str) -> Option<String> {
        match self.fields.remove(field) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.chars().any(char::is_control) => {
                self.mistake(Some(field), "expected a string without control characters".into());
                None
            }
            Some(Value::String(text)) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            Some(other) => {
                self.mistake(Some(field), format!("expected a string, found {}", kind_of(&other)));
                None
            }
        }
    }

    fn weight(&mut self) -> Option<u16> {
        let weight = match self.fields.remove("weight") {
            None | Some(Value::Null) => return Some(1),
            Some(Value::Number(number)) => number.as_u64().filter(|weight| (1..=WEIGHT_MAX).contains(weight)),
            Some(_) => None,
        };
        if weight.is_none() {
            self.mistake(Some("weight"), format!("expected a whole number from 1 to {WEIGHT_MAX}"));
        }
        weight.and_then(|weight| u16::try_from(weight).ok())
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

pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
