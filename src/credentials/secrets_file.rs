//! `secrets.json`: a JSON array of credentials, comments allowed.
//!
//! Invariant: all mistakes of a file are reported together, each by index, field and expectation, and nothing that is
//! reported, from here or from a parser below, holds a value of the file.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use json_comments::CommentSettings;
use serde_json::Value;
use zeroize::Zeroizing;

use super::Credentials;
use super::private_file::{self, FILE_BYTES_MAX, ReadFault};
use super::secrets_entry::{kind_of, read_entries};

/// A secrets file of this many entries would be 100 kB; more is another kind of file. It also bounds the weighted order
/// to 512,000 turns.
pub(super) const ENTRIES_MAX: usize = 512;

/// What a secrets file gave.
#[derive(Debug)]
pub struct Loaded {
    pub credentials: Credentials,
    /// Lines for the operator: who else can read the file, which fields are ignored.
    pub warnings: Vec<String>,
}

/// Reads a secrets file.
///
/// # Errors
/// When it cannot be read, is not JSON, or holds mistakes; the error names the path.
pub fn load(path: &Path) -> Result<Loaded, SecretsFileError> {
    let failed = |fault| SecretsFileError { path: path.to_owned(), fault };
    let (text, metadata) = private_file::read(path).map_err(|fault| failed(fault.into()))?;
    let mut loaded = from_json(&text).map_err(failed)?;
    if let Some(warning) = private_file::exposure_warning(path, &metadata, "every client secret") {
        loaded.warnings.insert(0, warning);
    }
    Ok(loaded)
}

/// Reads the text of a secrets file.
///
/// # Errors
/// When it is not JSON or holds mistakes.
pub fn from_json(text: &str) -> Result<Loaded, SecretsFault> {
    let text = strip_comments(text.strip_prefix('\u{feff}').unwrap_or(text))?;
    let document = serde_json::from_str(&text).map_err(|error| SecretsFault::Syntax {
        line: error.line(),
        column: error.column(),
        what: syntax_of(&error),
    })?;
    let Value::Array(values) = document else {
        return Err(SecretsFault::Mistakes(vec![Mistake::whole_file(format!(
            "expected an array of credentials, [{{…}}, …], found {}",
            kind_of(&document)
        ))]));
    };
    if values.is_empty() || values.len() > ENTRIES_MAX {
        let form = format!("expected 1 to {ENTRIES_MAX} credentials, found {}", values.len());
        return Err(SecretsFault::Mistakes(vec![Mistake::whole_file(form)]));
    }
    read_entries(values)
}

/// Why a secrets file cannot be used.
#[derive(Debug)]
pub struct SecretsFileError {
    pub path: PathBuf,
    pub fault: SecretsFault,
}

#[derive(Debug)]
pub enum SecretsFault {
    Unreadable(io::Error),
    TooLarge,
    NotUtf8,
    /// A comment or string that never ends, or a stray `/`.
    Comment {
        line: usize,
    },
    Syntax {
        line: usize,
        column: usize,
        what: &'static str,
    },
    Mistakes(Vec<Mistake>),
}

/// One wrong thing in a file that is JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The entry's position, from 0; `None` for the file as a whole.
    pub index: Option<usize>,
    pub field: Option<&'static str>,
    pub expected: String,
}

impl Mistake {
    fn whole_file(expected: String) -> Self {
        Mistake { index: None, field: None, expected }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(index) = self.index {
            write!(formatter, "entry [{index}]")?;
            if let Some(field) = self.field {
                write!(formatter, ", \"{field}\"")?;
            }
            formatter.write_str(": ")?;
        }
        formatter.write_str(&self.expected)
    }
}

impl From<ReadFault> for SecretsFault {
    fn from(fault: ReadFault) -> Self {
        match fault {
            ReadFault::Unreadable(error) => SecretsFault::Unreadable(error),
            ReadFault::TooLarge => SecretsFault::TooLarge,
            ReadFault::NotUtf8 => SecretsFault::NotUtf8,
        }
    }
}

impl fmt::Display for SecretsFileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the secrets file {} ", self.path.display())?;
        self.fault.fmt(formatter)
    }
}

