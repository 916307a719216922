//! `flow-uring keys`: the key is shown once, the file has its hash, and is the old one or the new one, whole.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::thread;

use super::support::{Running, command, output_of};
use super::{Place, outcome};

#[test]
fn a_key_goes_to_stdout_alone_and_its_hash_into_a_file_of_its_owner() {
    let place = Place::new();
    let added = place.keys(&[
        "add",
        "alice",
        "--parallel",
        "4",
        "--requests-per-minute=60",
        "--tokens-per-minute",
        "100000",
        "--tokens-per-day",
        "2000000",
        "--usd-per-day",
        "12.5",
        "--usd-per-month",
        "100",
        "--models",
        "claude-*, gpt-4o",
        "--credentials",
        "alpha",
    ]);
    assert_eq!(added.code, Some(0), "{}", added.stderr);
    let key = added.stdout.strip_suffix('\n').expect("a line");
    assert!(key.len() == 46 && key.starts_with("fu-") && !key.contains('\n'), "{key:?}");
    assert!(added.stderr.contains("keys.json") && !added.stderr.contains(key), "{}", added.stderr);
    assert_eq!(place.mode("keys.json"), 0o600);
    let sum = {
        let mut sum = command("sh");
        sum.args(["-c", &format!("printf %s {key} | sha256sum | cut -d ' ' -f 1")]);
        String::from_utf8(output_of(sum).stdout).expect("text").trim_end().to_owned()
    };
    assert_eq!(
        place.text("keys.json"),
        format!(
            "[\n  {{\"name\": \"alice\", \"key_sha256\": \"{sum}\", \"limits\": {{\"parallel\": 4, \"requests_per_minute\": 60, \
             \"tokens_per_minute\": 100000, \"tokens_per_day\": 2000000, \"usd_per_day\": 12.5, \"usd_per_month\": 100}}, \
             \"models\": [\"claude-*\",\"gpt-4o\"], \"credentials\": [\"alpha\"]}}\n]\n"
        )
    );
    let list = place.keys(&["list"]);
    assert_eq!((list.code, list.stderr.as_str()), (Some(0), ""));
    let line = "alice                        4        60      100k        2M      12.5       100\n";
    assert!(list.stdout.contains(line) && list.stdout.contains("  models: claude-*, gpt-4o\n"), "{}", list.stdout);
    assert!(!list.stdout.contains(key) && !list.stdout.contains(&sum));
    let check = place.keys(&["check"]);
    assert_eq!((check.code, check.stderr.as_str()), (Some(0), ""), "{}", check.stdout);
    assert_eq!(check.stdout, "file of API keys keys.json: keys: 1, with limits: 1: alice\n");
    assert_eq!(place.names(), ["keys.json", "secrets.json"], "nothing is left behind");
}

#[test]
fn a_file_that_is_there_keeps_its_comments_its_link_and_the_group_that_may_read_it() {
    let place = Place::new();
    let text = "// the team\n[\n  {\"name\": \"*\", \"limits\": {\"parallel\": 2}}, // all\n  {\"name\": \"bob\", \"key\": \
                \"0123456789abcdef\"} // of May\n]\n// end\n";
    place.write("real.json", text);
    place.set_mode("real.json", 0o640);
    symlink("real.json", place.path("keys.json")).expect("linked");
    place.add(&["alice"]);
    let after = place.text("real.json");
    let (begin, end) = text.split_once(" // of May\n").expect("its parts");
    assert!(
        after.starts_with(&format!("{begin}, // of May\n  {{\"name\": \"alice\", ")) && after.ends_with(end),
        "{after}"
    );
    assert!(fs::symlink_metadata(place.path("keys.json")).expect("a link").is_symlink());
    assert_eq!(place.mode("real.json"), 0o640);
    place.set_mode("real.json", 0o644);
    place.add(&["carol"]);
    assert_eq!(place.mode("real.json"), 0o600);
    assert_eq!(place.keys(&["list"]).stdout.lines().count(), 4);
    assert_eq!(place.names(), ["keys.json", "real.json", "secrets.json"]);
}

