//! `flow-uring keys`: the file of API keys, as a person manages it.
//!
//! `add` makes a key and writes its hash, `list` shows what the keys may do; `keys check` is a part of `check`.
//! Invariant: a key is shown once, where it was made, and stands in no message. Not here: the form of the file
//! (`credentials`), and how it is replaced (`private_write`).

mod add;
mod args;
mod error;
mod list;

pub use add::{add, path};
pub use args::{KeysAddArgs, KeysArgs, KeysCommand};
pub use error::KeysError;
pub use list::list;
