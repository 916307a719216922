//! The graph of the files of `src`: which of them import which.
//!
//! A file imports another if its code names something that the other one defines, by a `use` or by a path. The name of
//! a module alone is no import, nor is the declaration of a child, nor a `pub use`: a file that names what is
//! re-exported imports it from the file that defines it. Tests within `src` do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::slice;

use super::source::{SourceFile, Token, without_tests};

type ModulePath = Vec<String>;

/// A module, be it a file or inline.
#[derive(Default)]
struct Module {
    /// The file that holds it.
    file: String,
    /// Names that a `use` brings, and the paths that they stand for.
    aliases: BTreeMap<String, ModulePath>,
    /// Modules of which everything is brought.
    globs: Vec<ModulePath>,
    /// Items that it defines.
    items: BTreeSet<String>,
}

/// A name that a file uses.
struct Mention {
    module: ModulePath,
    path: ModulePath,
    line: usize,
}

/// The files that import others: for each pair one path that the first names, and its line.
pub type Edges = BTreeMap<(String, String), (String, usize)>;

/// The modules of a crate, and the names that they use.
#[derive(Default)]
pub struct Crate {
    modules: BTreeMap<ModulePath, Module>,
    mentions: Vec<Mention>,
}

impl Crate {
    /// Reads all files but those of tests, and the program, which is a crate of its own.
    pub fn read(files: &[SourceFile]) -> Self {
        let mut read = Crate::default();
        let tests: Vec<ModulePath> = files.iter().flat_map(test_modules).collect();
        for file in files {
            let is_test = tests.iter().any(|module| file.module.starts_with(module));
            if !is_test && file.path != "main.rs" {
                Reader::new(&mut read, file).read();
            }
        }
        read
    }

    /// Resolves the names.
    pub fn edges(&self) -> Edges {
        let mut edges = Edges::new();
        for Mention { module, path, line } in &self.mentions {
            let from = &self.modules[module].file;
            if let Some(absolute) = self.absolute(module, path)
                && let Some(to) = self.file_of(&absolute)
                && to != from
            {
                edges.entry((from.clone(), to.clone())).or_insert_with(|| (path.join("::"), *line));
            }
        }
        edges
    }

    /// Resolves a path from the root of the crate; `None` if it is not of this crate.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<ModulePath> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([module, rest].concat()),
            "super" => {
                let supers = path.iter().take_while(|segment| *segment == "super").count();
                let outer = module.len().checked_sub(supers)?;
                Some([&module[..outer], &path[supers..]].concat())
            }
            _ => match self.modules.get(module)?.aliases.get(first) {
                Some(target) if target[0] != *first => self.absolute(module, &[target, rest].concat()),
                _ => {
                    let child = [module, &path[..1]].concat();
                    self.modules.contains_key(&child).then(|| [module, path].concat())
                }
            },
        }
    }

    /// Finds the file that defines an item, or else that of the module that should; `None` for a module.
    fn file_of(&self, path: &[String]) -> Option<&String> {
        let length = self.module_length(path);
        let unknown = || (length < path.len()).then(|| &self.modules[&path[..length]].file);
        self.definition(path, 0).or_else(unknown)
    }

    /// Returns how much of the path names a module; the rest is an item in it.
    fn module_length(&self, path: &[String]) -> usize {
        (0..=path.len()).rev().find(|length| self.modules.contains_key(&path[..*length])).unwrap_or(0)
    }

    fn definition(&self, path: &[String], depth: usize) -> Option<&String> {
        let (module_path, rest) = path.split_at(self.module_length(path));
        let (module, name) = (self.modules.get(module_path)?, rest.first()?);
        if module.items.contains(name) {
            return Some(&module.file);
        }
        let follow = |target: &[String], rest: &[String]| {
            let target = self.absolute(module_path, target)?;
            // A re-export of a re-export, and so on: none goes that far.
            (depth < 16).then(|| self.definition(&[target.as_slice(), rest].concat(), depth + 1))?
        };
        match module.aliases.get(name) {
            Some(target) => follow(target, &rest[1..]),
            None => module.globs.iter().find_map(|glob| follow(glob, rest)),
        }
    }
}

/// The modules that a file declares for its tests: `#[cfg(test)] mod tests;`.
fn test_modules(file: &SourceFile) -> Vec<ModulePath> {
    let all = file.tokens();
    let (kept, _) = without_tests(&all);
    let declared = |tokens: &[Token]| -> BTreeSet<String> {
        let declarations = tokens.windows(3).filter(|words| words[0].text == "mod" && words[2].text == ";");
        declarations.map(|words| words[1].text.clone()).collect()
    };
    let (all, kept) = (declared(&all), declared(&kept));
    all.difference(&kept).map(|name| [file.module.as_slice(), slice::from_ref(name)].concat()).collect()
}

/// Reads one file into a [`Crate`].
struct Reader<'a> {
    read: &'a mut Crate,
    file: String,
    tokens: Vec<Token>,
    /// The inline modules around the current token, each with the depth of braces in which it stands.
    inline: Vec<usize>,
    module: ModulePath,
    /// The names that `pub use` brings to a module: their own use in its file counts.
    re_exported: Vec<(ModulePath, String)>,
}

