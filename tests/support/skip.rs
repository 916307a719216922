//! Tests that cannot be had on every machine.

use std::io::{self, Write};

/// Says what is not tested here, and why, for `scripts/check` to tell at its end. Not through `eprintln!`, whose output a
/// test that passes keeps to itself.
pub fn skip(what: &str) {
    let _ = writeln!(io::stderr(), "skipped: {what}");
}

/// The same where CI has to see to it that it can be had: there it fails.
pub fn skip_but_not_on_ci(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "this is to be tested here: {what}");
    skip(what);
}
