//! Flags, variables, error codes and make targets: what is named exists, what exists is named.

use std::collections::{BTreeMap, BTreeSet};

use super::pages::{Page, Row, spans};
use super::program::{error_codes, flags, is_code, is_variable, make_targets, metrics};

/// What a row of the migration pages says of a thing that is there no more.
const GONE: [&str; 2] = ["gone", "取消"];

#[test]
fn every_flag_that_a_page_names_exists() {
    let flags = flags();
    check_names("flag", named_flags, |name| flags.contains(name));
}

#[test]
fn every_variable_that_a_page_names_exists() {
    check_names("variable", named_variables, is_variable);
}

#[test]
fn every_make_target_that_a_page_names_exists() {
    let targets = make_targets();
    check_names("make target", named_targets, |name| targets.contains(name));
}

#[test]
fn every_metric_that_a_page_names_exists() {
    let metrics = metrics();
    check_names("metric", named_metrics, |name| metrics.contains(name));
}

#[test]
fn every_metric_stands_in_a_table_of_both_languages() {
    for pages in [["docs/operations.md", "docs/usage.md"], ["docs/operations.zh-CN.md", "docs/usage.zh-CN.md"]] {
        let pages = pages.map(Page::named);
        let named: BTreeSet<&str> = pages.iter().flat_map(|page| named_metrics(&page.text)).collect();
        let missing: Vec<String> = metrics().into_iter().filter(|metric| !named.contains(metric.as_str())).collect();
        assert!(missing.is_empty(), "{} does not name {missing:?}", pages[0].path.display());
    }
}

#[test]
fn both_entry_pages_list_every_flag() {
    let flags: BTreeSet<String> = flags().into_iter().filter(|flag| !is_known_to_all(flag)).collect();
    for page in ["README.md", "README.zh-CN.md"].map(Page::named) {
        let tables = page.tables();
        let first_cells = tables.iter().flat_map(|table| &table.rows).map(|row| row.cells[0]);
        let listed: BTreeSet<&str> = first_cells.flat_map(spans).collect();
        let missing: Vec<_> = flags.iter().filter(|flag| !listed.contains(flag.as_str())).collect();
        assert!(missing.is_empty(), "{} has no row for {missing:?}", page.path.display());
    }
}

/// Flags that need no row: those of every program, and those of commands.
fn is_known_to_all(flag: &str) -> bool {
    const OF_COMMANDS: [&str; 18] = [
        "--online",
        "--name",
        "--since",
        "--by",
        "--json",
        "--csv",
        "--list",
        "--once",
        "--parallel",
        "--requests-per-minute",
        "--tokens-per-minute",
        "--tokens-per-day",
        "--usd-per-day",
        "--usd-per-month",
        "--models",
        "--credentials",
        "--another",
        "--convert",
    ];
    ["--help", "--version"].contains(&flag) || OF_COMMANDS.contains(&flag)
}

#[test]
fn pages_about_errors_name_every_code_and_no_other() {
    let codes = error_codes();
    for page in ["docs/user-guide.md", "docs/user-guide.zh-CN.md"].map(Page::named) {
        let tables = page.tables();
        let about_codes =
            tables.iter().filter_map(|table| Some((table, table.header.iter().position(|cell| *cell == "code")?)));
        let cells = about_codes.flat_map(|(table, column)| table.rows.iter().map(move |row| row.cells[column]));
        let named: BTreeSet<String> = cells.flat_map(spans).filter(|span| is_code(span)).map(str::to_owned).collect();
        let missing: Vec<_> = codes.difference(&named).collect();
        let invented: Vec<_> = named.difference(&codes).collect();
        let name = page.path.display();
        assert!(missing.is_empty() && invented.is_empty(), "{name} lacks {missing:?} and invents {invented:?}");
    }
}

#[test]
fn the_development_guide_names_every_make_target() {
    let page = Page::named("docs/development.md");
    let named = named_targets(&page.text);
    let missing: Vec<_> = make_targets().into_iter().filter(|target| !named.contains(target.as_str())).collect();
    assert!(missing.is_empty(), "docs/development.md has no word of make {missing:?}");
}

#[test]
fn a_page_and_its_translation_name_the_same_things_in_the_same_order_of_headings() {
    for (original, translation) in Page::pairs() {
        let name = translation.path.display().to_string();
        let levels = |page: &Page| page.headings().into_iter().map(|(level, _)| level).collect::<Vec<_>>();
        assert_eq!(levels(&original), levels(&translation), "{name}: the levels of the headings");
        let rows = |page: &Page| page.tables().iter().map(|table| table.rows.len()).collect::<Vec<_>>();
        assert_eq!(rows(&original), rows(&translation), "{name}: the rows of the tables");
        for (what, named) in
            [("flags", named_flags as Named), ("variables", named_variables), ("targets", named_targets)]
        {
            assert_eq!(named(&original.text), named(&translation.text), "{name}: {what}");
        }
        let commands =
            |page: &Page| page.blocks().iter().map(|block| without_comments(&block.text)).collect::<Vec<_>>();
        assert_eq!(commands(&original), commands(&translation), "{name}: the blocks");
        let marks = |page: &Page| page.blocks().iter().map(|block| block.is_run).collect::<Vec<_>>();
        assert_eq!(marks(&original), marks(&translation), "{name}: the examples that run");
    }
}

