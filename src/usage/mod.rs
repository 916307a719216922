//! The tokens and the cost of answers.
//!
//! The telling of an answer (`answer`) is read from the events of a `stream`, of which one is an `event` or only its
//! `deltas` (by their `shape`, or by each `text_key`), or from a `body`. The members of a usage object are `fields`; the counts in the terms of
//! all dialects are `tokens`, and money is `cost`. Invariant: what was reported and what was estimated are never added
//! up. Not here: the way of an answer, and metrics.

pub mod answer;
pub mod body;
pub mod cost;
mod deltas;
mod event;
mod fields;
mod shape;
pub mod stream;
mod text_key;
pub mod tokens;
