//! From the command line, the environment and `.env` to a [`Config`].
//!
//! Invariant: it reads the surroundings through [`Surroundings`] only, so that a test owns all of its input.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::dotenv::{DotEnv, DotEnvError};
use super::draft::Draft;
use super::error::{SettingError, SettingErrors, ValueSource};
use super::reading::{EffectiveSetting, Environment, Reading};
use super::table::{access, gateway, logs, settings, upstream, usage};
use super::written::WrittenFlags;
use crate::config::{Config, Limits};
use crate::credentials::LoadedKeys;

/// The inputs of a configuration besides the command line.
pub struct Surroundings<'a> {
    pub environment: &'a Environment<'a>,
    pub dotenv: Result<DotEnv, DotEnvError>,
    /// The number of files that this process may open.
    pub descriptors_max: u64,
    /// Finds the address of a listen host that is a name.
    pub resolve: &'a dyn Fn(&str, u16) -> io::Result<SocketAddr>,
    /// The demo's embedded upstream stands in for the one that is configured.
    pub is_demo: bool,
}

/// Finds the file of the totals of usage, for a command that needs no other setting and reads no `.env`; `None` where
/// there is none.
///
/// # Errors
/// A variable that is not text.
pub fn usage_file(written: &WrittenFlags, environment: &Environment<'_>) -> Result<Option<PathBuf>, SettingErrors> {
    let mut reading = Reading::new(written, environment, Ok(DotEnv::default()));
    let (file, _) = usage::find_file(&mut reading, environment);
    if reading.errors.is_empty() { Ok(file) } else { Err(SettingErrors(reading.errors)) }
}

/// A configuration, and the source of each of its values.
#[derive(Debug)]
pub struct Configured {
    pub config: Config,
    /// The API keys that the environment itself holds.
    pub api_keys: Option<LoadedKeys>,
    /// The value of each setting, in the order of the table.
    pub effective: Vec<EffectiveSetting>,
}

impl Configured {
    /// Returns true where the setting of this flag does not have its default.
    pub fn is_written(&self, flag: &str) -> bool {
        self.effective.iter().any(|setting| setting.flag == flag && setting.source != ValueSource::Default)
    }
}

/// Reads and checks every setting.
///
/// # Errors
/// All that is wrong, at once; but a `.env` that may not be used comes alone, since what its settings would have changed
/// cannot be told.
pub fn configure(written: &WrittenFlags, surroundings: Surroundings<'_>) -> Result<Configured, SettingErrors> {
    let Surroundings { environment, mut dotenv, descriptors_max, resolve, is_demo } = surroundings;
    if let Err(error @ DotEnvError::Refused(_)) = dotenv {
        return Err(SettingErrors(vec![SettingError::DotEnv(error)]));
    }
    let dotenv_warning = dotenv.as_mut().ok().and_then(|dotenv| dotenv.warning.take());
    let mut reading = Reading::new(written, environment, dotenv);
    let mut draft = Draft::new(descriptors_max);
    for setting in settings() {
        reading.read(setting, &mut draft);
    }
    let listen = gateway::settle(&mut reading, &mut draft, resolve);
    upstream::settle(&mut reading, &mut draft, listen, is_demo);
    let api_keys = access::settle(&mut reading, &mut draft);
    logs::settle(&mut reading, &mut draft);
    let usage_warning = usage::settle(&mut reading, &mut draft, environment, is_demo);
    let mut config = draft.config;
    // The descriptors that the pools may have are shared by as many shards as there are.
    config.limits.idle_upstream_max = Limits::for_descriptors(descriptors_max, config.shards).idle_upstream_max;
    config.runtime_directory = gateway::runtime_directory(environment);
    config.notices.extend(dotenv_warning);
    config.notices.extend(usage_warning);
    config.notices.extend(notices(&mut reading, &config, api_keys.is_some(), descriptors_max));
    let Reading { mut effective, errors, .. } = reading;
    if !errors.is_empty() {
        return Err(SettingErrors(errors));
    }
    effective.sort_by_key(|found| settings().position(|setting| setting.flag == found.flag));
    Ok(Configured { config, api_keys, effective })
}

/// Lines about settings that are accepted and do something other than their writer may expect.
fn notices(reading: &mut Reading<'_>, config: &Config, has_api_keys: bool, descriptors_max: u64) -> Vec<String> {
    let mut notices = Vec::new();
    notices.extend(upstream::plain_text(&config.upstream));
    notices.extend(gateway::without_effect(reading));
    // Each exchange may need an upstream connection too.
    if config.limits.connections_max as u64 > descriptors_max / 2 {
        notices.push(format!(
            "--max-connections {}: this process may open {descriptors_max} files and an exchange needs two, so fewer will \
             be reached (raise the limit with ulimit -n)",
            config.limits.connections_max
        ));
    }
    if config.access.api_keys_file.is_none() && !has_api_keys {
        notices.extend(access::open_door(config.listen));
    }
    notices.extend(config.admin.and_then(gateway::exposed_admin));
    notices
}

#[cfg(test)]
mod tests;
