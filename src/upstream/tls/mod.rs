//! The upstream side of TLS: a connection's session (`session`), and whom it trusts (`trust`).

pub mod session;
#[cfg(test)]
pub(super) mod tests;
mod trust;

pub use self::trust::{TrustError, TrustSource, client_config};
