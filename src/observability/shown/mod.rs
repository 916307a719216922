//! Single exchanges as they are shown to people: the last ones of a shard (`past`), and those whose answers are open.
//!
//! A shard keeps what is needed in its own memory, and publishes a copy (`view`) when it is asked for one. Invariant:
//! nothing is shared, allocated or woken on the path of a request; a copy is bounded in entries and in bytes.

pub mod past;
pub mod view;