#[test]
fn a_name_gets_a_second_key_only_where_that_is_asked_for() {
    let place = Place::new();
    let first = place.add(&["alice", "--parallel", "4"]);
    let before = place.text("keys.json");
    for (words, code, part) in [
        (&["alice"][..], 1, "--another"),
        (&["alice", "--another", "--parallel", "4"], 64, "a second key may do what the first one may"),
        (&["bob", "--another"], 1, "no key of that name"),
    ] {
        let refused = place.keys(&[&["add"], words].concat());
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(code), ""), "{words:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(part), "{words:?}: {}", refused.stderr);
        assert_eq!(place.text("keys.json"), before);
    }
    let second = place.add(&["alice", "--another"]);
    assert_ne!(first, second);
    assert!(place.keys(&["list"]).stdout.contains("\n  2 keys\n"));
    assert_eq!(place.keys(&["check"]).code, Some(0));
}

#[test]
fn a_file_of_lines_is_converted_only_where_that_is_asked_for() {
    let place = Place::new();
    let lines = "# the team\nbob:0123456789abcdef\n";
    place.write("keys.json", lines);
    let refused = place.keys(&["add", "alice"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    assert!(refused.stderr.contains("--convert") && !refused.stderr.contains("0123456789"), "{}", refused.stderr);
    assert_eq!(place.text("keys.json"), lines);
    assert_eq!(place.keys(&["check"]).code, Some(0));
    place.add(&["alice", "--convert"]);
    let text = place.text("keys.json");
    let begin = "[\n  // the team\n  {\"name\": \"bob\", \"key\": \"0123456789abcdef\"},\n  {\"name\": \"alice\", \"key_sha256\": \"";
    assert!(text.starts_with(begin), "{text}");
    // It means nothing for a file that is converted.
    place.add(&["carol", "--convert"]);
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let place = Place::new();
    let bad = "[{\"name\": \"alice\", \"keys\": \"hunter2\"}, 7]";
    place.write("bad.json", bad);
    fs::create_dir(place.path("folder")).expect("made");
    for (words, code, part) in [
        (&["add", "a b", "--api-keys-file", "keys.json"][..], 64, "keys add: expected a name of 1 to 64 letters"),
        (&["add", "*", "--api-keys-file", "keys.json"], 64, "keys add: expected a name of 1 to 64 letters"),
        (
            &["add", "alice", "--parallel", "hunter2", "--api-keys-file", "keys.json"],
            64,
            "--parallel: expected a whole number",
        ),
        (
            &["add", "alice", "--usd-per-day", "-1", "--api-keys-file", "keys.json"],
            64,
            "--usd-per-day: expected a number of US",
        ),
        (
            &["add", "alice", "--models", "a,,b", "--api-keys-file", "keys.json"],
            64,
            "--models: expected between commas",
        ),
        (
            &["add", "alice", "--credentials", "gamma", "--api-keys-file", "keys.json"],
            1,
            "names the credential \"gamma\"",
        ),
        (&["add", "alice", "--usd-per-day", "1", "--prices", "off", "--api-keys-file", "keys.json"], 1, "limit on USD"),
        (
            &["add", "alice", "--tokens-per-day", "1", "--usage", "off", "--api-keys-file", "keys.json"],
            1,
            "--usage off",
        ),
        (&["add", "alice"], 1, "--api-keys-file or FLOW_PROXY_API_KEYS_FILE"),
        (&["add", "alice", "--api-keys-file", "folder"], 1, "it is no regular file; nothing is changed"),
        (&["add", "alice", "--api-keys-file", "nowhere/keys"], 1, "cannot be written"),
        (&["add", "carol", "--api-keys-file", "bad.json"], 1, "entry [1] (line 1): expected an object"),
        (&["list", "--api-keys-file", "bad.json"], 1, "\"keys\": unknown; did you mean \"key\"?"),
        (&["check", "--api-keys-file", "bad.json"], 1, "\"keys\": unknown; did you mean \"key\"?"),
        (&["list", "--api-keys-file", "none"], 1, "cannot be read"),
        (&["check"], 1, "--api-keys-file or FLOW_PROXY_API_KEYS_FILE"),
        (&[], 64, "add"),
    ] {
        let refused = outcome(place.command(&[&["keys"], words].concat()));
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(code), ""), "{words:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(part), "{words:?}: {}", refused.stderr);
        assert!(!refused.stderr.contains("hunter2"), "{words:?}: {}", refused.stderr);
    }
    assert_eq!(place.text("bad.json"), bad);
    assert_eq!(place.names(), ["bad.json", "folder", "secrets.json"]);
}

#[test]
fn the_file_is_that_of_the_settings_wherever_they_stand() {
    let place = Place::new();
    place.write(".env", "FLOW_PROXY_API_KEYS_FILE=team.json\n");
    let added = outcome(place.command(&["keys", "add", "alice"]));
    assert_eq!((added.code, place.mode("team.json")), (Some(0), 0o600), "{}", added.stderr);
    let mut by_environment = place.command(&["keys", "add", "bob"]);
    by_environment.env("FLOW_PROXY_API_KEYS_FILE", "other.json");
    assert_eq!(outcome(by_environment).code, Some(0));
    assert!(place.text("other.json").contains("bob") && !place.text("team.json").contains("bob"));
    let mut keys_themselves = place.command(&["keys", "list"]);
    keys_themselves.env("FLOW_PROXY_API_KEYS", "alice:hunter2-hunter2");
    let refused = outcome(keys_themselves);
    assert_eq!(refused.code, Some(64), "{}", refused.stderr);
}

#[test]
fn a_key_that_nobody_has_seen_is_told() {
    let place = Place::new();
    let mut command = place.command(&["keys", "add", "alice", "--api-keys-file", "keys.json"]);
    command.stdout(Stdio::from(File::options().write(true).open("/dev/full").expect("opened"))).stderr(Stdio::piped());
    let output = Running::start(command).expect("it starts").output();
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("nobody has seen the new key of alice") && stderr.contains("keys.json"), "{stderr}");
}

