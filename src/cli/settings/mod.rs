//! The settings: from the command line, the environment and `.env` to a configuration.

mod access;
mod configure;
mod dotenv;
mod logging;
mod source;
mod upstream_proxy;

pub use configure::{Configured, Surroundings, configure, resolve_listen_host};
pub use dotenv::DotEnv;
pub use source::{EffectiveSetting, SettingErrors, ValueSource};
