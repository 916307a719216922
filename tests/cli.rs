//! The program as a person or a container engine meets it: exit codes, and what goes to stdout and to stderr.

#![expect(clippy::disallowed_methods, reason = "a test may block")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use support::{HeldPort, Running, command, output_of};
use tempfile::TempDir;

const SECRETS: &str = r#"[{"clientId":"abc-123","clientSecret":"hunter2-and-more","tenant":"ciandt"},
                          {"name":"second","clientId":"abc-123","clientSecret":"hunter2","tenant":"ciandt"}]"#;
/// The token that PyJWT makes of the first entry.
const FIRST_TOKEN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJjbGllbnRJZCI6ImFiYy0xMjMiLCJjbGllbnRTZWNyZXQiOiJodW50ZXIy\
                           LWFuZC1tb3JlIiwidGVuYW50IjoiY2lhbmR0In0._QOvvxty2abUXFCXr2HdpTdWw618bF7B7bpHsV37HIY";

/// A working directory with files of its own.
struct Place(TempDir);

struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new(files: &[(&str, &str)]) -> Self {
        let place = Place(tempfile::tempdir().expect("a temporary directory"));
        for (name, content) in files {
            let path = place.0.path().join(name);
            std::fs::write(&path, content).expect("written");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("changed");
        }
        place
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = command(env!("CARGO_BIN_EXE_flow-uring"));
        command.args(words).current_dir(self.0.path()).env_clear().stdin(Stdio::null());
        command.env("XDG_RUNTIME_DIR", self.0.path()).env("XDG_STATE_HOME", self.0.path().join("state"));
        command
    }

    fn run(&self, words: &[&str]) -> Outcome {
        let output = output_of(self.command(words));
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

#[test]
fn each_help_text_fits_a_terminal_of_80_columns() {
    let place = Place::new(&[]);
    let mut left: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = 0;
    while let Some(command) = left.pop() {
        let words: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let Outcome { code, stdout, .. } = place.run(&words);
        assert_eq!(code, Some(0), "{words:?}");
        let bad: Vec<&str> =
            stdout.lines().filter(|line| line.chars().count() > 80 || line.trim_end() != *line).collect();
        assert!(bad.is_empty(), "{words:?}: {bad:#?}");
        let commands = stdout.split_once("\nCommands:\n").map_or("", |(_, lines)| lines).lines();
        let commands = commands.take_while(|line| !line.is_empty()).filter_map(|line| line.strip_prefix("  "));
        let names = commands.filter_map(|line| line.split(' ').next().filter(|name| !name.is_empty()));
        left.extend(names.map(|name| command.iter().cloned().chain([name.to_owned()]).collect()));
        seen += 1;
    }
    assert!(seen > 15, "{seen}");
}

#[test]
fn completions_and_the_manual_page_are_what_shells_and_man_read() {
    // It is not read: nobody may break completions by a file.
    let place = Place::new(&[(".env", "FLOW_PROXY_PORT=nonsense")]);
    let bash = place.run(&["completions", "bash"]);
    assert_eq!((bash.code, bash.stderr.as_str()), (Some(0), ""));
    let script = place.0.path().join("flow-uring.bash");
    std::fs::write(&script, bash.stdout).expect("written");
    // As bash asks for the values of a flag, for commands, and for the commands of a command.
    for (words, offered) in [
        ("flow-uring --io-driver", "auto uring epoll"),
        ("flow-uring", "completions"),
        ("flow-uring keys", "list"),
        ("flow-uring completions", "bash elvish fish powershell zsh"),
    ] {
        let question = format!(
            "COMP_WORDS=({words} ''); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             function=$(complete -p flow-uring | grep -o '\\-F [^ ]*' | cut -c4-); \
             $function flow-uring '' \"${{COMP_WORDS[COMP_CWORD-1]}}\"; echo \"${{COMPREPLY[@]}}\""
        );
        let mut shell = command("bash");
        shell.args(["-c", &format!(". {}; {question}", script.display())]);
        let output = output_of(shell);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains(offered), "{words}: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
    let refused = place.run(&["completions", "tcsh"]);
    assert_eq!(refused.code, Some(64));
    assert!(refused.stderr.contains("bash, elvish, fish, powershell, zsh"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("tcsh"), "{}", refused.stderr);

    let manual = place.run(&["man"]);
    assert_eq!((manual.code, manual.stderr.as_str()), (Some(0), ""));
    assert!(manual.stdout.contains("\n.TH FLOW-URING 1 "), "{}", manual.stdout);
}

#[test]
fn help_and_version_go_to_stdout_and_succeed() {
    let place = Place::new(&[]);
    for (words, begin) in [
        (&["--help"][..], "Usage: flow-uring [<flags>] [<command>]\n"),
        (&["check", "--help"], "Usage: flow-uring check [--online]\n"),
        (&["--version"], concat!("flow-uring ", env!("CARGO_PKG_VERSION"), "\n")),
        (&["--version", "--port", "wrong"], "flow-uring "),
    ] {
        let outcome = place.run(words);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{words:?}");
        assert!(outcome.stdout.starts_with(begin), "{}", outcome.stdout);
    }
}

#[test]
fn a_wrong_command_line_or_setting_is_exit_64_and_names_its_source() {
    let place = Place::new(&[(".env", "\nFLOW_PROXY_PORT=hunter2 # inline\n"), ("secrets.json", SECRETS)]);
    for (words, message) in [
        (&["--nope=hunter2"][..], "flow-uring: Unrecognized argument: --nope\nRun flow-uring --help "),
        (&["--port"], "flow-uring: --port needs a value\n"),
        (&["--port", "-1"], "flow-uring: the configuration has mistakes:\n  --port: expected a port"),
        (&[], "flow-uring: the configuration has mistakes:\n  .env line 2: FLOW_PROXY_PORT: expected a port"),
        (&["token"], "flow-uring: the configuration has mistakes:\n  .env line 2: FLOW_PROXY_PORT: expected a port"),
    ] {
        let outcome = place.run(words);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(64), ""), "{words:?}");
        assert!(outcome.stderr.starts_with(message), "{words:?}: {}", outcome.stderr);
        assert!(!outcome.stderr.contains("hunter2"), "{}", outcome.stderr);
    }
    let mut command = place.command(&["--port", "0"]);
    command.env("FLOW_PROXY_SHARDS", "x").env("FLOW_PROXY_NUM_WORKERS", "x");
    let output = output_of(command);
    assert_eq!(output.status.code(), Some(64));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("\n  environment FLOW_PROXY_NUM_WORKERS: expected a whole number"), "{stderr}");
}

