//! The request: what is done with it (`plan`, by the `rules`), where it goes (`target`, `path`, `gemini`), whether it may go
//! there twice (`replayable`), and its head as it goes upstream (`head`) with the token in it (`token_place`), and
//! the strings that its body begins with (`member_strings`). None of them does I/O.

mod gemini;
pub mod head;
pub mod member_strings;
pub mod path;
pub mod plan;
pub mod replayable;
pub mod rules;
pub mod target;
pub mod token_place;
