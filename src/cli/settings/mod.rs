//! The settings: from the command line, the environment and `.env` to a configuration.
//!
//! Each is one row of the `table`. A row (`setting`) names the `form` of its value and its field in the `draft`;
//! `reading` knows the precedence of flags (`written`), environment and `.env` (`dotenv`), and `configure` goes through
//! the table and then through the rules between settings.

mod configure;
mod dotenv;
mod draft;
#[cfg(test)]
mod env_example;
mod error;
mod form;
mod reading;
mod setting;
mod table;
#[cfg(test)]
mod testing;
mod written;

pub use configure::{Configured, Surroundings, configure, usage_file};
pub use dotenv::DotEnv;
pub use error::SettingErrors;
pub use reading::EffectiveSetting;
pub use setting::{Completion, PathKind, Setting, SettingRank};
pub use table::access::ADMIN_TOKEN_FILE;
pub use table::gateway::{ADMIN, SHARDS, resolve_listen_host};
pub use table::{by_flag, settings};
pub use written::WrittenFlags;
