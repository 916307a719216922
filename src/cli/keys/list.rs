//! `flow-uring keys list`: what the keys may do, as a table of at most 80 columns where names are not long.

use std::collections::HashMap;

use super::add::path;
use super::error::KeysError;
use crate::config::Config;
use crate::credentials::{ApiKeys, KeyPolicy, LimitField};
use crate::whole_file::FileKinds;

const NAME_COLUMNS: usize = 20;
/// The columns of each limit, with its heading.
const LIMITS: [(LimitField, &str); 6] = [
    (LimitField::Parallel, "PARALLEL"),
    (LimitField::RequestsPerMinute, "REQ/MIN"),
    (LimitField::TokensPerMinute, "TOK/MIN"),
    (LimitField::TokensPerDay, "TOK/DAY"),
    (LimitField::UsdPerDay, "USD/DAY"),
    (LimitField::UsdPerMonth, "USD/MON"),
];
/// Room for the longest heading, and for limits up to a hundred million.
const LIMIT_COLUMNS: usize = 9;
const LINE_COLUMNS_MAX: usize = 80;
/// Stands for no limit.
const NONE: &str = "-";

/// Returns the table.
///
/// # Errors
/// There is no file, or it cannot be used.
pub fn list(config: &Config) -> Result<String, KeysError> {
    let loaded = ApiKeys::load(path(config)?, FileKinds::RegularOrPipe).map_err(KeysError::NotLoaded)?;
    Ok(table(&loaded.keys))
}

fn table(keys: &ApiKeys) -> String {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    keys.names().for_each(|name| *counts.entry(name).or_default() += 1);
    let headings = LIMITS.map(|(_, heading)| heading.to_owned());
    let mut table = row("NAME", &headings);
    for (name, policy) in keys.policies() {
        // The keys of one name have one policy.
        if let Some(count) = counts.remove(name) {
            table += &of_name(name, count, policy);
        }
    }
    table
}

fn of_name(name: &str, count: usize, policy: &KeyPolicy) -> String {
    let limits = LIMITS.map(|(field, _)| field.written(&policy.limits).map_or(NONE.to_owned(), shortened));
    let mut text = row(name, &limits);
    if count > 1 {
        text += &note(&format!("{count} keys"));
    }
    if let Some(models) = &policy.models {
        text += &names("models", models.iter().map(|model| model.text()));
    }
    if let Some(credentials) = &policy.credentials {
        text += &names("credentials", credentials.iter().map(String::as_str));
    }
    text
}

/// A name, on a line of its own if it is long, and a column for each limit.
fn row(name: &str, limits: &[String]) -> String {
    let limits: String = limits.iter().map(|limit| format!(" {limit:>LIMIT_COLUMNS$}")).collect();
    if name.len() > NAME_COLUMNS {
        return format!("{name}\n{:NAME_COLUMNS$}{limits}\n", "");
    }
    format!("{name:NAME_COLUMNS$}{limits}\n")
}

fn note(text: &str) -> String {
    format!("  {text}\n")
}

/// Names under a heading, in as many lines as they take.
fn names<'a>(heading: &str, names: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::new();
    let mut line = format!("{heading}:");
    let mut names = names.peekable();
    while let Some(name) = names.next() {
        let comma = if names.peek().is_some() { "," } else { "" };
        // The two of the indent, and a blank.
        if line.len() + name.len() + comma.len() + 3 > LINE_COLUMNS_MAX && !line.trim().is_empty() {
            text += &note(&line);
            line = " ".repeat(heading.len() + 1);
        }
        line += &format!(" {name}{comma}");
    }
    text + &note(&line)
}

/// Writes round numbers as people do, 2000000 as 2M.
fn shortened(number: String) -> String {
    let rounded = |zeros: &str, unit: &str| number.strip_suffix(zeros).map(|rest| format!("{rest}{unit}"));
    let is_whole = number.bytes().all(|byte| byte.is_ascii_digit());
    let short = rounded("000000000", "G").or_else(|| rounded("000000", "M")).or_else(|| rounded("000", "k"));
    short.filter(|short| is_whole && short.len() > 1).unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        table(&ApiKeys::from_text(text).expect("valid").keys)
    }

    #[test]
    fn a_table_shows_what_each_name_may_do_and_no_key() {
        let text = shown(
            r#"[{"name": "*", "limits": {"parallel": 4}},
                {"name": "alice", "key": "hunter2-hunter2-1", "models": ["claude-*", "gpt-4o"], "credentials": ["team a"],
                 "limits": {"requests_per_minute": 60, "tokens_per_minute": 100000, "tokens_per_day": 2000000,
                            "usd_per_day": 12.5, "usd_per_month": 100}},
                {"name": "bob", "key": "hunter2-hunter2-2", "limits": null},
                {"name": "bob", "key": "hunter2-hunter2-3", "limits": null},
                {"name": "a-robot-with-a-name-that-is-long", "key": "hunter2-hunter2-4"}]"#,
        );
        assert_eq!(
            text,
            "\
NAME                  PARALLEL   REQ/MIN   TOK/MIN   TOK/DAY   USD/DAY   USD/MON
alice                        4        60      100k        2M      12.5       100
  models: claude-*, gpt-4o
  credentials: team a
bob                          -         -         -         -         -         -
  2 keys
a-robot-with-a-name-that-is-long
                             4         -         -         -         -         -
"
        );
        assert!(shown("alice:hunter2-hunter2").contains("\nalice                        - "));
    }

    #[test]
    fn no_line_is_longer_than_80_columns_unless_a_name_is() {
        let models: Vec<String> = (0..40).map(|number| format!("\"model-{number}\"")).collect();
        let text = shown(&format!(
            r#"[{{"name": "alice", "key": "hunter2-hunter2", "models": [{}],
                 "limits": {{"tokens_per_day": 123456789, "usd_per_day": 123456.78}}}}]"#,
            models.join(",")
        ));
        assert!(text.lines().all(|line| line.len() <= LINE_COLUMNS_MAX), "{text}");
        let listed = text.split_whitespace().filter(|word| word.starts_with("model-")).count();
        assert_eq!(listed, 40, "{text}");
    }

    #[test]
    fn round_numbers_are_short_and_others_as_they_are() {
        for (number, short) in [
            ("1", "1"),
            ("1000", "1k"),
            ("1500", "1500"),
            ("60000", "60k"),
            ("0.001", "0.001"),
            ("100000000000", "100G"),
        ] {
            assert_eq!(shortened(number.to_owned()), short);
        }
    }
}
