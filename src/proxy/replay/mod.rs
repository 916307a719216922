//! What is kept of a request so that it can be sent again (`copy`).

pub mod copy;
