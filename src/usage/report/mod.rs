//! A report of usage: rows added up by what is asked for, as JSON and CSV.
//!
//! For the command and for the admin listener alike. Not here: the table for people, and where the rows come from.

pub mod dimension;
pub mod grouped;
pub mod machine;
pub mod moment;
