//! The `unsafe` of the program: docs/architecture.md names each file that has any, how often, and what makes it sound.
//! That it is argued for where it stands is held by clippy, and that whole modules have none by the compiler.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::source::{files, tokens, without_tests};

/// The section of the page, in both languages.
const SECTIONS: [(&str, &str); 2] =
    [("docs/architecture.md", "## Unsafe code"), ("docs/architecture.zh-CN.md", "## unsafe 代码")];

#[test]
fn the_page_counts_all_unsafe_code() {
    let counted: BTreeMap<String, usize> = files()
        .iter()
        .map(|file| (file.path.clone(), count(&file.text)))
        .filter(|(path, count)| *count > 0 && !path.ends_with("tests.rs"))
        .collect();
    assert!(counted.len() > 5, "{counted:?}");
    for (page, section) in SECTIONS {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
        assert_eq!(told(&text, section), counted, "{page}");
    }
}

/// The number of times that a source says `unsafe`, but in what only tests have.
fn count(source: &str) -> usize {
    without_tests(&tokens(source)).0.iter().filter(|token| token.text == "unsafe").count()
}

/// The rows of the section's table: a file in code marks, then its count.
fn told(page: &str, section: &str) -> BTreeMap<String, usize> {
    let lines = page.lines().skip_while(|line| *line != section).skip(1).take_while(|line| !line.starts_with("## "));
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.splitn(3, " | ");
        Some((cells.next()?.trim_end_matches('`').to_owned(), cells.next()?.parse().ok()?))
    };
    lines.filter_map(row).collect()
}

#[test]
fn one_that_is_not_told_is_found_and_words_are_none() {
    assert_eq!(count("// unsafe\nfn f() { let is_unsafe = \"unsafe\"; unsafe { g() } }"), 1);
    assert_eq!(count("#[cfg(test)]\nmod tests { fn f() { unsafe { g() } } }"), 0);
    let page = "## A\n| `b.rs` | 7 | no |\n## Unsafe code\n| `a.rs` | 2 | why |\n## C\n| `c.rs` | 1 | no |\n";
    assert_eq!(told(page, "## Unsafe code"), BTreeMap::from([("a.rs".to_owned(), 2)]));
}
