//! The reasons why keys cannot be used.
//!
//! Invariant: nothing in them holds a key or a part of one, and a file that is wrong throughout makes no endless list.

use std::fmt;
use std::path::PathBuf;

use crate::credentials::commented_json::JsonFault;
use crate::whole_file::ReadFault;

/// Limit on the mistakes that are told of one file.
const MISTAKES_MAX: usize = 100;

/// The reason why a file of keys cannot be used.
#[derive(Debug)]
pub struct ApiKeysFileError {
    pub path: PathBuf,
    pub fault: ApiKeysFault,
}

#[derive(Debug)]
pub enum ApiKeysFault {
    Read(ReadFault),
    Json(JsonFault),
    /// Each with its place and what was expected there.
    Mistakes(Vec<String>),
}

/// The mistakes of one text, of which the first are told.
#[derive(Debug, Default)]
pub struct Mistakes {
    told: Vec<String>,
    count: usize,
}

impl Mistakes {
    /// Notes a mistake; its text is only made if it is told.
    pub fn note(&mut self, text: impl FnOnce() -> String) {
        self.count += 1;
        if self.told.len() < MISTAKES_MAX {
            self.told.push(text());
        }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn into_list(mut self) -> Vec<String> {
        if self.count > self.told.len() {
            self.told.push(format!("… and {} more mistakes", self.count - self.told.len()));
        }
        self.told
    }
}

impl From<ReadFault> for ApiKeysFault {
    fn from(fault: ReadFault) -> Self {
        ApiKeysFault::Read(fault)
    }
}

impl From<JsonFault> for ApiKeysFault {
    fn from(fault: JsonFault) -> Self {
        ApiKeysFault::Json(fault)
    }
}

impl fmt::Display for ApiKeysFileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the file of API keys {} ", self.path.display())?;
        self.fault.fmt(formatter)
    }
}

impl fmt::Display for ApiKeysFault {
    /// Writes the end of a sentence that begins with the file.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApiKeysFault::Read(fault) => fault.fmt(formatter),
            ApiKeysFault::Json(fault) => fault.fmt(formatter),
            ApiKeysFault::Mistakes(mistakes) => {
                formatter.write_str("has mistakes:")?;
                mistakes.iter().try_for_each(|mistake| write!(formatter, "\n  {mistake}"))
            }
        }
    }
}

impl std::error::Error for ApiKeysFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            ApiKeysFault::Read(fault) => fault.source(),
            ApiKeysFault::Json(_) | ApiKeysFault::Mistakes(_) => None,
        }
    }
}
