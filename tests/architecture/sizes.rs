//! Folders, files and functions that fit in one head, and documentation that begins with what a thing is or does.

use std::collections::BTreeMap;

use super::source::{SourceFile, Token, files, without_tests};

/// Files of a folder, `mod.rs` included.
const FOLDER_FILES_MAX: usize = 12;
/// Lines of a file without its tests.
const FILE_LINES_MAX: usize = 420;
const FUNCTION_LINES_MAX: usize = 60;
/// The summary of an item is a verb or a noun, never a subordinate clause.
const CLAUSES: [&str; 8] = ["What", "Whether", "How", "Who", "Which", "Where", "When", "Why"];

#[test]
fn no_folder_has_too_many_files() {
    let files = files();
    let full = full_folders(files.iter().map(|file| file.path.as_str()));
    assert!(full.is_empty(), "over {FOLDER_FILES_MAX} files:\n{}", full.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<_> = files().iter().filter_map(too_long).collect();
    assert!(long.is_empty(), "over {FILE_LINES_MAX} lines without tests:\n{}", long.join("\n"));
}

#[test]
fn no_function_is_too_long() {
    let long: Vec<_> = files().iter().flat_map(long_functions).collect();
    assert!(long.is_empty(), "over {FUNCTION_LINES_MAX} lines:\n{}", long.join("\n"));
}

#[test]
fn no_summary_begins_with_a_clause() {
    let clauses: Vec<_> = files().iter().flat_map(clauses).collect();
    assert!(clauses.is_empty(), "{} summaries begin with a clause:\n{}", clauses.len(), clauses.join("\n"));
}

/// Lists the folders that have too many of these files.
fn full_folders<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for path in paths {
        *counts.entry(path.rsplit_once('/').map_or("", |(folder, _)| folder)).or_default() += 1;
    }
    let full = counts.iter().filter(|(_, count)| **count > FOLDER_FILES_MAX);
    full.map(|(folder, count)| format!("  {folder}: {count}")).collect()
}

fn too_long(file: &SourceFile) -> Option<String> {
    let (_, tests) = without_tests(&file.tokens());
    let lines = file.text.lines().count().saturating_sub(tests.len());
    let is_test = file.module.last().is_some_and(|name| name == "tests");
    (lines > FILE_LINES_MAX && !is_test).then(|| format!("  {}: {lines}", file.path))
}

/// The functions of the program; those of tests may be tables.
fn long_functions(file: &SourceFile) -> Vec<String> {
    if file.module.last().is_some_and(|name| name == "tests") {
        return Vec::new();
    }
    let (tokens, _) = without_tests(&file.tokens());
    let functions = tokens.iter().enumerate().filter(|(_, token)| token.text == "fn");
    let long = functions.filter_map(|(start, token)| {
        let name = &tokens.get(start + 1)?.text;
        let lines = body_end(&tokens[start..])? + 1 - token.line;
        (lines > FUNCTION_LINES_MAX).then(|| format!("  {}:{} {name}: {lines}", file.path, token.line))
    });
    long.collect()
}

/// The line on which the body of a function ends; `None` for a pointer's type, and a declaration without a body.
fn body_end(tokens: &[Token]) -> Option<usize> {
    if tokens.get(1)?.text == "(" {
        return None;
    }
    let (mut nesting, mut braces) = (0_usize, 0_usize);
    for token in tokens {
        match token.text.as_str() {
            "(" | "[" => nesting += 1,
            ")" | "]" => nesting = nesting.saturating_sub(1),
            "{" => braces += 1,
            "}" => {
                braces = braces.checked_sub(1)?;
                if braces == 0 && nesting == 0 {
                    return Some(token.line);
                }
            }
            ";" if braces == 0 && nesting == 0 => return None,
            _ => {}
        }
    }
    None
}

fn clauses(file: &SourceFile) -> Vec<String> {
    let mut clauses = Vec::new();
    let mut is_first = true;
    for (index, line) in file.text.lines().enumerate() {
        let line = line.trim_start();
        let documentation = line.strip_prefix("/// ").or_else(|| line.strip_prefix("//! "));
        if let Some(text) = documentation
            && is_first
            && text.split(' ').next().is_some_and(|word| CLAUSES.contains(&word.trim_end_matches([',', ':'])))
        {
            clauses.push(format!("  {}:{} {text}", file.path, index + 1));
        }
        is_first = documentation.is_none() && line != "///" && line != "//!";
    }
    clauses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> SourceFile {
        SourceFile::new("a.rs", text)
    }

    #[test]
    fn a_folder_is_full_by_its_own_files() {
        let files = |count: usize| (0..count).map(|index| format!("a/b/{index}.rs"));
        let listed = |paths: Vec<String>| full_folders(paths.iter().map(String::as_str));
        let others = ["a/c.rs", "a/b/c/d.rs", "lib.rs"].map(str::to_owned);
        assert_eq!(listed(files(FOLDER_FILES_MAX).chain(others).collect()), Vec::<String>::new());
        assert_eq!(listed(files(FOLDER_FILES_MAX + 1).collect()), ["  a/b: 13"]);
    }

    #[test]
    fn only_lines_without_tests_count() {
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "fn f() {}\n".repeat(FILE_LINES_MAX));
        let code = "\n".repeat(FILE_LINES_MAX);
        assert_eq!(too_long(&file(&format!("{code}{tests}"))), None);
        assert_eq!(too_long(&file(&format!("{code}{tests}\n"))), Some(format!("  a.rs: {}", FILE_LINES_MAX + 1)));
    }

    #[test]
    fn a_function_is_measured_from_its_name_to_its_last_brace() {
        for (head, tail) in
            [("fn f(a: [u8; 2]) {", "}"), ("impl A {\nasync fn f<T>()\nwhere T: X {", "}\nfn g() {}\n}")]
        {
            let lines = FUNCTION_LINES_MAX - head.lines().filter(|line| !line.starts_with("impl")).count() - 1;
            let fits = format!("{head}\n{}{tail}", "x();\n".repeat(lines));
            assert_eq!(long_functions(&file(&fits)), Vec::<String>::new(), "{head}");
            let long = format!("{head}\n{}{tail}", "x();\n".repeat(lines + 1));
            assert_eq!(long_functions(&file(&long)).len(), 1, "{head}");
        }
        let other = format!("type F = fn(u8);\ntrait T {{ fn f();\n{}}}", "\n".repeat(FUNCTION_LINES_MAX));
        assert_eq!(long_functions(&file(&other)), Vec::<String>::new());
    }

    #[test]
    fn a_summary_is_the_first_line_of_a_documentation() {
        for (text, count) in [
            ("/// What it is.\nstruct A;", 1),
            ("//! Who calls.", 1),
            ("struct A {\n    /// When it ended.\n    at: u8,\n    /// Whether: it did.\n    did: bool,\n}", 2),
            ("/// It says\n/// What it is.\n///\n/// How it is.", 0),
            ("// What a comment says.\n/// Whatever comes.", 0),
        ] {
            assert_eq!(clauses(&file(text)).len(), count, "{text}");
        }
    }
}