#[test]
fn secrets_that_cannot_be_used_are_exit_1_after_the_notices_were_logged() {
    let place = Place::new(&[]);
    let outcome = place.run(&["--no-threaded", "--log-format", "json"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""));
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    assert!(lines[0].starts_with('{') && lines[0].contains("--no-threaded: has no effect"), "{lines:?}");
    assert!(
        lines[1].starts_with("flow-uring: the secrets file secrets.json does not exist: run flow-uring init, "),
        "{lines:?}"
    );
    let outcome = place.run(&["--no-threaded"]);
    assert!(outcome.stderr.contains("Z  WARN --no-threaded: has no effect"), "{}", outcome.stderr);
}

#[test]
fn a_log_file_that_cannot_be_opened_is_exit_1_and_check_finds_it_first() {
    let place = Place::new(&[("secrets.json", SECRETS), ("file", "")]);
    for (words, path) in
        [(["--log-file", "absent/a.log"], "absent/a.log"), (["--log-dir", "file"], "file/flow-uring.log")]
    {
        let message = format!("the log file {path} cannot be opened: ");
        let outcome = place.run(&words);
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.stderr.starts_with(&format!("flow-uring: {message}")), "{}", outcome.stderr);
        assert!(outcome.stderr.trim_end().ends_with("or choose another --log-file or --log-dir"), "{}", outcome.stderr);
        let outcome = place.run(&[&["check"], &words[..]].concat());
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.stderr.starts_with(&format!("problem: {message}")), "{}", outcome.stderr);
    }
}

