use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::credentials::Credential;

const MINIMAL: &str = r#"[{"clientId":"abcdefghij","clientSecret":"hunter2","tenant":"t"}]"#;

fn read(text: &str) -> LoadedCredentials {
    from_json(text).unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

fn fault(text: &str) -> String {
    from_json(text).err().unwrap_or_else(|| panic!("{text}: accepted")).to_string()
}

fn named(names: &[&str]) -> Vec<String> {
    let entry = |name: &&str| format!(r#"{{"name":"{name}","clientId":"i","clientSecret":"s","tenant":"t"}}"#);
    let text = format!("[{}]", names.iter().map(entry).collect::<Vec<_>>().join(","));
    read(&text).credentials.names().map(str::to_owned).collect()
}

#[test]
fn an_entry_gives_its_fields_and_defaults() {
    let loaded = read(MINIMAL);
    assert!(loaded.warnings.is_empty());
    assert_eq!(loaded.credentials.len(), 1);
    let (id, entry) = loaded.credentials.entries().next().expect("an entry");
    assert_eq!(id.index(), 0);
    let Credential { name, client_id, client_secret, tenant, weight } = entry;
    assert_eq!(
        (name.as_str(), client_id.as_str(), tenant.as_str(), *weight),
        ("config-abcdefgh", "abcdefghij", "t", 1)
    );
    assert_eq!(client_secret.expose(), "hunter2");
}

#[test]
fn optional_fields_are_read_and_values_are_kept_as_they_are() {
    let loaded = read(
        r#"[{"name":" team a ","clientId":" i ","clientSecret":" s ","tenant":" t ","weight":1000,"agent":"a","appToAccess":"b"},
            {"name":null,"clientId":"é1234567890","clientSecret":"s","tenant":"t","weight":null,"agent":null}]"#,
    );
    assert!(loaded.warnings.is_empty());
    let entries: Vec<&Credential> = loaded.credentials.entries().map(|(_, entry)| entry).collect();
    assert_eq!((entries[0].name.as_str(), entries[0].weight), ("team a", 1000));
    assert_eq!((entries[0].client_id.as_str(), entries[0].client_secret.expose()), (" i ", " s "));
    assert_eq!((entries[1].name.as_str(), entries[1].weight), ("config-é1234567", 1));
}

#[test]
fn names_that_are_taken_get_a_number() {
    assert_eq!(named(&["a", "a", "b", "a"]), ["a", "a#2", "b", "a#3"]);
    assert_eq!(named(&["a#2", "a", "a"]), ["a#2", "a", "a#3"]);
    assert_eq!(named(&["", " "]), ["config-i", "config-i#2"]);
}

#[test]
fn comments_and_a_byte_order_mark_are_accepted_and_strings_stay_whole() {
    let loaded = read(
        "\u{feff}// first\n[ /* a\n b */ {\"clientId\": \"http://x/*y*/\", // c\r\n \
         \"clientSecret\": \"a\\\"//b # c\", \"tenant\": \"t/**/\"} /** d **/ ] // end",
    );
    let (_, entry) = loaded.credentials.entries().next().expect("an entry");
    assert_eq!(entry.client_id, "http://x/*y*/");
    assert_eq!(entry.client_secret.expose(), "a\"//b # c");
    assert_eq!(entry.tenant, "t/**/");
}

#[test]
fn text_that_is_not_json_is_told_by_its_place_alone() {
    let syntax = "a syntax error (a missing or surplus comma, quote or bracket?)";
    for (text, message) in [
        ("", "is not valid JSON: the text ends too early at line 1, column 0".to_owned()),
        ("[\n{\"hunter2\" 1}]", format!("is not valid JSON: {syntax} at line 2, column 12")),
        ("[{}] hunter2", format!("is not valid JSON: {syntax} at line 1, column 6")),
        ("# hunter2\n[]", format!("is not valid JSON: {syntax} at line 1, column 1")),
        ("[{\"a\": 1},]", format!("is not valid JSON: {syntax} at line 1, column 11")),
        ("[\n\"hunter2", "has a string or comment that does not end, or a stray `/`, on line 2".to_owned()),
        ("[\n\n/ hunter2", "has a string or comment that does not end, or a stray `/`, on line 3".to_owned()),
        ("[] /* hunter2", "has a string or comment that does not end, or a stray `/`, on line 1".to_owned()),
    ] {
        assert_eq!(fault(text), message, "{text:?}");
    }
}

#[test]
fn all_mistakes_are_reported_together_with_index_and_field_and_without_values() {
    let text = r#"[
        {"clientId": "hunter2", "clientSecret": 1234567, "tenant": " "},
        "hunter2",
        {"clientId": "i", "clientSecret": "s", "tenant": "t"},
        {"name": ["hunter2"], "agent": 7, "appToAccess": {}, "clientId": "", "weight": "hunter2"},
        {"name": "hunter2\n", "clientId": null, "clientSecret": true, "tenant": "t", "weight": 1001},
        {"clientId": "i", "clientSecret": "s", "tenant": "t", "weight": 0},
        {"clientId": "i", "clientSecret": "s", "tenant": "t", "weight": 1.5}
    ]"#;
    let message = fault(text);
    let lines: Vec<&str> = message.lines().map(str::trim_start).collect();
    let string = "expected a non-blank string, found";
    let weight = "expected a whole number from 1 to 1000";
    assert_eq!(
        lines,
        [
            "has mistakes:",
            &format!("entry [0], \"clientSecret\": {string} a number"),
            &format!("entry [0], \"tenant\": {string} a blank one"),
            "entry [1]: expected an object, {…}, found a string",
            &format!("entry [3], \"clientId\": {string} a blank one"),
            &format!("entry [3], \"clientSecret\": {string} none"),
            &format!("entry [3], \"tenant\": {string} none"),
            "entry [3], \"name\": expected a string, found an array",
            "entry [3], \"agent\": expected a string, found a number",
            "entry [3], \"appToAccess\": expected a string, found an object",
            &format!("entry [3], \"weight\": {weight}"),
            &format!("entry [4], \"clientId\": {string} null"),
            &format!("entry [4], \"clientSecret\": {string} a boolean"),
            "entry [4], \"name\": expected a string without control characters",
            &format!("entry [4], \"weight\": {weight}"),
            &format!("entry [5], \"weight\": {weight}"),
            &format!("entry [6], \"weight\": {weight}"),
        ]
    );
    let debug = format!("{:?}", from_json(text));
    assert!(!message.contains("hunter2") && !message.contains("1234567") && !debug.contains("hunter2"), "{debug}");
}

