//! The import rule of the crate (see the crate's documentation): imports form a DAG.
//!
//! Looks at the paths that name a top-level module, by `crate::`, in a `use` group or by a chain of `super::` that
//! reaches the crate's root. Comments, doc links and strings do not count.

use std::collections::BTreeSet;

use super::source::{SourceFile, files, tokens};

const LEAVES: [&str; 10] =
    ["capture", "config", "credentials", "http1", "io", "json", "observability", "sync", "usage", FILES];

/// Stands below the other leaves: secrets, certificates and settings are all read from files.
const FILES: &str = "whole_file";

/// The other top-level modules that a module may name. `None`: the rule does not know the module.
fn allowed(module: &str) -> Option<Vec<&'static str>> {
    let with_leaves = |more: &[&'static str]| [&LEAVES, more].concat();
    match module {
        "config" | "http1" | "io" | "json" | "observability" | "demo" | "sync" | FILES => Some(Vec::new()),
        "credentials" => Some(vec!["sync", FILES]),
        "capture" => Some(vec!["credentials", "http1", "observability", FILES]),
        "usage" => Some(vec!["json", FILES]),
        "upstream" => Some(vec!["io", "config", "observability", FILES]),
        "proxy" => Some(with_leaves(&["upstream"])),
        "server" => Some(with_leaves(&["upstream", "proxy"])),
        "bench" | "fuzz" | "cli" | "lib" | "main" => {
            Some(with_leaves(&["upstream", "proxy", "server", "cli", "demo", ROOT]))
        }
        _ => None,
    }
}

/// Stands for what is defined at the crate's root, which is above every module but the entry points.
const ROOT: &str = "the crate's root";

#[test]
fn imports_form_the_dag_of_the_architecture() {
    let broken: Vec<_> = files().iter().flat_map(violations).collect();
    assert!(broken.is_empty(), "the import rule is broken:\n  {}", broken.join("\n  "));
}

/// The modules that a file names and may not.
fn violations(file: &SourceFile) -> Vec<String> {
    let own = file.module.first().map_or("lib", String::as_str);
    let Some(allowed) = allowed(own) else {
        return vec![format!("{own}: give this top-level module its place in tests/architecture/imports.rs")];
    };
    named_modules(file.module.len(), &file.text)
        .into_iter()
        .filter(|named| named != own && !allowed.contains(&named.as_str()))
        .map(|named| format!("{} names {named}", file.path))
        .collect()
}

/// The top-level modules that a source names. `depth` counts the `super`s from the file's module to the root; within an
/// inline module it takes one more.
fn named_modules(depth: usize, source: &str) -> BTreeSet<String> {
    let tokens: Vec<String> = tokens(source).into_iter().map(|token| token.text).collect();
    let mut named = BTreeSet::new();
    let mut braces: Vec<bool> = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        match tokens[index].as_str() {
            "{" => braces.push(index >= 2 && tokens[index - 2] == "mod"),
            "}" => drop(braces.pop()),
            _ => {}
        }
        let depth = depth + braces.iter().filter(|is_module| **is_module).count();
        let supers = tokens[index..].chunks(2).take_while(|pair| *pair == ["super", "::"]).count();
        let after_root = match tokens[index].as_str() {
            "crate" if tokens.get(index + 1).is_some_and(|token| token == "::") => Some(index + 2),
            "super" if supers == depth => Some(index + 2 * supers),
            _ => None,
        };
        if let Some(start) = after_root {
            named.extend(heads(&tokens[start..]).iter().map(|head| top_level(head)));
        }
        index += (2 * supers).max(1);
    }
    named
}

fn top_level(head: &str) -> String {
    let is_module = allowed(head).is_some() && head != "lib" && head != "main";
    if is_module { head.to_owned() } else { ROOT.to_owned() }
}

/// The first segments after a `crate::`: one name, or those of a group `{a, b::{c, d}}`.
fn heads(tokens: &[String]) -> Vec<String> {
    if tokens.first().is_none_or(|token| token != "{") {
        return tokens.first().cloned().into_iter().collect();
    }
    let (mut heads, mut nesting, mut is_head) = (Vec::new(), 0, false);
    for token in tokens {
        match token.as_str() {
            "{" => {
                nesting += 1;
                is_head = nesting == 1;
            }
            "}" => nesting -= 1,
            "," => is_head = nesting == 1,
            name if is_head => {
                heads.push(name.to_owned());
                is_head = false;
            }
            _ => {}
        }
        if nesting == 0 {
            break;
        }
    }
    heads
}

fn broken_by(module: &str, source: &str) -> Vec<String> {
    violations(&SourceFile::new(&format!("{}.rs", module.replace("::", "/")), source))
}

#[test]
fn a_planted_violation_is_caught_however_it_is_written() {
    for (module, source) in [
        ("upstream::pool", "use crate::credentials::Credential;"),
        ("upstream::pool", "use crate::{io::stream, credentials::{Credential, Token}};"),
        ("upstream::pool", "use crate::{\n    config::Config,\n    proxy,\n};"),
        ("http1::head", "fn f() -> crate::config::Limits { todo() }"),
        ("proxy", "use super::server::shard;"),
        ("proxy::relay", "fn f() { super::super::server::stop() }"),
        ("io::stream", "pub use crate :: observability :: log;"),
        ("config", "let text = \"\\\"\"; use crate::cli::Args;"),
        ("config", "let quote = '\"'; use crate::cli::Args; let other = '\"';"),
        ("credentials", "let raw = r#\" \" \"#; use crate::io::buffer;"),
        ("server", "use crate::run;"),
        ("demo", "use crate::credentials::secret;"),
        ("demo", "use crate::*;"),
        ("config", "mod tests { fn f() {} use super::super::cli::Args; }"),
        ("config", "mod tests { use super::*; } use super::cli::Args;"),
        ("unheard_of", ""),
    ] {
        assert_eq!(broken_by(module, source).len(), 1, "{module}: {source}");
    }
}

#[test]
fn what_the_rule_allows_and_what_is_not_code_passes() {
    for (module, source) in [
        ("upstream::pool", "use crate::{io::stream, config::{self, Config}, upstream::connect};"),
        ("proxy::relay", "use crate::{credentials::balancer, upstream}; use super::error::Answer;"),
        ("proxy::relay", "pub(in crate::proxy) fn f() {} pub(crate) fn g() {}"),
        ("server::shard", "use crate::proxy::Proxy; use super::listener;"),
        ("http1", "//! See [`crate::proxy`].\n/// [`crate::server::run`]\n// crate::cli::Args\nfn f() {}"),
        ("http1", "/* crate::proxy /* nested */ crate::server::x */ fn f<'a>(text: &'a str) {}"),
        (
            "http1",
            "let text = \"crate::proxy::x\"; let raw = r#\"crate::cli::\"Args\" \"#; let bytes = br\"crate::io::x\";",
        ),
        ("cli", "use crate::{config::Config, demo, run, server};"),
        ("config", "mod tests { use super::*; fn f() { match x { _ => {} } } use super::Limits; }"),
        ("main", "use crate::anything;"),
    ] {
        assert_eq!(broken_by(module, source), Vec::<String>::new(), "{module}: {source}");
    }
}
