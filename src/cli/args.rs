//! The command line: flags as they were written, and the subcommand.
//!
//! Values stay text here; `configure` reads them together with the environment. Invariant: help and errors never repeat
//! the value of a flag.

#![allow(rustdoc::broken_intra_doc_links, rustdoc::bare_urls, reason = "the comments on fields are argh's help text")]

use std::ffi::OsString;
use std::fmt;

use argh::{ArgsInfo, EarlyExit, FlagInfoKind, FromArgs, Optionality};

use crate::config::Concealed;

/// Credential-injecting gateway for the Flow LLM Proxy. Without a command it serves.
///
/// Each setting is taken from its flag, else from its environment variable (in brackets), else from `.env` in the
/// working directory, else from its default.
#[derive(FromArgs, ArgsInfo, Debug, Default)]
#[argh(
    name = "flow-uring",
    help_triggers("-h", "--help", "help"),
    note = "Exit codes: 0 success, 1 a failure at start or a problem found, 64 a wrong flag or setting.",
    example = "{command_name} --port 8899 --secrets-file secrets.json",
    example = "{command_name} check"
)]
pub struct Args {
    /// address or name to listen on; default 127.0.0.1 [FLOW_PROXY_HOST]
    #[argh(option, arg_name = "host")]
    pub host: Option<String>,
    /// port to listen on, 0 = any free one; default 8899 [FLOW_PROXY_PORT]
    #[argh(option, arg_name = "port")]
    pub port: Option<String>,
    /// threads that serve, each pinned to a CPU; default the CPUs this process may use [FLOW_PROXY_NUM_WORKERS]
    #[argh(option, arg_name = "count")]
    pub shards: Option<String>,
    /// address and port of the admin pages (health, readiness, metrics), or off; default 127.0.0.1:8900 [FLOW_PROXY_ADMIN]
    #[argh(option, arg_name = "address")]
    pub admin: Option<String>,
    /// take the listening sockets over from the gateway that runs on this address, which then drains and exits
    #[argh(switch)]
    pub take_over: bool,
    /// old name of --shards
    #[argh(option, arg_name = "count")]
    pub num_workers: Option<String>,
    /// accepted for old scripts, without effect [FLOW_PROXY_THREADED]
    #[argh(switch)]
    pub no_threaded: bool,
    /// file with the credentials; default secrets.json [FLOW_PROXY_SECRETS_FILE]
    #[argh(option, arg_name = "path")]
    pub secrets_file: Option<String>,
    /// base URL of the Flow LLM Proxy; default https://flow.ciandt.com/flow-llm-proxy [FLOW_PROXY_TARGET_URL]
    #[argh(option, arg_name = "url")]
    pub upstream: Option<String>,
    /// PEM file with the certificate authorities to trust; default the system's trust store [FLOW_PROXY_UPSTREAM_CA]
    #[argh(option, arg_name = "path")]
    pub upstream_ca: Option<String>,
    /// connect here; the TLS name and the Host field stay the URL's; default the URL's host and port
    /// [FLOW_PROXY_UPSTREAM_ADDR]
    #[argh(option, arg_name = "host:port")]
    pub upstream_addr: Option<String>,
    /// HTTP proxy to reach the upstream through, http://[user:password@]host:port; default none, or what the variable
    /// says unless NO_PROXY names the upstream [HTTPS_PROXY]
    #[argh(option, arg_name = "url")]
    pub upstream_proxy: Option<Concealed>,
    /// allow an http:// upstream that is not on this machine: tokens, and the secrets in them, then cross the network
    /// in the clear
    #[argh(switch)]
    pub allow_plain_upstream: bool,
    /// auto, uring or epoll; default auto [FLOW_PROXY_IO_DRIVER]
    #[argh(option, arg_name = "driver")]
    pub io_driver: Option<String>,
    /// seconds to wait for an answer's head, and for each next piece of its body, 1 to 86400; default 600
    /// [FLOW_PROXY_CLIENT_TIMEOUT]
    #[argh(option, arg_name = "seconds")]
    pub client_timeout: Option<String>,
    /// file with the keys that callers must show, name:key a line (or FLOW_PROXY_API_KEYS with name:key,name:key);
    /// default none is asked for [FLOW_PROXY_API_KEYS_FILE]
    #[argh(option, arg_name = "path")]
    pub api_keys_file: Option<String>,
    /// PEM file with the certificate chain of a listener that speaks TLS, read again on SIGHUP; default plain HTTP
    /// [FLOW_PROXY_TLS_CERT]
    #[argh(option, arg_name = "path")]
    pub tls_cert: Option<String>,
    /// PEM file with its private key; default plain HTTP [FLOW_PROXY_TLS_KEY]
    #[argh(option, arg_name = "path")]
    pub tls_key: Option<String>,
    /// origin whose pages may use the gateway, such as https://app.example.com; may be repeated; default none
    /// [FLOW_PROXY_ALLOW_ORIGIN]
    #[argh(option, arg_name = "origin")]
    pub allow_origin: Vec<String>,
    /// host name by which the gateway may be called, beside those of this machine; may be repeated; default none
    /// [FLOW_PROXY_ALLOW_HOST]
    #[argh(option, arg_name = "host")]
    pub allow_host: Vec<String>,
    /// DEBUG, INFO, WARNING or ERROR; default INFO [FLOW_PROXY_LOG_LEVEL]
    #[argh(option, arg_name = "level")]
    pub log_level: Option<String>,
    /// text or json; default text [FLOW_PROXY_LOG_FORMAT]
    #[argh(option, arg_name = "format")]
    pub log_format: Option<String>,
    /// file that log lines go to besides stderr, put aside daily and by size; default none [FLOW_PROXY_LOG_FILE]
    #[argh(option, arg_name = "path")]
    pub log_file: Option<String>,
    /// the same as flow-uring.log in this directory, which is made; default none [FLOW_PROXY_LOG_DIR]
    #[argh(option, arg_name = "path")]
    pub log_dir: Option<String>,
    /// seconds for a request head, first byte to last; default 10 [FLOW_PROXY_HEAD_TIMEOUT]
    #[argh(option, arg_name = "seconds")]
    pub head_timeout: Option<String>,
    /// seconds a client's connection may idle between requests; default 75 [FLOW_PROXY_KEEPALIVE_TIMEOUT]
    #[argh(option, arg_name = "seconds")]
    pub keepalive_timeout: Option<String>,
    /// seconds to wait for each next piece of a request body; default 60 [FLOW_PROXY_BODY_TIMEOUT]
    #[argh(option, arg_name = "seconds")]
    pub body_timeout: Option<String>,
    /// seconds for one attempt's name lookup, connect and TLS handshake; default 10 [FLOW_PROXY_CONNECT_TIMEOUT]
    #[argh(option, arg_name = "seconds")]
    pub connect_timeout: Option<String>,
    /// seconds an unused upstream connection is kept; default 10 [FLOW_PROXY_UPSTREAM_IDLE_TIMEOUT]
    #[argh(option, arg_name = "seconds")]
    pub upstream_idle_timeout: Option<String>,
    /// largest request body in MiB, 0 = no limit; default 256 [FLOW_PROXY_BODY_MAX]
    #[argh(option, arg_name = "MiB")]
    pub body_max: Option<String>,
    /// client connections open at a time; default 40 % of the file descriptors this process may open
    /// [FLOW_PROXY_MAX_CONNECTIONS]
    #[argh(option, arg_name = "count")]
    pub max_connections: Option<String>,
    /// seconds that open requests may take to finish after a stop signal; default 600 [FLOW_PROXY_DRAIN_TIMEOUT]
    #[argh(option, arg_name = "seconds")]
    pub drain_timeout: Option<String>,
    /// largest request kept in memory for a second attempt, in MiB, 0 to 128; default 16 [FLOW_PROXY_REPLAY_MAX]
    #[argh(option, arg_name = "MiB")]
    pub replay_max: Option<String>,
    /// how many seconds after its request began another attempt may start, 0 = none; default 60
    /// [FLOW_PROXY_RETRY_DEADLINE]
    #[argh(option, arg_name = "seconds")]
    pub retry_deadline: Option<String>,
    /// seconds that an event stream may be silent before the client gets a comment, 0.1 to 86400; default off
    /// [FLOW_PROXY_SSE_HEARTBEAT]
    #[argh(option, arg_name = "seconds")]
    pub sse_heartbeat: Option<String>,
    /// none or anthropic-compat: takes anthropic-beta and context_management out of requests to /v1/messages; default none
    /// [FLOW_PROXY_FILTER]
    #[argh(option, arg_name = "filter")]
    pub filter: Option<String>,
    /// print the version
    #[argh(switch)]
    pub version: bool,
    #[argh(subcommand)]
    pub command: Option<Command>,
}

