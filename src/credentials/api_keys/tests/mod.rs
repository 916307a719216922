mod adding;
mod mistakes;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::key_digest::KeyDigest;
use super::keys::KEYS_MAX;
use super::*;

const ALICE: &str = "0123456789abcdef-alice";
const BOB: &str = "0123456789abcdef:bob";

fn keys(text: &str) -> ApiKeys {
    ApiKeys::from_text(text).unwrap_or_else(|fault| panic!("{text}: {fault}")).keys
}

fn mistakes(text: &str) -> Vec<String> {
    match ApiKeys::from_text(text) {
        Err(ApiKeysFault::Mistakes(mistakes)) => mistakes,
        other => panic!("{text}: {other:?}"),
    }
}

fn name_of(keys: &ApiKeys, shown: &str) -> Option<String> {
    keys.find(shown.as_bytes()).map(|id| keys.name(id).to_owned())
}

fn policy<'a>(keys: &'a ApiKeys, name: &str) -> &'a KeyPolicy {
    keys.policies().find(|(known, _)| *known == name).expect("a key of that name").1
}

fn hash(key: &str) -> String {
    KeyDigest::of(key.as_bytes()).to_hex()
}

#[test]
fn lines_lists_and_arrays_hold_names_and_keys() {
    let lines = ApiKeys::from_text(&format!("\u{feff}# team\r\n\r\n  alice : {ALICE}\r\nbob:{BOB}")).unwrap();
    let list = ApiKeys::from_list(&format!(" alice:{ALICE} , bob:{BOB},")).unwrap();
    let array = format!(
        "\u{feff}// team [\n[ {{\"key\": \"{ALICE}\", \"name\": \"alice\"}}, /* é */\n\
         {{\"name\": \"\\u0062ob\", \"key_sha256\": \"{}\"}}]",
        hash(BOB).to_ascii_uppercase()
    );
    let array = ApiKeys::from_text(&array).unwrap();
    for loaded in [lines, list, array] {
        assert!(loaded.warnings.is_empty());
        let keys = loaded.keys;
        assert_eq!(keys.names().collect::<Vec<_>>(), ["alice", "bob"]);
        assert_eq!(name_of(&keys, ALICE).as_deref(), Some("alice"));
        assert_eq!(name_of(&keys, BOB).as_deref(), Some("bob"));
        for other in ["", "alice", &ALICE[1..], &ALICE[..ALICE.len() - 1], &format!("{ALICE} "), &hash(BOB)] {
            assert_eq!(name_of(&keys, other), None, "{other}");
        }
        assert!(keys.policies().all(|(_, policy)| *policy == KeyPolicy::default()));
    }
}

#[test]
fn a_name_may_have_two_keys_while_one_replaces_the_other() {
    let list = ApiKeys::from_list(&format!("alice:{ALICE},alice:{BOB}")).unwrap().keys;
    let same = r#""limits": {"parallel": 2}, "models": null"#;
    let array = keys(&format!(
        r#"[{{"name": "*", "limits": {{"tokens_per_day": 7}}}},
            {{"name": "alice", "key": "{ALICE}", {same}}}, {{"name": "alice", "key": "{BOB}", {same}}}]"#
    ));
    for keys in [list, array] {
        assert_eq!((keys.len(), keys.find(BOB.as_bytes()).is_some()), (2, true));
    }
}

