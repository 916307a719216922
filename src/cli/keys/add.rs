//! `flow-uring keys add`: a new key, of which the file gets the hash.

use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::args::KeysAddArgs;
use super::error::KeysError;
use crate::cli::args::UsageError;
use crate::cli::check::problems_of_key;
use crate::cli::private_write::{FormerFile, Target};
use crate::config::Config;
use crate::credentials::{
    ApiKeys, KeyLimits, KeyPolicy, LimitField, ModelPattern, NewPermissions, Secret, UnaddedKey, add_key, as_json,
    credential_form, is_credential, is_model, is_name, model_form, name_form, new_key, read_keys,
};
use crate::whole_file::FileKinds;

/// The times that a file which others make or replace at the same time is tried again.
const ATTEMPTS_MAX: usize = 20;

/// A key that was added.
pub struct AddedKey {
    pub key: Secret,
    /// For the user, beside the key.
    pub explanation: String,
    path: PathBuf,
    name: String,
}

impl AddedKey {
    /// The key could not be shown.
    pub fn not_shown(self, error: io::Error) -> KeysError {
        KeysError::NotShown { path: self.path, name: self.name, error }
    }
}

/// Returns the path of the file of keys.
///
/// # Errors
/// There is none.
pub fn path(config: &Config) -> Result<&Path, KeysError> {
    config.access.api_keys_file.as_deref().ok_or(KeysError::NoFile)
}

/// Makes a key, and writes the file.
///
/// # Errors
/// The file is as before.
pub fn add(config: &Config, args: &KeysAddArgs) -> Result<AddedKey, KeysError> {
    let policy = policy(args).map_err(|mistake| KeysError::Usage(UsageError::new(&mistake)))?;
    let path = path(config)?;
    let key = new_key().ok_or(KeysError::NoRandomBytes)?;
    let failed = |error| KeysError::Write { path: path.to_owned(), error };
    for _ in 0..ATTEMPTS_MAX {
        let target = Target::find(path).map_err(failed)?;
        let _lock = target.lock().map_err(failed)?;
        let text = with_key(&target, args, &key, policy.as_ref())?;
        // Of a valid file.
        let keys =
            ApiKeys::from_text(&text).map_err(|fault| not_added(target.path(), UnaddedKey::NotValid(fault)))?.keys;
        let problems = problems_of_key(config, &keys, &args.name);
        if !problems.is_empty() {
            return Err(KeysError::DoesNotFit(problems));
        }
        match target.write(&text, FormerFile::Replaced) {
            Ok(_) => {
                let path = target.path().to_owned();
                let explanation = explanation(&path, args, matches!(target, Target::New(_)));
                return Ok(AddedKey { key, explanation, path, name: args.name.clone() });
            }
            // Made by another one meanwhile, which is to be kept.
            Err(error) if matches!(target, Target::New(_)) && error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(io::Error::other("others change it all the time")))
}

/// Returns the text of the file with the key.
fn with_key(
    target: &Target,
    args: &KeysAddArgs,
    key: &Secret,
    policy: Option<&KeyPolicy>,
) -> Result<Zeroizing<String>, KeysError> {
    let path = target.path();
    let text = match target {
        Target::New(_) => None,
        Target::Old(path) => {
            let read = read_keys(path, FileKinds::Regular);
            Some(read.map_err(|fault| KeysError::Read { path: path.clone(), fault })?.0)
        }
    };
    let permissions = || policy.map_or(NewPermissions::OfSameName, NewPermissions::Stated);
    let text = text.as_ref().map(|text| text.as_str());
    match (add_key(text, &args.name, key, permissions()), text) {
        (Err(UnaddedKey::Lines), Some(lines)) if args.convert => {
            let json = as_json(lines).map_err(|mistakes| not_added(path, UnaddedKey::of_lines(mistakes)))?;
            add_key(Some(&json), &args.name, key, permissions())
        }
        (added, _) => added,
    }
    .map_err(|reason| not_added(path, reason))
}

fn not_added(path: &Path, reason: UnaddedKey) -> KeysError {
    KeysError::NotAdded { path: path.to_owned(), reason }
}

fn explanation(path: &Path, args: &KeysAddArgs, is_new: bool) -> String {
    let (path, name) = (path.display(), &args.name);
    let next = if is_new {
        format!("Start the gateway with --api-keys-file {path}, and it asks callers for a key.\n")
    } else if args.another {
        format!("Both keys of {name} count until you take the entry of the old one out.\n")
    } else {
        "A gateway that runs with this file loads it within a second.\n".to_owned()
    };
    format!("Written: {path}, with the SHA-256 of a new key of {name}. {next}The key, which is shown this once:\n")
}

/// Reads the permissions on the command line; `None` where those of the key of the same name are to count.
///
/// # Errors
/// The first mistake, without a value.
fn policy(args: &KeysAddArgs) -> Result<Option<KeyPolicy>, String> {
    if !is_name(&args.name) {
        return Err(format!("keys add: expected {}", name_form()));
    }
    let limits = [
        ("--parallel", LimitField::Parallel, &args.parallel),
        ("--requests-per-minute", LimitField::RequestsPerMinute, &args.requests_per_minute),
        ("--tokens-per-minute", LimitField::TokensPerMinute, &args.tokens_per_minute),
        ("--tokens-per-day", LimitField::TokensPerDay, &args.tokens_per_day),
        ("--usd-per-day", LimitField::UsdPerDay, &args.usd_per_day),
        ("--usd-per-month", LimitField::UsdPerMonth, &args.usd_per_month),
    ];
    let mut policy = KeyPolicy { limits: KeyLimits::default(), models: None, credentials: None };
    for (flag, field, text) in limits {
        if text.as_ref().is_some_and(|text| !field.read(text.trim(), &mut policy.limits)) {
            return Err(format!("{flag}: expected {}", field.form()));
        }
    }
    let models = names(args.models.as_deref(), "--models", is_model, model_form)?;
    policy.models = models.map(|models| models.into_iter().map(ModelPattern::new).collect());
    policy.credentials = names(args.credentials.as_deref(), "--credentials", is_credential, credential_form)?;
    if !args.another {
        return Ok(Some(policy));
    }
    if policy != KeyPolicy::default() {
        return Err(
            "--another: a second key may do what the first one may; leave the limits, models and credentials out"
                .to_owned(),
        );
    }
    Ok(None)
}

/// Reads names between commas.
fn names(
    text: Option<&str>,
    flag: &str,
    is_good: impl Fn(&str) -> bool,
    form: impl Fn() -> String,
) -> Result<Option<Vec<String>>, String> {
    let Some(text) = text else { return Ok(None) };
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    if names.iter().all(|name| is_good(name)) {
        Ok(Some(names))
    } else {
        Err(format!("{flag}: expected between commas {}", form()))
    }
}
