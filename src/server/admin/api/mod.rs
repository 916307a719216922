//! The API of the admin listener: the state of the gateway as JSON, whose names are documented (docs/admin.md) and stay.
//!
//! `state` puts together what its parts tell: the `gateway` itself, the requests so far (`totals`), what they cost
//! (`costs`), and the `credentials`. Invariant: made of what the shards have counted, without waiting for them; no
//! secret is in it, since of credentials and keys only the names are known here.

pub mod costs;
pub mod credentials;
pub mod process;
pub mod state;
pub mod totals;
