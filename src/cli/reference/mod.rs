//! The command line, described for others: completions for shells, and the manual page.
//!
//! Both follow from the table of settings and from what argh knows of the commands. Invariant: what is described is what
//! is parsed; nothing here reads a command line.

mod completions;
mod manual;

pub use completions::{completions, shell_names};
pub use manual::manual;

/// The name of the program, as its users type it.
const PROGRAM: &str = "flow-uring";
