//! JSON that is read as it comes, in pieces of any size: a whole object that can be closed wherever it breaks off (`text`,
//! `string`, by the `prefix` of what is long), and the strings among the members of one (`json_members`,
//! `member_strings`). None of them does I/O.

pub mod json_members;
pub mod member_strings;
pub mod prefix;
mod string;
pub mod text;
