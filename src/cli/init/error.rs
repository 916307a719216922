//! The reasons why no secrets file is written.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::credentials::SecretsFault;
use crate::whole_file::ReadFault;

#[derive(Debug)]
pub enum InitError {
    Cancelled,
    /// An answer is missing, or none of those that were asked for.
    NoAnswer(&'static str),
    Input(io::Error),
    NotValid(SecretsFault),
    Read {
        path: PathBuf,
        fault: ReadFault,
    },
    File {
        path: PathBuf,
        error: io::Error,
    },
}

impl fmt::Display for InitError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InitError::Cancelled => formatter.write_str("init: cancelled; nothing is changed"),
            InitError::NoAnswer(what) => write!(formatter, "init: no answer to: {what}; nothing is changed"),
            InitError::Input(error) => {
                write!(formatter, "init: the answer cannot be read: {error}; nothing is changed")
            }
            InitError::NotValid(fault) => {
                write!(formatter, "init: the file would not be valid, nothing is changed: it {fault}")
            }
            InitError::Read { path, fault } => {
                write!(formatter, "init: {} {fault}; nothing is changed", path.display())
            }
            InitError::File { path, error } => {
                write!(formatter, "init: {} cannot be written: {error}; nothing is changed", path.display())
            }
        }
    }
}

impl std::error::Error for InitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            InitError::Input(error) | InitError::File { error, .. } => Some(error),
            InitError::Cancelled | InitError::NoAnswer(_) | InitError::NotValid(_) | InitError::Read { .. } => None,
        }
    }
}
