//! The credentials that a shard uses, with their ready tokens and the accounts that their requests are counted in, the
//! keys that it asks callers for, with the accounts of those that have limits, and which credentials their requests
//! choose from.
//!
//! Invariant: an exchange holds the snapshot that it began with, so a reload in its middle changes nothing for it, and
//! ids of one snapshot never meet those of another.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::credentials::{
    ApiKeyId, ApiKeys, CredentialId, Credentials, KeyPolicy, Rotations, Selection, Selector, TokenCache, TokenTraces,
};
use crate::io::clock;
use crate::observability::{Account, Ledger};
use crate::proxy::error::GatewayError;
use crate::proxy::key_accounts::{Governed, KeyAccounts};
use crate::usage::books::{BookRow, ROWS_MAX, UsageBook};
use crate::usage::models::ModelId;

/// One set of credentials and keys in the hands of a shard.
pub struct Snapshot {
    pub credentials: Arc<Credentials>,
    /// `None`: callers need no key.
    pub keys: Option<Arc<ApiKeys>>,
    /// By the numbers of the keys; empty where none of them has limits or may use only some models.
    governed: Arc<[Option<Governed>]>,
    /// Those of these credentials and keys, shared by all shards.
    pub rotations: Arc<Rotations>,
    tokens: RefCell<TokenCache>,
    accounts: Vec<Arc<Account>>,
    usage_rows: RefCell<HashMap<UsageRowId, Arc<BookRow>>>,
}

/// The snapshot of new exchanges of a shard.
pub type Newest = Rc<RefCell<Rc<Snapshot>>>;

/// The names of a row, as numbers of this snapshot.
type UsageRowId = (Option<ApiKeyId>, CredentialId, ModelId);

impl Snapshot {
    pub fn new(rotations: Arc<Rotations>, ledger: &Ledger, key_accounts: &KeyAccounts) -> Self {
        let (credentials, keys) = (rotations.credentials.clone(), rotations.keys.clone());
        let tokens = RefCell::new(TokenCache::new(credentials.len()));
        let accounts = credentials.names().map(|name| ledger.account(name)).collect();
        let governed = key_accounts.governed(keys.as_ref());
        Snapshot { credentials, keys, governed, rotations, tokens, accounts, usage_rows: RefCell::default() }
    }

    /// Returns what a key may not do without asking; `None`: it may do everything.
    pub fn governed(&self, key: Option<ApiKeyId>) -> Option<&Governed> {
        self.governed.get(key?.index())?.as_ref()
    }

    /// Returns what a key may do.
    pub fn policy(&self, key: ApiKeyId) -> Option<&KeyPolicy> {
        self.keys.as_ref().map(|keys| keys.policy(key))
    }

    /// Returns the choice of a request.
    pub fn selector(&self, selection: Selection) -> Selector<'_> {
        self.rotations.selector(selection)
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
        match tokens.authorization(&self.credentials, credential, clock::now()) {
            Ok(authorization) => Ok(use_it(authorization)),
            Err(error) => {
                tracing::error!(credential = self.name(credential), %error, "no token");
                Err(GatewayError::TokenFailed)
            }
        }
    }

    /// Returns how the token of a credential is known when it comes back.
    pub fn traces(&self, credential: CredentialId) -> Rc<TokenTraces> {
        self.tokens.borrow().traces(credential)
    }

    pub fn account(&self, credential: CredentialId) -> &Account {
        &self.accounts[credential.index()]
    }

    /// Returns where the usage of these is counted in `book`.
    pub fn usage_row(
        &self,
        book: &UsageBook,
        key: Option<ApiKeyId>,
        credential: CredentialId,
        model: ModelId,
    ) -> Arc<BookRow> {
        let id = (key, credential, model);
        let mut rows = self.usage_rows.borrow_mut();
        if let Some(row) = rows.get(&id) {
            return row.clone();
        }
        let key_name = key.and_then(|key| self.key_name(key)).unwrap_or_default();
        let row = book.row(key_name, self.name(credential), model);
        if rows.len() < ROWS_MAX {
            rows.insert(id, row.clone());
        }
        row
    }

    pub fn name(&self, credential: CredentialId) -> &str {
        &self.credentials.entry(credential).name
    }

    pub fn key_name(&self, key: ApiKeyId) -> Option<&str> {
        self.keys.as_ref().map(|keys| keys.name(key))
    }
}
