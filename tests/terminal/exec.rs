//! `flow-uring exec`: the process becomes the command, and its gateway lives as long.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use super::support::{Client, Gateway, HeldPort, Running, Upstream, json, output_of, wait_until};
use super::{Place, SECRETS};

/// Prints where the gateway is and its key, and then waits for the end of its input.
const WAITS: &str = "echo $OPENAI_BASE_URL $OPENAI_API_KEY; cat";

/// A command that waits, with the gateway that it was given.
struct Waiting {
    command: Running,
    port: u16,
    key: String,
}

impl Waiting {
    fn start(place: &Place, upstream: &Upstream, held: &HeldPort) -> Self {
        let port = held.address().port().to_string();
        let mut command = place.command(&["exec", "--port", &port, "--upstream", &upstream.url(), "sh", "-c", WAITS]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut command = Running::start(command).expect("it starts");
        let mut line = String::new();
        let stdout = command.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let (url, key) = line.trim_end().split_once(' ').unwrap_or_else(|| panic!("no URL and key: {line}"));
        let port = url.strip_prefix("http://127.0.0.1:").and_then(|rest| rest.strip_suffix("/v1"));
        let port = port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("no base URL: {url}"));
        Waiting { command, port, key: key.to_owned() }
    }

    fn ask(&self, key: &str) -> u16 {
        let head = format!("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n");
        Client::connect(self.port).ask(head).status
    }

    fn wait_for_the_end_of_its_gateway(&self) {
        wait_until("the gateway has ended", || TcpStream::connect(("127.0.0.1", self.port)).is_err());
    }
}

#[test]
fn the_command_has_a_gateway_that_knows_its_key_alone_and_ends_with_it() {
    let (place, upstream) = (Place::new(&[("secrets.json", SECRETS)]), Upstream::plain(json(200, "{}")));
    let mut waiting = Waiting::start(&place, &upstream, &HeldPort::reserve());
    assert_eq!(waiting.ask(&waiting.key), 200);
    assert_eq!(waiting.ask("another"), 401);
    assert!(upstream.request().authorization().starts_with("Bearer ey"));
    drop(waiting.command.stdin.take());
    assert_eq!(waiting.command.wait_for_end().code(), Some(0));
    waiting.wait_for_the_end_of_its_gateway();
    assert_eq!(place.mode("state/flow-uring/exec.log"), 0o600);
    let log = || place.text("state/flow-uring/exec.log");
    wait_until("the log is whole", || log().ends_with("stopped\n"));
    assert!(
        log().contains(" status=200 ") && log().contains("key=\"exec\"") && !log().contains(&waiting.key),
        "{}",
        log()
    );
}

#[test]
fn a_command_that_is_killed_leaves_no_gateway() {
    let (place, upstream) = (Place::new(&[("secrets.json", SECRETS)]), Upstream::plain(json(200, "{}")));
    let mut waiting = Waiting::start(&place, &upstream, &HeldPort::reserve());
    waiting.command.kill().expect("killed");
    assert_eq!(waiting.command.wait_for_end().signal(), Some(libc::SIGKILL));
    waiting.wait_for_the_end_of_its_gateway();
}

