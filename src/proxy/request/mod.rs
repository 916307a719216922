//! The request: what is done with it (`plan`, by the `rules`), where it goes (`target`, `path`), and its head as it goes upstream
//! (`head`). The stored objects that it names (`objects`), in its body too (`references`, `json_members`). None of them
//! does I/O.

pub mod head;
pub mod json_members;
pub mod objects;
pub mod path;
pub mod plan;
pub mod references;
pub mod rules;
pub mod target;
