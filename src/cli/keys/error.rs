//! The reasons why the file of API keys is not changed or shown.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::cli::args::UsageError;
use crate::credentials::{ApiKeysFileError, UnaddedKey};
use crate::whole_file::ReadFault;

#[derive(Debug)]
pub enum KeysError {
    Usage(UsageError),
    /// The settings name no file.
    NoFile,
    NoRandomBytes,
    NotLoaded(ApiKeysFileError),
    Read {
        path: PathBuf,
        fault: ReadFault,
    },
    Write {
        path: PathBuf,
        error: io::Error,
    },
    NotAdded {
        path: PathBuf,
        reason: UnaddedKey,
    },
    /// No gateway would start with the new key; the problems, a line each.
    DoesNotFit(Vec<String>),
    /// The key is in the file, and nobody has seen it.
    NotShown {
        path: PathBuf,
        name: String,
        error: io::Error,
    },
}

impl KeysError {
    /// Returns true for a wrong command line.
    pub fn is_usage(&self) -> bool {
        matches!(self, KeysError::Usage(_))
    }
}

impl fmt::Display for KeysError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeysError::Usage(error) => error.fmt(formatter),
            KeysError::NoFile => formatter.write_str(
                "keys: there is no file of API keys: name one by --api-keys-file or FLOW_PROXY_API_KEYS_FILE",
            ),
            KeysError::NoRandomBytes => {
                formatter.write_str("keys: the system gives no random bytes; nothing is changed")
            }
            KeysError::NotLoaded(error) => write!(formatter, "keys: {error}"),
            KeysError::Read { path, fault } => {
                write!(formatter, "keys: {} {fault}; nothing is changed", path.display())
            }
            KeysError::Write { path, error } => {
                write!(formatter, "keys: {} cannot be written: {error}; nothing is changed", path.display())
            }
            KeysError::NotAdded { path, reason } => {
                write!(formatter, "keys: nothing is changed: {} {reason}", path.display())
            }
            KeysError::DoesNotFit(problems) => {
                formatter.write_str("keys: nothing is changed, since no gateway would start with this key:")?;
                problems.iter().try_for_each(|problem| write!(formatter, "\n  {problem}"))
            }
            KeysError::NotShown { path, name, error } => write!(
                formatter,
                "keys: stdout cannot be written: {error}; nobody has seen the new key of {name}: take its entry, the last \
                 one, out of {}",
                path.display()
            ),
        }
    }
}

impl std::error::Error for KeysError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            KeysError::Write { error, .. } | KeysError::NotShown { error, .. } => Some(error),
            KeysError::NotLoaded(error) => Some(error),
            KeysError::Read { fault, .. } => Some(fault),
            KeysError::Usage(_)
            | KeysError::NoFile
            | KeysError::NoRandomBytes
            | KeysError::NotAdded { .. }
            | KeysError::DoesNotFit(_) => None,
        }
    }
}
