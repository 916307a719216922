//! One entry of a JSON file of keys: from a JSON value to a name, a key and what the entry itself says of it.
//!
//! Invariant: every mistake of an entry is noted, by its place and its field, and none holds a value of the file.

use serde_json::value::RawValue;

use super::error::Mistakes;
use super::form::{
    API_KEY_BYTES_MAX, credential_form, is_credential, is_key, is_model, is_name, key_form, model_form, name_form,
};
use super::key_digest::KeyDigest;
use super::limit_field::LimitField;
use super::policy::{KeyLimits, KeyPolicy, ModelPattern};
use crate::credentials::commented_json::{JsonField, JsonKind, elements, fields, found, text_of};

/// The name of the entry with the defaults.
pub const DEFAULTS: &str = "*";
/// Limits on the lists of one key, far above what anybody writes by hand.
const MODELS_MAX: usize = 100;
const CREDENTIALS_MAX: usize = 512;
/// The changes of letters within which a name counts as a slip of another one.
const SLIP_MAX: usize = 2;
/// The longest name that is looked at for a slip.
const SLIP_BYTES_MAX: usize = 32;

const KNOWN_FIELDS: [&str; 6] = ["name", "key", "key_sha256", "limits", "models", "credentials"];

/// An entry without a mistake.
pub struct KeyEntry {
    pub name: String,
    /// The digest and, where it is known, the length; `None` of the entry with the defaults.
    pub key: Option<(KeyDigest, Option<usize>)>,
    pub own: OwnPolicy,
}

/// The permissions that an entry itself states.
#[derive(Default)]
pub struct OwnPolicy {
    limits: KeyLimits,
    /// The limits that it lifts.
    lifted: Vec<LimitField>,
    models: Stated<Vec<ModelPattern>>,
    credentials: Stated<Vec<String>>,
}

/// The value that an entry states for something.
#[derive(Default)]
enum Stated<T> {
    #[default]
    Nothing,
    /// `null`: there is none, whatever the default is.
    Lifted,
    Value(T),
}

impl OwnPolicy {
    /// Tells whether the entry leaves everything to the defaults.
    pub fn is_empty(&self) -> bool {
        let says_nothing = matches!((&self.models, &self.credentials), (Stated::Nothing, Stated::Nothing));
        says_nothing && self.lifted.is_empty() && self.limits == KeyLimits::default()
    }

    /// Completes it by the defaults, each limit by itself.
    pub fn completed(&self, defaults: &KeyPolicy) -> KeyPolicy {
        let mut limits = self.limits;
        for field in LimitField::ALL {
            if field.written(&limits).is_none() && !self.lifted.contains(&field) {
                field.copy(&defaults.limits, &mut limits);
            }
        }
        let (models, credentials) = (&defaults.models, &defaults.credentials);
        KeyPolicy { limits, models: self.models.or(models), credentials: self.credentials.or(credentials) }
    }
}

impl<T: Clone> Stated<T> {
    fn or(&self, default: &Option<T>) -> Option<T> {
        match self {
            Stated::Nothing => default.clone(),
            Stated::Lifted => None,
            Stated::Value(value) => Some(value.clone()),
        }
    }
}

/// Reads one object and notes its mistakes.
pub struct KeyEntryReader<'a> {
    pub mistakes: &'a mut Mistakes,
    /// Describes the place of a value, which stands in the entry.
    pub place: &'a dyn Fn(&RawValue) -> String,
}

