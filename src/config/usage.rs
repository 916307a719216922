//! The settings of usage: whether it is counted, and the files of its totals and of prices.

use std::path::PathBuf;

use super::value::Expected;

/// The name of the file of totals where only its directory is known.
pub const USAGE_FILE_NAME: &str = "usage.sqlite";

/// The place where the prices of models come from, by which cost is estimated that the upstream does not report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PriceSource {
    /// No costs are estimated.
    Nothing,
    /// The upstream's own list.
    Upstream,
    File(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageOptions {
    /// Tokens and cost are read from answers.
    pub is_counted: bool,
    /// The file of the totals that outlive the process; `None`: they are kept in memory alone.
    pub file: Option<PathBuf>,
    pub prices: PriceSource,
    /// The metrics of OpenTelemetry's conventions for generative AI are shown beside ours.
    pub has_otel_names: bool,
}

impl Default for UsageOptions {
    fn default() -> Self {
        UsageOptions { is_counted: true, file: None, prices: PriceSource::Upstream, has_otel_names: false }
    }
}

impl UsageOptions {
    /// Returns where prices come from; nowhere if nothing is counted.
    pub fn price_source(&self) -> PriceSource {
        if self.is_counted { self.prices.clone() } else { PriceSource::Nothing }
    }

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
