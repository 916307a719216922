//! The file of API keys as a gateway takes it: at the start, when it changes, and when what its keys name changes.

use std::fmt::Write;
use std::time::Instant;

use super::support::{Client, Credential, DEADLINE, Gateway, GatewayBuilder, HeldPort, Upstream, json, secrets_json};
use super::{Place, outcome, shown};

const ALICE: &str = "key-of-alice-0123456789";
const STAYS: &str = "the API keys loaded before stay in use";

fn builder(place: &Place, upstream: &Upstream) -> GatewayBuilder {
    let secrets = secrets_json(&["alpha", "beta"]);
    Gateway::builder().upstream(upstream).secrets(secrets).arg("--api-keys-file", shown(&place.path("keys.json")))
}

fn status(gateway: &Gateway, key: &str) -> u16 {
    let head = format!("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n");
    Client::connect(gateway.port()).ask(head).status
}

/// Waits until every shard answers this key so, since each learns of a change some time after the log line.
fn wait_for_status(gateway: &Gateway, key: &str, expected: u16) {
    let (until, mut in_a_row) = (Instant::now() + DEADLINE, 0);
    while in_a_row < 12 {
        assert!(Instant::now() < until, "the shards never answer {expected}");
        in_a_row = if status(gateway, key) == expected { in_a_row + 1 } else { 0 };
    }
}

#[test]
fn a_hashed_key_a_plain_one_and_two_of_one_name_are_let_in_and_counted_by_name() {
    let (place, upstream) = (Place::new(), Upstream::plain(json(200, "{}")));
    let hashed = place.add(&["bob"]);
    let another = place.add(&["bob", "--another"]);
    let text = place
        .text("keys.json")
        .replace("[\n", &format!("[ // both forms\n{{\"name\": \"alice\", \"key\": \"{ALICE}\"}},\n"));
    place.write("keys.json", &text);
    let gateway = builder(&place, &upstream).start();
    for (key, name) in [(&*hashed, "bob"), (&another, "bob"), (ALICE, "alice")] {
        assert_eq!(status(&gateway, key), 200);
        gateway.wait_for_log(&format!("key=\"{name}\""));
    }
    for wrong in ["", "fu-", &hashed[1..], "*"] {
        assert_eq!(status(&gateway, wrong), 401, "{wrong}");
    }
    let log = gateway.log().concat();
    assert!(!log.contains(ALICE) && !log.contains(&hashed[3..]) && !log.contains(&another[3..]));
}

#[test]
fn a_key_that_is_added_or_rotated_while_the_gateway_runs_counts_soon() {
    let (place, upstream) = (Place::new(), Upstream::plain(json(200, "{}")));
    let first = place.add(&["alice"]);
    let gateway = builder(&place, &upstream).start();
    let bob = place.add(&["bob"]);
    let line = gateway.wait_for_log("the file of API keys was loaded anew");
    assert!(line.contains("keys=2") && line.contains("added bob"), "{line}");
    wait_for_status(&gateway, &bob, 200);
    let second = place.add(&["alice", "--another"]);
    wait_for_status(&gateway, &second, 200);
    assert_eq!(status(&gateway, &first), 200, "both count");
    // The entry of the old one is the first one.
    let text = place.text("keys.json");
    let entries: Vec<&str> = text.lines().filter(|line| !line.contains("alice") || line.ends_with('}')).collect();
    place.replace("keys.json", &entries.join("\n"));
    wait_for_status(&gateway, &first, 401);
    assert_eq!((status(&gateway, &second), status(&gateway, &bob)), (200, 200));
}

#[test]
fn a_file_with_mistakes_or_keys_that_do_not_fit_changes_nothing_and_says_why() {
    let (place, upstream) = (Place::new(), Upstream::plain(json(200, "{}")));
    let entry = |more: &str| format!("[{{\"name\": \"alice\", \"key\": \"{ALICE}\"{more}}}]");
    place.write("keys.json", &entry(""));
    let gateway = builder(&place, &upstream).start();
    for (wrong, reason) in [
        (entry(", \"limit\": {}"), "entry [0] (line 1), \"limit\": unknown; did you mean \"limits\"?"),
        (entry(", \"credentials\": [\"gamma\"]"), "API key alice names the credential \"gamma\""),
        (entry(", \"limits\": {\"usd_per_day\": 1}"), "with --prices off"),
        ("[".to_owned(), "is not valid JSON"),
        ("alice\n".to_owned(), "line 1: expected name:key"),
    ] {
        let before = gateway.count_log(STAYS);
        place.replace("keys.json", &wrong);
        gateway.signal(libc::SIGHUP);
        gateway.wait_for_log_count(STAYS, before + 1);
        gateway.wait_for_log(reason);
        assert_eq!((status(&gateway, ALICE), status(&gateway, "other")), (200, 401), "{reason}");
    }
    // From one form to the other.
    place.replace("keys.json", &format!("bob:{ALICE}-of-bob\n"));
    wait_for_status(&gateway, &format!("{ALICE}-of-bob"), 200);
    assert_eq!(status(&gateway, ALICE), 401);
    assert!(!gateway.log().concat().contains(ALICE));
}