impl KeyEntryReader<'_> {
    /// Reads an entry; `None` where it has a mistake.
    pub fn read(&mut self, value: &RawValue) -> Option<KeyEntry> {
        let Some(fields) = fields(value) else {
            self.mistake(value, "", || format!("expected an object, {{…}}, found {}", found(value, JsonKind::Object)));
            return None;
        };
        let are_known = self.check_fields(value, &fields, "", &KNOWN_FIELDS);
        let field = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| *value);
        let name = self.name(value, field("name"));
        let key = match &name {
            Some(name) if name == DEFAULTS => self.no_key(field("key").or(field("key_sha256"))),
            _ => self.key(value, field("key"), field("key_sha256")).map(Some),
        };
        let own = self.own_policy(field("limits"), field("models"), field("credentials"));
        let (name, key, own) = (name?, key?, own?);
        are_known.then_some(KeyEntry { name, key, own })
    }

    /// Notes fields that are unknown or there twice: the other one of two would be without effect.
    fn check_fields(&mut self, object: &RawValue, fields: &[JsonField<'_>], within: &str, known: &[&str]) -> bool {
        let mut is_good = true;
        for (index, (name, value)) in fields.iter().enumerate() {
            if !known.contains(&name.as_ref()) {
                is_good = false;
                // One that is no slip may be anything, a key too.
                let list = || known.join(", ");
                match known.iter().find(|known| is_slip(name, known)) {
                    Some(meant) => {
                        let expected = format!("unknown; did you mean \"{meant}\"? Known are {}", list());
                        self.mistake(value, &format!("{within}{name}"), || expected);
                    }
                    None => self.mistake(value, within.trim_end_matches('.'), || {
                        format!("field number {} is unknown; known are {}", index + 1, list())
                    }),
                }
            } else if fields[..index].iter().any(|(other, _)| other == name) {
                is_good = false;
                self.mistake(object, &format!("{within}{name}"), || "expected it once, found it twice".into());
            }
        }
        is_good
    }

    fn name(&mut self, entry: &RawValue, value: Option<&RawValue>) -> Option<String> {
        let form = || format!("expected {}, or \"{DEFAULTS}\" for the defaults", name_form());
        let Some(value) = value else {
            self.mistake(entry, "name", || format!("{}, found none", form()));
            return None;
        };
        match text_of(value) {
            Some(text) if is_name(&text) || *text == DEFAULTS => Some(text.to_string()),
            Some(_) => self.refuse(value, "name", form),
            None => self.refuse(value, "name", || format!("{}, found {}", form(), found(value, JsonKind::String))),
        }
    }

    fn no_key(&mut self, value: Option<&RawValue>) -> Option<Option<(KeyDigest, Option<usize>)>> {
        match value {
            None => Some(None),
            Some(value) => self.refuse(value, "key", || "expected none: the entry \"*\" holds the defaults".into()),
        }
    }

    fn key(
        &mut self,
        entry: &RawValue,
        plain: Option<&RawValue>,
        hashed: Option<&RawValue>,
    ) -> Option<(KeyDigest, Option<usize>)> {
        match (plain, hashed) {
            (Some(value), None) => match text_of(value).filter(|text| is_key(text)) {
                Some(text) => Some((KeyDigest::of(text.as_bytes()), Some(text.len()))),
                None => self.refuse(value, "key", || format!("expected {}", key_form())),
            },
            (None, Some(value)) => {
                let digest = text_of(value).and_then(|text| KeyDigest::from_hex(&text));
                match digest {
                    // An empty field would open the door.
                    Some(digest) if digest == KeyDigest::of(b"") => self
                        .refuse(value, "key_sha256", || "expected the SHA-256 of a key, found that of nothing".into()),
                    Some(digest) => Some((digest, None)),
                    None => self.refuse(value, "key_sha256", || {
                        format!(
                            "expected the SHA-256 of a key of at most {API_KEY_BYTES_MAX} bytes, 64 hexadecimal digits"
                        )
                    }),
                }
            }
            (None, None) => {
                self.refuse(entry, "key", || "expected a key, or its SHA-256 as key_sha256, found none".into())
            }
            (Some(_), Some(value)) => self
                .refuse(value, "key_sha256", || "expected key or key_sha256, found both: leave one of them out".into()),
        }
    }

    fn own_policy(
        &mut self,
        limits: Option<&RawValue>,
        models: Option<&RawValue>,
        credentials: Option<&RawValue>,
    ) -> Option<OwnPolicy> {
        let mut own = OwnPolicy::default();
        let are_limits = limits.is_none_or(|value| self.limits(value, &mut own));
        let models = self.list(models, "models", MODELS_MAX, is_model, model_form, "any model");
        let credentials =
            self.list(credentials, "credentials", CREDENTIALS_MAX, is_credential, credential_form, "all of them");
        own.models = match models? {
            Stated::Value(names) => Stated::Value(names.into_iter().map(ModelPattern::new).collect()),
            Stated::Lifted => Stated::Lifted,
            Stated::Nothing => Stated::Nothing,
        };
        own.credentials = credentials?;
        are_limits.then_some(own)
    }

    /// Reads the limits; returns false where there is a mistake.
    fn limits(&mut self, value: &RawValue, own: &mut OwnPolicy) -> bool {
        if JsonKind::of(value) == JsonKind::Null {
            own.lifted = LimitField::ALL.to_vec();
            return true;
        }
        let Some(fields) = fields(value) else {
            let what = || format!("expected an object, {{…}}, or null for no limits, found {}", JsonKind::of(value));
            self.mistake(value, "limits", what);
            return false;
        };
        let mut is_good = self.check_fields(value, &fields, "limits.", &LimitField::ALL.map(LimitField::name));
        for (name, value) in &fields {
            let Some(field) = LimitField::ALL.into_iter().find(|field| field.name() == name) else { continue };
            let kind = JsonKind::of(value);
            if kind == JsonKind::Null {
                own.lifted.push(field);
            } else if !field.read(value.get(), &mut own.limits) {
                is_good = false;
                let other = if kind == JsonKind::Number { String::new() } else { format!(", found {kind}") };
                let expected = format!("expected {}, or null for no limit{other}", field.form());
                self.mistake(value, &format!("limits.{name}"), || expected);
            }
        }
        is_good
    }

    /// Reads a list of names; `None` where there is a mistake. `none` is what `null` stands for.
    fn list(
        &mut self,
        value: Option<&RawValue>,
        field: &str,
        most: usize,
        is_good: impl Fn(&str) -> bool,
        form: impl Fn() -> String,
        none: &str,
    ) -> Option<Stated<Vec<String>>> {
        let Some(value) = value else { return Some(Stated::Nothing) };
        let kind = JsonKind::of(value);
        if kind == JsonKind::Null {
            return Some(Stated::Lifted);
        }
        let Some(names) = elements(value) else {
            return self
                .refuse(value, field, || format!("expected a list of names, […], or null for {none}, found {kind}"));
        };
        if !(1..=most).contains(&names.len()) {
            let count = names.len();
            return self
                .refuse(value, field, || format!("expected 1 to {most} names, or null for {none}, found {count}"));
        }
        let mut texts = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            match text_of(name).filter(|text| is_good(text)) {
                Some(text) => texts.push(text.to_string()),
                None => self.mistake(name, &format!("{field}[{index}]"), || format!("expected {}", form())),
            }
        }
        (texts.len() == names.len()).then_some(Stated::Value(texts))
    }

    fn refuse<T>(&mut self, value: &RawValue, field: &str, expected: impl FnOnce() -> String) -> Option<T> {
        self.mistake(value, field, expected);
        None
    }

    fn mistake(&mut self, value: &RawValue, field: &str, expected: impl FnOnce() -> String) {
        let place = self.place;
        self.mistakes.note(|| {
            let field = if field.is_empty() { String::new() } else { format!(", \"{field}\"") };
            format!("{}{field}: {}", place(value), expected())
        });
    }
}

/// Tells whether a name is another one with a slip: in other letters' case, with other signs between its words, or with
/// up to [`SLIP_MAX`] letters changed, added or left out.
fn is_slip(written: &str, meant: &str) -> bool {
    if written.len() > SLIP_BYTES_MAX {
        return false;
    }
    let bare = |text: &str| -> Vec<char> {
        let letters = text.chars().filter(|letter| letter.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect()
    };
    let (written, meant) = (bare(written), bare(meant));
    // One row of the table of distances between their beginnings (Levenshtein).
    let mut distances: Vec<usize> = (0..=meant.len()).collect();
    for (row, letter) in written.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut distances[0], row + 1);
        for (column, other) in meant.iter().enumerate() {
            let changed = diagonal + usize::from(letter != other);
            diagonal = distances[column + 1];
            distances[column + 1] = changed.min(diagonal + 1).min(distances[column] + 1);
        }
    }
    // Of a short name two changes leave little.
    distances[meant.len()] <= SLIP_MAX.min(meant.len() / 3)
}
