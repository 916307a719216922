//! The response as it goes downstream: its head (`head`, `location`) and its body (`body`), and the reason that an error
//! gives (`refusal`). None of them does I/O.

pub mod body;
pub mod head;
pub mod location;
pub mod refusal;
