//! The pages for readers say what is so: links lead somewhere, flags, variables, error codes and make targets exist, a
//! page and its translation name the same things, and examples that are marked as such run.

#![expect(clippy::disallowed_methods, reason = "a test reads files and waits for programs; no shard runs here")]

#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "demo")]
mod examples;
mod length;
mod links;
mod names;
mod pages;
mod program;
mod settings;
mod threat_model;