impl fmt::Display for SecretsFault {
    /// The end of a sentence that begins with the file.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretsFault::Unreadable(error) if error.kind() == io::ErrorKind::NotFound => formatter.write_str(
                "does not exist: copy secrets.json.template there and fill it in, or name another file with --secrets-file",
            ),
            SecretsFault::Unreadable(error) => write!(formatter, "cannot be read: {error}"),
            SecretsFault::TooLarge => write!(formatter, "is larger than {} KiB", FILE_BYTES_MAX / 1024),
            SecretsFault::NotUtf8 => formatter.write_str("is not UTF-8 text"),
            SecretsFault::Comment { line } => {
                write!(formatter, "has a string or comment that does not end, or a stray `/`, on line {line}")
            }
            SecretsFault::Syntax { line, column, what } => {
                write!(formatter, "is not valid JSON: {what} at line {line}, column {column}")
            }
            SecretsFault::Mistakes(mistakes) => {
                formatter.write_str("has mistakes:")?;
                mistakes.iter().try_for_each(|mistake| write!(formatter, "\n  {mistake}"))
            }
        }
    }
}

impl std::error::Error for SecretsFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.fault.source()
    }
}

impl std::error::Error for SecretsFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SecretsFault::Unreadable(error) => Some(error),
            SecretsFault::TooLarge
            | SecretsFault::NotUtf8
            | SecretsFault::Comment { .. }
            | SecretsFault::Syntax { .. }
            | SecretsFault::Mistakes(_) => None,
        }
    }
}

/// Replaces comments by spaces, so that positions stay true. `#` comments are not JSON5 nor JavaScript: not accepted.
fn strip_comments(text: &str) -> Result<Zeroizing<String>, SecretsFault> {
    let mut stripped = Zeroizing::new(Vec::with_capacity(text.len() + 1));
    // Byte by byte, so that the place of a mistake is known; the file is small.
    let mut reader = CommentSettings::c_style().strip_comments(text.as_bytes());
    let mut byte = [0_u8];
    loop {
        match reader.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => stripped.push(byte[0]),
            Err(_) => {
                let line = 1 + stripped.iter().filter(|byte| **byte == b'\n').count();
                return Err(SecretsFault::Comment { line });
            }
        }
    }
    let text = std::str::from_utf8(&stripped).map_err(|_| SecretsFault::NotUtf8)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// The parser's own words could hold parts of the file one day; these cannot.
fn syntax_of(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => "the text ends too early",
        _ => "a syntax error (a missing or surplus comma, quote or bracket?)",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::credentials::Credential;

    const MINIMAL: &str = r#"[{"clientId":"abcdefghij","clientSecret":"hunter2","tenant":"t"}]"#;

    fn read(text: &str) -> Loaded {
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
            let loaded = load(&path).expect("read");
            let shown = path.display();
            let warning = format!(
                "others can read {shown} (mode {mode:03o}) and with it every client secret: run chmod 600 {shown}"
            );
            assert_eq!(loaded.warnings, if is_exposed { vec![warning] } else { vec![] }, "{mode:o}");
        }
    }

    #[test]
    fn a_group_that_is_not_ours_counts_as_others() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("secrets.json");
        std::fs::write(&path, MINIMAL).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).expect("changed");
        assert!(load(&path).expect("read").warnings.is_empty(), "our own group");
        const FOREIGN_GROUP: u32 = 54_321;
        // Only root may give a file away; elsewhere the first half has to do.
        if std::os::unix::fs::chown(&path, None, Some(FOREIGN_GROUP)).is_ok() {
            assert_eq!(load(&path).expect("read").warnings.len(), 1);
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_by_its_path() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("secrets.json");
        let message = |content: Option<&[u8]>| {
            content.iter().for_each(|content| std::fs::write(&path, content).expect("written"));
            load(&path).expect_err("refused").to_string().replace(&path.display().to_string(), "PATH")
        };
        assert_eq!(
            message(None),
            "the secrets file PATH does not exist: copy secrets.json.template there and fill it in, or name another file with \
             --secrets-file"
        );
        assert_eq!(message(Some(b"[\"hunter2\xff\"]")), "the secrets file PATH is not UTF-8 text");
        assert_eq!(message(Some(&[b' '; 1024 * 1024 + 1])), "the secrets file PATH is larger than 1024 KiB");
        assert_eq!(
            message(Some(b"[7]")),
            "the secrets file PATH has mistakes:\n  entry [0]: expected an object, {…}, found a number"
        );
        let error = load(directory.path()).expect_err("a directory");
        assert!(error.to_string().contains(" cannot be read: ") && std::error::Error::source(&error).is_some());
    }

    #[test]
    fn the_template_is_a_valid_secrets_file() {
        let loaded = read(include_str!("../../secrets.json.template"));
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        assert_eq!(loaded.credentials.names().collect::<Vec<_>>(), ["team-a"]);
    }
}
