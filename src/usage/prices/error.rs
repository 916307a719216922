//! The reason why prices cannot be used.
//!
//! Invariant: however large a file is and whatever stands in it, the error is a few lines of printable text.

use std::fmt;
use std::path::PathBuf;

use crate::whole_file::ReadFault;

/// Limit on the mistakes of a file that are told.
const MISTAKES_TOLD_MAX: usize = 20;

/// The longest part of a name that is shown.
const NAME_CHARS_MAX: usize = 80;

/// The reason why a file of prices cannot be used.
#[derive(Debug)]
pub struct PricesFileError {
    pub path: PathBuf,
    pub fault: PricesFault,
}

#[derive(Debug)]
pub enum PricesFault {
    Read(ReadFault),
    TooLarge {
        bytes_max: usize,
    },
    /// A comment or string that never ends, or a stray `/`.
    Comment {
        line: usize,
    },
    Syntax {
        line: usize,
        column: usize,
    },
    /// JSON, but not what was expected.
    Form(&'static str),
    TooManyEntries {
        entries_max: usize,
    },
    Mistakes(PriceMistakes),
}

/// The mistakes of a file: the first ones, and how many there are.
#[derive(Debug, Default)]
pub struct PriceMistakes {
    told: Vec<String>,
    count: usize,
}

impl PriceMistakes {
    pub(super) fn add(&mut self, entry: &str, field: Option<&str>, expected: &str) {
        self.count += 1;
        if self.told.len() < MISTAKES_TOLD_MAX {
            let field = field.map(|field| format!(", {}", shown(field))).unwrap_or_default();
            self.told.push(format!("{}{field}: {expected}", shown(entry)));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Shows a name in quotes; what could fake a line of its own is escaped.
pub(super) fn shown(name: &str) -> String {
    match name.char_indices().nth(NAME_CHARS_MAX) {
        Some((end, _)) => format!("{:?}…", &name[..end]),
        None => format!("{name:?}"),
    }
}

impl fmt::Display for PricesFileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the file of prices {} {}", self.path.display(), self.fault)
    }
}

impl fmt::Display for PricesFault {
    /// Writes the end of a sentence that begins with the file, or with the answer.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PricesFault::Read(fault) => fault.fmt(formatter),
            PricesFault::TooLarge { bytes_max } => ReadFault::TooLarge { bytes_max: *bytes_max }.fmt(formatter),
            PricesFault::Comment { line } => {
                write!(formatter, "has a string or comment that does not end, or a stray `/`, on line {line}")
            }
            PricesFault::Syntax { line, column } => {
                write!(formatter, "is not valid JSON: a syntax error at line {line}, column {column}")
            }
            PricesFault::Form(expected) => write!(formatter, "is not what was expected: {expected}"),
            PricesFault::TooManyEntries { entries_max } => write!(formatter, "has more than {entries_max} entries"),
            PricesFault::Mistakes(PriceMistakes { told, count }) => {
                formatter.write_str("has mistakes:")?;
                told.iter().try_for_each(|mistake| write!(formatter, "\n  {mistake}"))?;
                match count.saturating_sub(told.len()) {
                    0 => Ok(()),
                    more => write!(formatter, "\n  and {more} more"),
                }
            }
        }
    }
}

impl std::error::Error for PricesFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.fault.source()
    }
}

impl std::error::Error for PricesFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PricesFault::Read(fault) => fault.source(),
            PricesFault::TooLarge { .. }
            | PricesFault::Comment { .. }
            | PricesFault::Syntax { .. }
            | PricesFault::Form(_)
            | PricesFault::TooManyEntries { .. }
            | PricesFault::Mistakes(_) => None,
        }
    }
}
