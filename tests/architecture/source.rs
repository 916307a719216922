//! The files of `src`, as tokens.

use std::fs;
use std::path::{Path, PathBuf};

/// One file of `src`.
pub struct SourceFile {
    /// Below `src`.
    pub path: String,
    /// `proxy/outcome.rs` is `[proxy, outcome]`, `proxy/mod.rs` is `[proxy]`, `lib.rs` is empty.
    pub module: Vec<String>,
    pub text: String,
}

/// An identifier, `::`, or a single other character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    /// From 1.
    pub line: usize,
}

impl SourceFile {
    pub fn new(path: &str, text: &str) -> Self {
        let mut module: Vec<_> =
            Path::new(path).with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        module.pop_if(|last| last == "mod");
        if module == ["lib"] {
            module.clear();
        }
        SourceFile { path: path.to_owned(), module, text: text.to_owned() }
    }

    pub fn tokens(&self) -> Vec<Token> {
        tokens(&self.text)
    }
}

/// All files of `src`, in the order of their names.
pub fn files() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    assert!(paths.len() > 20, "only {} files found below {}", paths.len(), root.display());
    let file = |path: &PathBuf| {
        let below = path.strip_prefix(&root).unwrap().to_str().unwrap();
        SourceFile::new(below, &fs::read_to_string(path).unwrap())
    };
    paths.iter().map(file).collect()
}

/// Adds all Rust files below `directory`.
pub fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Comments and literals are none.
pub fn tokens(source: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    for (index, line) in without_comments_and_strings(source).lines().enumerate() {
        let mut characters = line.chars().peekable();
        while let Some(first) = characters.next() {
            let mut text = first.to_string();
            if is_word(first) {
                while let Some(next) = characters.next_if(|next| is_word(*next)) {
                    text.push(next);
                }
            } else if first == ':' {
                text.extend(characters.next_if_eq(&':'));
            } else if first.is_whitespace() {
                continue;
            }
            tokens.push(Token { text, line: index + 1 });
        }
    }
    tokens
}

/// The tokens without the items that only tests have, and the numbers of the lines of these items.
pub fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<usize>) {
    let (mut kept, mut lines, mut index) = (Vec::new(), Vec::new(), 0);
    while index < tokens.len() {
        let end = if is_test_attribute(&tokens[index..]) { item_end(tokens, index) } else { index };
        if end > index {
            lines.extend(tokens[index].line..=tokens[end - 1].line);
            index = end;
        } else {
            kept.push(tokens[index].clone());
            index += 1;
        }
    }
    (kept, lines)
}

/// `#[cfg(test)]` or `#[cfg(all(test, …))]`.
fn is_test_attribute(tokens: &[Token]) -> bool {
    let starts_with = |words: &[&str]| {
        tokens.len() >= words.len() && tokens.iter().zip(words).all(|(token, word)| token.text == *word)
    };
    starts_with(&["#", "[", "cfg", "(", "test", ")"]) || starts_with(&["#", "[", "cfg", "(", "all", "(", "test", ","])
}

/// The index after the item that begins at `start` with its attributes.
fn item_end(tokens: &[Token], start: usize) -> usize {
    let (mut open, mut angles) = (0_usize, 0_i32);
    for (index, token) in tokens.iter().enumerate().skip(start) {
        match token.text.as_str() {
            "(" | "[" | "{" => open += 1,
            // The end of what the item stands in.
            ")" | "]" | "}" if open == 0 => return index,
            ")" | "]" => open -= 1,
            "}" => {
                open -= 1;
                let is_semicolon_next = tokens.get(index + 1).is_some_and(|next| next.text == ";");
                if open == 0 && !is_semicolon_next {
                    return index + 1;
                }
            }
            "<" => angles += 1,
            ">" if tokens[index - 1].text != "-" && tokens[index - 1].text != "=" => angles -= 1,
            ";" if open == 0 => return index + 1,
            "," if open == 0 && angles <= 0 => return index + 1,
            _ => {}
        }
    }
    tokens.len()
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The code with each comment and each literal replaced by a blank, on the same lines.
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
            code.extend(rest[..skipped].chars().filter(|skipped| *skipped == '\n'));
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
