//! The request: what is done with it (`plan`, by the `rules`), where it goes (`target`, `path`, `gemini`), whether it
//! may go there twice (`replayable`), its `model`, its ids (`ids`) and its `session`, and its head as it goes upstream
//! (`head`) with the token in it (`token_place`). What makes it an upgrade
//! to WebSocket is checked in `upgrade`. The objects of the upstream that it names are in `stored`. None of them
//! does I/O.

mod gemini;
pub mod head;
pub mod ids;
pub mod model;
pub mod path;
pub mod plan;
pub mod replayable;
pub mod rules;
pub mod session;
pub mod stored;
pub mod target;
pub mod token_place;
pub mod upgrade;
