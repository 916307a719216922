//! The manual page, for `man`.

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality, PositionalInfo};
use roff::{Inline, Roff, bold, italic, roman};

use super::PROGRAM;
use crate::cli::args::program_info;
use crate::cli::settings::{Setting, SettingRank, settings};

/// Files, signals and variables that are no setting.
const FILES: [(&str, &str); 4] = [
    ("secrets.json", "the credentials (--secrets-file); flow-uring init writes it"),
    (
        ".env",
        "settings by their variables, in the working directory; only of its owner or root, and of nobody's writing but theirs",
    ),
    ("usage.sqlite", "totals of tokens, cost and requests (--usage-db)"),
    ("$XDG_STATE_HOME/flow-uring/exec.log", "the log of a gateway that flow-uring exec has started"),
];
const SIGNALS: [(&str, &str); 2] = [
    (
        "SIGTERM, SIGINT",
        "accepts nothing any more, lets open requests end (--drain-timeout), and exits with 0; a second one exits at once",
    ),
    ("SIGHUP", "reads secrets, keys, prices and certificates again; a file with a mistake changes nothing"),
];
const VARIABLES: [(&str, &str); 2] = [
    ("FLOW_URING_ALLOW_CORE=1", "allows core dumps, which may hold secrets"),
    ("XDG_STATE_HOME, STATE_DIRECTORY, XDG_RUNTIME_DIR", "the places of files that no setting names"),
];
const EXAMPLES: [(&str, &str); 4] = [
    ("flow-uring demo", "try it, without an account"),
    ("flow-uring init", "write a secrets file"),
    ("flow-uring exec claude", "run one command behind a gateway of its own"),
    ("flow-uring --host 0.0.0.0 --api-keys-file keys.json", "serve others, who show keys"),
];

/// Returns the manual page as roff.
pub fn manual() -> String {
    let info = program_info();
    let mut page = Roff::new();
    let version = concat!("flow-uring ", env!("CARGO_PKG_VERSION"));
    // Without a date: it would be that of the build.
    page.control("TH", ["FLOW-URING", "1", " ", version, "User Commands"]);
    section(&mut page, "NAME");
    page.text([roman(concat!("flow-uring - ", env!("CARGO_PKG_DESCRIPTION")))]);
    section(&mut page, "SYNOPSIS");
    page.text([bold(PROGRAM), roman(" ["), italic("settings"), roman("] ["), italic("command"), roman("]")]);
    section(&mut page, "DESCRIPTION");
    paragraphs(&mut page, info.description);
    section(&mut page, "COMMANDS");
    for command in &info.commands {
        of_command(&mut page, command.name, &command.command);
    }
    section(&mut page, "SETTINGS");
    for setting in settings().filter(|setting| setting.rank != SettingRank::Obsolete) {
        of_setting(&mut page, setting);
    }
    for flag in info.flags {
        of_flag(&mut page, flag);
    }
    for (title, rows) in [("ENVIRONMENT", &VARIABLES[..]), ("FILES", &FILES), ("SIGNALS", &SIGNALS)] {
        section(&mut page, title);
        if title == "ENVIRONMENT" {
            paragraphs(&mut page, "Each setting has its variable. Besides:");
        }
        table(&mut page, rows);
    }
    section(&mut page, "EXIT STATUS");
    for note in info.notes {
        paragraphs(&mut page, note);
    }
    section(&mut page, "EXAMPLES");
    for (example, text) in EXAMPLES {
        term(&mut page, vec![bold(example)], text);
    }
    page.render()
}

fn section(page: &mut Roff, title: &str) {
    page.control("SH", [title]);
}

fn paragraphs(page: &mut Roff, text: &str) {
    for (index, paragraph) in text.split("\n\n").map(str::trim).enumerate() {
        // The first one follows a title.
        if index > 0 {
            page.control("PP", []);
        }
        page.text([roman(paragraph.replace('\n', " "))]);
    }
}

/// A term with its explanation beside it.
fn term(page: &mut Roff, head: Vec<Inline>, text: &str) {
    page.control("TP", []).text(head).text([roman(text)]);
}

fn table(page: &mut Roff, rows: &[(&str, &str)]) {
    for (name, text) in rows {
        term(page, vec![bold(*name)], text);
    }
}

/// A command, and those below it, with their own arguments.
fn of_command(page: &mut Roff, name: &str, info: &CommandInfoWithArgs) {
    let mut head = vec![bold(name)];
    for positional in info.positionals {
        head.extend(of_positional(positional));
    }
    term(page, head, &info.description.replace("\n\n", " ").replace('\n', " "));
    let has_more = !(info.positionals.is_empty() && info.notes.is_empty() && info.flags.iter().all(is_help));
    if has_more {
        page.control("RS", []);
        for positional in info.positionals.iter().filter(|positional| !positional.description.is_empty()) {
            term(page, vec![italic(positional.name)], positional.description);
        }
        for flag in info.flags {
            of_flag(page, flag);
        }
        for note in info.notes {
            page.control("PP", []);
            paragraphs(page, note);
        }
        page.control("RE", []);
    }
    for command in &info.commands {
        of_command(page, &format!("{name} {}", command.name), &command.command);
    }
}

fn of_positional(positional: &PositionalInfo<'_>) -> [Inline; 3] {
    let (before, after) = match positional.optionality {
        Optionality::Required => (" ", ""),
        Optionality::Optional => (" [", "]"),
        Optionality::Repeating | Optionality::Greedy => (" [", "...]"),
    };
    [roman(before), italic(positional.name), roman(after)]
}

fn is_help(flag: &FlagInfo<'_>) -> bool {
    flag.long == "--help"
}

fn of_flag(page: &mut Roff, flag: &FlagInfo<'_>) {
    if is_help(flag) {
        return;
    }
    let mut head = vec![bold(flag.long)];
    if let FlagInfoKind::Option { arg_name } = flag.kind {
        head.extend([roman(" "), italic(arg_name)]);
    }
    term(page, head, flag.description);
}

fn of_setting(page: &mut Roff, setting: &Setting) {
    let mut head = Vec::new();
    if setting.has_flag {
        head.push(bold(setting.flag));
        head.extend(setting.takes_value.then(|| [roman(" "), italic("value")]).into_iter().flatten());
    }
    if let Some(variable) = setting.variable {
        head.extend(setting.has_flag.then(|| roman(", ")));
        head.push(bold(variable));
    }
    let default = if setting.takes_value { format!("; default {}", setting.default) } else { String::new() };
    term(page, head, &format!("{}{default}", setting.help));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_setting_and_every_command() {
        // Hyphens that are to be typed are escaped.
        let page = manual().replace("\\-", "-");
        for setting in settings().filter(|setting| setting.rank != SettingRank::Obsolete) {
            let names = [setting.has_flag.then_some(setting.flag), setting.variable];
            for name in names.into_iter().flatten() {
                assert!(page.contains(&format!("\\fB{name}\\fR")), "{name}");
            }
        }
        for command in program_info().commands {
            assert!(page.contains(&format!("\\fB{}\\fR", command.name)), "{}", command.name);
        }
        assert!(page.contains("\\fBkeys add\\fR"));
    }

    #[test]
    fn no_line_is_taken_for_a_request_of_roff_but_those_that_are() {
        let requests = ["TH", "SH", "PP", "TP", "RS", "RE", "ie", "el"];
        for line in manual().lines().filter(|line| line.starts_with(['.', '\''])) {
            assert!(requests.iter().any(|request| line[1..].starts_with(request)), "{line}");
        }
    }
}
