//! The API of the admin listener: the state of the gateway as JSON, whose names are documented (docs/admin.md) and
//! stay.
//!
//! `state` puts together (each second for `events`) what its parts tell: the `gateway` itself, the requests so far
//! (`totals`), what they cost (`usage`), the `credentials` with their `quota`, the `keys` with limits, single
//! `exchanges`, and the `history`, which is made of a
//! `sample` a second. Invariant: made of what the shards have counted; no secret is in it, since of credentials and
//! keys only the names are known here.

pub mod clocks;
pub mod credentials;
pub mod events;
pub mod exchanges;
pub mod history;
pub mod keys;
pub mod process;
pub mod quota;
pub mod sample;
pub mod state;
pub mod totals;
pub mod usage;
