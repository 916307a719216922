//! `flow-uring check --online --quota flow`: the quotas of each user, asked once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::flow::{self, Asked, questions};
use crate::support::{SECRET_MARK, Upstream, command, output_of, secrets_json};

fn check(upstream: &Upstream, words: &[&str]) -> (Option<i32>, String, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("secrets.json"), secrets_json(&["a", "b", "c", "d"])).expect("written");
    let mut command = command(env!("CARGO_BIN_EXE_flow-uring"));
    command.args(["check", "--online", "--upstream", &upstream.url()]).args(words);
    command.current_dir(directory.path()).env_clear().env("FLOW_PROXY_USAGE_DB", "off");
    let output = output_of(command);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(![&stdout, &stderr].iter().any(|said| said.contains(SECRET_MARK)), "{stdout}{stderr}");
    (output.status.code(), stdout, stderr)
}

fn upstream() -> Upstream {
    flow::upstream(|peer, asked| match asked {
        Asked::Token("d") => flow::refuse(peer, 401, ""),
        Asked::Token("c") | Asked::Budget("c") | Asked::Requests("c") => flow::tell(peer, asked, "user-2", "blocked"),
        _ => flow::tell(peer, asked, "user-1", "active"),
    })
}

#[test]
fn each_user_has_a_line_and_what_fails_is_no_problem() {
    let upstream = upstream();
    let (code, stdout, stderr) = check(&upstream, &["--quota", "flow"]);
    assert_eq!(code, Some(0), "{stderr}");
    let found = "\nquotas of the credentials' users (--quota flow):\n  user-1 (a, b): budget $12.50 of $100.00, renewed on \
                 2099-01-01; requests 30, no limit, renewed on 2099-01-01\n";
    assert!(stdout.ends_with(found), "{stdout}");
    for line in [
        "warning: user-2 (c): budget $12.50 of $100.00, blocked, renewed on 2099-01-01; requests 30, no limit",
        "warning: the quotas of d were not told, or not all: the upstream answered 401",
    ] {
        assert!(stderr.lines().any(|said| said.starts_with(line)), "{line}: {stderr}");
    }
    assert_eq!(questions(&upstream).len(), 3 * 3 + 1);
}

#[test]
fn several_identities_are_asked_at_once() {
    let asked = AtomicUsize::new(0);
    let upstream = flow::upstream(move |peer, question| match question {
        Asked::Token(_) => {
            asked.fetch_add(1, Ordering::SeqCst);
            let began = Instant::now();
            while asked.load(Ordering::SeqCst) < 4 && began.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(5));
            }
            // Nobody is told anything before all four have asked.
            let status = if asked.load(Ordering::SeqCst) < 4 { 503 } else { 401 };
            flow::refuse(peer, status, "");
        }
        _ => flow::tell(peer, question, "user-1", "active"),
    });
    let (code, _, stderr) = check(&upstream, &["--quota", "flow"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stderr.matches("the upstream answered 401").count(), 4, "{stderr}");
}

#[test]
fn without_the_setting_nobody_is_asked() {
    let upstream = upstream();
    let (code, stdout, _) = check(&upstream, &[]);
    assert!(code == Some(0) && !stdout.contains("quotas of"), "{stdout}");
    assert_eq!(questions(&upstream).len(), 0);
}
