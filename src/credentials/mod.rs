//! Whose name is used: the entries of `secrets.json`, their tokens, whose turn it is, and who is left alone for a while.
//! And who may ask for that (`api_keys`).
//!
//! Invariant: [`Credentials`] is a snapshot of at least one entry whose entries and turns never change; a reload makes
//! another. A [`CredentialId`] is only good for the snapshot that gave it out. How an identity stands with the upstream
//! does change, for all shards and snapshots at once (`standing`). Nothing here does I/O except [`load`] and
//! [`ApiKeys::load`].

mod api_keys;
mod balancer;
mod credential;
mod order;
pub mod private_file;
mod secret;
mod secrets_entry;
mod secrets_error;
mod secrets_file;
mod snapshot;
mod standing;
mod token;

pub use api_keys::{ApiKeyId, ApiKeys, ApiKeysFault, ApiKeysFileError, LoadedKeys};
pub use balancer::{Choice, RoundRobin, Turn};
pub use credential::{Credential, CredentialId};
pub use secret::Secret;
pub use secrets_entry::LoadedCredentials;
pub use secrets_error::{SecretsFault, SecretsFileError, SecretsMistake};
pub use secrets_file::{from_json, load};
pub use snapshot::Credentials;
pub use standing::{Cooling, CredentialFault};
pub use token::{TokenCache, TokenError, mint};