#[test]
fn the_exit_code_is_the_commands_or_what_shells_say_of_one_that_does_not_run() {
    let place = Place::new(&[("secrets.json", SECRETS), ("plain", "no program")]);
    let held = HeldPort::reserve();
    let port = held.address().port().to_string();
    for (words, code, signal, stderr) in [
        (&["sh", "-c", "exit 7"][..], Some(7), None, ""),
        (&["sh", "-c", "kill -TERM $$"], None, Some(libc::SIGTERM), ""),
        (&["--", "sh", "-c", "echo \"$1\" >&2", "--port", "x"], Some(0), None, "x\n"),
        (&["no-such-command"], Some(127), None, "flow-uring: exec: no-such-command: command not found\n"),
        (
            &["./plain"],
            Some(126),
            None,
            "flow-uring: exec: ./plain cannot be executed: Permission denied (os error 13)\n",
        ),
        (
            &[],
            Some(64),
            None,
            "flow-uring: exec: expected a command, as in: flow-uring exec claude (see flow-uring exec --help)\n",
        ),
    ] {
        let output = output_of(place.command(&[&["exec", "--port", &port], words].concat()));
        assert_eq!((output.status.code(), output.status.signal()), (code, signal), "{words:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), stderr, "{words:?}");
    }
}

#[test]
fn nothing_of_the_gateway_is_left_in_the_command() {
    let place = Place::new(&[("secrets.json", SECRETS)]);
    let held = HeldPort::reserve();
    let looks = "ulimit -S -n; ls /proc/self/fd | wc -l; grep -E 'Sig(Blk|Ign|Cgt)|NoNewPrivs' /proc/self/status; cut -d' ' -f5,6 /proc/self/stat";
    let script = format!(
        "ulimit -S -n 200; export ANTHROPIC_API_KEY=x http_proxy=http://p:1; {looks}; exec {} exec --port {} sh -c \"$0; \
         echo \\$ANTHROPIC_API_KEY; echo \\$NO_PROXY\"",
        env!("CARGO_BIN_EXE_flow-uring"),
        held.address().port()
    );
    let output = output_of(place.environment(super::support::command("sh"), &["-c", &script, looks]));
    let stdout = String::from_utf8_lossy(&output.stdout);
    let begin = stdout.lines().take(stdout.lines().count().saturating_sub(2) / 2).collect::<Vec<_>>().join("\n");
    assert!(begin.starts_with("200\n"), "{output:?}");
    assert_eq!(stdout, format!("{begin}\n{begin}\n\nlocalhost,127.0.0.1\n"));
}

#[test]
fn a_wrong_secrets_file_or_setting_is_told_before_the_command_starts() {
    let place = Place::new(&[("secrets.json", "[{}]"), (".env", "FLOW_PROXY_PORT=nonsense\n")]);
    let held = HeldPort::reserve();
    let port = held.address().port().to_string();
    for (words, code, told) in [
        (&["--port", &port][..], 1, "the secrets file secrets.json has mistakes"),
        (&["--port", &port, "--secrets-file", "none"], 1, "does not exist: run flow-uring init"),
        (&["--port", "-1"], 64, "--port: expected a port"),
    ] {
        let output = output_of(place.command(&[&["exec"][..], words, &["touch", "started"]].concat()));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), stderr.contains(told)), (Some(code), true), "{words:?}: {stderr}");
    }
    assert_eq!(place.names(), [".env", "secrets.json"]);
}

#[test]
fn a_gateway_that_runs_is_used_with_its_key() {
    const KEYS: &str = "alice:0123456789abcdef-alice";
    let upstream = Upstream::plain(json(200, "{}"));
    // No secrets here: none are needed.
    let place = Place::new(&[]);
    for (of_gateway, of_command, expected) in [
        (None, None, Ok("flow-uring")),
        (None, Some(KEYS), Ok("flow-uring")),
        (Some(KEYS), Some(KEYS), Ok("0123456789abcdef-alice")),
        (Some(KEYS), None, Err("asks for an API key")),
        (Some(KEYS), Some("bob:0123456789abcdef-bob"), Err("does not accept the first API key")),
    ] {
        let builder = Gateway::builder().upstream(&upstream);
        let gateway =
            of_gateway.iter().fold(builder, |builder, keys| builder.env("FLOW_PROXY_API_KEYS", *keys)).start();
        let port = gateway.port();
        let script = "echo $ANTHROPIC_BASE_URL $ANTHROPIC_AUTH_TOKEN";
        let mut command = place.command(&["exec", "--port", &port.to_string(), "sh", "-c", script]);
        if let Some(keys) = of_command {
            command.env("FLOW_PROXY_API_KEYS", keys);
        }
        let output = output_of(command);
        let [stdout, stderr] =
            [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        match expected {
            Ok(key) => assert_eq!(stdout, format!("http://127.0.0.1:{port} {key}\n"), "{stderr}"),
            Err(told) => assert!(output.status.code() == Some(1) && stderr.contains(told), "{stderr}"),
        }
    }
}
