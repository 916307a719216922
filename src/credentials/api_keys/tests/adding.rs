//! Keys that are added to a file.

use super::*;

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
