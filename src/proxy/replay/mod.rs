//! What is kept of a request so that it can be sent again (`buffer`).

pub mod buffer;
