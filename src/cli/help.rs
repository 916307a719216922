//! The help text: what argh says of the commands, with the settings of the table among the options.

use super::settings::{Setting, settings};

/// The form that argh gives to names and descriptions.
const INDENT: &str = "  ";
const DESCRIPTION_COLUMN: usize = 20;
const LINE_CHARACTERS_MAX: usize = 80;

/// Completes a help text of argh: the program's gets the settings, that of a command stays as it is.
pub fn complete(help: &str) -> String {
    const OPTIONS: &str = "\nOptions:\n";
    let help = help.trim_end();
    let Some((usage, rest)) = help.split_once('\n').filter(|(usage, _)| usage.starts_with("Usage: flow-uring [--"))
    else {
        return format!("{help}\n");
    };
    debug_assert!(usage.contains("[<command>]"), "{usage}");
    let (description, options) = rest.split_once(OPTIONS).unwrap_or((rest, ""));
    let settings: String = settings().filter(|setting| setting.has_flag).map(of_setting).collect();
    format!("Usage: flow-uring [<flags>] [<command>]\n{description}{OPTIONS}{settings}{options}\n")
}

fn of_setting(setting: &Setting) -> String {
    let old = setting.old_flag.map(|flag| described(flag, &format!("old name of {}", setting.flag)));
    described(setting.flag, &setting.description()) + &old.unwrap_or_default()
}

/// A name, and its description in the column beside it, in as many lines as that takes.
fn described(name: &str, description: &str) -> String {
    let mut text = String::new();
    let mut line = format!("{INDENT}{name}");
    if line.len() >= DESCRIPTION_COLUMN {
        text.push_str(&line);
        text.push('\n');
        line.clear();
    }
    let mut is_first = true;
    for word in description.split(' ') {
        if !is_first && line.len() + 1 + word.len() > LINE_CHARACTERS_MAX {
            text.push_str(&line);
            text.push('\n');
            line.clear();
            is_first = true;
        }
        if is_first {
            line = format!("{line:DESCRIPTION_COLUMN$}");
        } else {
            line.push(' ');
        }
        line.push_str(word);
        is_first = false;
    }
    text + &line + "\n"
}
