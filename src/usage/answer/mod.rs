//! The usage that an answer tells (`told`), read as it passes.
//!
//! Of a `stream` an event that may tell something is parsed (`event`), where it was not seen before by its `shape`; of
//! all others only the `deltas` of text are counted, by the key before each (`text_key`). The `messages` of a WebSocket
//! are events of their own. Any other `body` of JSON is read whole, or its end. The members of a usage object are
//! `fields`. Invariant: nothing is held, changed or allocated.

pub mod body;
mod deltas;
mod event;
mod fields;
pub mod messages;
mod shape;
pub mod stream;
mod text_key;
pub mod told;
