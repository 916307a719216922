//! The command line: the flags of settings as they were written, and the subcommand.
//!
//! Flags of settings are known by the table of `settings`; `argh` reads the rest: the commands with their own flags,
//! and help. Values stay text here. Invariant: help and errors never repeat the value of a flag.

use std::ffi::{OsStr, OsString};
use std::fmt;

use argh::{ArgsInfo, CommandInfoWithArgs, EarlyExit, FromArgs};

use super::help;
use super::keys::KeysArgs;
use super::settings::{WrittenFlags, by_flag};

/// The flag that belongs to the program and not to a setting. It may stand after a command too.
const VERSION: &str = "--version";
/// The command whose words from the first that is no flag on are another program's.
const EXEC: &str = "exec";
/// The end of our flags, where that program's name looks like one (POSIX.1-2024, Utility Syntax Guidelines, 10).
const END_OF_FLAGS: &str = "--";
/// Stands for the value of a switch.
const SWITCHED_ON: &str = "on";

/// A command line.
#[derive(Debug, Default)]
pub struct Args {
    pub flags: WrittenFlags,
    pub version: bool,
    pub command: Option<Command>,
}

/// Credential-injecting gateway for the Flow LLM Proxy. Without a command it serves.
///
/// Each setting is taken from its flag, else from its environment variable (in brackets), else from `.env` in the
/// working directory, else from its default.
#[derive(FromArgs, ArgsInfo)]
#[argh(
    name = "flow-uring",
    help_triggers("-h", "--help", "help"),
    note = "Exit codes: 0 success, 1 a failure at start or a problem found, 64 a wrong flag or setting.",
    example = "{command_name} --port 8899 --secrets-file secrets.json",
    example = "{command_name} check"
)]
struct Invocation {
    /// print the version
    #[argh(switch)]
    version: bool,
    #[argh(subcommand)]
    command: Option<Command>,
}

#[derive(FromArgs, ArgsInfo, Debug, PartialEq, Eq)]
#[argh(subcommand)]
pub enum Command {
    Check(CheckArgs),
    Token(TokenArgs),
    Healthcheck(HealthcheckArgs),
    Wake(WakeArgs),
    Keys(KeysArgs),
    Usage(UsageArgs),
    Explain(ExplainArgs),
    Init(InitArgs),
    Exec(ExecArgs),
    Top(TopArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
    #[cfg(feature = "demo")]
    Demo(DemoArgs),
}

/// Check settings, secrets file and trust store, and say what was found; touches no network unless --online is given.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq, Eq)]
#[argh(subcommand, name = "check", help_triggers("-h", "--help", "help"))]
pub struct CheckArgs {
    /// then ask the upstream for its models once with each credential, and say which of them work
    #[argh(switch)]
    pub online: bool,
}

/// Print a token to use by hand. It holds the client secret: treat it like one.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq, Eq)]
#[argh(subcommand, name = "token", help_triggers("-h", "--help", "help"))]
pub struct TokenArgs {
    /// which credential; default the first one
    #[argh(option, arg_name = "name")]
    pub name: Option<String>,
}

/// Ask the gateway that runs with these settings whether it is up (exit code 0) or not (1); for containers.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq, Eq)]
#[argh(subcommand, name = "healthcheck", help_triggers("-h", "--help", "help"))]
pub struct HealthcheckArgs {}

/// Use a credential again that is left alone for a while, at once and for everything; asks the gateway at --admin.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq, Eq)]
#[argh(subcommand, name = "wake", help_triggers("-h", "--help", "help"))]
pub struct WakeArgs {
    /// the credential's name
    #[argh(positional)]
    pub name: String,
}

/// Print the totals of requests, tokens and cost that gateways have written to --usage-db, also while none runs.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq, Eq)]
#[argh(
    subcommand,
    name = "usage",
    help_triggers("-h", "--help", "help"),
    note = "The file is that of --usage-db, which may be given here too. Reads no .env. Times are in UTC."
)]
pub struct UsageArgs {
    /// begin: 24h, 7d or 12w ago, a date (2026-11-01) or a time (RFC 3339); default 7d
    #[argh(option, arg_name = "begin")]
    pub since: Option<String>,
    /// some of month, day, hour, key, credential, model, with commas; default day,model
    #[argh(option, arg_name = "columns")]
    pub by: Option<String>,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
    /// print CSV
    #[argh(switch)]
    pub csv: bool,
}

