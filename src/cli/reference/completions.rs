//! Completions for shells, by clap's generators.

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality, PositionalInfo};
use clap::builder::{EnumValueParser, PossibleValuesParser};
use clap::{Arg, ArgAction, Command, ValueEnum, ValueHint};
use clap_complete::Shell;

use super::PROGRAM;
use crate::cli::args::program_info;
use crate::cli::settings::{Completion, PathKind, Setting, SettingRank, settings};

/// Returns the names of the shells for which there are completions.
pub fn shell_names() -> Vec<String> {
    Shell::value_variants().iter().map(Shell::to_string).collect()
}

/// Returns the script that completes the command line in a shell.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut described(), PROGRAM, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The command line as clap describes one.
fn described() -> Command {
    // They may stand after a command as well.
    of_command(PROGRAM, &program_info()).args(offered().map(|setting| of_setting(setting).global(true)))
}

/// The settings that shells offer.
fn offered() -> impl Iterator<Item = &'static Setting> {
    settings().filter(|setting| setting.has_flag && setting.rank != SettingRank::Obsolete)
}

fn of_command(name: &'static str, info: &CommandInfoWithArgs) -> Command {
    let command = Command::new(name)
        .about(summary(info.description))
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .args(info.flags.iter().filter(|flag| flag.long != "--help").map(of_flag))
        .args(info.positionals.iter().map(|positional| of_positional(name, positional)));
    info.commands.iter().fold(command, |command, inner| command.subcommand(of_command(inner.name, &inner.command)))
}

fn of_setting(setting: &'static Setting) -> Arg {
    let name = setting.flag.trim_start_matches('-');
    let arg = Arg::new(name).long(name).help(setting.help);
    if !setting.takes_value {
        return arg.action(ArgAction::SetTrue);
    }
    let arg = arg.action(if setting.may_repeat { ArgAction::Append } else { ArgAction::Set });
    match setting.completion() {
        Completion::Words(words) => arg.value_parser(PossibleValuesParser::new(words)),
        Completion::Path(PathKind::File) => arg.value_hint(ValueHint::FilePath),
        Completion::Path(PathKind::Directory) => arg.value_hint(ValueHint::DirPath),
        Completion::Nothing => arg.value_hint(ValueHint::Other),
    }
}

fn of_flag(flag: &FlagInfo<'static>) -> Arg {
    let name = flag.long.trim_start_matches('-');
    let arg = Arg::new(name).long(name).help(flag.description);
    match flag.kind {
        FlagInfoKind::Switch => arg.action(ArgAction::SetTrue),
        FlagInfoKind::Option { .. } => arg.action(ArgAction::Set).value_hint(ValueHint::Other),
    }
}

fn of_positional(command: &str, positional: &PositionalInfo<'static>) -> Arg {
    let arg = Arg::new(positional.name).help(positional.description);
    match (command, &positional.optionality) {
        // The words of another program, which its own completions know.
        (_, Optionality::Greedy) => {
            arg.num_args(1..).trailing_var_arg(true).value_hint(ValueHint::CommandWithArguments)
        }
        ("completions", _) => arg.value_parser(EnumValueParser::<Shell>::new()),
        ("top", _) => arg.value_hint(ValueHint::Url),
        _ => arg.value_hint(ValueHint::Other),
    }
}

/// The first sentence: shells show it beside the word.
fn summary(description: &'static str) -> &'static str {
    let sentence = description.split_once(". ").map_or(description, |(sentence, _)| sentence);
    sentence.trim().trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_described_is_consistent() {
        described().debug_assert();
    }

    #[test]
    fn every_shell_gets_each_flag_and_command_and_the_words_that_a_flag_takes() {
        for shell in Shell::value_variants() {
            let script = completions(*shell);
            for setting in settings().filter(|setting| setting.has_flag) {
                // Shells spell a flag in their own ways.
                let is_there = script.contains(setting.flag.trim_start_matches("--"));
                assert_eq!(is_there, setting.rank != SettingRank::Obsolete, "{shell}: {}", setting.flag);
            }
            for command in program_info().commands {
                assert!(script.contains(command.name), "{shell}: {}", command.name);
            }
            assert!(script.contains("anthropic-compat"), "{shell}");
            assert!(script.contains("requests-per-minute"), "{shell}");
        }
    }
}
