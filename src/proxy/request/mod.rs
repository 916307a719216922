//! The request: what is done with it (`plan`, by the `rules`), where it goes (`target`, `path`), and its head as it goes upstream
//! (`head`), and the strings that its body begins with (`member_strings`). None of them does I/O.

pub mod head;
pub mod member_strings;
pub mod path;
pub mod plan;
pub mod rules;
pub mod target;