#[test]
fn keys_that_are_added_at_once_are_all_there() {
    const AT_ONCE: usize = 12;
    let place = Place::new();
    thread::scope(|scope| {
        for number in 0..AT_ONCE {
            let place = &place;
            scope.spawn(move || place.add(&[&format!("user-{number}")]));
        }
    });
    assert_eq!(place.keys(&["list"]).stdout.lines().count(), AT_ONCE + 1);
    assert_eq!(place.names(), ["keys.json", "secrets.json"]);
}

#[test]
fn check_finds_what_keeps_keys_from_their_gateway_and_says_how_many_there_are() {
    let place = Place::new();
    place.add(&["alice", "--usd-per-day", "5", "--credentials", "beta"]);
    place.add(&["bob"]);
    let check = |words: &[&str]| outcome(place.command(&[&["check", "--api-keys-file", "keys.json"], words].concat()));
    let good = check(&[]);
    assert_eq!(good.code, Some(0), "{}", good.stderr);
    assert!(
        good.stdout.contains("file of API keys keys.json: keys: 2, with limits: 1: alice, bob\n"),
        "{}",
        good.stdout
    );
    let bad = check(&["--usage", "off"]);
    assert_eq!(bad.code, Some(1));
    assert!(bad.stderr.contains("problem: API key alice has a limit on tokens or USD"), "{}", bad.stderr);
    place.write("secrets.json", &super::secrets_json(&["alpha"]));
    for outcome in [check(&[]), place.keys(&["check"])] {
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.stderr.contains("problem: API key alice names the credential \"beta\""), "{}", outcome.stderr);
    }
    // Keys are not to blame for a secrets file that cannot be used.
    place.write("secrets.json", "[");
    let alone = place.keys(&["check"]);
    assert_eq!((alone.code, alone.stderr.contains("warning: API keys are not checked against it: ")), (Some(0), true));
}
