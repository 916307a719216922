//! The errors of `.env`.

use std::fmt;

use super::parser::LineFault;
use super::refusal::DotEnvRefusal;
use crate::whole_file::ReadFault;

/// The reason why `.env` cannot be used. It repeats nothing of the content.
#[derive(Debug)]
pub enum DotEnvError {
    /// Somebody else could have written it, or it is no file.
    Refused(DotEnvRefusal),
    Read(ReadFault),
    Line {
        line: usize,
        fault: LineFault,
    },
}

impl fmt::Display for DotEnvError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DotEnvError::Refused(refusal) => write!(formatter, ".env {refusal}"),
            DotEnvError::Read(fault) => write!(formatter, ".env {fault}"),
            DotEnvError::Line { line, fault } => write!(formatter, ".env line {line}: {fault}"),
        }
    }
}

impl std::error::Error for DotEnvError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            DotEnvError::Read(fault) => fault.source(),
            DotEnvError::Refused(_) | DotEnvError::Line { .. } => None,
        }
    }
}
