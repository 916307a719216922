//! What there is to be named: the program's flags and variables, the codes of its errors, and make targets.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::pages::{read, root};
use super::support::{Gateway, Upstream, command, json, output_of};

/// The flags of the program and of its commands.
pub fn flags() -> BTreeSet<String> {
    let mut flags = BTreeSet::new();
    for command in [
        &[][..],
        &["check"],
        &["token"],
        &["healthcheck"],
        &["usage"],
        &["explain"],
        &["init"],
        &["exec"],
        &["top"],
        &["keys", "add"],
    ] {
        let (code, text) = run(&[command, &["--help"]].concat(), None);
        assert_eq!(code, Some(0), "{command:?} has no help: {text}");
        let words =
            text.lines().filter_map(|line| line.strip_prefix("  ")?.split([' ', ',']).find(|word| !word.is_empty()));
        flags.extend(words.filter(|word| word.starts_with("--")).map(str::to_owned));
        flags.extend(["--help".to_owned()]);
    }
    assert!(flags.len() > 20, "only these flags were found: {flags:?}");
    flags
}

/// Whether the program reads this variable: set to nonsense, it is either refused or listed as the source of a value.
pub fn is_variable(name: &str) -> bool {
    let (_, text) = run(&["check"], Some(name));
    text.contains(name)
}

/// The codes of the errors that the program counts, each of which is on its metrics page from the start.
pub fn error_codes() -> BTreeSet<String> {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = Gateway::builder().upstream(&upstream).arg("--admin", "127.0.0.1:0").start();
    let page = gateway.metrics();
    let codes = page.lines().filter_map(|line| line.strip_prefix("flow_uring_errors_total{code=\"")?.split('"').next());
    let codes: BTreeSet<String> = codes.map(str::to_owned).collect();
    assert!(codes.len() > 20 && codes.iter().all(|code| is_code(code)), "not the codes: {codes:?}");
    codes
}

/// Lower-case words with digits in them, joined by underscores.
pub fn is_code(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    text.starts_with(|first: char| first.is_ascii_lowercase()) && text.bytes().all(is_part)
}

pub fn make_targets() -> BTreeSet<String> {
    let text = read(Path::new("Makefile"));
    let targets = text.lines().filter_map(|line| line.split_once(':')).filter(|(_, rest)| !rest.starts_with('='));
    let is_name = |name: &&str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') && !name.is_empty();
    targets.map(|(name, _)| name).filter(is_name).map(str::to_owned).collect()
}

/// The names of metrics, which stand between quotes where the admin listener writes its page.
pub fn metrics() -> BTreeSet<String> {
    let files = fs::read_dir(root().join("src/server/admin/metrics")).unwrap();
    let sources: Vec<String> = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let quoted = sources.iter().flat_map(|source| source.split('"').skip(1).step_by(2));
    let is_metric =
        |text: &&str| ["flow_uring_", "gen_ai_client_", "gen_ai_server_"].iter().any(|start| text.starts_with(start));
    quoted.filter(|text| is_metric(text) && is_code(text)).map(str::to_owned).collect()
}

fn run(words: &[&str], variable: Option<&str>) -> (Option<i32>, String) {
    let mut command = command(env!("CARGO_BIN_EXE_flow-uring"));
    // Where there is no `.env`.
    command.args(words).current_dir(root().join("tests")).env_clear();
    if let Some(name) = variable {
        command.env(name, "?");
    }
    let output = output_of(command);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}