#[derive(FromArgs, ArgsInfo, Debug, PartialEq, Eq)]
#[argh(subcommand)]
pub enum Command {
    Check(CheckArgs),
    Token(TokenArgs),
    Healthcheck(HealthcheckArgs),
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

/// Run with an embedded upstream that answers like Flow: no account needed.
#[cfg(feature = "demo")]
#[derive(FromArgs, ArgsInfo, Debug, PartialEq, Eq)]
#[argh(subcommand, name = "demo", help_triggers("-h", "--help", "help"))]
pub struct DemoArgs {}

impl Args {
    /// Whether the demo's embedded upstream stands in for the one that is configured.
    pub fn is_demo(&self) -> bool {
        #[cfg(feature = "demo")]
        return matches!(self.command, Some(Command::Demo(_)));
        #[cfg(not(feature = "demo"))]
        return false;
    }
}

/// Why parsing ended without [`Args`].
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// Text for stdout: success.
    Help(String),
    /// The command line is wrong.
    Usage(UsageError),
}

#[derive(Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}\nRun flow-uring --help for all flags and commands.", self.0)
    }
}

impl std::error::Error for UsageError {}

/// Reads the words behind the program's name.
///
/// # Errors
/// [`Stop::Help`] when help was asked for, [`Stop::Usage`] when the command line is wrong.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Args, Stop> {
    let words = arrange(words).map_err(Stop::Usage)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Args::from_args(&["flow-uring"], &words).map_err(|EarlyExit { output, status }| match status {
        Ok(()) => Stop::Help(tidy_help(&output)),
        Err(()) => Stop::Usage(UsageError(output.trim_end().to_owned())),
    })
}