#[test]
fn an_entry_states_its_permissions_and_takes_the_others_from_the_defaults() {
    let keys = keys(&format!(
        r#"[{{"name": "a", "key": "{ALICE}-a", "limits": {{"parallel": 4, "usd_per_day": 12.5}}, "models": ["claude-*", "x"]}},
            {{"name": "b", "key": "{ALICE}-b", "limits": {{"parallel": null}}, "credentials": null}},
            {{"name": "*", "limits": {{"parallel": 1, "requests_per_minute": 2, "tokens_per_minute": 3, "tokens_per_day": 4,
              "usd_per_month": 1e2}}, "credentials": ["team a"]}},
            {{"name": "c", "key": "{ALICE}-c", "limits": null}},
            {{"name": "d", "key": "{ALICE}-d"}}]"#
    ));
    assert_eq!((keys.len(), keys.find(b"*")), (4, None));
    let defaults = KeyLimits {
        parallel: Some(1),
        requests_per_minute: Some(2),
        tokens_per_minute: Some(3),
        tokens_per_day: Some(4),
        usd_per_day: None,
        usd_per_month: Some(100.0),
    };
    let team = Some(vec!["team a".to_owned()]);
    let expected = |limits, models, credentials| KeyPolicy { limits, models, credentials };
    let models = Some(["claude-*", "x"].map(ModelPattern::new).into());
    let of_a = KeyLimits { parallel: Some(4), usd_per_day: Some(12.5), ..defaults };
    assert_eq!(*policy(&keys, "a"), expected(of_a, models, team.clone()));
    assert_eq!(*policy(&keys, "b"), expected(KeyLimits { parallel: None, ..defaults }, None, None));
    assert_eq!(*policy(&keys, "c"), expected(KeyLimits::default(), None, team.clone()));
    assert_eq!(*policy(&keys, "d"), expected(defaults, None, team));
    let id = keys.find(format!("{ALICE}-b").as_bytes()).expect("a key");
    assert_eq!(keys.policy(id), policy(&keys, "b"));
}

#[test]
fn as_many_keys_as_there_may_be_are_read_in_time_that_grows_with_their_number_alone() {
    let entry = |number: usize| {
        format!(
            r#"{{"name":"user-{number}","key_sha256":"{}","limits":{{"parallel":4}}}}"#,
            hash(&format!("key-{number}"))
        )
    };
    let text = format!("[{}]", (0..KEYS_MAX).map(entry).collect::<Vec<_>>().join(",\n"));
    let begin = Instant::now();
    let keys = keys(&text);
    // Were each compared with all before it, this would take minutes.
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert_eq!(keys.len(), KEYS_MAX);
    for number in [0, 1, KEYS_MAX / 2, KEYS_MAX - 1] {
        assert_eq!(name_of(&keys, &format!("key-{number}")), Some(format!("user-{number}")));
    }
    assert_eq!(name_of(&keys, &format!("key-{KEYS_MAX}")), None);
    assert!(format!("{keys:?}").len() < 200, "{keys:?}");
}

#[test]
fn a_short_key_and_a_file_that_others_can_read_are_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    for text in ["alice:hunter2\n", r#"[{"name": "alice", "key": "hunter2"}]"#] {
        std::fs::write(&path, text).unwrap();
        for (mode, count) in [(0o600, 1), (0o644, 2)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let loaded = ApiKeys::load(&path, FileKinds::Regular).unwrap();
            assert_eq!(loaded.warnings.len(), count, "{:?}", loaded.warnings);
            assert!(!loaded.warnings.concat().contains("hunter2"));
        }
    }
    let error = ApiKeys::load(&directory.path().join("none"), FileKinds::Regular).unwrap_err().to_string();
    assert!(error.starts_with("the file of API keys ") && error.contains("cannot be read"), "{error}");
}

#[test]
fn debug_shows_names_alone_and_only_the_first() {
    assert_eq!(format!("{:?}", keys(&format!("alice:{ALICE}"))), r#"["alice"]"#);
    let many: String = (0..9).map(|number| format!("n{number}:{ALICE}{number}\n")).collect();
    assert_eq!(format!("{:?}", keys(&many)), r#"["n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7", ..]"#);
}

#[test]
fn the_first_key_that_is_written_as_it_is_can_be_shown() {
    let shown = |text: &str| keys(text).first_plain(text).map(|key| key.expose().to_owned());
    assert_eq!(shown(&format!("# x:y\nalice:{ALICE}\nbob:{BOB}")).as_deref(), Some(ALICE));
    let hashed = format!(r#"{{"name": "*"}}, {{"name": "a", "key_sha256": "{}"}}"#, hash(ALICE));
    assert_eq!(shown(&format!("[{hashed}]")), None);
    assert_eq!(shown(&format!(r#"[{hashed}, {{"name": "b", "key": "{BOB}"}}]"#)).as_deref(), Some(BOB));
}
