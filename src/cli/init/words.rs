//! The words for the user beside the result, which goes to stdout.

use std::io::{self, Write};

/// Writes to stderr, where the questions are. Without one there is nobody to ask.
pub fn say(text: &str) {
    let mut output = io::stderr().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}
