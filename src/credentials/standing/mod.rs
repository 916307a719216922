//! The standing of the identities with the upstream, as a whole (`record`) and for one model or one family of paths
//! (`scope`, kept in `rests`), and the length of their cooldowns (`cooldown`).
//!
//! All entries of an identity share one [`Standing`], in all snapshots that know it and on all shards. Invariant: no
//! lock, and nothing that is waited for.

mod cooldown;
mod record;
mod rests;
mod scope;

pub use self::cooldown::{CredentialFault, FaultKind, limited_for};
pub use self::record::{CheckClaim, Cooling, HeldProbe, HeldSuspicion};
pub use self::scope::{PathFamily, RestScope};

pub(super) use self::cooldown::Availability;
pub(super) use self::record::{Claim, Standing};
pub(super) use self::rests::{Resting, Rests};
