//! The model of a request: the one that it most likely `named`, found by a quick look, for the log, rests and costs; and
//! all that it `asked` for, for what its key may use.

pub mod asked;
pub mod named;