/// Tell in plain words what became of a failed exchange that --capture-dir kept.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq, Eq)]
#[argh(subcommand, name = "explain", help_triggers("-h", "--help", "help"))]
pub struct ExplainArgs {
    /// list the newest 20
    #[argh(switch)]
    pub list: bool,
    /// its id or request id in the log, the beginning of one, or the path of the file
    #[argh(positional)]
    pub id: Option<String>,
}

/// Ask for credentials and write them into the secrets file (mode 600); the first command of a new user.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq, Eq)]
#[argh(
    subcommand,
    name = "init",
    help_triggers("-h", "--help", "help"),
    note = "The file is that of --secrets-file, which may be given here too. One that is there is appended to or replaced \
            only if that is the answer, and stays as a backup. Answers may come from a pipe, a line each: append or \
            replace where the file is there, then client id, client secret, tenant, name, and y or n for another one. \
            Reads no .env."
)]
pub struct InitArgs {}

/// Run a command whose OpenAI and Anthropic clients use the gateway that runs with these settings, else one of its own.
///
/// Sets ANTHROPIC_BASE_URL, ANTHROPIC_AUTH_TOKEN, OPENAI_BASE_URL and OPENAI_API_KEY, and NO_PROXY where there is a proxy;
/// removes ANTHROPIC_API_KEY and CLAUDE_CODE_USE_BEDROCK, _VERTEX and _FOUNDRY, which would lead elsewhere. A gateway of
/// its own is on a free loopback port, asks for a key that only the command has, and ends with the command.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq, Eq)]
#[argh(
    subcommand,
    name = "exec",
    help_triggers("-h", "--help", "help"),
    note = "Flags of settings come before the command. Reads no .env. The log of its own gateway: exec.log in \
            $XDG_STATE_HOME/flow-uring (~/.local/state/flow-uring). Exit codes: the command's; 127 where it is not there, \
            126 where it cannot be executed.",
    example = "{command_name} claude",
    example = "{command_name} --secrets-file team.json -- python script.py"
)]
pub struct ExecArgs {
    /// the command and its arguments; -- may stand before it
    #[argh(positional, greedy)]
    pub command: Vec<OsString>,
}

/// Show the live page of a gateway in the terminal: figures, credentials with their rests, open streams, last exchanges.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq, Eq)]
#[argh(
    subcommand,
    name = "top",
    help_triggers("-h", "--help", "help"),
    note = "Keys: q, Esc or Ctrl-C ends it; Tab and the arrows choose a panel and a line; w ends the rests of the chosen \
            credential; f shows failed exchanges only. Reads no .env."
)]
pub struct TopArgs {
    /// print one frame as text; the same where the output is no terminal
    #[argh(switch)]
    pub once: bool,
    /// the address of the admin pages; default that of --admin, http://127.0.0.1:8900
    #[argh(positional)]
    pub url: Option<String>,
}

/// Print the completions for a shell: bash, zsh, fish, elvish or powershell.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq, Eq)]
#[argh(
    subcommand,
    name = "completions",
    help_triggers("-h", "--help", "help"),
    note = "For this shell alone: source <(flow-uring completions bash). Reads no .env."
)]
pub struct CompletionsArgs {
    /// the shell
    #[argh(positional)]
    pub shell: String,
}

/// Print the manual page: flow-uring man | man -l -
#[derive(FromArgs, ArgsInfo, Debug, PartialEq, Eq)]
#[argh(subcommand, name = "man", help_triggers("-h", "--help", "help"))]
pub struct ManArgs {}

