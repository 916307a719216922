//! Event streams: how they begin (`opening`), where they stand (`tracker`), whether their turn is over (`turn_end`), and
//! how a broken one is ended (`ending`, `unfinished_json`). None of them does I/O.

pub mod ending;
pub mod opening;
#[cfg(test)]
pub mod reference;
pub mod tracker;
pub mod turn_end;
pub mod unfinished_json;
