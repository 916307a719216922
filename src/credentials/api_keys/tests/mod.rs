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
fn all_mistakes_of_lines_are_reported_by_their_place_and_without_a_value() {
    let found = mistakes(&format!(
        "hunter2\n# fine\n:hunter2\na b:hunter2\nalice:\nbob:hunter 2\ncarol:{ALICE}\ndave:{ALICE}\n*:{BOB}\n"
    ));
    let places: Vec<&str> = found.iter().map(|mistake| mistake.split(':').next().unwrap()).collect();
    assert_eq!(places, ["line 1", "line 3", "line 4", "line 5", "line 6", "line 8", "line 9"]);
    assert!(!found.concat().contains("hunter") && !found.concat().contains(ALICE), "{found:?}");
}

/// An entry with one mistake, and the message without its place.
const WRONG: &[(&str, &str)] = &[
    ("7", "expected an object, {…}, found a number"),
    (r#"{"\ud800": 1}"#, "expected an object, {…}, found an object with half a surrogate pair"),
    (
        r#"{"key": "KEY"}"#,
        r#", "name": expected a name of 1 to 64 letters, digits and -_.@, or "*" for the defaults, found none"#,
    ),
    (
        r#"{"name": "hunter2 hunter2", "key": "KEY"}"#,
        r#", "name": expected a name of 1 to 64 letters, digits and -_.@, or "*" for the defaults"#,
    ),
    (
        r#"{"name": 7, "key": "KEY"}"#,
        r#", "name": expected a name of 1 to 64 letters, digits and -_.@, or "*" for the defaults, found a number"#,
    ),
    (r#"{"name": "a"}"#, r#", "key": expected a key, or its SHA-256 as key_sha256, found none"#),
    (
        r#"{"name": "a", "key": "hunter 2"}"#,
        r#", "key": expected a key of 1 to 1024 visible ASCII characters without spaces"#,
    ),
    (r#"{"name": "a", "key": ""}"#, r#", "key": expected a key of 1 to 1024 visible ASCII characters without spaces"#),
    (
        r#"{"name": "a", "key": null}"#,
        r#", "key": expected a key of 1 to 1024 visible ASCII characters without spaces"#,
    ),
    (
        r#"{"name": "a", "key_sha256": "hunter2"}"#,
        r#", "key_sha256": expected the SHA-256 of a key of at most 1024 bytes, 64 hexadecimal digits"#,
    ),
    (
        r#"{"name": "a", "key_sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}"#,
        r#", "key_sha256": expected the SHA-256 of a key, found that of nothing"#,
    ),
    (
        r#"{"name": "a", "key": "KEY", "key_sha256": "hunter2"}"#,
        r#", "key_sha256": expected key or key_sha256, found both: leave one of them out"#,
    ),
    (r#"{"name": "*", "key": "hunter2"}"#, r#", "key": expected none: the entry "*" holds the defaults"#),
    (
        r#"{"name": "a", "key": "KEY", "keySha256": "hunter2"}"#,
        r#", "keySha256": unknown; did you mean "key_sha256"? Known are name, key, key_sha256, limits, models, credentials"#,
    ),
    (
        r#"{"name": "a", "key": "KEY", "hunter2-hunter2": 1}"#,
        ": field number 3 is unknown; known are name, key, key_sha256, limits, models, credentials",
    ),
    (
        r#"{"name": "a", "key": "KEY", "models": ["x"], "models": ["y"]}"#,
        r#", "models": expected it once, found it twice"#,
    ),
    (
        r#"{"name": "a", "key": "KEY", "limits": 7}"#,
        r#", "limits": expected an object, {…}, or null for no limits, found a number"#,
    ),
    (
        r#"{"name": "a", "key": "KEY", "limits": {"token_per_day": 1}}"#,
        r#", "limits.token_per_day": unknown; did you mean "tokens_per_day"? Known are parallel, requests_per_minute, tokens_per_minute, tokens_per_day, usd_per_day, usd_per_month"#,
    ),
    (
        r#"{"name": "a", "key": "KEY", "limits": {"hunter2": 1}}"#,
        r#", "limits": field number 1 is unknown; known are parallel, requests_per_minute, tokens_per_minute, tokens_per_day, usd_per_day, usd_per_month"#,
    ),
    (
        r#"{"name": "a", "key": "KEY", "limits": {"parallel": 1, "parallel": 2}}"#,
        r#", "limits.parallel": expected it once, found it twice"#,
    ),
    (
        r#"{"name": "a", "key": "KEY", "limits": {"parallel": 0}}"#,
        r#", "limits.parallel": expected a whole number from 1 to 1000000, or null for no limit"#,
    ),
    (
        r#"{"name": "a", "key": "KEY", "limits": {"requests_per_minute": -1}}"#,
        r#", "limits.requests_per_minute": expected a whole number from 1 to 1000000000, or null for no limit"#,
    ),
    (
        r#"{"name": "a", "key": "KEY", "limits": {"tokens_per_minute": 1.5}}"#,
        r#", "limits.tokens_per_minute": expected a whole number from 1 to 1000000000000, or null for no limit"#,
    ),
    (
        r#"{"name": "a", "key": "KEY", "limits": {"tokens_per_day": "hunter2"}}"#,
        r#", "limits.tokens_per_day": expected a whole number from 1 to 1000000000000, or null for no limit, found a string"#,
    ),
    (
        r#"{"name": "a", "key": "KEY", "limits": {"usd_per_day": 1e999}}"#,
        r#", "limits.usd_per_day": expected a number of US dollars above 0 and up to 2000000, or null for no limit"#,
    ),
    (
        r#"{"name": "a", "key": "KEY", "limits": {"usd_per_month": 0.0}}"#,
        r#", "limits.usd_per_month": expected a number of US dollars above 0 and up to 2000000, or null for no limit"#,
    ),
    (
        r#"{"name": "a", "key": "KEY", "models": []}"#,
        r#", "models": expected 1 to 100 names, or null for any model, found 0"#,
    ),
    (
        r#"{"name": "a", "key": "KEY", "models": "hunter2"}"#,
        r#", "models": expected a list of names, […], or null for any model, found a string"#,
    ),
    (
        r#"{"name": "a", "key": "KEY", "models": ["x", "hunter 2"]}"#,
        r#", "models[1]": expected the name of a model, or of several with *, of 1 to 256 bytes without spaces"#,
    ),
    (
        r#"{"name": "a", "key": "KEY", "models": [7]}"#,
        r#", "models[0]": expected the name of a model, or of several with *, of 1 to 256 bytes without spaces"#,
    ),
    (
        r#"{"name": "a", "key": "KEY", "credentials": []}"#,
        r#", "credentials": expected 1 to 512 names, or null for all of them, found 0"#,
    ),
    (
        r#"{"name": "a", "key": "KEY", "credentials": {}}"#,
        r#", "credentials": expected a list of names, […], or null for all of them, found an object"#,
    ),
    (
        r#"{"name": "a", "key": "KEY", "credentials": [" hunter2"]}"#,
        r#", "credentials[0]": expected the name of a credential of the secrets file, of 1 to 256 bytes"#,
    ),
];

#[test]
fn every_mistake_of_an_array_is_reported_by_its_place_and_without_a_value() {
    let wrong: Vec<String> = WRONG.iter().map(|(entry, _)| entry.replace("KEY", "hunter2-KEY")).collect();
    let text = format!("[\n{}\n]", wrong.join(",\n"));
    let expected: Vec<String> = WRONG
        .iter()
        .enumerate()
        .map(|(index, (_, message))| {
            let separator = if message.starts_with([',', ':']) { "" } else { ": " };
            format!("entry [{index}] (line {}){separator}{message}", index + 2)
        })
        .collect();
    let found = mistakes(&text);
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
    assert!(!found.concat().contains("hunter2"), "{found:?}");
    // Each by itself too.
    for (entry, expected) in wrong.iter().zip(WRONG.iter().map(|(_, message)| message)) {
        let found = mistakes(&format!("[{entry}]"));
        assert!(
            found.len() == 1 && found[0].starts_with("entry [0] (line 1)") && found[0].ends_with(expected),
            "{found:?}"
        );
    }
}

#[test]
fn mistakes_between_entries_are_reported_at_the_later_one_and_on_the_line_of_the_field() {
    let found = mistakes(&format!(
        "[ /* \n */ {{\"name\": \"a\", \"key\": \"{ALICE}\"}}, // }},\n\
         {{\"name\": \"a\",\n \"key\": \"{BOB}\",\n \"limits\": {{\"parallel\": 1}}}},\n\
         {{\"name\": \"*\"}},\n{{\"name\": \"*\"}},\n\
         {{\"name\": \"b\",\n \"key_sha256\": \"{}\"}}\n]",
        hash(ALICE)
    ));
    assert_eq!(
        found,
        [
            "entry [3] (line 7), \"name\": expected one entry \"*\" with the defaults, found another",
            "entry [4] (line 8): expected a key of its own, found one that is there already",
        ]
    );
    let found = mistakes(&format!(
        "[{{\"name\": \"a\", \"key\": \"{ALICE}\"}},\n\n{{\"name\": \"a\",\n\"key\": \"{BOB}\", \"limits\": {{\"parallel\": 1}}}}]"
    ));
    assert_eq!(
        found,
        [
            "entry [1] (line 3): expected the limits, models and credentials of entry [0] (line 1), which has the same name; \
          or another name"
        ]
    );
    let found = mistakes("[\n{\"name\": \"a\",\n\n\"key\": 7}]");
    assert!(found[0].starts_with("entry [0] (line 4), \"key\""), "{found:?}");
}

#[test]
fn what_is_no_array_is_told() {
    for (text, message) in [
        (
            "{\"alice\": \"hunter2\"}",
            "has mistakes:\n  expected an array of keys, [{…}, …], or lines of name:key, found an object",
        ),
        (
            "[{\"name\": \"hunter2\",}]",
            "is not valid JSON: a syntax error (a missing or surplus comma, quote or bracket?) at line 1, column 21",
        ),
        ("[\n/* hunter2", "has a string or comment that does not end, or a stray `/`, on line 2"),
        (
            "\n# hunter2\n[]",
            "has mistakes:\n  line 2: expected a comment that begins with //, as in JSON with comments",
        ),
    ] {
        let fault = ApiKeys::from_text(text).expect_err("a fault").to_string();
        assert_eq!(fault, message, "{text}");
    }
}

#[test]
fn no_key_at_all_is_a_mistake_and_not_an_open_door() {
    for text in ["", "\n\n", "# alice:key"] {
        assert_eq!(mistakes(text), ["expected 1 to 50000 keys, each as name:key, found 0"]);
    }
    for text in ["[]", "[{\"name\": \"*\", \"limits\": {\"parallel\": 1}}]"] {
        assert_eq!(mistakes(text), ["expected 1 to 50000 keys, each as {\"name\": …, \"key\": …}, found 0"]);
    }
    let many: String = (0..=KEYS_MAX).map(|number| format!("n:key-{number}\n")).collect();
    assert_eq!(mistakes(&many), ["expected 1 to 50000 keys, each as name:key, found 50001"]);
    assert_eq!(mistakes(&format!("[{}0]", "0,".repeat(KEYS_MAX + 1))), ["expected 1 to 50000 keys, found 50002"]);
}

#[test]
fn a_file_that_is_wrong_throughout_makes_no_endless_list() {
    let found = mistakes(&format!("[{}0]", "0,".repeat(KEYS_MAX - 1)));
    assert_eq!((found.len(), found[100].as_str()), (101, "… and 49900 more mistakes"));
    let short: String = (0..1000).map(|number| format!("n{number}:k{number}\n")).collect();
    let warnings = ApiKeys::from_text(&short).unwrap().warnings;
    assert_eq!((warnings.len(), warnings[10].as_str()), (11, "… and 990 more API keys that are short"));
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

fn added(text: Option<&str>, name: &str, permissions: NewPermissions<'_>) -> Result<(String, Secret), UnaddedKey> {
    let key = new_key().expect("random bytes");
    add_key(text, name, &key, permissions).map(|text| (text.to_string(), key))
}

#[test]
fn a_new_key_stands_in_the_file_as_its_hash_alone() {
    let limits = KeyLimits { parallel: Some(4), usd_per_day: Some(12.5), ..KeyLimits::default() };
    let models = Some(vec![ModelPattern::new("claude-*"), ModelPattern::new("a\"b")]);
    let policy = KeyPolicy { limits, models, credentials: Some(vec!["team a".into()]) };
    for text in [None, Some(""), Some(" \n"), Some("\u{feff}")] {
        let (text, key) = added(text, "alice", NewPermissions::Stated(&policy)).expect("added");
        assert_eq!(key.expose().len(), NEW_KEY_PREFIX.len() + NEW_KEY_SUFFIX_BYTES);
        assert!(text.contains(&hash(key.expose())) && !text.contains(&key.expose()[3..]), "{text}");
        let keys = keys(&text);
        assert_eq!(name_of(&keys, key.expose()).as_deref(), Some("alice"));
        assert_eq!(*self::policy(&keys, "alice"), policy);
        assert!(text.starts_with("[\n  {\"name\": \"alice\", ") || text.starts_with('\u{feff}'), "{text}");
        assert!(text.ends_with("}\n]\n"), "{text}");
    }
    assert_ne!(new_key().expect("random bytes").expose(), new_key().expect("random bytes").expose());
}

#[test]
fn a_file_keeps_its_text_and_its_comments_when_a_key_is_added() {
    let first = format!(r#"{{"name": "bob", "key": "{BOB}", "limits": {{"parallel": 2}}}}"#);
    for (begin, entry, middle, end) in [
        ("[", "", "", "]"),
        ("// only [\n[ ", "", "// none yet ]\n", "] // end"),
        ("[", &*first, "", "]"),
        ("\u{feff}// é ]\n[\n  ", &*first, " // of the last, }\n  /* ] */\n", "] // end ]\n/* } */"),
        ("[ {\"name\": \"*\"},", &*first, "/**/", "]\n\n"),
    ] {
        let before = format!("{begin}{entry}{middle}{end}");
        let (after, key) = added(Some(&before), "alice", NewPermissions::Stated(&KeyPolicy::default())).expect("added");
        assert_eq!(name_of(&keys(&after), key.expose()).as_deref(), Some("alice"), "{after}");
        assert_eq!(name_of(&keys(&after), BOB).as_deref(), Some("bob").filter(|_| !entry.is_empty()), "{after}");
        let comma = if entry.is_empty() { "" } else { "," };
        let start =
            format!("{}{comma}{}\n  {{\"name\": \"alice\"", format!("{begin}{entry}").trim_end(), middle.trim_end());
        let has_start = entry.is_empty() || after.starts_with(&start);
        assert!(has_start && after.ends_with(&format!("}}\n{end}")), "{after}");
        for comment in ["only [", "none yet ]", "é ]", "of the last, }", "/* ] */", "end ]"] {
            assert_eq!(before.contains(comment), after.contains(comment), "{after}");
        }
        // And one more.
        let (twice, _) = added(Some(&after), "carol", NewPermissions::Stated(&KeyPolicy::default())).expect("added");
        assert_eq!(keys(&twice).len(), keys(&after).len() + 1);
    }
}

#[test]
fn a_second_key_of_a_name_may_do_what_the_first_may() {
    let text = format!(
        "[{{\"name\": \"*\", \"limits\": {{\"tokens_per_day\": 9}}}},\n\
         {{\"name\": \"alice\", \"key\": \"{ALICE}\", \"models\": [\"m\"], // yes\n \"limits\": {{\"parallel\": 2, // two\n\
         \"usd_per_day\": null}}}}]"
    );
    let (after, key) = added(Some(&text), "alice", NewPermissions::OfSameName).expect("added");
    let keys = keys(&after);
    let ids = [ALICE, key.expose()].map(|key| keys.find(key.as_bytes()).expect("a key"));
    assert_eq!(keys.policy(ids[0]), keys.policy(ids[1]));
    assert_eq!(keys.policy(ids[1]).limits.tokens_per_day, Some(9));
    let refused = |name, permissions: NewPermissions<'_>| {
        added(Some(&text), name, permissions).map(|_| ()).expect_err("refused").to_string()
    };
    let nothing = KeyPolicy::default();
    assert!(refused("alice", NewPermissions::Stated(&nothing)).contains("--another"));
    assert!(refused("bob", NewPermissions::OfSameName).contains("leave --another out"));
}

#[test]
fn what_is_not_valid_or_no_array_gets_no_key() {
    for (text, part) in [
        ("alice:hunter2", "--convert"),
        ("# only a comment", "--convert"),
        ("[", "is not valid JSON"),
        ("{}", "expected an array"),
        ("[7]", "entry [0] (line 1): expected an object"),
        ("[{\"name\": \"hunter 2\"}]", "entry [0] (line 1), \"name\""),
    ] {
        let error = added(Some(text), "b", NewPermissions::Stated(&KeyPolicy::default())).map(|_| ()).expect_err(text);
        assert!(error.to_string().contains(part) && !error.to_string().contains("hunter"), "{text}: {error}");
    }
}

#[test]
fn lines_become_an_array_of_the_same_keys_with_their_comments() {
    let text = format!("\u{feff}# the team\r\n\r\n alice : {ALICE}\n#bob\nbob:{BOB}\"\\\nalice:{BOB}\n# end");
    let json = as_json(&text).expect("valid");
    assert_eq!(
        *json,
        format!(
            "[\n  // the team\n\n  {{\"name\": \"alice\", \"key\": \"{ALICE}\"}},\n  //bob\n  \
             {{\"name\": \"bob\", \"key\": \"{BOB}\\\"\\\\\"}},\n  {{\"name\": \"alice\", \"key\": \"{BOB}\"}}\n  // end\n]\n"
        )
    );
    assert_eq!(keys(&json).names().collect::<Vec<_>>(), ["alice", "bob", "alice"]);
    assert_eq!(name_of(&keys(&json), &format!("{BOB}\"\\")).as_deref(), Some("bob"));
    assert!(as_json("nothing").is_err());
}

proptest! {
    #[test]
    fn no_text_panics_and_what_is_added_to_can_be_read(
        text in "(//|/\\*|\\*/|#|\n|\"|\\\\|[\\[\\]{},: a]|\"name\"|\"key\"|\"limits\"|null|1|é){0,24}"
    ) {
        let _ = ApiKeys::from_text(&text);
        if let Ok((after, key)) = added(Some(&text), "a", NewPermissions::Stated(&KeyPolicy::default())) {
            prop_assert!(keys(&after).find(key.expose().as_bytes()).is_some());
        }
    }
}
