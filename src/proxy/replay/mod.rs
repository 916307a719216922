//! The request as it is kept to be sent again: its bytes (`buffer`), and the memory that they may take (`budget`).

pub mod budget;
pub mod buffer;