/// Run with an embedded upstream that answers like Flow: no account needed.
#[cfg(feature = "demo")]
#[derive(FromArgs, ArgsInfo, Debug, PartialEq, Eq)]
#[argh(subcommand, name = "demo", help_triggers("-h", "--help", "help"))]
pub struct DemoArgs {}

impl Args {
    /// Returns true where the demo's embedded upstream stands in for the one that is configured.
    pub fn is_demo(&self) -> bool {
        #[cfg(feature = "demo")]
        return matches!(self.command, Some(Command::Demo(_)));
        #[cfg(not(feature = "demo"))]
        return false;
    }
}

/// The use that a command makes of `.env`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DotEnvRule {
    /// One that cannot be used is an error.
    Required,
    /// One that cannot be used is told, and the command goes on without it.
    Optional,
    /// None is read.
    Unread,
}

impl DotEnvRule {
    /// A health check says whether the gateway is up; that somebody has put a file into the directory since it started
    /// does not make it unhealthy.
    pub fn of(command: Option<&Command>) -> Self {
        match command {
            Some(Command::Healthcheck(_)) => DotEnvRule::Optional,
            // Its output must not depend on the directory that it is called in.
            Some(Command::Usage(_)) => DotEnvRule::Unread,
            // It is called in any directory, such as one that somebody else made.
            Some(Command::Init(_) | Command::Exec(_) | Command::Top(_)) => DotEnvRule::Unread,
            Some(Command::Completions(_) | Command::Man(_)) => DotEnvRule::Unread,
            None
            | Some(Command::Check(_) | Command::Token(_) | Command::Wake(_) | Command::Keys(_) | Command::Explain(_)) => {
                DotEnvRule::Required
            }
            #[cfg(feature = "demo")]
            Some(Command::Demo(_)) => DotEnvRule::Required,
        }
    }
}

/// The end of parsing without [`Args`].
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// Text for stdout: success.
    Help(String),
    /// The command line is wrong.
    Usage(UsageError),
}

#[derive(Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl UsageError {
    /// A mistake in the words of a command, without the word itself.
    pub fn new(text: &str) -> Self {
        UsageError(text.to_owned())
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}\nRun flow-uring --help for all flags and commands.", self.0)
    }
}

impl std::error::Error for UsageError {}

/// Reads the words after the program's name.
///
/// # Errors
/// [`Stop::Help`] when help was asked for, [`Stop::Usage`] when the command line is wrong.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Args, Stop> {
    let SortedWords { flags, others, of_command } = SortedWords::of(words).map_err(Stop::Usage)?;
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    match Invocation::from_args(&["flow-uring"], &others) {
        Ok(Invocation { version, mut command }) => {
            if let Some(Command::Exec(exec)) = &mut command {
                exec.command = of_command;
            }
            Ok(Args { flags, version, command })
        }
        Err(EarlyExit { output, status: Ok(()) }) => Err(Stop::Help(help::complete(&output))),
        Err(EarlyExit { output, status: Err(()) }) => Err(Stop::Usage(UsageError(output.trim_end().to_owned()))),
    }
}

/// Describes the commands with their arguments, for those who tell others of them.
pub fn program_info() -> CommandInfoWithArgs {
    Invocation::get_args_info()
}

/// The words of a command line by whom they are for.
#[derive(Default)]
struct SortedWords {
    /// Those of settings.
    flags: WrittenFlags,
    /// Those that `argh` reads.
    others: Vec<String>,
    /// Those of the command that `exec` runs, which need not be text.
    of_command: Vec<OsString>,
}

