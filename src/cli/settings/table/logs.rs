//! The settings of the log: its level and form, its file, and how long that is kept.

use std::time::Duration;

use crate::cli::settings::draft::Draft;
use crate::cli::settings::error::ValueSource;
use crate::cli::settings::form::{OptionalPath, OwnForm, SizeLimit, WholeNumber, Word};
use crate::cli::settings::reading::Reading;
use crate::cli::settings::setting::{PathKind, Setting, SettingRank};
use crate::config::{self, LogFileLocation, MEGABYTE};

/// Ten years: longer is a slip of the hand.
const LOG_DAYS_MAX: u64 = 3660;
/// A terabyte.
const LOG_MEGABYTES_MAX: u64 = 1_000_000;
/// A year.
const CLEANUP_HOURS_MAX: u64 = 366 * 24;
const SECONDS_PER_HOUR: u64 = 60 * 60;

pub const CAPTURE_DIRECTORY: &str = "--capture-dir";
const LOG_DIRECTORY: &str = "--log-dir";
/// Retention is set once for a machine, by variables alone.
const WITHOUT_FLAG: Setting = Setting { has_flag: false, ..Setting::ROW };

pub const ROWS: &[Setting] = &[
    Setting {
        flag: "--log-level",
        variable: Some("FLOW_PROXY_LOG_LEVEL"),
        help: "DEBUG, INFO, WARNING or ERROR",
        default: "INFO",
        rank: SettingRank::Basic,
        form: Some(&Word(|draft| &mut draft.config.log.level)),
        ..Setting::ROW
    },
    Setting {
        flag: "--log-format",
        variable: Some("FLOW_PROXY_LOG_FORMAT"),
        help: "text or json",
        default: "text",
        form: Some(&Word(|draft| &mut draft.config.log.format)),
        ..Setting::ROW
    },
    Setting {
        flag: "--log-file",
        variable: Some("FLOW_PROXY_LOG_FILE"),
        help: "file that log lines go to besides stderr, put aside daily and by size",
        default: "none",
        example: Some(""),
        path: Some(PathKind::File),
        form: Some(&OptionalPath(|draft| &mut draft.log_file)),
        ..Setting::ROW
    },
    Setting {
        flag: LOG_DIRECTORY,
        variable: Some("FLOW_PROXY_LOG_DIR"),
        help: "the same as flow-uring.log in this directory, which is made",
        default: "none",
        example: Some("/var/log/flow-uring"),
        path: Some(PathKind::Directory),
        form: Some(&OptionalPath(|draft| &mut draft.log_directory)),
        ..Setting::ROW
    },
    Setting {
        flag: CAPTURE_DIRECTORY,
        variable: Some("FLOW_PROXY_CAPTURE_DIR"),
        help: "directory, which is made, that the newest 200 failed exchanges are kept in, one file each, for explain",
        default: "none",
        example: Some("/var/lib/flow-uring/captures"),
        path: Some(PathKind::Directory),
        form: Some(&OptionalPath(|draft| &mut draft.config.capture_directory)),
        ..Setting::ROW
    },
    Setting {
        flag: "--log-retention-days",
        variable: Some("FLOW_PROXY_LOG_RETENTION_DAYS"),
        help: "days that log files which were put aside are kept",
        default: "7",
        form: Some(&WholeNumber {
            kind: "a whole number of days",
            least: 1,
            most: LOG_DAYS_MAX,
            unit: " days",
            field: |draft| &mut draft.config.log.retention.days,
        }),
        ..WITHOUT_FLAG
    },
    Setting {
        flag: "--log-max-size",
        variable: Some("FLOW_PROXY_LOG_MAX_SIZE_MB"),
        help: "all files of the log together in MB, 0 = no limit",
        default: "100",
        form: Some(&SizeLimit {
            kind: "a whole number of MB (0 = no limit)",
            unit: "MB",
            unit_bytes: MEGABYTE,
            most: LOG_MEGABYTES_MAX,
            field: |draft| &mut draft.config.log.retention.bytes_max,
        }),
        ..WITHOUT_FLAG
    },
    Setting {
        flag: "--log-cleanup",
        variable: Some("FLOW_PROXY_LOG_CLEANUP_ENABLED"),
        help: "false = nothing is ever deleted",
        default: "true",
        form: Some(&OwnForm {
            read: |draft, text| config::parse_bool(text).map(|is_on| draft.config.log.retention.is_cleaned_up = is_on),
            show: |draft| Some(draft.config.log.retention.is_cleaned_up.to_string()),
        }),
        ..WITHOUT_FLAG
    },
    Setting {
        flag: "--log-cleanup-interval",
        variable: Some("FLOW_PROXY_LOG_CLEANUP_INTERVAL_HOURS"),
        help: "hours after which old log files are looked for, besides at each rotation",
        default: "24",
        form: Some(&OwnForm {
            read: |draft, text| {
                let hours: u64 = config::parse_count(text, 1, CLEANUP_HOURS_MAX, "a whole number of hours")?;
                draft.config.log.retention.cleanup_interval = Duration::from_secs(hours * SECONDS_PER_HOUR);
                Ok(())
            },
            show: |draft| {
                Some(format!("{} h", draft.config.log.retention.cleanup_interval.as_secs() / SECONDS_PER_HOUR))
            },
        }),
        ..WITHOUT_FLAG
    },
];

/// Makes one log file of the two ways to name it.
pub fn settle(reading: &mut Reading<'_>, draft: &mut Draft) {
    let (file, directory) = (draft.log_file.take(), draft.log_directory.take());
    if file.is_some() && directory.is_some() {
        let source = reading.source(LOG_DIRECTORY).unwrap_or(ValueSource::Default);
        let rule = "the log file is named already by --log-file (FLOW_PROXY_LOG_FILE): give only one of them";
        reading.conflict(source, rule);
    }
    draft.config.log.file = file.map(LogFileLocation::At).or_else(|| directory.map(LogFileLocation::In));
}
