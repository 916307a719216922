//! The pages, and the parts of Markdown that they use.

use std::fs;
use std::path::{Path, PathBuf};

/// A page; paths are relative to the repository.
pub struct Page {
    pub path: PathBuf,
    pub text: String,
}

/// A fenced block.
pub struct Block<'a> {
    /// Of its first line.
    pub line_number: usize,
    pub language: &'a str,
    pub text: String,
    /// Whether a line `<!-- runs -->` stands before it.
    pub is_run: bool,
}

/// The line that marks a block as an example that runs. It is not seen on the rendered page.
const RUN_MARK: &str = "<!-- runs -->";

/// The ending of a Chinese page's name.
const TRANSLATED: &str = ".zh-CN.md";

impl Page {
    /// All of them, for users and for developers.
    pub fn all() -> Vec<Self> {
        let mut paths: Vec<PathBuf> =
            ["README.md", "README.zh-CN.md", "CHANGELOG.md", "SECURITY.md"].map(PathBuf::from).into();
        for folder in ["docs", "benches", "benches/load"] {
            let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
            let names = entries.map(|entry| entry.expect("an entry").file_name());
            paths.extend(
                names.map(|name| Path::new(folder).join(name)).filter(|path| path.extension() == Some("md".as_ref())),
            );
        }
        paths.sort();
        let page = |path: PathBuf| Page { text: read(&path), path };
        paths.into_iter().map(page).collect()
    }

    /// Those that speak of the program, not of the tools around it.
    pub fn about_the_program() -> Vec<Self> {
        Self::all().into_iter().filter(|page| !page.path.starts_with("benches")).collect()
    }

    /// Pages with their translations.
    pub fn pairs() -> Vec<(Self, Self)> {
        let is_translated = |page: &Page| page.path.to_string_lossy().ends_with(TRANSLATED);
        let (translations, originals): (Vec<_>, Vec<_>) = Self::all().into_iter().partition(is_translated);
        let pair = |translation: Page| {
            let path = translation.path.to_string_lossy().replace(TRANSLATED, ".md");
            let original = originals.iter().find(|page| page.path == Path::new(&path));
            let Page { path, text } = original.unwrap_or_else(|| panic!("{path} is missing"));
            (Page { path: path.clone(), text: text.clone() }, translation)
        };
        translations.into_iter().map(pair).collect()
    }

    pub fn named(path: &str) -> Self {
        Page { path: path.into(), text: read(Path::new(path)) }
    }

    /// Its lines outside of fenced blocks, with their numbers.
    pub fn prose(&self) -> Vec<(usize, &str)> {
        let mut is_fenced = false;
        let mut prose = Vec::new();
        for (number, line) in numbered(&self.text) {
            let is_fence = line.starts_with("```");
            is_fenced ^= is_fence;
            if !is_fenced && !is_fence {
                prose.push((number, line));
            }
        }
        prose
    }

    pub fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks = Vec::new();
        let mut lines = numbered(&self.text);
        let mut previous = "";
        while let Some((line_number, line)) = lines.next() {
            if let Some(language) = line.strip_prefix("```") {
                let is_run = previous == RUN_MARK;
                let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
                let text = inside.collect::<Vec<_>>().join("\n");
                blocks.push(Block { line_number: line_number + 1, language, text, is_run });
            }
            previous = line;
        }
        blocks
    }

    /// The levels of its headings, and the names by which links find them.
    pub fn headings(&self) -> Vec<(usize, String)> {
        let prose = self.prose();
        let headings = prose.iter().filter_map(|(_, line)| {
            let text = line.trim_start_matches('#');
            let level = line.len() - text.len();
            (level > 0 && text.starts_with(' ')).then(|| (level, anchor(text.trim())))
        });
        headings.collect()
    }

    /// The rows of its tables, cell by cell.
    pub fn tables(&self) -> Vec<Table<'_>> {
        let mut tables: Vec<Table<'_>> = Vec::new();
        let mut last_number = 0;
        for (number, line) in self.prose().into_iter().filter(|(_, line)| line.starts_with('|')) {
            let row = Row { cells: cells(line) };
            match tables.last_mut() {
                Some(table) if last_number + 1 == number => table.rows.push(row),
                _ => tables.push(Table { header: row.cells, rows: Vec::new() }),
            }
            last_number = number;
        }
        for table in &mut tables {
            // The line of dashes.
            table.rows.remove(0);
        }
        tables
    }

    /// What stands between backticks in its prose.
    pub fn spans(&self) -> Vec<(usize, &str)> {
        let prose = self.prose();
        prose.into_iter().flat_map(|(number, line)| spans(line).into_iter().map(move |span| (number, span))).collect()
    }
}

pub struct Table<'a> {
    pub header: Vec<&'a str>,
    pub rows: Vec<Row<'a>>,
}

pub struct Row<'a> {
    pub cells: Vec<&'a str>,
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository.
pub fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn spans(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// An escaped bar is part of a cell.
fn cells(line: &str) -> Vec<&str> {
    let mut cells = Vec::new();
    let mut start = 1;
    for (at, _) in line.match_indices('|').filter(|(at, _)| *at > 0 && !line[..*at].ends_with('\\')) {
        cells.push(line[start..at].trim());
        start = at + 1;
    }
    cells
}

/// As GitHub and its like make it: lower case, blanks to hyphens, and no other signs than hyphens and underscores.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|sign| sign.is_alphanumeric() || matches!(sign, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|sign| if sign == ' ' { '-' } else { sign }).collect()
}

/// What names are looked for in is found line by line.
#[test]
fn a_code_span_ends_on_the_line_that_it_begins_on() {
    for page in Page::all() {
        for (number, line) in page.prose() {
            assert_eq!(line.matches('`').count() % 2, 0, "{}:{number}: {line}", page.path.display());
        }
    }
}

#[test]
fn markdown_is_taken_apart_as_it_is_rendered() {
    let text = "# A `b`, c: d-e_f\n| x | y |\n| --- | --- |\n| a \\| b | `c` |\n\n\
                <!-- runs -->\n```sh\n# no heading\n```\n\n## 中文，标题\n| z |\n| --- |\n";
    let page = Page { path: "page.md".into(), text: text.into() };
    assert_eq!(page.headings(), [(1, "a-b-c-d-e_f".to_owned()), (2, "中文标题".to_owned())]);
    let blocks: Vec<_> = page.blocks().into_iter().map(|b| (b.line_number, b.language, b.text, b.is_run)).collect();
    assert_eq!(blocks, [(8, "sh", "# no heading".to_owned(), true)]);
    let tables: Vec<_> = page.tables().into_iter().map(|t| (t.header, t.rows.len())).collect();
    assert_eq!(tables, [(vec!["x", "y"], 1), (vec!["z"], 0)]);
    assert_eq!(page.tables()[0].rows[0].cells, ["a \\| b", "`c`"]);
    assert_eq!(page.spans(), [(1, "b"), (4, "c")]);
}