/// A block without what a translation changes: comments, and the blanks before them.
fn without_comments(block: &str) -> Vec<String> {
    let code = |line| str::split(line, " #").next().unwrap_or_default().trim_end().to_owned();
    block.lines().filter(|line| !line.starts_with('#')).map(code).collect()
}

type Named = fn(&str) -> BTreeSet<&str>;

/// Checks that what pages name exists, except in rows that say that it is gone: that must not exist.
fn check_names(kind: &str, named: Named, exists: impl Fn(&str) -> bool) {
    let mut known = BTreeMap::new();
    let mut exists = |name: &str| *known.entry(name.to_owned()).or_insert_with(|| exists(name));
    let mut wrong = Vec::new();
    for page in Page::about_the_program() {
        let tables = page.tables();
        let rows: Vec<&Row<'_>> = tables.iter().flat_map(|table| &table.rows).filter(|row| says_gone(row)).collect();
        let gone: BTreeSet<&str> = rows.iter().flat_map(|row| named(row.cells[0])).collect();
        for name in named(&page.text) {
            if exists(name) == gone.contains(name) {
                wrong.push(format!("{}: {name}, gone: {}", page.path.display(), gone.contains(name)));
            }
        }
    }
    assert!(!known.is_empty(), "no page names a {kind}");
    assert!(wrong.is_empty(), "no such {kind}, or gone though it exists:\n  {}", wrong.join("\n  "));
}

fn says_gone(row: &Row<'_>) -> bool {
    row.cells.iter().any(|cell| GONE.contains(cell))
}

/// Flags between backticks, alone or behind the program's name, and in the program's command lines of blocks.
fn named_flags(text: &str) -> BTreeSet<&str> {
    let mut flags = BTreeSet::new();
    for line in text.lines() {
        let commands =
            line.match_indices("flow-uring ").map(|(at, _)| line[at..].split(['|', '&', ';', '#', '`', '>']).next());
        flags.extend(commands.flatten().flat_map(flags_in));
        flags.extend(spans(line).into_iter().filter(|span| span.starts_with("--")).flat_map(flags_in));
    }
    flags
}

fn flags_in(command: &str) -> impl Iterator<Item = &str> {
    let words = command.split([' ', '=', ',', '…']);
    words.filter(|word| word.len() > 2 && word.starts_with("--") && word[2..].bytes().all(is_flag_byte))
}

fn is_flag_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte == b'-'
}

fn named_variables(text: &str) -> BTreeSet<&str> {
    let is_name = |sign: char| sign.is_ascii_uppercase() || sign == '_';
    let words = text.split(|sign| !is_name(sign));
    words.filter(|word| word.starts_with("FLOW_PROXY_") && !word.ends_with('_')).collect()
}

/// A histogram is named by itself, or by one of its series.
fn named_metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|sign: char| !sign.is_ascii_lowercase() && sign != '_');
    let is_metric =
        |word: &&str| word.starts_with("flow_uring_") || word.starts_with("gen_ai_c") || word.starts_with("gen_ai_s");
    let names = words.filter(|word| is_metric(word) && !word.ends_with("_error"));
    names
        .map(|name| ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name))
        .collect()
}

/// Targets between backticks, and in blocks.
fn named_targets(text: &str) -> BTreeSet<&str> {
    let mut targets = BTreeSet::new();
    let mut is_fenced = false;
    for line in text.lines() {
        is_fenced ^= line.starts_with("```");
        let places = if is_fenced { vec![line] } else { spans(line) };
        targets.extend(places.into_iter().flat_map(targets_in));
    }
    targets
}

/// What stands behind the word `make`.
fn targets_in(commands: &str) -> impl Iterator<Item = &str> {
    const MAKE: &str = "make ";
    let is_word = |at: usize| !commands[..at].ends_with(|sign: char| sign.is_ascii_alphanumeric() || sign == '-');
    let places = commands.match_indices(MAKE).filter(move |(at, _)| is_word(*at));
    let targets = places.map(|(at, _)| commands[at + MAKE.len()..].split([' ', ',']).next().unwrap_or_default());
    targets.filter(|target| !target.is_empty() && target.bytes().all(is_flag_byte))
}

#[test]
fn names_are_found_where_the_program_is_meant() {
    let text = "`--port 1`, `flow-uring check --online`, `docker run --rm`, --no\n\
                ```sh\nflow-uring --host x | grep --count y # --z\ncargo build --release\n（make run\n```\n\
                `make test` or make lint, `cmake x`, FLOW_PROXY_PORT, `FLOW_PROXY_…`, flow_uring_a_seconds_bucket{}";
    assert_eq!(named_flags(text), BTreeSet::from(["--host", "--online", "--port"]));
    assert_eq!(named_variables(text), BTreeSet::from(["FLOW_PROXY_PORT"]));
    assert_eq!(named_targets(text), BTreeSet::from(["run", "test"]));
    assert_eq!(named_metrics(text), BTreeSet::from(["flow_uring_a_seconds"]));
}
