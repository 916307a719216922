//! Tests that cannot run on every machine.

use std::io::{self, Write};

/// Reports what is not tested here, and why; `scripts/check` lists it at its end. Not by `eprintln!`, whose output is
/// captured where the test passes.
pub fn skip(what: &str) {
    let _ = writeln!(io::stderr(), "skipped: {what}");
}

/// As [`skip`], for what CI has to install: there it fails.
pub fn skip_but_not_on_ci(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "this is to be tested here: {what}");
    skip(what);
}
