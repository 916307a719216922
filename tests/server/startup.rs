//! The start: what is wrong is reported in one line (or all mistakes at once) and nothing is served; what is right
//! starts as the settings say, and the subcommands agree with it.

use std::io::{self, BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{
    Client, Credential, GET, Gateway, HeldPort, Running, Upstream, command, json, output_of, secrets_json,
};

/// A working directory with files of its own.
fn place(files: &[(&str, &str)]) -> TempDir {
    let place = tempfile::tempdir().expect("a temporary directory");
    for (name, content) in files {
        std::fs::write(place.path().join(name), content).expect("written");
    }
    place
}

fn flow_uring(place: &TempDir, arguments: &[&str]) -> Command {
    let mut command = command(env!("CARGO_BIN_EXE_flow-uring"));
    command
        .args(arguments)
        .current_dir(place.path())
        .env_clear()
        .env("FLOW_PROXY_USAGE_DB", "off")
        .stdin(Stdio::null());
    command.env("XDG_RUNTIME_DIR", place.path());
    // Its default is one address for all that run at the same time.
    command.env("FLOW_PROXY_ADMIN", "off");
    // SAFETY: it makes system calls only.
    unsafe { command.pre_exec(may_not_read_everything) };
    command
}

/// Drops the capabilities by which root ignores the modes of files, so that the program is bound by them as for any
/// user.
fn may_not_read_everything() -> io::Result<()> {
    // linux/capability.h; capabilities(7) on what an execve by root gives.
    const CAP_DAC_OVERRIDE: libc::c_ulong = 1;
    const CAP_DAC_READ_SEARCH: libc::c_ulong = 2;
    for capability in [CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH] {
        // Who is not root has nothing to drop, and may not.
        // SAFETY: the call takes no pointer.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    }
    Ok(())
}

/// Runs one that is expected to end by itself, and returns its output; kills it if it does not.
fn run(place: &TempDir, arguments: &[&str]) -> Output {
    output_of(flow_uring(place, arguments))
}

/// Returns the message of a failed start; warnings that come before it are log lines.
fn failure(place: &TempDir, arguments: &[&str]) -> String {
    let output = run(place, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{arguments:?}: {stderr}");
    assert!(!stderr.contains("is ready") && !stderr.contains("panicked"), "{stderr}");
    let at = stderr.find("flow-uring: ").unwrap_or_else(|| panic!("no line of its own: {stderr}"));
    assert!(stderr[..at].lines().all(|line| line.contains(" WARN ") || line.contains(" DEBUG ")), "{stderr}");
    stderr[at..].to_owned()
}

fn one_line(place: &TempDir, arguments: &[&str]) -> String {
    let failure = failure(place, arguments);
    assert_eq!(failure.lines().count(), 1, "{failure}");
    failure.trim_end().to_owned()
}

#[test]
fn a_port_in_use_is_refused_whoever_has_it() {
    let place = place(&[("secrets.json", &secrets_json(&["a"]))]);
    let plain = TcpListener::bind("127.0.0.1:0").expect("a free port");
    // As the gateway does itself, so that a second one could listen beside the first.
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = Gateway::before(&upstream);
    for port in [plain.local_addr().expect("bound").port(), gateway.port()] {
        for driver in ["auto", "epoll"] {
            let line = one_line(&place, &["--port", &port.to_string(), "--io-driver", driver]);
            assert!(
                line.starts_with(&format!("flow-uring: cannot listen on 127.0.0.1:{port}: the port is in use;")),
                "{line}"
            );
            assert!(line.contains("--port"), "{line}");
        }
    }
    // None of its connections went astray meanwhile.
    for _ in 0..20 {
        assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
    }
}

#[test]
fn a_port_is_free_again_as_soon_as_its_gateway_has_stopped() {
    let upstream = Upstream::plain(json(200, "{}"));
    // Held without a listener, so that nobody else takes it in between.
    let held = HeldPort::reserve();
    let port = held.address().port();
    let start = || Gateway::builder().upstream(&upstream).arg("--port", port.to_string()).start();
    let mut first = start();
    let mut client = Client::connect(port);
    assert_eq!(client.ask(GET).status, 200);
    first.terminate();
    assert_eq!(first.wait().code(), Some(0));
    let second = start();
    assert_eq!((second.port(), held.address().port()), (port, port));
    assert_eq!(Client::connect(port).ask(GET).status, 200);
}

#[test]
fn an_address_that_is_not_this_machines_is_one_line() {
    let place = place(&[("secrets.json", &secrets_json(&["a"]))]);
    // RFC 5737: for documentation, so nobody's.
    let line = one_line(&place, &["--host", "192.0.2.1", "--port", "0"]);
    assert!(line.starts_with("flow-uring: cannot listen on 192.0.2.1:0: ") && line.contains("--host"), "{line}");
}

#[test]
fn files_that_cannot_be_used_are_one_line_that_names_them() {
    let place = place(&[
        ("secrets.json", &secrets_json(&["a"])),
        ("empty.pem", "nothing to see\n"),
        ("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("not-json.json", "[{\"clientId\": "),
    ]);
    std::fs::create_dir(place.path().join("directory")).expect("made");
    for (arguments, named) in [
        (&["--secrets-file", "none.json"][..], "the secrets file none.json does not exist"),
        (&["--secrets-file", "directory"], "the secrets file directory "),
        (&["--secrets-file", "not-json.json"], "not-json.json"),
        (&["--upstream-ca", "none.pem"], "--upstream-ca none.pem"),
        (&["--upstream-ca", "directory"], "--upstream-ca directory"),
        (&["--upstream-ca", "empty.pem"], "--upstream-ca empty.pem"),
        (&["--upstream-ca", "broken.pem"], "--upstream-ca broken.pem"),
    ] {
        let line = one_line(&place, &[arguments, &["--port", "0"]].concat());
        assert!(line.contains(named), "{arguments:?}: {line}");
        // `check` finds it too.
        let output = run(&place, &[&["check"], arguments].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "check {arguments:?}: {stderr}");
        assert!(stderr.contains(named), "check {arguments:?}: {stderr}");
    }
}

#[test]
fn a_secrets_file_that_this_user_may_not_read_is_one_line() {
    use std::os::unix::fs::PermissionsExt;
    let place = place(&[("secrets.json", &secrets_json(&["a"]))]);
    let path = place.path().join("secrets.json");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).expect("changed");
    let line = one_line(&place, &["--port", "0"]);
    assert!(line.contains("secrets.json") && line.contains("ermission denied"), "{line}");
}

#[test]
fn all_mistakes_of_a_secrets_file_are_told_at_once_and_never_with_a_value() {
    let place = place(&[(
        "secrets.json",
        r#"[{"clientId": "", "clientSecret": "hunter2", "tenant": "t"},
            {"clientId": "hunter2", "clientSecret": 5, "tenant": "t", "weight": 0},
            {"clientId": "hunter2", "clientSecret": "hunter2"},
            "hunter2"]"#,
    )]);
    let failure = failure(&place, &["--port", "0"]);
    assert!(!failure.contains("hunter2"), "{failure}");
    for named in ["[0]", "clientId", "[1]", "clientSecret", "weight", "[2]", "tenant", "[3]"] {
        assert!(failure.contains(named), "{named}: {failure}");
    }
    assert!(failure.lines().count() >= 6, "{failure}");
}

/// The example file of the Python original, which its users bring along, as it is except for the port and the upstream.
const DOTENV: &str = "\
# Flow Proxy Configuration
FLOW_PROXY_HOST=127.0.0.1      # Host to bind to
FLOW_PROXY_PORT=PORT           # Port to listen on
FLOW_PROXY_NUM_WORKERS=        # Number of worker processes (default: CPU count)
FLOW_PROXY_THREADED=true       # Threads instead of processes

# Secrets
FLOW_PROXY_SECRETS_FILE=our-secrets.json   # Path to secrets file

# Logging
FLOW_PROXY_LOG_LEVEL=INFO     # DEBUG, INFO, WARNING, ERROR
FLOW_PROXY_LOG_FILE=
FLOW_PROXY_TARGET_URL=UPSTREAM # The Flow LLM Proxy
FLOW_PROXY_CLIENT_TIMEOUT=600   # seconds
";

/// Starts a gateway that takes all its settings from its environment, and reads up to the end of its banner.
fn start(place: &TempDir, arguments: &[&str]) -> (Running, String) {
    let mut command = flow_uring(place, arguments);
    command.stderr(Stdio::piped());
    let mut running = Running::start(command).expect("started");
    let mut stderr = BufReader::new(running.stderr.take().expect("piped"));
    let mut banner = String::new();
    while !banner.contains("ANTHROPIC_BASE_URL=") {
        assert_ne!(stderr.read_line(&mut banner).expect("text"), 0, "it ended: {banner}");
    }
    // It must not block on a full pipe, or end of a closed one.
    std::thread::spawn(move || stderr.read_to_end(&mut Vec::new()));
    (running, banner)
}

/// Runs the health check of a gateway that is well, again if the machine was too busy for an answer in time.
fn healthcheck(place: &TempDir, arguments: &[&str]) -> Output {
    /// `healthcheck::PATIENCE` in the program.
    const PATIENCE: Duration = Duration::from_secs(5);
    for _ in 0..5 {
        let began = Instant::now();
        let output = run(place, &[&["healthcheck"], arguments].concat());
        if output.status.success() || began.elapsed() < PATIENCE {
            return output;
        }
    }
    panic!("each of five health checks took longer than {PATIENCE:?}");
}

#[test]
fn the_env_file_of_the_python_original_means_the_same_here() {
    let upstream = Upstream::plain(json(200, "{}"));
    // Each is held, so that nobody else takes it; nobody listens on the last.
    let [port, admin, elsewhere] = [(); 3].map(|()| HeldPort::reserve());
    let [admin, elsewhere] = [&admin, &elsewhere].map(|held| held.address().to_string());
    let port = port.address().port();
    let dotenv = DOTENV.replace("PORT  ", &port.to_string()).replace("UPSTREAM", &upstream.url());
    let place = place(&[(".env", &dotenv), ("our-secrets.json", &secrets_json(&["a", "b"]))]);
    let (_running, banner) = start(&place, &["--admin", &admin]);
    let cpus = flow_uring::config::default_shards();
    for line in [
        "  host         127.0.0.1\n".to_owned(),
        format!("  port         {port}\n"),
        format!("  admin        http://{admin}\n"),
        format!("  shards       {cpus}\n"),
        format!("  upstream     {} (from .env line 13: FLOW_PROXY_TARGET_URL)\n", upstream.url()),
        "  secrets      our-secrets.json\n".to_owned(),
        "  log level    INFO\n".to_owned(),
    ] {
        assert!(banner.contains(&line), "{line}{banner}");
    }
    assert_eq!(Client::connect(port).ask(GET).status, 200);
    assert_eq!(Credential::of_authorization(upstream.request().authorization()), Credential::named("a"));
    // The healthcheck reads the same settings, and asks the same address.
    assert_eq!(healthcheck(&place, &[]).status.code(), Some(0));
    assert_eq!(healthcheck(&place, &["--admin", &admin]).status.code(), Some(0));
    assert_eq!(run(&place, &["healthcheck", "--admin", &elsewhere]).status.code(), Some(1));
}

#[test]
fn the_example_env_file_of_this_repository_starts_it() {
    let example = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".env.example")).expect("there");
    let place = place(&[(".env", &example), ("secrets.json", &secrets_json(&["a"]))]);
    let (_running, banner) = start(&place, &["--port", "0"]);
    assert!(banner.contains("https://flow.ciandt.com/flow-llm-proxy (from .env line "), "{banner}");
    let output = run(&place, &["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn healthcheck_agrees_with_the_gateway_running_and_stopped() {
    let upstream = Upstream::plain(json(200, "{}"));
    // Held, so that it is nobody else's once the gateway has stopped.
    let held = HeldPort::reserve();
    let port = held.address().port().to_string();
    let mut gateway = Gateway::builder().upstream(&upstream).arg("--port", &port).start();
    let place = place(&[]);
    let healthy = healthcheck(&place, &["--port", &port]);
    assert_eq!((healthy.status.code(), healthy.stderr.len()), (Some(0), 0), "{healthy:?}");
    assert_eq!(upstream.connections(), 0, "a health check spent a request");
    gateway.terminate();
    gateway.wait();
    let line = one_line(&place, &["healthcheck", "--port", &port]);
    assert!(line.starts_with(&format!("flow-uring: unhealthy: nothing answers at 127.0.0.1:{port}")), "{line}");
}

#[test]
fn the_token_subcommand_prints_what_the_gateway_sends() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = Gateway::builder().secrets(secrets_json(&["a"])).upstream(&upstream).start();
    assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
    let place = place(&[("secrets.json", &secrets_json(&["a", "b"]))]);
    let output = run(&place, &["token", "--name", "a"]);
    assert_eq!(output.status.code(), Some(0));
    let token = String::from_utf8(output.stdout).expect("text");
    let authorization = format!("Bearer {}", token.trim_end());
    assert_eq!(Credential::of_authorization(&authorization), Credential::named("a"));
    // Not by assert_eq: a token is no text for a failure's message.
    assert!(authorization == upstream.request().authorization(), "the tokens differ");
}
