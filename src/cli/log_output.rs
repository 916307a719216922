//! The log as the configuration describes it.

use crate::config::{self, Config, LogFileLocation, LogFormat, LogRetention};
use crate::observability::log::{self, FileError, FileOptions, LineFormat, Retention};

/// Starts the log.
///
/// # Errors
/// If its file cannot be opened.
pub fn start(config: &Config) -> Result<log::Guard, FileError> {
    let line_format = match config.log.format {
        LogFormat::Text => LineFormat::Text,
        LogFormat::Json => LineFormat::Json,
    };
    log::init(config.log.level.threshold(), line_format, file(config))
}

/// The log file, if there is to be one, in the words of the log.
pub fn file(config: &Config) -> Option<FileOptions> {
    let LogRetention { days, bytes_max, is_cleaned_up, cleanup_interval } = config.log.retention;
    let cleanup_interval = is_cleaned_up.then_some(cleanup_interval);
    let retention = Retention { days, bytes_max: bytes_max.unwrap_or(u64::MAX), cleanup_interval };
    let (path, makes_directory) = match config.log.file.as_ref()? {
        LogFileLocation::At(path) => (path.clone(), false),
        LogFileLocation::In(directory) => (directory.join(config::LOG_FILE_NAME), true),
    };
    Some(FileOptions { path, makes_directory, retention })
}
