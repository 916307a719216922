//! The settings of usage: whether it is counted, and the files of its totals and of prices.

use std::path::PathBuf;

use super::value::Expected;

/// The name of the file of totals where only its directory is known.
pub const USAGE_FILE_NAME: &str = "usage.sqlite";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageOptions {
    /// Tokens and cost are read from answers.
    pub is_counted: bool,
    /// The file of the totals that outlive the process; `None`: they are kept in memory alone.
    pub file: Option<PathBuf>,
    /// The file of prices by which cost is estimated.
    pub prices: Option<PathBuf>,
}

impl Default for UsageOptions {
    fn default() -> Self {
        UsageOptions { is_counted: true, file: None, prices: None }
    }
}

impl UsageOptions {
    /// Returns the file that totals are written to, if they are.
    pub fn written_file(&self) -> Option<&PathBuf> {
        self.file.as_ref().filter(|_| self.is_counted)
    }
}

/// Parses `on` or `off`, in any case.
///
/// # Errors
/// Any other text.
pub fn parse_on_off(text: &str) -> Result<bool, Expected> {
    match text.to_ascii_lowercase().as_str() {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(Expected::new("on or off")),
    }
}
