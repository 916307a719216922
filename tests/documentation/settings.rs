//! The tables of settings on the pages follow the table of the program: flag, variable and default.

use flow_uring::cli::{Setting, settings};

use super::pages::{Page, Row, spans};

/// The header of the column of defaults, and the words in it that a translation has its own for.
struct Language {
    default: &'static str,
    words: &'static [(&'static str, &'static str)],
}

const ENGLISH: Language = Language { default: "default", words: &[] };
const CHINESE: Language = Language { default: "默认值", words: &[("none", "无"), ("off", "关")] };

#[test]
fn every_setting_has_a_row_with_its_names_and_its_default_in_both_languages() {
    let pages = Page::about_the_program();
    let is_translated = |page: &&Page| page.path.to_string_lossy().ends_with(".zh-CN.md");
    let (translations, originals): (Vec<_>, Vec<_>) = pages.iter().partition(is_translated);
    for (pages, language) in [(originals, ENGLISH), (translations, CHINESE)] {
        let wrong: Vec<String> = settings().filter_map(|setting| fault(setting, &pages, &language)).collect();
        assert!(wrong.is_empty(), "the tables of settings and the program differ:\n  {}", wrong.join("\n  "));
    }
}

/// Says what is wrong with the rows of a setting, which stand on the entry page or on another.
fn fault(setting: &Setting, pages: &[&Page], language: &Language) -> Option<String> {
    let name = if setting.has_flag { setting.flag } else { setting.variable.unwrap_or(setting.flag) };
    let mut count = 0;
    for page in pages {
        for table in page.tables() {
            let Some(column) = table.header.iter().position(|cell| *cell == language.default) else { continue };
            for row in table.rows.iter().filter(|row| names(row, column).contains(&name)) {
                count += 1;
                if let Some(fault) = fault_of_row(setting, row, column, language) {
                    return Some(format!("{}: {name}: {fault}", page.path.display()));
                }
            }
        }
    }
    (count == 0).then(|| format!("{name} has no row in a table with the column {:?}", language.default))
}

fn fault_of_row(setting: &Setting, row: &Row<'_>, column: usize, language: &Language) -> Option<String> {
    let named = names(row, column);
    let missing = [setting.old_flag, setting.variable].into_iter().flatten().find(|name| !named.contains(name));
    if let Some(missing) = missing {
        return Some(format!("its row does not name {missing}"));
    }
    let cell = row.cells[column];
    let translated =
        language.words.iter().find(|(word, _)| *word == setting.default).map(|(_, translated)| *translated);
    // A value may have its unit. Words are translated: of those only that they are there can be told.
    let is_value = cell.split(' ').next() == setting.default.split(' ').next();
    let is_right = match translated {
        Some(translated) => cell == translated || cell == setting.default,
        None if language.words.is_empty() => cell == setting.default || is_value && !setting.default.contains(' '),
        None if is_words(setting) => !cell.is_empty(),
        None => is_value,
    };
    (!is_right).then(|| format!("its default is {:?} and not {cell:?}", setting.default))
}

/// The names that a row is about, which stand before the column of defaults.
fn names<'a>(row: &Row<'a>, column: usize) -> Vec<&'a str> {
    row.cells[..column].iter().flat_map(|cell| spans(cell)).collect()
}

/// Tells a default in words, such as "plain HTTP", from one that is a value.
fn is_words(setting: &Setting) -> bool {
    setting.default.contains(' ')
}

#[test]
fn a_row_that_differs_is_found() {
    let text = "| flag | environment | default |\n| --- | --- | --- |\n| `--drain-timeout` | `FLOW_PROXY_DRAIN_TIMEOUT` | 10 s |\n\
                | `--shards` | `FLOW_PROXY_NUM_WORKERS` | the CPUs this process may use |\n";
    let page = Page { path: "page.md".into(), text: text.into() };
    let told = |flag: &str| {
        let setting = settings().find(|setting| setting.flag == flag).expect("a setting");
        fault(setting, &[&page], &ENGLISH).expect("a fault")
    };
    assert_eq!(told("--drain-timeout"), "page.md: --drain-timeout: its default is \"600\" and not \"10 s\"");
    assert_eq!(told("--shards"), "page.md: --shards: its row does not name --num-workers");
    assert_eq!(told("--port"), "--port has no row in a table with the column \"default\"");
}
