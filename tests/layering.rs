//! Holds the import rule of the crate (see the crate's documentation): imports form a DAG.
//!
//! Reads every file of `src` and looks at the paths that name a top-level module, by `crate::`, in a `use` group or by
//! a chain of `super::` that reaches the crate's root. Comments, doc links and strings do not count.

#![expect(clippy::disallowed_methods, reason = "a test reads files; no shard runs here")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const LEAVES: [&str; 5] = ["config", "credentials", "http1", "io", "observability"];

/// Which other top-level modules a module may name. `None`: the rule does not know the module.
fn allowed(module: &str) -> Option<Vec<&'static str>> {
    let with_leaves = |more: &[&'static str]| [&LEAVES, more].concat();
    match module {
        "config" | "credentials" | "http1" | "io" | "observability" | "demo" => Some(Vec::new()),
        "upstream" => Some(vec!["io", "config", "observability"]),
        "proxy" => Some(with_leaves(&["upstream"])),
        "server" => Some(with_leaves(&["upstream", "proxy"])),
        "bench" | "cli" | "lib" | "main" => Some(with_leaves(&["upstream", "proxy", "server", "cli", "demo", ROOT])),
        _ => None,
    }
}

/// Stands for what is defined at the crate's root, which is above every module but the entry points.
const ROOT: &str = "the crate's root";

#[test]
fn imports_form_the_dag_of_the_architecture() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 20, "only {} files found below {}", files.len(), root.display());
    let broken: Vec<_> = files
        .iter()
        .flat_map(|file| {
            violations(&module_path(file.strip_prefix(&root).unwrap()), &fs::read_to_string(file).unwrap())
        })
        .collect();
    assert!(broken.is_empty(), "the import rule is broken:\n  {}", broken.join("\n  "));
}

/// What `tests/support/process.rs` starts ends with the test, however that ends; what a test starts past it may not.
#[test]
fn tests_start_programs_by_the_kit_alone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut files, new) = (Vec::new(), ["Command", "::", "new("].concat());
    collect(&root.join("tests"), &mut files);
    let starting: Vec<_> = files.iter().filter(|file| fs::read_to_string(file).unwrap().contains(&new)).collect();
    assert_eq!(starting, [&root.join("tests/support/process.rs")]);
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// `proxy/relay.rs` -> `[proxy, relay]`, `proxy/mod.rs` -> `[proxy]`.
fn module_path(file: &Path) -> Vec<String> {
    let mut path: Vec<_> = file.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    path.pop_if(|last| last == "mod");
    path
}

/// What the source of a module names and may not.
fn violations(module: &[String], source: &str) -> Vec<String> {
    let own = module[0].as_str();
    let Some(allowed) = allowed(own) else {
        return vec![format!("{own}: give this top-level module its place in tests/layering.rs")];
    };
    named_modules(module.len(), source)
        .into_iter()
        .filter(|named| named != own && !allowed.contains(&named.as_str()))
        .map(|named| format!("{} names {named}", module.join("::")))
        .collect()
}

/// The top-level modules that a source names. `depth` counts the `super`s from the file's module to the root; within an
/// inline module it takes one more.
fn named_modules(depth: usize, source: &str) -> BTreeSet<String> {
    let tokens = tokens(&without_comments_and_strings(source));
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

/// The first segments behind a `crate::`: one name, or those of a group `{a, b::{c, d}}`.
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

/// Identifiers, `::`, and single other characters.
fn tokens(code: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut characters = code.chars().peekable();
    while let Some(first) = characters.next() {
        let mut token = first.to_string();
        if is_word(first) {
            while let Some(next) = characters.next_if(|next| is_word(*next)) {
                token.push(next);
            }
        } else if first == ':' {
            token.extend(characters.next_if_eq(&':'));
        } else if first.is_whitespace() {
            continue;
        }
        tokens.push(token);
    }
    tokens
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The code with each comment and each literal replaced by a blank.
fn without_comments_and_strings(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let previous_is_word = code.chars().next_back().is_some_and(is_word);
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if first == '"' {
            quoted(rest)
        } else if first == '\'' {
            character_literal(rest)
        } else if !previous_is_word && (rest.starts_with("r\"") || rest.starts_with("r#") || rest.starts_with("br")) {
            raw_string(rest)
        } else {
            0
        };
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.push(' ');
            rest = &rest[skipped..];
        }
    }
    code
}

fn block_comment(rest: &str) -> usize {
    let mut nesting = 0;
    let mut index = 0;
    while index < rest.len() {
        if rest.as_bytes()[index..].starts_with(b"/*") {
            nesting += 1;
            index += 2;
        } else if rest.as_bytes()[index..].starts_with(b"*/") {
            nesting -= 1;
            index += 2;
            if nesting == 0 {
                break;
            }
        } else {
            index += 1;
        }
    }
    index
}

fn quoted(rest: &str) -> usize {
    let mut is_escaped = false;
    for (index, character) in rest.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return index + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of a character literal, or 0 for the quote of a lifetime.
fn character_literal(rest: &str) -> usize {
    let inside = &rest[1..];
    match inside.chars().next() {
        Some('\\') => inside[2..].find('\'').map_or(0, |end| end + 4),
        Some(character) if inside[character.len_utf8()..].starts_with('\'') => character.len_utf8() + 2,
        _ => 0,
    }
}

/// The length of a raw string, or 0 for a raw identifier or a name that begins alike.
fn raw_string(rest: &str) -> usize {
    let after_prefix = rest.trim_start_matches('b').trim_start_matches('r');
    let prefix = rest.len() - after_prefix.len();
    let hashes = after_prefix.len() - after_prefix.trim_start_matches('#').len();
    if !after_prefix[hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = prefix + hashes + 1;
    rest[body..].find(&end).map_or(rest.len(), |at| body + at + end.len())
}

fn broken_by(module: &str, source: &str) -> Vec<String> {
    let module: Vec<_> = module.split("::").map(str::to_owned).collect();
    violations(&module, source)
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
