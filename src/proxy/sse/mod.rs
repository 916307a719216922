//! Event streams: their grammar (`tokenizer`) and its consumers (`consumer`), which are the verdict on the first events
//! (`opening`), and the place at which a stream stands (`tracker`) with what its `events` tell: their `dialect` and the
//! end of the turn, by the `members` of a JSON object. Their data goes to the reader of usage too (`usage`). How a
//! broken stream is ended is in `ending`. None of them does I/O.

pub mod consumer;
pub mod dialect;
pub mod ending;
pub mod events;
pub mod members;
pub mod opening;
#[cfg(test)]
pub mod reference;
pub mod tokenizer;
pub mod tracker;
pub mod usage;
