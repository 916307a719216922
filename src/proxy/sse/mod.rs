//! Event streams: how they begin (`opening`), what was in them (`tracker`), and the JSON of an event that broke off
//! (`unfinished_json`). None of them does I/O.

pub mod opening;
pub mod tracker;
pub mod unfinished_json;
