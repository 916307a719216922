//! Where the value of a setting comes from: flag, then environment, then `.env`, then default.
//!
//! Invariant: every value that is wrong is noted with its source and the expected form, never with the value itself,
//! and reading goes on, so that all mistakes are reported together.

use std::env::VarError;
use std::fmt;
use std::path::PathBuf;

use super::dotenv::{DotEnv, DotEnvError};
use crate::config::Expected;

/// Where a value was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueSource {
    Flag(&'static str),
    Environment(&'static str),
    DotEnv { variable: &'static str, line: usize },
    Default,
}

impl fmt::Display for ValueSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueSource::Flag(flag) => formatter.write_str(flag),
            ValueSource::Environment(variable) => write!(formatter, "environment {variable}"),
            ValueSource::DotEnv { variable, line } => write!(formatter, ".env line {line}: {variable}"),
            ValueSource::Default => formatter.write_str("default"),
        }
    }
}

/// One thing that is wrong with the settings.
#[derive(Debug)]
pub enum SettingError {
    /// A value of the wrong form.
    Value {
        source: ValueSource,
        expected: Expected,
    },
    /// Two settings that exclude each other, or one that needs another.
    Conflict {
        source: ValueSource,
        rule: &'static str,
    },
    /// A list of API keys; the text says which entry, and what was expected.
    ApiKeys {
        source: ValueSource,
        what: String,
    },
    NotUtf8 {
        variable: &'static str,
    },
    DotEnv(DotEnvError),
    /// The listen host has no address. A failure at start, not of form.
    ListenHost {
        source: ValueSource,
        error: std::io::Error,
    },
}

impl fmt::Display for SettingError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingError::Value { source, expected } => write!(formatter, "{source}: {expected}"),
            SettingError::ApiKeys { source, what } => write!(formatter, "{source}: {what}"),
            SettingError::Conflict { source, rule } => write!(formatter, "{source}: {rule}"),
            SettingError::NotUtf8 { variable } => write!(formatter, "environment {variable}: expected UTF-8 text"),
            SettingError::DotEnv(error) => error.fmt(formatter),
            SettingError::ListenHost { source, error } => {
                write!(formatter, "{source}: the host has no address: {error}")
            }
        }
    }
}

/// All that is wrong with the settings, one a line. Never empty.
#[derive(Debug)]
pub struct SettingErrors(pub Vec<SettingError>);

impl SettingErrors {
    /// Whether the settings are wrong as such, and not only on this machine at this moment.
    pub fn is_usage(&self) -> bool {
        self.0.iter().any(|mistake| !matches!(mistake, SettingError::ListenHost { .. }))
    }
}

impl fmt::Display for SettingErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the configuration has mistakes:")?;
        self.0.iter().try_for_each(|mistake| write!(formatter, "\n  {mistake}"))
    }
}

impl std::error::Error for SettingErrors {}

/// A setting's two names. A few have no variable, and a few no flag: then the first is only what `check` calls it.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub flag: &'static str,
    pub variable: Option<&'static str>,
}

impl Setting {
    pub const fn new(flag: &'static str, variable: &'static str) -> Self {
        Setting { flag, variable: Some(variable) }
    }
}

/// What one setting came out as, for `check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveSetting {
    pub flag: &'static str,
    pub value: String,
    pub source: ValueSource,
}

/// The environment as a function, so that tests need not change the process's.
pub type Environment<'a> = dyn Fn(&str) -> Result<String, VarError> + 'a;

/// Reads settings one by one and collects findings and mistakes.
pub struct SettingsReader<'a> {
    environment: &'a Environment<'a>,
    dotenv: DotEnv,
    pub findings: Vec<EffectiveSetting>,
    pub mistakes: Vec<SettingError>,
}

impl<'a> SettingsReader<'a> {
    pub fn new(environment: &'a Environment<'a>, dotenv: Result<DotEnv, DotEnvError>) -> Self {
        let (dotenv, mistakes) = match dotenv {
            Ok(dotenv) => (dotenv, Vec::new()),
            Err(error) => (DotEnv::default(), vec![SettingError::DotEnv(error)]),
        };
        SettingsReader { environment, dotenv, findings: Vec::new(), mistakes }
    }

    /// The setting's value, or its default where none is written or a wrong one (which is noted).
    pub fn read<T, F>(&mut self, setting: Setting, written: Option<&str>, default: T, parse: F) -> T
    where
        T: fmt::Display,
        F: FnOnce(&str) -> Result<T, Expected>,
    {
        self.read_shown(setting, written, default, parse, T::to_string)
    }

    /// As [`Self::read`], for values that have no text form of their own.
    pub fn read_shown<T>(
        &mut self,
        setting: Setting,
        written: Option<&str>,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, Expected>,
        show: impl FnOnce(&T) -> String,
    ) -> T {
        let (value, source) = match self.pick(setting, written) {
            None => (default, ValueSource::Default),
            Some((text, source)) => match parse(&text) {
                Ok(value) => (value, source),
                Err(expected) => {
                    self.mistakes.push(SettingError::Value { source, expected });
                    return default;
                }
            },
        };
        self.findings.push(EffectiveSetting { flag: setting.flag, value: show(&value), source });
        value
    }

    /// A path, and where it is written; `without` says in the findings what holds where none is.
    pub fn read_path(
        &mut self,
        setting: Setting,
        written: Option<&str>,
        without: &str,
    ) -> (Option<PathBuf>, ValueSource) {
        let parse = |text: &str| Ok(Some(PathBuf::from(text)));
        let show = |path: &Option<PathBuf>| path.as_ref().map_or(without.into(), |path| path.display().to_string());
        let path = self.read_shown(setting, written, None, parse, show);
        (path, self.findings.last().map_or(ValueSource::Default, |finding| finding.source))
    }

    /// The text of a setting and where it is written; blank values count as unset.
    pub fn pick(&mut self, setting: Setting, written: Option<&str>) -> Option<(String, ValueSource)> {
        if let Some(text) = written.and_then(tidy) {
            return Some((text, ValueSource::Flag(setting.flag)));
        }
        self.pick_variable(&[setting.variable?])
    }

    /// As [`Self::pick`], of names that stand for the same; in each place the first that is not blank counts.
    pub fn pick_variable(&mut self, variables: &[&'static str]) -> Option<(String, ValueSource)> {
        for variable in variables {
            match (self.environment)(variable) {
                Ok(text) => {
                    if let Some(text) = tidy(&text) {
                        return Some((text, ValueSource::Environment(variable)));
                    }
                }
                Err(VarError::NotPresent) => {}
                Err(VarError::NotUnicode(_)) => {
                    self.mistakes.push(SettingError::NotUtf8 { variable });
                    return None;
                }
            }
        }
        variables.iter().find_map(|variable| {
            let (text, line) = self.dotenv.find(variable)?;
            tidy(text).map(|text| (text, ValueSource::DotEnv { variable, line }))
        })
    }
}

fn tidy(text: &str) -> Option<String> {
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
