//! Credentials: the entries of `secrets.json`, their tokens and how those are known when they come back
//! (`token_traces`), which of them a request uses (`choice`), and their cooldowns; and the API keys of those who may use
//! the gateway, and what they may do (`api_keys`); and which identity made a stored object (`owners`), and what its user
//! may still spend (`quota`).
//!
//! Invariant: [`Credentials`] is a snapshot of at least one entry whose entries never change; a reload makes another. A
//! [`CredentialId`] is only valid for the snapshot that returned it. The standing of an identity with the upstream does
//! change, for all shards and snapshots at once (`standing`). Nothing here does I/O except [`load`] and
//! [`ApiKeys::load`].

mod api_keys;
mod choice;
pub mod commented_json;
mod credential;
mod owners;
pub mod private_file;
pub mod quota;
mod secret;
mod secrets_file;
mod snapshot;
mod standing;
mod token;
mod token_traces;

pub use api_keys::{
    API_KEY_BYTES_MAX, ApiKeyId, ApiKeys, ApiKeysFault, ApiKeysFileError, KeyLimits, KeyPolicy, LimitField, LoadedKeys,
    ModelPattern, NEW_KEY_PREFIX, NEW_KEY_SUFFIX_BYTES, NewPermissions, UnaddedKey, add_key, as_json, credential_form,
    is_credential, is_model, is_name, model_form, name_form, new_key, read_keys,
};
pub use choice::{Choice, OwnedByOthers, Owner, RotationId, Rotations, Selection, Selector, SessionKey, Turn};
pub use commented_json::JsonFault;
pub use credential::{Credential, CredentialId};
pub use owners::{ObjectKey, OwnerKey, OwnerRecord, Owners, Shelf};
pub use secret::Secret;
pub use secrets_file::{
    LoadedCredentials, NewEntry, SecretsFault, SecretsFileError, SecretsMistake, extended, from_json, load, written,
};
pub use snapshot::Credentials;
pub use standing::{
    CheckClaim, Cooling, CredentialFault, FaultKind, HeldSuspicion, PathFamily, RestScope, limited_for,
};
pub use token::{TokenCache, TokenError, bare_token, mint};
pub use token_traces::{TextEnd, TokenTraces};
