//! Holds `.env.example` to the table of settings.

use super::setting::{Setting, SettingRank};
use super::table::settings;
use super::testing::{config, run};
use crate::config::Config;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.env.example");

const BEGIN: &str = "\
# Settings of flow-uring. Copy to .env in the directory that it is started from:  cp .env.example .env
# Precedence: flag, then environment variable, then this file, then default. An empty value counts as unset.
# Check the result with:  flow-uring check
# No comment stands after a value, so that systemd's EnvironmentFile and docker --env-file can read it too.

";
const FURTHER: &str = "
# Less often needed; the values are the defaults, or examples where there is none.
";

/// The text of `.env.example`.
fn example() -> String {
    let ranked = |rank| settings().filter(move |setting| setting.rank == rank);
    let basic: String = ranked(SettingRank::Basic).map(|setting| lines(setting, "")).collect();
    let further: String = ranked(SettingRank::Further).map(|setting| lines(setting, "#")).collect();
    format!("{BEGIN}{basic}{FURTHER}{further}")
}

fn lines(setting: &Setting, mark: &str) -> String {
    let Some(variable) = setting.variable else { return String::new() };
    let Setting { help, default, .. } = setting;
    match setting.example {
        None => format!("# {help}\n{mark}{variable}={default}\n"),
        Some(value) => format!("# {help}; default {default}\n{mark}{variable}={value}\n"),
    }
}

fn written() -> String {
    std::fs::read_to_string(PATH).expect("there")
}

#[test]
fn the_example_file_follows_from_the_table() {
    let example = example();
    if std::env::var_os("RENEW_ENV_EXAMPLE").is_some() {
        std::fs::write(PATH, &example).expect("written");
    }
    let written = written();
    let differing = example.lines().zip(written.lines()).find(|(expected, found)| expected != found);
    let advice = "RENEW_ENV_EXAMPLE=1 cargo test --lib env_example writes .env.example anew";
    assert!(example == written, "expected and found: {differing:?}: {advice}");
}

#[test]
fn the_example_files_values_are_the_defaults() {
    let example = written();
    let configured = run(&[], &[], &example).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(told(configured.config), told(config(&[])));
    // With every line switched on, the values still stand for the defaults, or are examples that pass.
    let switched_on: String = example
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned() + "\n")
        .collect();
    run(&[], &[], &switched_on).unwrap_or_else(|errors| panic!("{errors}"));
}

#[test]
fn a_default_that_is_a_value_is_the_one_of_the_configuration() {
    let is_value = |setting: &&Setting| setting.example.is_none() && setting.rank != SettingRank::Obsolete;
    let environment: Vec<(&str, &str)> =
        settings().filter(is_value).filter_map(|setting| Some((setting.variable?, setting.default))).collect();
    assert!(environment.len() > 20, "{environment:?}");
    let configured = run(&[], &environment, "").unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(told(configured.config), told(config(&[])));
    // And `check` shows it so, with its unit.
    for shown in run(&[], &[], "").expect("valid").effective {
        let setting = settings().find(|setting| setting.flag == shown.flag).expect("a row");
        let is_shown = shown.value == setting.default || shown.value.starts_with(&format!("{} ", setting.default));
        assert!(is_shown || setting.example.is_some(), "{shown:?}");
    }
}

#[test]
fn no_name_stands_twice_in_the_table() {
    let mut names: Vec<&str> =
        settings().flat_map(|setting| [Some(setting.flag), setting.old_flag, setting.variable]).flatten().collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
}

/// A configuration as text, but for the place that the upstream's URL comes from.
fn told(mut config: Config) -> String {
    config.upstream.source.clear();
    format!("{config:?}")
}
