//! Secrets stay where they belong: they are erased when nobody needs them any more, no core dump holds them, and no file
//! that somebody else could have written decides where tokens go.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

#[path = "../support/mod.rs"]
mod support;

mod core_dumps;
mod dotenv;
mod erasure;
mod pipes;
mod place;
