//! The tokens and the cost of answers.
//!
//! What an answer tells (`tokens`) and what it cost (`cost`), the sums of many by what they are of (`totals`), and those
//! that outlive the process: a file (`store`) and the thread that writes it (`keeper`). Invariant: what was reported and
//! what was estimated are never added up. Not here: the way of an answer, and metrics.

pub mod cost;
pub mod keeper;
pub mod store;
pub mod tokens;
pub mod totals;