#[test]
fn half_a_surrogate_pair_is_what_the_mistake_says() {
    let message =
        fault(r#"[{"clientId": "i", "clientSecret": "\ud83d", "tenant": "t", "name": "\udc00"}, {"\ud83d": 1}]"#);
    let lines: Vec<&str> = message.lines().map(str::trim_start).collect();
    assert_eq!(
        lines,
        [
            "has mistakes:",
            "entry [0], \"clientSecret\": expected a non-blank string, found a string with half a surrogate pair",
            "entry [0], \"name\": expected a string, found a string with half a surrogate pair",
            "entry [1]: expected an object, {…}, found an object with half a surrogate pair",
        ]
    );
}

#[test]
fn a_document_that_is_no_list_of_credentials_is_refused() {
    let array = "has mistakes:\n  expected an array of credentials, [{…}, …], found";
    assert_eq!(fault("{\"clientId\": \"i\"}"), format!("{array} an object"));
    assert_eq!(fault("\"hunter2\""), format!("{array} a string"));
    assert_eq!(fault("null"), format!("{array} null"));
    assert_eq!(fault("[]"), "has mistakes:\n  expected 1 to 512 credentials, found 0");
    let entry = MINIMAL.trim_matches(['[', ']']);
    let many = |count: usize| format!("[{}]", vec![entry; count].join(","));
    assert_eq!(fault(&many(513)), "has mistakes:\n  expected 1 to 512 credentials, found 513");
    assert_eq!(read(&many(512)).credentials.len(), 512);
}

#[test]
fn unknown_fields_give_one_warning_that_names_them() {
    let loaded = read(
        r#"[{"clientId":"i","clientSecret":"s","tenant":"t","client_id":"hunter2","z\n":1},
            {"clientId":"i","clientSecret":"s","tenant":"t","client_id":"x"}]"#,
    );
    assert_eq!(loaded.warnings, [r#"the secrets file has unknown fields, which are ignored: "client_id", "z\n""#]);
    let many: String = (0..20).map(|number| format!(",\"f{number:02}\":1")).collect();
    let text = format!(r#"[{{"clientId":"i","clientSecret":"s","tenant":"t"{many}}}]"#);
    assert!(read(&text).warnings[0].ends_with("\"f07\", …"), "{:?}", read(&text).warnings);
}

#[test]
fn a_file_that_others_can_read_gets_a_warning_that_names_chmod() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("secrets.json");
    std::fs::write(&path, MINIMAL).expect("written");
    for (mode, is_exposed) in
        [(0o600, false), (0o400, false), (0o640, false), (0o604, true), (0o644, true), (0o602, true)]
    {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("changed");
        let loaded = load(&path, FileKinds::Regular).expect("read");
        let shown = path.display();
        let warning =
            format!("others can read {shown} (mode {mode:03o}) and with it every client secret: run chmod 600 {shown}");
        assert_eq!(loaded.warnings, if is_exposed { vec![warning] } else { vec![] }, "{mode:o}");
    }
}

#[test]
fn a_group_that_is_not_ours_counts_as_others() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("secrets.json");
    std::fs::write(&path, MINIMAL).expect("written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).expect("changed");
    assert!(load(&path, FileKinds::Regular).expect("read").warnings.is_empty(), "our own group");
    const FOREIGN_GROUP: u32 = 54_321;
    // Only root may give a file away; elsewhere the first half has to do.
    if std::os::unix::fs::chown(&path, None, Some(FOREIGN_GROUP)).is_ok() {
        assert_eq!(load(&path, FileKinds::Regular).expect("read").warnings.len(), 1);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told_by_its_path() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("secrets.json");
    let message = |content: Option<&[u8]>| {
        content.iter().for_each(|content| std::fs::write(&path, content).expect("written"));
        load(&path, FileKinds::Regular).expect_err("refused").to_string().replace(&path.display().to_string(), "PATH")
    };
    assert_eq!(
        message(None),
        "the secrets file PATH does not exist: run flow-uring init, or name another file with \
         --secrets-file"
    );
    assert_eq!(message(Some(b"[\"hunter2\xff\"]")), "the secrets file PATH is not UTF-8 text");
    assert_eq!(message(Some(&[b' '; 1024 * 1024 + 1])), "the secrets file PATH is larger than 1024 KiB");
    assert_eq!(
        message(Some(b"[7]")),
        "the secrets file PATH has mistakes:\n  entry [0]: expected an object, {…}, found a number"
    );
    let error = load(directory.path(), FileKinds::RegularOrPipe).expect_err("a directory");
    assert!(error.to_string().contains(" cannot be read: ") && std::error::Error::source(&error).is_some());
}

#[test]
fn the_template_is_a_valid_secrets_file() {
    let loaded = read(include_str!("../../../secrets.json.template"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.credentials.names().collect::<Vec<_>>(), ["team-a"]);
}

#[test]
fn strings_with_escapes_are_read_as_json_means_them_and_half_a_pair_is_a_mistake() {
    let with_secret = |secret: &str| {
        let text = format!(r#"[{{"clientId":"a","client\u0053ecret":"{secret}","tenant":"t"}}]"#);
        let read = from_json(&text).map_err(|fault| fault.to_string())?;
        let (_, entry) = read.credentials.entries().next().expect("an entry");
        Ok::<String, String>(entry.client_secret.expose().to_owned())
    };
    for (written, meant) in [
        (r#"a\"b\\c\/d"#, "a\"b\\c/d"),
        (r"\b\f\n\r\té", "\u{8}\u{c}\n\r\té"),
        (r"\u00e9\u20AC x\u0041", "é€ xA"),
        (r"\ud83d\ude00!\uD83D\uDE00", "😀!😀"),
    ] {
        assert_eq!(with_secret(written).as_deref(), Ok(meant), "{written}");
    }
    for broken in [r"hunter2\ud83d", r"\ude00hunter2", r"\ud83d\u0041hunter2", r"\ud83dhunter2hunter2"] {
        let told = with_secret(broken).expect_err("half a character");
        assert!(told.contains("\"clientSecret\": expected a non-blank string") && !told.contains("hunter"), "{told}");
    }
}
