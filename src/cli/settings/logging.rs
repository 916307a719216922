//! The settings of the log: what is written, where, and how long it is kept.

use std::time::Duration;

use super::source::{Setting, SettingError, SettingsReader};
use crate::cli::args::Args;
use crate::config::{self, LogConfig, LogFile, LogFormat, LogLevel, LogRetention, MEGABYTE};

/// Ten years: longer is a slip of the hand.
const LOG_DAYS_MAX: u64 = 3660;
/// A terabyte.
const LOG_MEGABYTES_MAX: u64 = 1_000_000;
/// A year.
const CLEANUP_HOURS_MAX: u64 = 366 * 24;

pub fn read_log(reader: &mut SettingsReader<'_>, args: &Args) -> LogConfig {
    let level = reader.read(
        Setting::new("--log-level", "FLOW_PROXY_LOG_LEVEL"),
        args.log_level.as_deref(),
        LogLevel::default(),
        str::parse,
    );
    let format = reader.read(
        Setting::new("--log-format", "FLOW_PROXY_LOG_FORMAT"),
        args.log_format.as_deref(),
        LogFormat::default(),
        str::parse,
    );
    LogConfig { level, format, file: read_log_file(reader, args), retention: read_log_retention(reader) }
}

fn read_log_file(reader: &mut SettingsReader<'_>, args: &Args) -> Option<LogFile> {
    const FILE: Setting = Setting::new("--log-file", "FLOW_PROXY_LOG_FILE");
    const DIRECTORY: Setting = Setting::new("--log-dir", "FLOW_PROXY_LOG_DIR");
    let (file, _) = reader.read_path(FILE, args.log_file.as_deref(), "none");
    let (directory, source) = reader.read_path(DIRECTORY, args.log_dir.as_deref(), "none");
    if file.is_some() && directory.is_some() {
        let rule = "the log file is named already by --log-file (FLOW_PROXY_LOG_FILE): give only one of them";
        reader.mistakes.push(SettingError::Conflict { source, rule });
    }
    file.map(LogFile::At).or_else(|| directory.map(LogFile::In))
}

/// These have no flags: they are set once for a machine.
fn read_log_retention(reader: &mut SettingsReader<'_>) -> LogRetention {
    let defaults = LogRetention::default();
    let days = reader.read_shown(
        Setting::new("--log-retention-days", "FLOW_PROXY_LOG_RETENTION_DAYS"),
        None,
        defaults.days,
        |text| config::parse_count(text, 1, LOG_DAYS_MAX, "a whole number of days"),
        |days| format!("{days} days"),
    );
    let bytes_max = reader.read_shown(
        Setting::new("--log-max-size", "FLOW_PROXY_LOG_MAX_SIZE_MB"),
        None,
        defaults.bytes_max,
        |text| {
            let count: u64 = config::parse_count(text, 0, LOG_MEGABYTES_MAX, "a whole number of MB (0 = no limit)")?;
            Ok(Some(count * MEGABYTE).filter(|bytes| *bytes > 0))
        },
        |limit| limit.map_or("no limit".into(), |bytes| format!("{} MB", bytes / MEGABYTE)),
    );
    let is_cleaned_up = reader.read(
        Setting::new("--log-cleanup", "FLOW_PROXY_LOG_CLEANUP_ENABLED"),
        None,
        defaults.is_cleaned_up,
        config::parse_bool,
    );
    let cleanup_interval = reader.read_shown(
        Setting::new("--log-cleanup-interval", "FLOW_PROXY_LOG_CLEANUP_INTERVAL_HOURS"),
        None,
        defaults.cleanup_interval,
        |text| {
            config::parse_count::<u64>(text, 1, CLEANUP_HOURS_MAX, "a whole number of hours")
                .map(|hours| Duration::from_secs(hours * 60 * 60))
        },
        |interval| format!("{} h", interval.as_secs() / (60 * 60)),
    );
    LogRetention { days, bytes_max, is_cleaned_up, cleanup_interval }
}
