//! The settings of the log: level, format, file and retention.

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
    /// The output besides stderr.
    pub file: Option<LogFileLocation>,
    pub retention: LogRetention,
}

/// The location of the log file, by its path or by its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogFileLocation {
    /// This file, in a directory that exists.
    At(PathBuf),
    /// [`LOG_FILE_NAME`] in this directory, which is created.
    In(PathBuf),
}

/// The retention of rotated log files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRetention {
    /// The age at which they are deleted, in days.
    pub days: u32,
    /// The log file and the rotated ones together; `None`: no limit.
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
