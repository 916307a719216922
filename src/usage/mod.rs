//! The tokens and the cost of answers.
//!
//! What an `answer` tells is in the counts of all dialects (`tokens`). It cost what it told or what `prices` say
//! (`cost`). Each shard adds it up in the `books`, by key, credential and model (`models`), and in the terms of
//! OpenTelemetry (`gen_ai`); the sums (`totals`) that outlive the process are in a file (`store`), which a thread
//! writes (`keeper`), and are told as a `report`. Invariant: what was reported and what was estimated are never added
//! up. Not here: the way of an answer, and the page of metrics.

pub mod answer;
pub mod books;
pub mod cost;
pub mod gen_ai;
pub mod keeper;
pub mod models;
pub mod prices;
pub mod report;
pub mod store;
pub mod tokens;
pub mod totals;
