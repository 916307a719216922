//! The request: which of them are forwarded and where to (`plan`, `target`, `path`), and the head as it goes upstream (`head`).

pub mod head;
pub mod path;
pub mod plan;
pub mod target;
