//! The words of `flow-uring keys`.
//!
//! Values stay text here: an error of the parser would repeat them.

use argh::{ArgsInfo, FromArgs};

/// Manage the file of API keys: add a key with its limits, list the keys, check the file.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq, Eq)]
#[argh(
    subcommand,
    name = "keys",
    help_triggers("-h", "--help", "help"),
    note = "The file is that of --api-keys-file, which may be given here too. A gateway that runs loads it within a second \
            of a change."
)]
pub struct KeysArgs {
    #[argh(subcommand)]
    pub command: KeysCommand,
}

#[derive(FromArgs, ArgsInfo, Debug, PartialEq, Eq)]
#[argh(subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of it, and argh takes none that is boxed")]
pub enum KeysCommand {
    Add(KeysAddArgs),
    List(KeysListArgs),
    Check(KeysCheckArgs),
}

/// Make a key, print it once, and write its SHA-256 into the file (mode 600), which is made if there is none.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq, Eq)]
#[argh(
    subcommand,
    name = "add",
    help_triggers("-h", "--help", "help"),
    note = "Only the key goes to stdout. What is left out is as the entry named * of the file says, else without a limit. \
            Days and months are in UTC.",
    example = "{command_name} alice --parallel 4 --usd-per-day 20 --models 'claude-*'"
)]
pub struct KeysAddArgs {
    /// the name of the key, for the log and the totals
    #[argh(positional)]
    pub name: String,
    /// requests under way at a time; more of them wait
    #[argh(option, arg_name = "count")]
    pub parallel: Option<String>,
    /// requests in a minute
    #[argh(option, arg_name = "count")]
    pub requests_per_minute: Option<String>,
    /// tokens of input and output in a minute
    #[argh(option, arg_name = "count")]
    pub tokens_per_minute: Option<String>,
    /// tokens of input and output in a day
    #[argh(option, arg_name = "count")]
    pub tokens_per_day: Option<String>,
    /// US dollars in a day
    #[argh(option, arg_name = "usd")]
    pub usd_per_day: Option<String>,
    /// US dollars in a month
    #[argh(option, arg_name = "usd")]
    pub usd_per_month: Option<String>,
    /// the models that it may use, with commas; * stands for any characters
    #[argh(option, arg_name = "names")]
    pub models: Option<String>,
    /// the credentials that its requests use, with commas
    #[argh(option, arg_name = "names")]
    pub credentials: Option<String>,
    /// a second key of a name that is there, which is to replace the first; it may do what that may
    #[argh(switch)]
    pub another: bool,
    /// rewrite a file of name:key lines as JSON first, with the same keys
    #[argh(switch)]
    pub convert: bool,
}

/// List the keys by their names, with what they may do.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq, Eq)]
#[argh(subcommand, name = "list", help_triggers("-h", "--help", "help"))]
pub struct KeysListArgs {}

/// Check the file, and whether its keys fit the secrets file, --usage and --prices (exit code 1 if not).
#[derive(FromArgs, ArgsInfo, Debug, PartialEq, Eq)]
#[argh(subcommand, name = "check", help_triggers("-h", "--help", "help"))]
pub struct KeysCheckArgs {}
