//! What is logged, where to, and how long it is kept.

use std::path::PathBuf;
use std::time::Duration;

use super::keyword::{LogFormat, LogLevel};
use super::value::MEGABYTE;

/// The log file's name where only its directory is given.
pub const LOG_FILE_NAME: &str = "flow-uring.log";

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogConfig {
    pub level: LogLevel,
    pub format: LogFormat,
    /// Where lines go besides stderr.
    pub file: Option<LogFileLocation>,
    pub retention: LogRetention,
}

/// Where the log file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogFileLocation {
    /// This file, in a directory that is there.
    At(PathBuf),
    /// [`LOG_FILE_NAME`] in this directory, which is made.
    In(PathBuf),
}

/// What becomes of log files that were put aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRetention {
    /// How many days they are kept.
    pub days: u32,
    /// The log file with all that were put aside; `None`: no limit.
    pub bytes_max: Option<u64>,
    /// `false`: nothing is ever deleted.
    pub is_cleaned_up: bool,
    pub cleanup_interval: Duration,
}

impl Default for LogRetention {
    fn default() -> Self {
        LogRetention {
            days: 7,
            bytes_max: Some(100 * MEGABYTE),
            is_cleaned_up: true,
            cleanup_interval: Duration::from_secs(24 * 60 * 60),
        }
    }
}
