//! The response as it goes downstream: its head (`head`, `location`) and its body (`body`), of which the objects that
//! it names are noted (`body_tap`), and the reason that an error gives (`refusal`). The `mask` keeps the token out of it,
//! whatever its `coding`. None of them does I/O.

pub mod body;
pub mod body_tap;
pub mod coding;
pub mod head;
pub mod location;
pub mod mask;
pub mod refusal;
pub mod switching;
