//! The stored objects in a request: those that its head names (`objects`), and those that its body does (`references`).
//! The `collections` that they are in are one table.

pub mod collections;
pub mod objects;
pub mod references;
