//! JSON that is read as it comes, in pieces of any size: a whole object that can be closed wherever it breaks off
//! (`text`, `string`), the strings among the `members` of one, the `grammar` of one with the places of its members, and
//! a text that may be begun anywhere (`middle`). Of what may be long, the `prefix` is kept. None of them does I/O.

pub mod grammar;
pub mod members;
pub mod middle;
pub mod prefix;
mod split_letter;
mod string;
pub mod text;
