//! The ends of the program without success, with their exit codes.

use std::fmt;
use std::io;
use std::process::ExitCode;

use super::args::UsageError;
use super::exec::ExecError;
use super::explain::ExplainError;
use super::healthcheck::Unhealthy;
use super::init::InitError;
use super::keys::KeysError;
use super::settings::SettingErrors;
use super::top::TopError;
use super::wake::WakeError;
use crate::credentials::{ApiKeysFileError, SecretsFileError, TokenError};
#[cfg(feature = "demo")]
use crate::demo;
use crate::observability::log;
use crate::observability::log::FileError;
use crate::server::RunError;
use crate::usage::store::StoreError;

/// A failure at start, or a problem that was found.
const EXIT_FAILURE: u8 = 1;
/// `EX_USAGE` of sysexits.h: a wrong flag or setting.
const EXIT_USAGE: u8 = 64;

/// The reason why the program ends without success.
#[derive(Debug)]
pub enum Failure {
    Usage(UsageError),
    Settings(SettingErrors),
    LogFile(FileError),
    Secrets(SecretsFileError),
    ApiKeys(ApiKeysFileError),
    Token(TokenError),
    /// `token --name` of a credential that is not there; the names that are.
    UnknownName(Vec<String>),
    Run(RunError),
    #[cfg(feature = "demo")]
    Demo(demo::DemoError),
    /// The check has printed what is wrong.
    Check,
    Unhealthy(Unhealthy),
    Explain(ExplainError),
    Init(InitError),
    Exec(ExecError),
    Top(TopError),
    Wake(WakeError),
    Keys(KeysError),
    /// A health check that could not even be asked.
    HealthcheckSettings(SettingErrors),
    /// There is no file of totals to read.
    NoUsageFile,
    UsageStore(StoreError),
    Output(io::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => EXIT_USAGE,
            Failure::Settings(errors) if errors.is_usage() => EXIT_USAGE,
            Failure::Explain(error) if error.is_usage() => EXIT_USAGE,
            Failure::Exec(error) if error.is_usage() => EXIT_USAGE,
            Failure::Keys(error) if error.is_usage() => EXIT_USAGE,
            Failure::Top(error) if error.is_usage() => EXIT_USAGE,
            Failure::Top(error) => error.exit_code().unwrap_or(EXIT_FAILURE),
            Failure::Exec(error) => error.exit_code().unwrap_or(EXIT_FAILURE),
            #[cfg(feature = "demo")]
            Failure::Demo(_) => EXIT_FAILURE,
            Failure::Settings(_)
            | Failure::LogFile(_)
            | Failure::Secrets(_)
            | Failure::ApiKeys(_)
            | Failure::Token(_)
            | Failure::UnknownName(_)
            | Failure::Run(_)
            | Failure::Check
            | Failure::Unhealthy(_)
            | Failure::Explain(_)
            | Failure::Init(_)
            | Failure::Wake(_)
            | Failure::Keys(_)
            | Failure::HealthcheckSettings(_)
            | Failure::NoUsageFile
            | Failure::UsageStore(_)
            | Failure::Output(_) => EXIT_FAILURE,
        }
    }

    /// Says on stderr what happened, and returns the exit code.
    pub fn report(&self) -> ExitCode {
        // Where stderr is blocked only the exit code is left to tell.
        log::say(format_args!("flow-uring: {self}\n"));
        ExitCode::from(self.exit_code())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(error) => error.fmt(formatter),
            Failure::Settings(errors) | Failure::HealthcheckSettings(errors) => errors.fmt(formatter),
            Failure::LogFile(error) => error.fmt(formatter),
            Failure::Secrets(error) => error.fmt(formatter),
            Failure::ApiKeys(error) => error.fmt(formatter),
            Failure::Token(error) => error.fmt(formatter),
            Failure::UnknownName(names) => {
                write!(formatter, "no credential has that name; there are: {}", names.join(", "))
            }
            Failure::Run(error) => error.fmt(formatter),
            #[cfg(feature = "demo")]
            Failure::Demo(error) => error.fmt(formatter),
            Failure::Check => formatter.write_str("the check found problems"),
            Failure::Unhealthy(error) => error.fmt(formatter),
            Failure::NoUsageFile => formatter.write_str(
                "there is no usage file: it is off, or there is no HOME to look for it in; name one by --usage-db",
            ),
            Failure::UsageStore(error) => error.fmt(formatter),
            Failure::Explain(error) => error.fmt(formatter),
            Failure::Init(error) => error.fmt(formatter),
            Failure::Exec(error) => error.fmt(formatter),
            Failure::Top(error) => error.fmt(formatter),
            Failure::Wake(error) => error.fmt(formatter),
            Failure::Keys(error) => error.fmt(formatter),
            Failure::Output(error) => write!(formatter, "stdout cannot be written: {error}"),
        }
    }
}
