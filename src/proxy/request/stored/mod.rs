//! The stored objects in a request: those that its head names (`objects`), and those that its body does (`references`).

pub mod objects;
pub mod references;
