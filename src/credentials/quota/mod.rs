//! The quotas of the upstream's users, as it tells them: what an answer says (`answer`, with its `moment`s), what is
//! known of one identity's (`record`), the day on which one runs out (`projection`), and the identities of one user as
//! one (`groups`), which rest together where the user is blocked.
//!
//! All entries of an identity share one record, in all snapshots that know it and on all shards, as they share its
//! standing. Invariant: no I/O, no lock, and nothing that is waited for; what cannot be read changes nothing.

pub mod answer;
pub mod groups;
pub mod moment;
pub mod projection;
pub mod record;
