//! `flow-uring usage`: the totals of the file, added up by what is asked for.
//!
//! All rows are read before anything is printed, so that a slow reader of the output holds up no gateway. Not here: the
//! file (`usage::store`), the report before it has a form and its forms for programs (`usage::report`), and the totals
//! of a gateway that keeps them in memory alone.

mod table;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::SystemTime;

use super::args::{UsageArgs, UsageError};
use crate::usage::report::dimension::{self, Dimension};
use crate::usage::report::grouped::UsageReport;
use crate::usage::report::{machine, moment};
use crate::usage::store::{StoreError, UsageStore};
use crate::usage::totals::UnixHour;

/// The form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReportForm {
    Table,
    Json,
    Csv,
}

/// A question that was asked with valid words.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageQuestion {
    since: UnixHour,
    by: Vec<Dimension>,
    form: ReportForm,
}

impl UsageQuestion {
    /// Reads the words of the command line.
    ///
    /// # Errors
    /// A value of the wrong form; it is not repeated.
    pub fn of(args: &UsageArgs, now: SystemTime) -> Result<Self, UsageError> {
        let since = moment::parse(args.since.as_deref().unwrap_or("7d"), now).ok_or_else(|| {
            UsageError::new("--since: expected 24h, 7d, 12w, a date such as 2026-11-01, or a time as in RFC 3339")
        })?;
        let by = dimension::parse_list(args.by.as_deref().unwrap_or("day,model")).ok_or_else(|| {
            UsageError::new("--by: expected some of month, day, hour, key, credential, model, each once, with commas")
        })?;
        let form = match (args.json, args.csv) {
            (false, false) => ReportForm::Table,
            (true, false) => ReportForm::Json,
            (false, true) => ReportForm::Csv,
            (true, true) => return Err(UsageError::new("--csv: the form is --json already: give only one of them")),
        };
        Ok(UsageQuestion { since, by, form })
    }
}

/// Returns the answer as text.
///
/// # Errors
/// The file cannot be read, or is not there.
pub fn answer(question: UsageQuestion, file: &Path) -> Result<String, StoreError> {
    let UsageQuestion { since, by, form } = question;
    let mut report = UsageReport::new(since, by);
    UsageStore::open_existing(file)?.read(since, |row| report.add(&row))?;
    Ok(match form {
        ReportForm::Table => table::of(&report),
        ReportForm::Json => machine::json(&report),
        ReportForm::Csv => machine::csv(&report),
    })
}