/// argh's usage line lists all the flags, which follow anyway.
fn tidy_help(help: &str) -> String {
    let help = help.trim_end();
    match help.split_once('\n') {
        Some((usage, rest)) if usage.starts_with("Usage: flow-uring [--") => {
            format!("Usage: flow-uring [<flags>] [<command>]\n{rest}\n")
        }
        _ => format!("{help}\n"),
    }
}

/// Brings the words into the form that argh reads: `--flag=value` becomes two words, and settings that follow a
/// subcommand come before it, so that `flow-uring check --port 1` means what it says.
fn arrange(words: impl IntoIterator<Item = OsString>) -> Result<Vec<String>, UsageError> {
    let flags = Args::get_args_info().flags;
    let mut settings: Vec<String> = Vec::new();
    let mut others = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let word = text(word)?;
        let (name, value) = match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
            _ => (word, None),
        };
        let setting = flags.iter().find(|flag| flag.long == name && !is_help(&name));
        let may_repeat = setting.is_some_and(|flag| matches!(flag.optionality, Optionality::Repeating));
        match setting.map(|flag| &flag.kind) {
            None => {
                others.push(name);
                others.extend(value);
            }
            Some(FlagInfoKind::Switch) if value.is_some() => {
                return Err(UsageError(format!("{name} takes no value")));
            }
            Some(FlagInfoKind::Switch) => settings.push(name),
            Some(FlagInfoKind::Option { .. }) => {
                // Told here, since argh's own words would repeat the value.
                if !may_repeat && settings.contains(&name) {
                    return Err(UsageError(format!("{name} is given twice")));
                }
                let value = match value {
                    Some(value) => value,
                    None => text(words.next().ok_or_else(|| UsageError(format!("{name} needs a value")))?)?,
                };
                settings.extend([name, value]);
            }
        }
    }
    settings.append(&mut others);
    Ok(settings)
}

