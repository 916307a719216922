//! The response as it goes downstream: its head (`head`, `location`) and its body (`body`). Neither does I/O.

pub mod body;
pub mod head;
pub mod location;
