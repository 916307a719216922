//! Programs that tests start.

use std::fs;
use std::path::Path;

use super::source::collect;

/// A program that `tests/support/process.rs` starts ends with the test, however that ends; one that a test starts past
/// it may not.
#[test]
fn tests_start_programs_by_the_kit_alone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut files, new) = (Vec::new(), ["Command", "::", "new("].concat());
    collect(&root.join("tests"), &mut files);
    let starting: Vec<_> = files.iter().filter(|file| fs::read_to_string(file).unwrap().contains(&new)).collect();
    assert_eq!(starting, [&root.join("tests/support/process.rs")]);
}