fn is_help(name: &str) -> bool {
    matches!(name, "-h" | "--help" | "help")
}

fn text(word: OsString) -> Result<String, UsageError> {
    word.into_string().map_err(|_| UsageError("an argument is not UTF-8 text".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Args, Stop> {
        super::parse(words.iter().map(OsString::from))
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
            assert_eq!(parse(words).expect("parsed").port.as_deref(), Some("1"));
        }
        assert_eq!(parse(&["--upstream=https://h/?a=b"]).expect("parsed").upstream.as_deref(), Some("https://h/?a=b"));
        assert_eq!(parse(&["--port="]).expect("parsed").port.as_deref(), Some(""));
    }

    #[test]
    fn settings_may_come_before_and_after_the_command() {
        for words in [&["--port", "1", "token", "--name", "x"][..], &["token", "--port=1", "--name=x"]] {
            let args = parse(words).expect("parsed");
            assert_eq!(args.port.as_deref(), Some("1"));
            assert_eq!(args.command, Some(Command::Token(TokenArgs { name: Some("x".into()) })));
        }
        for (words, online) in
            [(&["check", "--no-threaded"][..], false), (&["check", "--online", "--no-threaded"], true)]
        {
            let args = parse(words).expect("parsed");
            assert!(args.no_threaded && args.command == Some(Command::Check(CheckArgs { online })), "{words:?}");
        }
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
    fn help_names_every_flag_with_its_variable_and_default() {
        let without_variable = ["--take-over", "--num-workers", "--allow-plain-upstream", "--version", "--help"];
        let other_variable = [
            ("--shards", "FLOW_PROXY_NUM_WORKERS"),
            ("--no-threaded", "FLOW_PROXY_THREADED"),
            ("--upstream", "FLOW_PROXY_TARGET_URL"),
            ("--upstream-proxy", "HTTPS_PROXY"),
        ];
        for flag in Args::get_args_info().flags.iter().filter(|flag| !without_variable.contains(&flag.long)) {
            let same = format!("FLOW_PROXY_{}", flag.long[2..].to_uppercase().replace('-', "_"));
            let variable = other_variable.iter().find(|(long, _)| *long == flag.long).map_or(&*same, |found| found.1);
            assert!(flag.description.ends_with(&format!("[{variable}]")), "{}: {}", flag.long, flag.description);
            if flag.kind != FlagInfoKind::Switch {
                assert!(flag.description.contains("default "), "{}: {}", flag.long, flag.description);
            }
            assert!(help(&["--help"]).contains(&format!("  {} ", flag.long)) || flag.long.len() > 17, "{}", flag.long);
        }
    }

    #[test]
    fn help_is_asked_for_in_three_ways_and_of_commands_too() {
        let text = help(&["--help"]);
        assert!(text.starts_with("Usage: flow-uring [<flags>] [<command>]\n\nCredential-injecting gateway"), "{text}");
        assert!(text.ends_with("64 a wrong flag or setting.\n"), "{text}");
        assert_eq!(help(&["-h"]), text);
        assert_eq!(help(&["help"]), text);
        assert!(help(&["token", "--help"]).starts_with("Usage: flow-uring token [--name <name>]\n"));
        assert!(help(&["token", "--port", "1", "-h"]).starts_with("Usage: flow-uring token [--name <name>]\n"));
    }
}
