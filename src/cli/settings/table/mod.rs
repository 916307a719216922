//! The table of settings, in the order in which the README, the help and `check` list them.
//!
//! Its parts are by subject, each with the rules between its settings. A new setting is one row in one of them, its
//! field in the configuration, and its row in the README and lines in `.env.example`, which tests ask for.

pub mod access;
mod exchange;
pub mod gateway;
pub mod logs;
pub mod upstream;
mod upstream_proxy;
pub mod usage;

use super::setting::Setting;

/// The rows, by subject.
const SUBJECTS: [&[Setting]; 6] =
    [gateway::ROWS, upstream::ROWS, access::ROWS, exchange::ROWS, usage::ROWS, logs::ROWS];

/// Returns every setting, in the order of the table.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    SUBJECTS.into_iter().flatten()
}

/// Finds a setting and the spelling of its flag by what was written, such as `--port`.
pub fn by_flag(name: &str) -> Option<(&'static Setting, &'static str)> {
    settings().find_map(|setting| Some((setting, setting.flag_named(name)?)))
}