#[test]
fn keys_that_do_not_fit_keep_a_gateway_from_starting() {
    let (place, upstream) = (Place::new(), Upstream::plain(json(200, "{}")));
    let start = |permissions: &str, arguments: &[(&str, &str)]| {
        place.write("keys.json", &format!("[{{\"name\": \"alice\", \"key\": \"{ALICE}\", {permissions}}}]"));
        let builder =
            arguments.iter().fold(builder(&place, &upstream), |builder, (flag, value)| builder.arg(flag, *value));
        let (code, log) = builder.run_to_end();
        assert_eq!((code, log.contains(ALICE)), (Some(1), false), "{log}");
        assert!(log.contains("the API keys do not fit what else is configured:\n  API key alice "), "{log}");
        log
    };
    let unknown = start("\"credentials\": [\"alpha\", \"gamma\"]", &[]);
    assert!(unknown.contains("\"gamma\", which the secrets file does not have (it has alpha, beta)"), "{unknown}");
    let uncounted = start("\"limits\": {\"tokens_per_minute\": 1}", &[("--usage", "off")]);
    assert!(uncounted.contains("with --usage off neither is counted"), "{uncounted}");
    let unpriced = start("\"limits\": {\"usd_per_month\": 1}", &[("--prices", "off")]);
    assert!(unpriced.contains("with --prices off models have no price"), "{unpriced}");
    let prices = shown(&place.write("prices.json", "{\"gpt-4o\": {\"input_cost_per_token\": 1e-6}}"));
    let without = start(
        "\"limits\": {\"usd_per_day\": 1}, \"models\": [\"gpt-4o\", \"o3\", \"claude-*\"]",
        &[("--prices", &prices)],
    );
    assert!(
        without.contains("the model \"o3\", which has no price") && without.contains("the models \"claude-*\", none"),
        "{without}"
    );
    assert!(!without.contains("\"gpt-4o\""), "{without}");
}

#[test]
fn a_credential_that_a_key_names_may_go_and_come_back_in_either_order() {
    let (place, upstream) = (Place::new(), Upstream::plain(json(200, "{}")));
    let entry = |name: &str, credential: &str| {
        format!("{{\"name\": \"{name}\", \"key\": \"{ALICE}-{name}\", \"credentials\": [\"{credential}\"]}}")
    };
    place.write("keys.json", &format!("[{}]", entry("alice", "beta")));
    let mut gateway = builder(&place, &upstream).start();
    gateway.replace_secrets(&secrets_json(&["alpha"]));
    let line =
        gateway.wait_for_log("API key alice names the credential \"beta\", which the secrets file does not have");
    assert!(line.contains("WARN"), "{line}");
    // Keys that name a credential which comes only afterwards.
    place.replace("keys.json", &format!("[{}]", entry("bob", "gamma")));
    gateway.wait_for_log(STAYS);
    let both = secrets_json(&["alpha", "gamma"]);
    assert_eq!(Credential::all_of(&both).len(), 2);
    gateway.replace_secrets(&both);
    let line = gateway.wait_for_log("the file of API keys was loaded anew");
    assert!(line.contains("added bob; removed alice"), "{line}");
    wait_for_status(&gateway, &format!("{ALICE}-alice"), 401);
}

#[test]
fn ten_thousand_keys_are_let_in_and_make_no_line_long() {
    const COUNT: usize = 10_000;
    let (place, upstream) = (Place::new(), Upstream::plain(json(200, "{}")));
    let lines = |from: usize| {
        let mut text = String::new();
        (from..COUNT).for_each(|number| writeln!(text, "user-{number}:{ALICE}-{number}").expect("written"));
        text
    };
    place.write("keys.json", &lines(0));
    let gateway = builder(&place, &upstream).start();
    assert_eq!((status(&gateway, &format!("{ALICE}-9999")), status(&gateway, ALICE)), (200, 401));
    place.replace("keys.json", &lines(COUNT / 2));
    let line = gateway.wait_for_log("the file of API keys was loaded anew");
    assert!(line.contains("removed user-0, ") && line.contains(" and 4984 more"), "{line}");
    wait_for_status(&gateway, &format!("{ALICE}-1"), 401);
    let longest = gateway.log().iter().map(String::len).max().unwrap_or(0);
    assert!(longest < 2000, "{longest}");
    let check = outcome(place.command(&["check", "--api-keys-file", "keys.json"]));
    assert!(check.stdout.lines().all(|line| line.len() < 1000), "{}", check.stdout);
}

#[test]
fn exec_shows_the_plain_key_of_a_json_file_and_says_what_to_do_where_there_are_hashes_alone() {
    let (place, upstream) = (Place::new(), Upstream::plain(json(200, "{}")));
    let key = place.add(&["bob"]);
    let held = HeldPort::reserve();
    let port = held.address().port().to_string();
    let words = ["exec", "--port", &port, "--api-keys-file", "keys.json", "--upstream", &upstream.url()];
    let run = |place: &Place| outcome(place.command(&[&words[..], &["sh", "-c", "echo $OPENAI_API_KEY"]].concat()));
    // Where none runs, the command has a gateway with a key of its own.
    let own = run(&place);
    assert_eq!(own.code, Some(0), "{}", own.stderr);
    assert!(own.stdout.trim_end().len() == 32 && own.stdout.trim_end() != key, "{}", own.stdout);
    drop(held);
    let running = builder(&place, &upstream).arg("--port", &port).start();
    let refused = run(&place);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    assert!(refused.stderr.contains("FLOW_PROXY_API_KEYS=NAME:KEY"), "{}", refused.stderr);
    // As it says.
    let mut told =
        place.command(&["exec", "--port", &port, "--upstream", &upstream.url(), "sh", "-c", "echo $OPENAI_API_KEY"]);
    told.env("FLOW_PROXY_API_KEYS", format!("bob:{key}"));
    assert_eq!(outcome(told).stdout.trim_end(), key);
    let other = Place::new();
    other.write(
        "keys.json",
        &place.text("keys.json").replace("\n]", &format!(",\n{{\"name\": \"alice\", \"key\": \"{ALICE}\"}}]")),
    );
    place.replace("keys.json", &other.text("keys.json"));
    wait_for_status(&running, ALICE, 200);
    assert_eq!(run(&place).stdout.trim_end(), ALICE);
}
