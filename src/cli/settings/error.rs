//! The sources of values, and the errors that settings can have.
//!
//! Invariant: an error names the source and the expected form, and never repeats the value.

use std::fmt;
use std::io;

use super::dotenv::DotEnvError;
use crate::config::Expected;

/// The place where a value was written.
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
    /// A flag under its old name and its new one.
    TwoNames {
        old_flag: &'static str,
        flag: &'static str,
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
        error: io::Error,
    },
}

impl fmt::Display for SettingError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingError::Value { source, expected } => write!(formatter, "{source}: {expected}"),
            SettingError::ApiKeys { source, what } => write!(formatter, "{source}: {what}"),
            SettingError::Conflict { source, rule } => write!(formatter, "{source}: {rule}"),
            SettingError::TwoNames { old_flag, flag } => {
                write!(formatter, "{old_flag}: it is the old name of {flag}: give only one of them")
            }
            SettingError::NotUtf8 { variable } => write!(formatter, "environment {variable}: expected UTF-8 text"),
            SettingError::DotEnv(error) => error.fmt(formatter),
            SettingError::ListenHost { source, error } => {
                write!(formatter, "{source}: the host has no address: {error}")
            }
        }
    }
}

/// All errors of the settings, one a line. Never empty.
#[derive(Debug)]
pub struct SettingErrors(pub Vec<SettingError>);

impl SettingErrors {
    /// Returns true where the settings are wrong as such, and not only on this machine at this moment.
    pub fn is_usage(&self) -> bool {
        self.0.iter().any(|error| !matches!(error, SettingError::ListenHost { .. }))
    }

    /// Returns true where `.env` may not be used, so that nothing is known about the settings.
    pub fn is_refused_dotenv(&self) -> bool {
        matches!(&*self.0, [SettingError::DotEnv(DotEnvError::Refused(_))])
    }
}

impl fmt::Display for SettingErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the configuration has mistakes:")?;
        self.0.iter().try_for_each(|error| write!(formatter, "\n  {error}"))
    }
}

impl std::error::Error for SettingErrors {}
