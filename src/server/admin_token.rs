//! The loading of the admin pages' token, at the start and on SIGHUP.

use super::admin::{AdminToken, AdminTokenError};
use crate::config::Config;
use crate::whole_file::FileKinds;

/// Loads the token, where a file is named.
///
/// # Errors
/// It gives no token.
pub fn load(config: &Config, kinds: FileKinds) -> Result<Option<AdminToken>, AdminTokenError> {
    let Some(path) = &config.access.admin_token_file else { return Ok(None) };
    let loaded = AdminToken::load(path, kinds)?;
    if let Some(warning) = loaded.warning {
        tracing::warn!("{warning}");
    }
    Ok(Some(loaded.token))
}
