//! The response as it goes downstream: its head (`head`, `location`) and its body (`body`). None of them does
//! I/O.

pub mod body;
pub mod head;
pub mod location;
