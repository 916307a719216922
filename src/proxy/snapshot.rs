//! The credentials that a shard uses, with their ready tokens.
//!
//! Invariant: an exchange holds the snapshot that it began with, so a reload in its middle changes nothing for it, and
//! ids of one snapshot never meet those of another.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use super::error::GatewayError;
use crate::credentials::{CredentialId, Credentials, TokenCache};

/// One set of credentials in the hands of a shard.
pub struct Snapshot {
    pub credentials: Arc<Credentials>,
    tokens: RefCell<TokenCache>,
}

impl Snapshot {
    pub fn new(credentials: Arc<Credentials>) -> Self {
        let tokens = RefCell::new(TokenCache::new(credentials.len()));
        Snapshot { credentials, tokens }
    }

    /// Gives `use_it` the `Authorization` value of a credential.
    ///
    /// # Errors
    /// [`GatewayError::TokenFailed`]; the log says of which credential.
    pub fn with_authorization<T>(
        &self,
        credential: CredentialId,
        use_it: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, GatewayError> {
        let mut tokens = self.tokens.borrow_mut();
        match tokens.authorization(&self.credentials, credential, Instant::now()) {
            Ok(authorization) => Ok(use_it(authorization)),
            Err(error) => {
                tracing::error!(credential = self.name(credential), %error, "no token");
                Err(GatewayError::TokenFailed)
            }
        }
    }

    pub fn name(&self, credential: CredentialId) -> &str {
        &self.credentials.entry(credential).name
    }
}