#[test]
fn the_commands_make_no_log_file() {
    let place = Place::new(&[("secrets.json", SECRETS)]);
    let outcome = place.run(&["check", "--log-dir", "logs"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    for line in ["  log-dir                 logs (--log-dir)\n", "log file logs/flow-uring.log: can be written\n"] {
        assert!(outcome.stdout.contains(line), "{}", outcome.stdout);
    }
    assert_eq!(place.run(&["token", "--log-dir", "logs"]).code, Some(0));
    assert_eq!(place.run(&["healthcheck", "--log-dir", "logs", "--port", "1"]).code, Some(1));
    assert!(!place.0.path().join("logs").exists());
}

#[test]
fn check_says_what_it_found_and_fails_on_problems() {
    let place = Place::new(&[("secrets.json", SECRETS), (".env", "FLOW_PROXY_TARGET_URL=http://localhost:1/b # c\n")]);
    let outcome = place.run(&["check", "--port", "7"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    for line in [
        "  port                    7 (--port)\n",
        "  upstream                http://localhost:1/b (.env line 1: FLOW_PROXY_TARGET_URL)\n",
        "secrets file secrets.json:\n  [0] config-abc-123, weight 1\n  [1] second, weight 1\n",
    ] {
        assert!(outcome.stdout.contains(line), "{line}: {}", outcome.stdout);
    }
    assert!(!outcome.stdout.contains("hunter2") && !outcome.stdout.contains("eyJ"));

    let outcome = place.run(&["check", "--port=x", "--log-level=x"]);
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome.stderr.contains("problem: --port: expected")
            && outcome.stderr.contains("problem: --log-level: expected")
    );
    let outcome = place.run(&["check", "--secrets-file", "none"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("problem: the secrets file none does not exist"), "{}", outcome.stderr);
    assert_eq!(place.run(&["check", "--nope"]).code, Some(64));
}

#[test]
fn token_prints_the_token_alone_to_stdout() {
    let place = Place::new(&[("s.json", SECRETS), (".env", "export FLOW_PROXY_SECRETS_FILE='s.json'\n")]);
    let outcome = place.run(&["token"]);
    assert_eq!((outcome.code, outcome.stdout, outcome.stderr.as_str()), (Some(0), format!("{FIRST_TOKEN}\n"), ""));
    let second = place.run(&["token", "--name", "second"]);
    assert!(second.code == Some(0) && second.stdout.starts_with("eyJ") && !second.stdout.contains(FIRST_TOKEN));
    let unknown = place.run(&["token", "--name=nobody"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(1), ""));
    assert_eq!(unknown.stderr, "flow-uring: no credential has that name; there are: config-abc-123, second\n");
}

#[test]
fn healthcheck_of_nothing_is_exit_1_with_one_line() {
    let held = HeldPort::reserve();
    let place = Place::new(&[]);
    let port = held.address().port().to_string();
    let outcome = place.run(&["healthcheck", "--admin", "off", "--host", "0.0.0.0", "--port", &port]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""));
    assert!(outcome.stderr.starts_with(&format!("flow-uring: unhealthy: nothing answers at 127.0.0.1:{port}: ")));
    assert_eq!(outcome.stderr.lines().count(), 1);
    let by_admin = place.run(&["healthcheck", "--admin", &format!("0.0.0.0:{port}")]);
    assert_eq!((by_admin.code, by_admin.stderr), (outcome.code, outcome.stderr));
    assert_eq!(place.run(&["healthcheck", "--port", "x"]).code, Some(1));
}

#[test]
fn a_closed_stdout_is_a_failure_and_no_panic() {
    let place = Place::new(&[]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = place.command(&["--help"]);
    command.stdout(writer).stderr(Stdio::piped());
    let output = Running::start(command).expect("started").output();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("flow-uring: stdout cannot be written: "));
}
