//! TLS with the upstream: a connection's session (`session`), and its trust anchors (`trust`).

pub mod session;
#[cfg(test)]
pub(super) mod tests;
mod trust;

pub use self::trust::{TrustError, TrustSource, client_config};
