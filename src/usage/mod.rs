//! The tokens and the cost of answers.
//!
//! What an answer tells (`tokens`) and what it cost (`cost`), by what it tells or by `prices`. Invariant: what was
//! reported and what was estimated are never added up. Not here: the way of an answer, and metrics.

pub mod cost;
pub mod prices;
pub mod tokens;