impl SortedWords {
    /// Takes the flags of settings out of the words, so that they may stand before a command and after it.
    /// `--flag=value` is the same as two words, in what is left too. All from the command of `exec` on is its own.
    fn of(words: impl IntoIterator<Item = OsString>) -> Result<Self, UsageError> {
        let mut sorted = SortedWords::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if sorted.others.last().is_some_and(|last| last == EXEC) && !is_flag(&word) {
                sorted.of_command = words.collect();
                if word != END_OF_FLAGS {
                    sorted.of_command.insert(0, word);
                }
                break;
            }
            sorted.add(text(word)?, &mut words)?;
        }
        Ok(sorted)
    }

    /// Adds a word, with its value among the `rest` if it has one there.
    fn add(&mut self, word: String, rest: &mut impl Iterator<Item = OsString>) -> Result<(), UsageError> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
            _ => (word, None),
        };
        let Some((setting, flag)) = by_flag(&name) else {
            if name != VERSION {
                self.others.push(name);
                self.others.extend(value);
            } else if value.is_some() {
                return Err(UsageError(format!("{name} takes no value")));
            } else {
                self.others.insert(0, name);
            }
            return Ok(());
        };
        if !setting.takes_value {
            if value.is_some() {
                return Err(UsageError(format!("{name} takes no value")));
            }
            self.flags.push(flag, SWITCHED_ON.to_owned());
            return Ok(());
        }
        if self.flags.contains(flag) && !setting.may_repeat {
            return Err(UsageError(format!("{name} is given twice")));
        }
        let value = match value {
            Some(value) => value,
            None => text(rest.next().ok_or_else(|| UsageError(format!("{name} needs a value")))?)?,
        };
        self.flags.push(flag, value);
        Ok(())
    }
}

/// Returns true for a word that is not the begin of a command.
fn is_flag(word: &OsStr) -> bool {
    word != END_OF_FLAGS && word.as_encoded_bytes().starts_with(b"-")
}

