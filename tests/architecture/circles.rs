//! No two files of `src`, nor more of them, import each other in a circle.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{Crate, Edges};
use super::source::files;

#[test]
fn no_files_import_each_other_in_a_circle() {
    let circles = circles(&Crate::read(&files()).edges());
    assert!(circles.is_empty(), "files import each other in a circle:\n{}", circles.join("\n"));
}

/// Lists the imports that form circles.
fn circles(edges: &Edges) -> Vec<String> {
    let mut imports: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (from, to) in edges.keys() {
        imports.entry(from).or_default().push(to);
    }
    let reached: BTreeMap<&str, BTreeSet<&str>> = imports.keys().map(|from| (*from, reached(&imports, from))).collect();
    let is_in_circle = |from: &str, to: &str| reached.get(to).is_some_and(|files| files.contains(from));
    let in_circles = edges.iter().filter(|((from, to), _)| is_in_circle(from, to));
    in_circles.map(|((from, to), (path, line))| format!("  {from}:{line} -> {to} ({path})")).collect()
}

/// All files that `from` imports, or that these import, and so on.
fn reached<'a>(imports: &BTreeMap<&'a str, Vec<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(file) = next.pop() {
        for imported in imports.get(file).into_iter().flatten() {
            if reached.insert(*imported) {
                next.push(imported);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::super::source::SourceFile;
    use super::*;

    fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files.iter().map(|(path, text)| SourceFile::new(path, text)).collect();
        circles(&Crate::read(&files).edges())
    }

    #[test]
    fn a_planted_circle_is_found_however_it_is_written() {
        let parent = ("a/mod.rs", "mod b; mod c; pub struct A; fn f() { b::g() }");
        for (what, files) in [
            ("two files", vec![("a.rs", "use crate::b::B; pub struct A;"), ("b.rs", "use crate::a::A; pub struct B;")]),
            (
                "a path in the code",
                vec![("a.rs", "use super::b; fn f() { b::g() }"), ("b.rs", "pub fn g() { crate::a::f() }")],
            ),
            (
                "a group",
                vec![
                    ("a.rs", "use crate::{c, b::{self, B}}; struct A;"),
                    ("b.rs", "use super::a::{A as X}; enum B {}"),
                ],
            ),
            ("a child and its parent", vec![parent, ("a/b.rs", "use super::A; pub fn g() {}")]),
            (
                "a name that a third re-exports",
                vec![
                    ("a/mod.rs", "mod b; mod c; pub use b::B;"),
                    ("a/b.rs", "use super::c::C; pub struct B;"),
                    ("a/c.rs", "use crate::a::B; pub struct C;"),
                ],
            ),
            (
                "a name that is re-exported and used",
                vec![("a/mod.rs", "mod b; pub use b::B; pub struct A { b: B }"), ("a/b.rs", "pub struct B(super::A);")],
            ),
            ("a glob", vec![("a.rs", "use super::b::*; pub struct A;"), ("b.rs", "use crate::a::A; pub struct B;")]),
            (
                "a glob that a third re-exports",
                vec![
                    ("a/mod.rs", "mod b; mod c; pub use b::*;"),
                    ("a/b.rs", "use super::c::C; pub struct B;"),
                    ("a/c.rs", "use super::B; pub struct C;"),
                ],
            ),
            (
                "three files",
                vec![
                    ("a.rs", "use crate::b::B; pub struct A;"),
                    ("b.rs", "use crate::c::C; pub struct B;"),
                    ("c.rs", "use crate::a::A; pub struct C;"),
                ],
            ),
            (
                "an inline module",
                vec![
                    ("a.rs", "mod inner { use super::super::b::B; } pub struct A;"),
                    ("b.rs", "use crate::a::A; pub struct B;"),
                ],
            ),
        ] {
            let files = [vec![("lib.rs", "mod a; mod b; mod c;")], files].concat();
            assert!(circles_of(&files).len() >= 2, "{what}: {files:?}");
        }
    }

    #[test]
    fn what_is_no_circle_passes() {
        for (what, files) in [
            (
                "a parent that only declares and re-exports",
                vec![
                    ("a/mod.rs", "mod b; pub use self::b::B; pub struct A;"),
                    ("a/b.rs", "use super::A; pub struct B;"),
                ],
            ),
            ("the name of a module", vec![("a.rs", "use crate::b; struct A;"), ("b.rs", "use crate::a::A;")]),
            (
                "siblings that import the leaf",
                vec![
                    ("a/mod.rs", "mod b; mod c; pub use c::C; fn f() { b::g(C) }"),
                    ("a/b.rs", "use super::C; pub fn g(c: C) {}"),
                    ("a/c.rs", "pub struct C;"),
                ],
            ),
            (
                "tests",
                vec![
                    ("a.rs", "use crate::b::B; pub struct A; #[cfg(test)] mod tests;"),
                    ("a/tests.rs", "use super::*; use crate::b::B;"),
                    ("b.rs", "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }"),
                ],
            ),
            (
                "comments and other crates",
                vec![("a.rs", "use std::b::B; pub struct A;"), ("b.rs", "//! [`crate::a::A`]\nuse crate::a::A;")],
            ),
            ("the program", vec![("main.rs", "use a::A; fn main() {}"), ("a.rs", "pub struct A;")]),
        ] {
            let files = [vec![("lib.rs", "mod a; mod b; mod c;")], files].concat();
            assert_eq!(circles_of(&files), Vec::<String>::new(), "{what}");
        }
    }
}
