//! The settings of usage, and the place of the file of totals where none is named.

use std::path::PathBuf;

use crate::cli::settings::draft::Draft;
use crate::cli::settings::error::ValueSource;
use crate::cli::settings::form::{OwnForm, Word};
use crate::cli::settings::reading::{Environment, Reading};
use crate::cli::settings::setting::{PathKind, Setting};
use crate::config::{self, PriceSource, USAGE_FILE_NAME};

const OFF: &str = "off";
const USAGE_DB: Setting = Setting {
    flag: "--usage-db",
    variable: Some("FLOW_PROXY_USAGE_DB"),
    help: "file of the totals that outlive the process, or off = in memory alone",
    default: "usage.sqlite in the state directory",
    example: Some(""),
    path: Some(PathKind::File),
    ..Setting::ROW
};

pub const ROWS: &[Setting] = &[
    Setting {
        flag: "--usage",
        variable: Some("FLOW_PROXY_USAGE"),
        help: "on or off: tokens and cost are read from answers and added up",
        default: "on",
        form: Some(&OwnForm {
            read: |draft, text| config::parse_on_off(text).map(|is_on| draft.config.usage.is_counted = is_on),
            show: |draft| Some(if draft.config.usage.is_counted { "on" } else { OFF }.into()),
        }),
        ..Setting::ROW
    },
    USAGE_DB,
    Setting {
        flag: "--prices",
        variable: Some("FLOW_PROXY_PRICES"),
        help: "file of prices in LiteLLM's JSON form, by which cost is estimated, or off",
        default: "the upstream's own list",
        example: Some(""),
        path: Some(PathKind::File),
        form: Some(&OwnForm {
            read: |draft, text| {
                let is_off = text.eq_ignore_ascii_case(OFF);
                draft.config.usage.prices = if is_off { PriceSource::Nothing } else { PriceSource::File(text.into()) };
                Ok(())
            },
            show: |draft| match &draft.config.usage.prices {
                PriceSource::Nothing => Some(OFF.into()),
                PriceSource::Upstream => None,
                PriceSource::File(path) => Some(path.display().to_string()),
            },
        }),
        ..Setting::ROW
    },
    Setting {
        flag: "--quota",
        variable: Some("FLOW_PROXY_QUOTA"),
        help: "off or flow = Flow is asked every 5 minutes what its users may still spend, and blocked ones rest",
        default: "off",
        form: Some(&Word(|draft| &mut draft.config.quota)),
        ..Setting::ROW
    },
    Setting {
        flag: "--otel-names",
        variable: Some("FLOW_PROXY_OTEL_NAMES"),
        help: "on = also the metrics of OpenTelemetry's conventions for generative AI, which are in development",
        form: Some(&OwnForm {
            read: |draft, text| config::parse_on_off(text).map(|is_on| draft.config.usage.has_otel_names = is_on),
            show: |draft| Some(if draft.config.usage.has_otel_names { "on" } else { OFF }.into()),
        }),
        ..Setting::SWITCH
    },
];

/// Finds the file of totals. Returns a warning where there is no place for it.
pub fn settle(
    reading: &mut Reading<'_>,
    draft: &mut Draft,
    environment: &Environment<'_>,
    is_demo: bool,
) -> Option<String> {
    let (file, source) = find_file(reading, environment);
    // The tokens of the demo are made up: they do not belong to what was spent, unless a file is named for them.
    let file = file.filter(|_| !is_demo || source != ValueSource::Default);
    let shown = match &file {
        Some(file) => file.display().to_string(),
        None if is_demo => "off, the demo keeps its totals in memory".into(),
        None if source == ValueSource::Default => "off, no directory for it is known".into(),
        None => OFF.into(),
    };
    reading.note(USAGE_DB.flag, shown, source);
    let usage = &mut draft.config.usage;
    usage.file = file;
    let is_homeless = usage.file.is_none() && source == ValueSource::Default && usage.is_counted && !is_demo;
    is_homeless.then(|| {
        "totals of usage end with this process: there is no HOME, and none of STATE_DIRECTORY and XDG_STATE_HOME, to \
         keep them in; name a file by --usage-db, or say off"
            .into()
    })
}

/// Returns the file of totals with the source of that; no file where it is off, or where no directory is known.
pub fn find_file(reading: &mut Reading<'_>, environment: &Environment<'_>) -> (Option<PathBuf>, ValueSource) {
    match reading.pick(&USAGE_DB) {
        Some((text, source)) if text.eq_ignore_ascii_case(OFF) => (None, source),
        Some((text, source)) => (Some(PathBuf::from(&**text)), source),
        None => (state_directory(environment).map(|path| path.join(USAGE_FILE_NAME)), ValueSource::Default),
    }
}

/// The directory for what outlives a process: the one that systemd made for the service (of several the first), else
/// this user's by the XDG Base Directory Specification, by which a path that is not absolute does not count.
fn state_directory(environment: &Environment<'_>) -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = environment(name).ok().map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let of_service = environment("STATE_DIRECTORY").ok();
    let of_service = of_service.as_deref().and_then(|list| list.split(':').next()).map(PathBuf::from);
    of_service
        .filter(|path| path.is_absolute())
        .or_else(|| absolute("XDG_STATE_HOME").map(|path| path.join("flow-uring")))
        .or_else(|| absolute("HOME").map(|path| path.join(".local/state/flow-uring")))
}