fn text(word: OsString) -> Result<String, UsageError> {
    word.into_string().map_err(|_| UsageError("an argument is not UTF-8 text".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::settings::{Setting, settings};

    fn parse(words: &[&str]) -> Result<Args, Stop> {
        super::parse(words.iter().map(OsString::from))
    }

    fn written(words: &[&str], flag: &str) -> Option<String> {
        parse(words).expect("parsed").flags.value(flag)
    }

    fn usage_error(words: &[&str]) -> String {
        match parse(words) {
            Err(Stop::Usage(UsageError(text))) => text,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    fn help(words: &[&str]) -> String {
        match parse(words) {
            Err(Stop::Help(text)) => text,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    #[test]
    fn a_value_may_follow_its_flag_or_an_equals_sign() {
        for words in [&["--port", "1"][..], &["--port=1"]] {
            assert_eq!(written(words, "--port").as_deref(), Some("1"));
        }
        assert_eq!(written(&["--upstream=https://h/?a=b"], "--upstream").as_deref(), Some("https://h/?a=b"));
        assert_eq!(written(&["--port="], "--port").as_deref(), Some(""));
    }

    #[test]
    fn settings_may_come_before_and_after_the_command() {
        for words in [&["--port", "1", "token", "--name", "x"][..], &["token", "--port=1", "--name=x"]] {
            let args = parse(words).expect("parsed");
            assert_eq!(args.flags.value("--port").as_deref(), Some("1"));
            assert_eq!(args.command, Some(Command::Token(TokenArgs { name: Some("x".into()) })));
        }
        for (words, online) in
            [(&["check", "--no-threaded"][..], false), (&["check", "--online", "--no-threaded"], true)]
        {
            let args = parse(words).expect("parsed");
            assert!(
                args.flags.contains("--no-threaded") && args.command == Some(Command::Check(CheckArgs { online })),
                "{words:?}"
            );
        }
    }

    #[test]
    fn from_its_command_on_no_word_of_exec_is_ours() {
        let not_text: OsString = std::os::unix::ffi::OsStringExt::from_vec(b"\xff".to_vec());
        for (before, command) in [
            (&["exec"][..], &["claude", "-p", "--port", "2", "--help", "--version"][..]),
            (&["exec", "--"], &["--port", "--"]),
            (&["--port", "1", "exec"], &["exec", "--no-threaded"]),
            (&["exec", "--port=1", "--no-threaded", "--"], &["x"]),
            (&["exec"], &[]),
        ] {
            let mut command: Vec<OsString> = command.iter().map(OsString::from).collect();
            if let Some(first) = command.first().cloned() {
                command = [vec![first], vec![not_text.clone()], command[1..].to_vec()].concat();
            }
            let words = before.iter().map(OsString::from).chain(command.clone());
            let args = super::parse(words).expect("parsed");
            assert_eq!(args.command, Some(Command::Exec(ExecArgs { command })), "{before:?}");
            let has_port = before.iter().any(|word| word.starts_with("--port"));
            assert_eq!(args.flags.value("--port").as_deref(), has_port.then_some("1"), "{before:?}");
            assert!(!args.version);
        }
        assert!(help(&["exec", "--help"]).starts_with("Usage: flow-uring exec [command...]\n"));
        assert_eq!(usage_error(&["exec", "-x", "claude"]), "Unrecognized argument: -x");
    }

    #[test]
    fn a_wrong_command_line_is_told_without_values() {
        for (words, message) in [
            (&["--nope"][..], "Unrecognized argument: --nope"),
            (&["--nope=hunter2"], "Unrecognized argument: --nope"),
            (&["-x"], "Unrecognized argument: -x"),
            (&["serve"], "Unrecognized argument: serve"),
            (&["check", "--name", "hunter2"], "Unrecognized argument: --name"),
            (&["--port"], "--port needs a value"),
            (&["--port", "hunter2", "--port=hunter2"], "--port is given twice"),
            (&["--no-threaded=hunter2"], "--no-threaded takes no value"),
            (&["--workers", "off"], "Unrecognized argument: --workers"),
        ] {
            assert_eq!(usage_error(words), message, "{words:?}");
        }
        let not_text = std::os::unix::ffi::OsStringExt::from_vec(b"hunter2\xff".to_vec());
        assert_eq!(
            super::parse([not_text]).expect_err("refused"),
            Stop::Usage(UsageError("an argument is not UTF-8 text".into()))
        );
    }

    #[test]
    fn a_flag_of_the_program_itself_may_come_after_the_command() {
        assert!(parse(&["check", "--version"]).expect("parsed").version);
        assert_eq!(usage_error(&["--version=hunter2"]), "--version takes no value");
    }

    #[test]
    fn help_names_every_flag_with_its_variable_and_default() {
        let text = help(&["--help"]);
        // A description goes on over several lines.
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for setting in settings().filter(|setting| setting.has_flag) {
            let Setting { flag, old_flag, variable, takes_value, help, default, .. } = setting;
            let default = if *takes_value { format!("; default {default}") } else { String::new() };
            let variable = variable.map_or(String::new(), |variable| format!(" [{variable}]"));
            assert!(flat.contains(&format!(" {flag} {help}{default}{variable} ")), "{flag}: {text}");
            if let Some(old_flag) = old_flag {
                assert!(flat.contains(&format!(" {old_flag} old name of {flag} ")), "{old_flag}: {text}");
            }
        }
    }

    #[test]
    fn help_is_asked_for_in_three_ways_and_of_commands_too() {
        let text = help(&["--help"]);
        assert!(text.starts_with("Usage: flow-uring [<flags>] [<command>]\n\nCredential-injecting gateway"), "{text}");
        assert!(text.ends_with(" 64 a wrong\n  flag or setting.\n"), "{text}");
        assert_eq!(help(&["-h"]), text);
        assert_eq!(help(&["help"]), text);
        assert!(help(&["token", "--help"]).starts_with("Usage: flow-uring token [--name <name>]\n"));
        assert!(help(&["token", "--port", "1", "-h"]).starts_with("Usage: flow-uring token [--name <name>]\n"));
    }
}
