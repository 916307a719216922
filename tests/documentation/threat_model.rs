//! The threat model: each promise names the tests that hold it, and they exist.

use std::fs;

use super::pages::{Page, root, spans};

/// The headers of the column of tests, in both languages.
const HELD_BY: [&str; 2] = ["held by", "由此保证"];

#[test]
fn every_promise_names_tests_that_exist() {
    for page in ["docs/threat-model.md", "docs/threat-model.zh-CN.md"].map(Page::named) {
        let (mut named, mut unnamed, mut wrong) = (0, 0, Vec::new());
        for table in page.tables() {
            let column = table.header.iter().position(|cell| HELD_BY.contains(cell)).expect("a column of tests");
            for row in &table.rows {
                let tests = spans(row.cells[column]);
                unnamed += usize::from(tests.is_empty());
                named += tests.len();
                wrong.extend(tests.into_iter().filter(|test| !exists(test)).map(str::to_owned));
            }
        }
        let path = page.path.display();
        assert!(wrong.is_empty(), "{path}: no such test:\n  {}", wrong.join("\n  "));
        assert!(named > 30, "{path} names {named} tests");
        assert_eq!(unnamed, 0, "{path}: promises that name no test");
    }
}

/// Finds a test by its file and its name: `tests/cli.rs::help_and_version_go_to_stdout_and_succeed`; or a script.
fn exists(test: &str) -> bool {
    let Some((file, name)) = test.split_once("::") else {
        return test.starts_with("scripts/") && root().join(test).is_file();
    };
    let text = fs::read_to_string(root().join(file)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    lines.iter().enumerate().any(|(at, line)| {
        // A property test has arguments.
        let is_it =
            line.strip_prefix("fn ").and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with('('));
        is_it && lines[..at].iter().rev().take_while(|line| line.starts_with('#')).any(|line| *line == "#[test]")
    })
}

#[test]
fn a_test_that_is_not_there_or_is_none_is_found() {
    assert!(exists("tests/documentation/threat_model.rs::every_promise_names_tests_that_exist"));
    assert!(exists("src/http1/head/tests.rs::no_bytes_make_the_scanner_or_the_parsers_panic"), "of properties");
    assert!(exists("scripts/fuzz"));
    for wrong in [
        "tests/documentation/threat_model.rs::every_promise_names",
        "tests/documentation/threat_model.rs::exists",
        "tests/documentation/threat_model.rs",
        "scripts/nothing",
        "tests/nowhere.rs::every_promise_names_tests_that_exist",
        "every_promise_names_tests_that_exist",
    ] {
        assert!(!exists(wrong), "{wrong}");
    }
}
