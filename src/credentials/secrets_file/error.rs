//! The reason why a secrets file cannot be used.
//!
//! Invariant: nothing in it holds a value of the file.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::credentials::commented_json::JsonFault;
use crate::whole_file::ReadFault;

/// The reason why a secrets file cannot be used.
#[derive(Debug)]
pub struct SecretsFileError {
    pub path: PathBuf,
    pub fault: SecretsFault,
}

#[derive(Debug)]
pub enum SecretsFault {
    Read(ReadFault),
    Json(JsonFault),
    Mistakes(Vec<SecretsMistake>),
}

/// A mistake in a file that is JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretsMistake {
    /// The entry's position, from 0; `None` for the file as a whole.
    pub index: Option<usize>,
    pub field: Option<&'static str>,
    pub expected: String,
}

impl SecretsMistake {
    pub(super) fn whole_file(expected: String) -> Self {
        SecretsMistake { index: None, field: None, expected }
    }
}

impl fmt::Display for SecretsMistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(index) = self.index {
            write!(formatter, "entry [{index}]")?;
            if let Some(field) = self.field {
                write!(formatter, ", \"{field}\"")?;
            }
            formatter.write_str(": ")?;
        }
        formatter.write_str(&self.expected)
    }
}

impl From<ReadFault> for SecretsFault {
    fn from(fault: ReadFault) -> Self {
        SecretsFault::Read(fault)
    }
}

impl From<JsonFault> for SecretsFault {
    fn from(fault: JsonFault) -> Self {
        SecretsFault::Json(fault)
    }
}

impl fmt::Display for SecretsFileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the secrets file {} ", self.path.display())?;
        self.fault.fmt(formatter)
    }
}

impl fmt::Display for SecretsFault {
    /// The end of a sentence that begins with the file.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretsFault::Read(ReadFault::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => {
                formatter.write_str("does not exist: run flow-uring init, or name another file with --secrets-file")
            }
            SecretsFault::Read(fault) => fault.fmt(formatter),
            SecretsFault::Json(fault) => fault.fmt(formatter),
            SecretsFault::Mistakes(mistakes) => {
                formatter.write_str("has mistakes:")?;
                mistakes.iter().try_for_each(|mistake| write!(formatter, "\n  {mistake}"))
            }
        }
    }
}

impl std::error::Error for SecretsFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.fault.source()
    }
}

impl std::error::Error for SecretsFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SecretsFault::Read(fault) => fault.source(),
            SecretsFault::Json(_) | SecretsFault::Mistakes(_) => None,
        }
    }
}
