//! The request as it is kept to be sent again: its bytes (`buffer`), how its body is read (`content`) and written anew
//! (`rewrite`), and the memory that all of them may take (`budget`).

pub mod budget;
pub mod buffer;
pub mod content;
pub mod rewrite;
