//! The reasons why a command does not run, with the exit codes that shells give to them.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::whole_file::ReadFault;

/// As shells say that a command is not there (POSIX.1-2024, Shell Command Language, 2.8.2).
const EXIT_NOT_FOUND: u8 = 127;
/// As shells say that a command cannot be executed.
const EXIT_NOT_EXECUTABLE: u8 = 126;

#[derive(Debug)]
pub enum ExecError {
    NoCommand,
    NotFound(OsString),
    NotExecutable {
        program: OsString,
        error: io::Error,
    },
    /// The gateway that runs asks for a key, and these settings have none.
    KeyWanted {
        address: SocketAddr,
    },
    /// It accepts none of those that these settings have.
    KeyRefused {
        address: SocketAddr,
    },
    /// It asks for a key, and those of these settings are written as hashes.
    HashedKeys {
        address: SocketAddr,
    },
    KeysFile(ReadFault),
    /// The process of the gateway cannot be started.
    Start(io::Error),
    /// The gateway has said why it does not serve.
    Gateway {
        reason: String,
        log: Option<PathBuf>,
    },
    /// It ended, or took too long, without a word.
    Silent {
        log: Option<PathBuf>,
    },
}

impl ExecError {
    /// The command could not be executed.
    pub fn of_command(program: &OsStr, error: io::Error) -> Self {
        let program = program.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ExecError::NotFound(program),
            _ => ExecError::NotExecutable { program, error },
        }
    }

    /// Returns the exit code, where it is not that of any failure.
    pub fn exit_code(&self) -> Option<u8> {
        match self {
            ExecError::NotFound(_) => Some(EXIT_NOT_FOUND),
            ExecError::NotExecutable { .. } => Some(EXIT_NOT_EXECUTABLE),
            _ => None,
        }
    }

    /// Returns true for a wrong command line.
    pub fn is_usage(&self) -> bool {
        matches!(self, ExecError::NoCommand)
    }
}

impl fmt::Display for ExecError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExecError::NoCommand => formatter
                .write_str("exec: expected a command, as in: flow-uring exec claude (see flow-uring exec --help)"),
            ExecError::NotFound(program) => write!(formatter, "exec: {}: command not found", program.display()),
            ExecError::NotExecutable { program, error } => {
                write!(formatter, "exec: {} cannot be executed: {error}", program.display())
            }
            ExecError::KeyWanted { address } => write!(
                formatter,
                "exec: the gateway that runs at {address} asks for an API key: set FLOW_PROXY_API_KEYS or --api-keys-file \
                 as it has them, or choose another --port for a gateway of this command's own"
            ),
            ExecError::KeyRefused { address } => write!(
                formatter,
                "exec: the gateway that runs at {address} does not accept the first API key of FLOW_PROXY_API_KEYS or \
                 --api-keys-file"
            ),
            ExecError::HashedKeys { address } => write!(
                formatter,
                "exec: the gateway that runs at {address} asks for an API key, and the file of --api-keys-file has hashes \
                 alone, which cannot be shown: set FLOW_PROXY_API_KEYS=NAME:KEY with your own key, and leave \
                 --api-keys-file and FLOW_PROXY_API_KEYS_FILE out"
            ),
            ExecError::KeysFile(fault) => write!(formatter, "exec: the file of API keys {fault}"),
            ExecError::Start(error) => write!(formatter, "exec: the gateway cannot be started: {error}"),
            ExecError::Gateway { reason, log } => {
                write!(formatter, "exec: the gateway cannot serve: {reason}")?;
                write_log(formatter, log)
            }
            ExecError::Silent { log } => {
                formatter.write_str("exec: the gateway did not start")?;
                write_log(formatter, log)
            }
        }
    }
}

fn write_log(formatter: &mut fmt::Formatter<'_>, log: &Option<PathBuf>) -> fmt::Result {
    log.as_ref().map_or(Ok(()), |log| write!(formatter, " (its log: {})", log.display()))
}

impl std::error::Error for ExecError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ExecError::NotExecutable { error, .. } | ExecError::Start(error) => Some(error),
            _ => None,
        }
    }
}
