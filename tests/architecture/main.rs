//! Holds what the source code must look like: which module may import which, no circle of files, one thing under one
//! name, and files and functions that fit in one head.
//!
//! Each test reads the files of `src` as they are and lists what breaks its rule; comments and strings are no code.

#![expect(clippy::disallowed_methods, reason = "a test reads files; no shard runs here")]

mod circles;
mod graph;
mod imports;
mod locks;
mod names;
mod programs;
mod rooms;
mod sizes;
mod source;
mod unsafe_code;
