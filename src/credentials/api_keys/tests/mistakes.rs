//! Mistakes in a file, and how they are told.

use super::*;

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