impl<'a> Reader<'a> {
    fn new(read: &'a mut Crate, file: &SourceFile) -> Self {
        let (tokens, _) = without_tests(&file.tokens());
        let (inline, re_exported) = (Vec::new(), Vec::new());
        Reader { read, file: file.path.clone(), tokens, inline, module: file.module.clone(), re_exported }
    }

    fn read(mut self) {
        self.enter();
        let (mut index, mut depth) = (0, 0_usize);
        while index < self.tokens.len() {
            let is_continued = index > 0 && matches!(self.word(index - 1), "::" | ".");
            match self.word(index) {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if self.inline.pop_if(|outer| *outer == depth).is_some() {
                        self.module.pop();
                    }
                }
                "mod" if self.word(index + 2) == "{" => {
                    self.inline.push(depth);
                    self.module.push(self.word(index + 1).to_owned());
                    self.enter();
                }
                "use" if self.word(index + 1) != "<" => {
                    index = self.read_use(index);
                    continue;
                }
                "struct" | "enum" | "union" | "trait" | "type" | "fn" | "const" | "static" | "macro_rules" => {
                    self.define(index, depth);
                }
                _ if !is_continued => {
                    index = self.read_path(index);
                    continue;
                }
                _ => {}
            }
            index += 1;
        }
    }

    fn enter(&mut self) {
        let file = self.file.clone();
        self.read.modules.entry(self.module.clone()).or_default().file = file;
    }

    fn here(&mut self) -> &mut Module {
        self.read.modules.get_mut(&self.module).expect("it was entered")
    }

    fn word(&self, index: usize) -> &str {
        self.tokens.get(index).map_or("", |token| &token.text)
    }

    /// Notes an item of a module; those of functions and of `impl` blocks are none.
    fn define(&mut self, index: usize, depth: usize) {
        let is_of_module = depth == self.inline.last().map_or(0, |outer| outer + 1);
        let qualifiers = ["mut", "unsafe", "async", "extern", "fn", "!"];
        let name = (index + 1..).map(|at| self.word(at)).find(|word| !qualifiers.contains(word)).unwrap_or_default();
        if is_of_module {
            let name = name.to_owned();
            self.here().items.insert(name);
        }
    }

    /// A path in the code. Returns the index after it.
    fn read_path(&mut self, start: usize) -> usize {
        let mut path = vec![self.word(start).to_owned()];
        let mut index = start + 1;
        while self.word(index) == "::"
            && self.word(index + 1).chars().all(|letter| letter.is_alphanumeric() || letter == '_')
        {
            path.push(self.word(index + 1).to_owned());
            index += 2;
        }
        let is_local = path.len() == 1;
        let is_re_export = || self.re_exported.contains(&(self.module.clone(), path[0].clone()));
        if !is_local || is_re_export() {
            let line = self.tokens[start].line;
            self.read.mentions.push(Mention { module: self.module.clone(), path, line });
        }
        index
    }

    /// A `use` declaration. Returns the index after it.
    fn read_use(&mut self, start: usize) -> usize {
        let mut visibility = (0..start).rev().take_while(|at| !matches!(self.word(*at), ";" | "}" | "{" | "]"));
        let is_public = visibility.any(|at| self.word(at) == "pub");
        let end = (start..self.tokens.len()).find(|at| self.word(*at) == ";").unwrap_or(self.tokens.len());
        let tree: Vec<String> = self.tokens[start + 1..end].iter().map(|token| token.text.clone()).collect();
        let line = self.tokens[start].line;
        for (path, alias) in leaves(&tree) {
            let is_glob = alias == "*";
            if !is_public {
                self.read.mentions.push(Mention { module: self.module.clone(), path: path.clone(), line });
            } else if !is_glob {
                self.re_exported.push((self.module.clone(), alias.clone()));
            }
            if is_glob {
                self.here().globs.push(path[..path.len() - 1].to_vec());
            } else {
                self.here().aliases.insert(alias, path);
            }
        }
        end + 1
    }
}

/// The paths of a `use`, each with the name that it brings.
fn leaves(tree: &[String]) -> Vec<(ModulePath, String)> {
    let mut leaves = Vec::new();
    let (mut prefixes, mut path): (Vec<ModulePath>, ModulePath) = (Vec::new(), Vec::new());
    let mut alias = None;
    let mut words = tree.iter().chain([const { &String::new() }]).peekable();
    while let Some(word) = words.next() {
        match word.as_str() {
            "::" => {}
            "as" => alias = words.next().cloned(),
            "{" => prefixes.push(path.clone()),
            "," | "}" | "" => {
                let is_leaf = path.len() > prefixes.last().map_or(0, Vec::len);
                path.pop_if(|last| last == "self" && !prefixes.is_empty());
                if is_leaf && let Some(last) = path.last() {
                    leaves.push((path.clone(), alias.take().unwrap_or_else(|| last.clone())));
                }
                path = if word == "}" { prefixes.pop().unwrap_or_default() } else { path };
                path.truncate(prefixes.last().map_or(0, Vec::len));
            }
            word => path.push(word.to_owned()),
        }
    }
    leaves
}
