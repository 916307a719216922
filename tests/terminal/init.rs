//! `flow-uring init`: questions on a terminal or a pipe, and a file that is whole or as before.

use std::io::Write;
use std::process::{Output, Stdio};

use super::pty::Pty;
use super::support::{Running, wait_until};
use super::{Place, SECRETS};

fn answered(place: &Place, answers: &str) -> Output {
    let mut command = place.command(&["init"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::start(command).expect("it starts");
    // It may have ended before all is read.
    let _ = running.stdin.take().expect("piped").write_all(answers.as_bytes());
    running.output()
}

#[test]
fn a_secret_that_is_typed_is_not_shown_and_the_file_is_for_its_owner_alone() {
    let place = Place::new(&[]);
    let mut terminal = Pty::start(place.command(&["init"]));
    terminal.answer("Client id: ", "id-1\n");
    wait_until("the secret is asked for", || terminal.seen().ends_with("(not shown): "));
    assert!(!terminal.echoes());
    terminal.answer("(not shown): ", "hunter2\n");
    terminal.answer("Tenant: ", "acme\n");
    assert!(terminal.echoes());
    terminal.answer("(optional): ", "team-a\n");
    terminal.answer("[y/N] ", "\n");
    terminal.answer("[Y/n] ", "n\n");
    assert_eq!(terminal.wait_for_end().code(), Some(0));
    wait_until("the last words", || terminal.seen().contains("flow-uring exec claude"));
    assert!(!terminal.seen().contains("hunter2"), "{}", terminal.seen());
    assert!(place.text("secrets.json").contains("\"clientSecret\": \"hunter2\""));
    assert_eq!((place.mode("secrets.json"), place.names()), (0o600, vec!["secrets.json".to_owned()]));
}

#[test]
fn an_interruption_gives_the_terminal_back_and_writes_nothing() {
    let place = Place::new(&[]);
    let mut terminal = Pty::start(place.command(&["init"]));
    terminal.answer("Client id: ", "id-1\n");
    // Ctrl-C.
    terminal.answer("(not shown): ", "hunt\u{3}");
    assert_eq!(terminal.wait_for_end().code(), Some(128 + libc::SIGINT));
    assert!(terminal.echoes());
    assert!(place.names().is_empty(), "{:?}", place.names());
}

#[test]
fn answers_may_come_from_a_pipe() {
    let place = Place::new(&[]);
    let output = answered(&place, "id-1\nhunter2\nacme\nteam-a\ny\n\nid-2\nhunter3\nacme\n\nn\n");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let told = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text"));
    assert!(told[0].starts_with("Written: secrets.json (mode 600) with team-a, config-id-2\n"), "{}", told[0]);
    assert!(!told.concat().contains("hunter"), "{told:?}");
    assert_eq!(place.text("secrets.json").matches("clientId").count(), 2);
}

#[test]
fn a_file_that_is_there_stays_unless_the_answer_is_another() {
    const COMMENTED: &str = "// mine\n[{\"clientId\":\"old\",\"clientSecret\":\"s\",\"tenant\":\"t\"} // last\n]\n";
    let entry = "id-1\nhunter2\nacme\n\n";
    for (old, answers, code, told, kept) in [
        (COMMENTED, "\n", 1, "cancelled", true),
        (COMMENTED, "", 1, "cancelled", true),
        (COMMENTED, "what\never\nthis\n", 1, "no answer to: append, replace or cancel", true),
        (COMMENTED, "a\nid-1\n", 1, "no answer to: client secret", true),
        (COMMENTED, &format!("append\n{entry}"), 0, "", false),
        (COMMENTED, &format!("R\n{entry}"), 0, "", false),
        ("[{\"clientId\":1}]", "a\n\n", 1, "has mistakes", true),
        ("[{\"clientId\":1}]", &format!("r\n{entry}"), 0, "", false),
    ] {
        let place = Place::new(&[("secrets.json", old)]);
        let output = answered(&place, answers);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), stderr.contains(told)), (Some(code), true), "{answers:?}: {stderr}");
        let text = place.text("secrets.json");
        if kept {
            assert_eq!((text.as_str(), place.names().len()), (old, 1), "{answers:?}");
            continue;
        }
        assert_eq!((place.text("secrets.json.bak"), place.names().len()), (old.to_owned(), 2), "{answers:?}");
        assert_eq!((place.mode("secrets.json"), place.mode("secrets.json.bak")), (0o600, 0o600));
        assert!(text.contains("id-1") && text.contains("// mine") == answers.starts_with('a'), "{text}");
    }
}

#[test]
fn the_backup_of_before_is_not_replaced() {
    let place = Place::new(&[("secrets.json", SECRETS), ("secrets.json.bak", "older")]);
    assert_eq!(answered(&place, "r\nid-1\nhunter2\nacme\n\n").status.code(), Some(0));
    assert_eq!((place.text("secrets.json.bak"), place.text("secrets.json.bak.2")), ("older".into(), SECRETS.into()));
}
