//! The help text: what argh says of the commands, with the settings of the table among the options, in lines that fit a
//! terminal.

use textwrap::{Options, WordSplitter, fill};

use super::settings::{Setting, settings};

/// The form that argh gives to names and descriptions.
const INDENT: &str = "  ";
const DESCRIPTION_INDENT: &str = "                    ";
const LINE_CHARACTERS_MAX: usize = 80;

/// Completes a help text of argh: the program's gets the settings, and each line that is too long becomes several.
pub fn complete(help: &str) -> String {
    const OPTIONS: &str = "\nOptions:\n";
    let help = help.trim_end();
    let program = help.split_once('\n').filter(|(usage, _)| usage.starts_with("Usage: flow-uring [--"));
    let Some((usage, rest)) = program else {
        return fitted(help);
    };
    debug_assert!(usage.contains("[<command>]"), "{usage}");
    let (description, options) = rest.split_once(OPTIONS).unwrap_or((rest, ""));
    let settings: String = settings().filter(|setting| setting.has_flag).map(of_setting).collect();
    fitted(&format!("Usage: flow-uring [<flags>] [<command>]\n{description}{OPTIONS}{settings}{options}"))
}

fn of_setting(setting: &Setting) -> String {
    let old = setting.old_flag.map(|flag| described(flag, &format!("old name of {}", setting.flag)));
    described(setting.flag, &setting.description()) + &old.unwrap_or_default()
}

/// A name, and its description in the column beside it, in as many lines as that takes.
fn described(name: &str, description: &str) -> String {
    let name = format!("{INDENT}{name}");
    if name.len() >= DESCRIPTION_INDENT.len() {
        return format!("{name}\n{}\n", wrapped(description, DESCRIPTION_INDENT, DESCRIPTION_INDENT));
    }
    let first = format!("{name:width$}", width = DESCRIPTION_INDENT.len());
    format!("{}\n", wrapped(description, &first, DESCRIPTION_INDENT))
}

/// The text with no line that is longer than a terminal is wide; what continues a line is indented as that is.
fn fitted(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let indent = &line[..line.len() - line.trim_start().len()];
        // The arguments of a usage stand further in than what follows it.
        let next = if line.starts_with("Usage: ") { INDENT } else { indent };
        if line.chars().count() > LINE_CHARACTERS_MAX {
            wrapped(line.trim_start(), indent, next) + "\n"
        } else {
            format!("{line}\n")
        }
    });
    lines.collect()
}

fn wrapped(text: &str, first: &str, next: &str) -> String {
    let options = Options::new(LINE_CHARACTERS_MAX).initial_indent(first).subsequent_indent(next);
    // What is to be typed stays in one piece.
    fill(text, options.break_words(false).word_splitter(WordSplitter::NoHyphenation))
}
