//! The examples that are marked with `<!-- runs -->`, each run as a reader would, with the demo as the gateway.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Output;

use tempfile::TempDir;

use super::pages::{Page, root};
use super::support::{Client, Gateway, Peer, Upstream, command, output_of, secrets_json, skip_but_not_on_ci};

/// No example takes longer than a few seconds, and on a busy machine ten times as long: one beyond it hangs.
const SECONDS_MAX: u32 = 120;

/// Programs that a reader has and a bare machine may not have.
const TOOLS: [&str; 2] = ["curl", "jq"];

#[test]
fn examples_that_are_marked_to_run_do() {
    let demo = Gateway::builder().switch("demo").start();
    let (text_log, json_log) = (sample_log("text"), sample_log("json"));
    let absent: Vec<&str> = TOOLS.into_iter().filter(|tool| !is_installed(tool)).collect();
    if !absent.is_empty() {
        skip_but_not_on_ci(&format!("examples of the pages that need one of {absent:?}, which are missing"));
    }
    let mut count = 0;
    // A translation has the same commands, as another test sees to.
    for (page, _) in Page::pairs() {
        for block in page.blocks().iter().filter(|block| block.is_run) {
            let place = format!("{}:{}", page.path.display(), block.line_number);
            assert!(["sh", "console"].contains(&block.language), "{place}: {} does not run", block.language);
            if absent.iter().any(|tool| block.text.contains(tool)) {
                continue;
            }
            let directory = working_directory(&text_log, &json_log);
            let output = run(&directory, &script(block.language, &block.text, demo.port()), demo.port());
            let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            assert_eq!(output.status.code(), Some(0), "{place}:\n{}\nsaid:\n{}", block.text, said.join("\n"));
            count += 1;
        }
    }
    assert!(count > 10 || !absent.is_empty(), "only {count} examples were run");
}

/// What there is to run: of a console, what stands behind the prompt.
fn script(language: &str, text: &str, port: u16) -> String {
    let mut script = String::new();
    let mut goes_on = language == "sh";
    for line in text.lines() {
        let command = line.strip_prefix("$ ");
        if command.is_some() || goes_on {
            script += command.unwrap_or(line);
            script.push('\n');
            goes_on = language == "sh" || line.ends_with('\\');
        }
    }
    script.replace(":8899", &format!(":{port}"))
}

fn run(directory: &TempDir, script: &str, port: u16) -> Output {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = command("timeout");
    command.args(["--kill-after=1", &SECONDS_MAX.to_string(), "bash", "-euo", "pipefail", "-c", script]);
    command.current_dir(directory.path()).env_clear();
    command.env("PATH", format!("{}:{path}", directory.path().join("bin").display())).env("HOME", directory.path());
    command.env("XDG_RUNTIME_DIR", directory.path()).env("FLOW_PROXY_PORT", port.to_string());
    // As the kit starts the demo: else a health check asks whoever has the admin address of this machine.
    command.env("FLOW_PROXY_ADMIN", "off");
    output_of(command)
}

/// Where a reader stands who has built the program and has a secrets file and logs.
fn working_directory(text_log: &str, json_log: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("changed");
    };
    let template = fs::read_to_string(root().join("secrets.json.template")).expect("the template");
    file("secrets.json.template", &template);
    file("secrets.json", &template);
    file("flow-uring.log", text_log);
    file("flow-uring.json", json_log);
    fs::create_dir(directory.path().join("bin")).expect("made");
    symlink(env!("CARGO_BIN_EXE_flow-uring"), directory.path().join("bin/flow-uring")).expect("linked");
    directory
}

/// The log of a gateway that had something to tell: two credentials, of which one is limited, an upstream that is
/// unavailable now and then, and a request that was refused.
fn sample_log(format: &str) -> String {
    let upstream = Upstream::plain(answer_or_limit);
    let secrets = secrets_json(&["team-a", "team-b"]);
    let mut gateway = Gateway::builder()
        .secrets(secrets)
        .upstream(&upstream)
        .arg("--log-format", format)
        .arg("--log-level", "INFO")
        .start();
    for path in ["/v1/models", "/v1/models", "/once-unavailable", "/v1/models", "/a/../b"] {
        Client::connect(gateway.port()).ask(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    }
    gateway.terminate();
    assert!(gateway.wait().success());
    gateway.wait_for_log("stopped");
    gateway.log().join("\n") + "\n"
}

fn answer_or_limit(peer: &mut Peer) {
    let mut is_first = true;
    while let Some(request) = peer.read_request() {
        let status = match (request.credential().as_str(), request.path().ends_with("/once-unavailable") && is_first) {
            ("team-b", _) => "429 Too Many Requests\r\nRetry-After: 60",
            (_, true) => "503 Service Unavailable",
            _ => "200 OK",
        };
        is_first = is_first && !status.starts_with("503");
        peer.write(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}"));
    }
}

fn is_installed(tool: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|folder| Path::new(&folder).join(tool).exists())
}

#[test]
fn of_a_console_what_stands_behind_the_prompt_is_run() {
    let text = "$ curl http://127.0.0.1:8899/ \\\n    -d x\nHello\n$ true\n";
    assert_eq!(script("console", text, 7), "curl http://127.0.0.1:7/ \\\n    -d x\ntrue\n");
    assert_eq!(script("sh", "a\nb", 7), "a\nb\n");
}
