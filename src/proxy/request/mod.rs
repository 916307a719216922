//! The request: what is done with it (`plan`, by the `rules`), where it goes (`target`, `path`, `gemini`), whether it
//! may go there twice (`replayable`), and its head as it goes upstream (`head`) with the token in it (`token_place`).
//! The stored objects that it names are in `objects`, those that its body names in `references` and `json_members`, the
//! strings that it begins with in `member_strings`. None of them does I/O.

mod gemini;
pub mod head;
pub mod json_members;
pub mod member_strings;
pub mod objects;
pub mod path;
pub mod plan;
pub mod references;
pub mod replayable;
pub mod rules;
pub mod target;
pub mod token_place;
