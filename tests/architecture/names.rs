//! One name for one thing: no type of `src` has the name of another.

use std::collections::BTreeMap;

use super::source::{SourceFile, files};

#[test]
fn no_type_name_is_defined_twice() {
    let twice = defined_twice(&files());
    assert!(twice.is_empty(), "these names stand for more than one type:\n{}", twice.join("\n"));
}

/// A line for each name with the places that define it.
fn defined_twice(files: &[SourceFile]) -> Vec<String> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files {
        for (name, line) in type_names(file) {
            places.entry(name).or_default().push(format!("{}:{line}", file.path));
        }
    }
    places.retain(|_, places| places.len() > 1);
    places.iter().map(|(name, places)| format!("  {name}: {}", places.join(", "))).collect()
}

/// The types that a file defines, those of its tests and functions too, and of its aliases those of modules: the others
/// are an `impl`'s or a function's own.
fn type_names(file: &SourceFile) -> Vec<(String, usize)> {
    let tokens = file.tokens();
    let mut braces: Vec<bool> = Vec::new();
    let mut names = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let word = |offset: usize| tokens.get(index + offset).map_or("", |token| token.text.as_str());
        let is_definition = match token.text.as_str() {
            "{" => {
                braces.push(index >= 2 && tokens[index - 2].text == "mod");
                false
            }
            "}" => {
                braces.pop();
                false
            }
            "struct" | "enum" | "trait" => true,
            "union" => matches!(word(2), "{" | "<"),
            "type" => braces.iter().all(|is_module| *is_module),
            _ => false,
        };
        if is_definition {
            names.push((word(1).to_owned(), token.line));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn twice(one: &str, other: &str) -> Vec<String> {
        defined_twice(&[SourceFile::new("a.rs", one), SourceFile::new("b.rs", other)])
    }

    #[test]
    fn a_name_that_stands_twice_is_found() {
        for other in [
            "struct Name;",
            "mod x { pub(crate) enum Name {} }",
            "#[cfg(test)] mod tests { fn f() { struct Name(u8); } }",
            "type Name<'a> = &'a str;",
            "trait Name: Sized {}",
            "union Name { a: u8 }",
        ] {
            assert_eq!(twice("\npub struct Name<T>(T);", other), ["  Name: a.rs:2, b.rs:1"], "{other}");
        }
        assert_eq!(twice("struct Name; fn f() { enum Name {} }", "").len(), 1);
    }

    #[test]
    fn what_is_no_type_of_a_module_passes() {
        for other in [
            "impl Iterator for X { type Name = u8; } trait T { type Name; }",
            "fn f() { type Name = fn(); }",
            "fn name() -> Name { Name }",
            "// struct Name;\nconst X: &str = \"struct Name;\";",
            "impl Name {}",
        ] {
            assert_eq!(twice("struct Name;", other), Vec::<String>::new(), "{other}");
        }
    }
}
