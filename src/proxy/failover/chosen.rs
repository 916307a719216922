//! The credential of an attempt.

use std::time::Instant;

use crate::credentials::Turn;

/// A turn, and the time at which its credential was chosen.
#[derive(Debug)]
pub struct Chosen {
    pub turn: Turn,
    pub at: Instant,
}
