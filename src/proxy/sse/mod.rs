//! Event streams: their grammar (`tokenizer`) and its consumers (`consumer`), which are the verdict on the first events
//! (`opening`), and the place at which a stream stands (`tracker`) with the end of its turn (`turn_end`). How a broken
//! stream is ended is in `ending` and `unfinished_json`. None of them does I/O.

pub mod consumer;
pub mod ending;
pub mod opening;
mod prefix;
#[cfg(test)]
pub mod reference;
pub mod tokenizer;
pub mod tracker;
pub mod turn_end;
pub mod unfinished_json;
