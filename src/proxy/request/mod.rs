//! The request: what is done with it (`plan`, by the `rules`), where it goes (`target`, `path`, `gemini`), whether it
//! may go there twice (`replayable`), the model that it names (`named_model`), all that it asks for (`asked_models`), its
//! ids (`ids`) and its session (`session`), and its head as it goes upstream (`head`) with the token in it
//! (`token_place`). The objects of the upstream that it names are in `stored`. None of them does I/O.

pub mod asked_models;
mod gemini;
pub mod head;
pub mod ids;
pub mod named_model;
pub mod path;
pub mod plan;
pub mod replayable;
pub mod rules;
pub mod session;
pub mod stored;
pub mod target;
pub mod token_place;
