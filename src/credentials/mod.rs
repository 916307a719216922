//! Credentials: the entries of `secrets.json`, their tokens and how those are known when they come back
//! (`token_traces`), the order in which they take turns, and their cooldowns; and the API keys of those who may use the
//! gateway (`api_keys`); and which identity made a stored object (`owners`), and what its user may still spend (`quota`).
//!
//! Invariant: [`Credentials`] is a snapshot of at least one entry whose entries and turns never change; a reload makes
//! another. A [`CredentialId`] is only valid for the snapshot that returned it. The standing of an identity with the
//! upstream does change, for all shards and snapshots at once (`standing`). Nothing here does I/O except [`load`] and
//! [`ApiKeys::load`].

mod api_keys;
mod balancer;
mod credential;
mod key_policy;
mod order;
mod owners;
pub mod private_file;
pub mod quota;
mod secret;
mod secrets_entry;
mod secrets_error;
mod secrets_file;
mod snapshot;
mod standing;
mod token;
mod token_traces;

pub use api_keys::{API_KEY_BYTES_MAX, ApiKeyId, ApiKeys, ApiKeysFault, ApiKeysFileError, LoadedKeys};
pub use balancer::{Choice, RoundRobin, Turn};
pub use credential::{Credential, CredentialId};
pub use key_policy::{KeyLimits, KeyPolicy, ModelPattern};
pub use owners::{ObjectKey, OwnerKey, OwnerRecord, Owners, Shelf};
pub use secret::Secret;
pub use secrets_entry::LoadedCredentials;
pub use secrets_error::{SecretsFault, SecretsFileError, SecretsMistake};
pub use secrets_file::{NewEntry, extended, from_json, load, written};
pub use snapshot::Credentials;
pub use standing::{CheckClaim, Cooling, CredentialFault, FaultKind, PathFamily, RestScope, limited_for};
pub use token::{TokenCache, TokenError, bare_token, mint};
pub use token_traces::{TextEnd, TokenTraces};
