//! The API keys that callers must present, each with a name for the log.
//!
//! Invariant: a key is kept as its SHA-256 digest alone, and a presented key is compared with all of them in constant
//! time; nothing that is reported holds a key or a part of one.

use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use super::key_policy::KeyPolicy;
use super::private_file;
use crate::whole_file::{FileKinds, ReadFault};

/// Limit on the keys: every request is compared with all of them, and this many take some 20 µs.
const KEYS_MAX: usize = 1000;
/// Room for any token, and for each of a head's fields.
pub const API_KEY_BYTES_MAX: usize = 1024;
const NAME_BYTES_MAX: usize = 64;
/// Shorter ones can be guessed: 16 characters of a random key are 80 bits and more.
const KEY_BYTES_RECOMMENDED: usize = 16;

/// The keys of one file or variable; at least one.
#[derive(Clone, PartialEq)]
pub struct ApiKeys {
    keys: Vec<ApiKey>,
}

#[derive(Clone, PartialEq)]
struct ApiKey {
    name: String,
    bytes: usize,
    digest: [u8; SHA256_OUTPUT_LEN],
    policy: KeyPolicy,
}

/// The number of a key in an [`ApiKeys`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApiKeyId(u16);

impl ApiKeyId {
    /// Returns the key's position in its file, from 0.
    pub(super) fn index(self) -> usize {
        self.0.into()
    }
}

/// Keys, and warnings for the operator.
#[derive(Debug)]
pub struct LoadedKeys {
    pub keys: ApiKeys,
    pub warnings: Vec<String>,
}

impl ApiKeys {
    /// Reads a file of `name:key` lines; empty ones and those that begin with `#` are skipped.
    ///
    /// # Errors
    /// When it cannot be read or has mistakes; the error names the path.
    pub fn load(path: &Path, kinds: FileKinds) -> Result<LoadedKeys, ApiKeysFileError> {
        let failed = |fault| ApiKeysFileError { path: path.to_owned(), fault };
        let (text, metadata) = private_file::read(path, kinds).map_err(|fault| failed(fault.into()))?;
        let mut loaded = ApiKeys::from_lines(&text).map_err(|mistakes| failed(ApiKeysFault::Mistakes(mistakes)))?;
        loaded.warnings.splice(..0, private_file::exposure_warning(path, &metadata, "every API key"));
        Ok(loaded)
    }

    /// # Errors
    /// Every mistake of the text.
    pub fn from_lines(text: &str) -> Result<LoadedKeys, Vec<String>> {
        let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines().map(str::trim);
        read_entries("line", lines.enumerate().filter(|(_, line)| !line.starts_with('#')))
    }

    /// Reads `name:key,name:key`.
    ///
    /// # Errors
    /// Every mistake of the text.
    pub fn from_list(text: &str) -> Result<LoadedKeys, Vec<String>> {
        read_entries("entry", text.split(',').map(str::trim).enumerate())
    }

    /// Finds the key that was presented. Takes as long if it is none of these.
    pub fn find(&self, shown: &[u8]) -> Option<ApiKeyId> {
        let shown = digest(&SHA256, shown);
        let is_shown = |key: &ApiKey| verify_slices_are_equal(&key.digest, shown.as_ref()).is_ok();
        let matches = self.keys.iter().enumerate().map(|(index, key)| (index, is_shown(key)));
        // `KEYS_MAX` keeps every index within u16.
        matches.fold(None, |found, (index, is_shown)| if is_shown { Some(ApiKeyId(index as u16)) } else { found })
    }

    /// Returns the length and the digest of each key, by which it is known in a text.
    pub fn digests(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.keys.iter().map(|key| (key.bytes, key.digest.as_slice()))
    }

    pub fn name(&self, id: ApiKeyId) -> &str {
        &self.keys[id.index()].name
    }

    /// Returns what the key may do.
    pub fn policy(&self, id: ApiKeyId) -> &KeyPolicy {
        &self.keys[id.index()].policy
    }

    /// Returns the name of each key with what it may do.
    pub fn policies(&self) -> impl ExactSizeIterator<Item = (&str, &KeyPolicy)> {
        self.keys.iter().map(|key| (key.name.as_str(), &key.policy))
    }

    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.keys.iter().map(|key| key.name.as_str())
    }

    /// Returns the number of keys; never 0.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.keys.len()
    }
}

#[cfg(test)]
impl ApiKeys {
    /// Makes a key for each policy.
    pub(super) fn of_policies(policies: impl Iterator<Item = KeyPolicy>) -> Self {
        let key = |policy| ApiKey { name: "a".into(), bytes: 1, digest: [0; SHA256_OUTPUT_LEN], policy };
        ApiKeys { keys: policies.map(key).collect() }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = ApiKeyId> {
        (0..self.keys.len()).map(|index| ApiKeyId(index as u16))
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.names()).finish()
    }
}

/// Reads entries that are numbered from 0; `unit` is the word for them in messages, which count from 1.
fn read_entries<'a>(
    unit: &'static str,
    entries: impl Iterator<Item = (usize, &'a str)>,
) -> Result<LoadedKeys, Vec<String>> {
    let mut keys: Vec<ApiKey> = Vec::new();
    let (mut mistakes, mut warnings) = (Vec::new(), Vec::new());
    for (index, entry) in entries.filter(|(_, entry)| !entry.is_empty()) {
        let at = || format!("{unit} {}", index + 1);
        match read_entry(entry) {
            Err(expected) => mistakes.push(format!("{}: {expected}", at())),
            Ok((key, _)) if keys.iter().any(|other| other.digest == key.digest) => {
                mistakes.push(format!("{}: expected a key of its own, found one that is there already", at()));
            }
            Ok((key, length)) => {
                if length < KEY_BYTES_RECOMMENDED {
                    warnings.push(format!(
                        "the API key of {} is short and could be guessed: use {KEY_BYTES_RECOMMENDED} characters or more",
                        key.name
                    ));
                }
                keys.push(key);
            }
        }
    }
    if mistakes.is_empty() && !(1..=KEYS_MAX).contains(&keys.len()) {
        mistakes.push(format!("expected 1 to {KEYS_MAX} keys, each as name:key, found {}", keys.len()));
    }
    if mistakes.is_empty() { Ok(LoadedKeys { keys: ApiKeys { keys }, warnings }) } else { Err(mistakes) }
}

/// Reads a key; returns its length too.
fn read_entry(entry: &str) -> Result<(ApiKey, usize), String> {
    let (name, key) = entry.split_once(':').ok_or("expected name:key, found no colon")?;
    let (name, key) = (name.trim_end(), key.trim_start());
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@');
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(is_name) {
        return Err(format!("expected a name of 1 to {NAME_BYTES_MAX} letters, digits and -_.@ before the colon"));
    }
    // Bytes that a field value can hold without quotes, and a shell variable without escapes.
    if !(1..=API_KEY_BYTES_MAX).contains(&key.len()) || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "expected a key of 1 to {API_KEY_BYTES_MAX} visible ASCII characters without spaces after the colon"
        ));
    }
    let mut hashed = [0; SHA256_OUTPUT_LEN];
    hashed.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
    Ok((ApiKey { name: name.to_owned(), bytes: key.len(), digest: hashed, policy: KeyPolicy::default() }, key.len()))
}

/// The reason why a file of keys cannot be used.
#[derive(Debug)]
pub struct ApiKeysFileError {
    pub path: PathBuf,
    pub fault: ApiKeysFault,
}

#[derive(Debug)]
pub enum ApiKeysFault {
    Read(ReadFault),
    /// Each with its place and what was expected there.
    Mistakes(Vec<String>),
}

impl From<ReadFault> for ApiKeysFault {
    fn from(fault: ReadFault) -> Self {
        ApiKeysFault::Read(fault)
    }
}

impl fmt::Display for ApiKeysFileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the file of API keys {} ", self.path.display())?;
        self.fault.fmt(formatter)
    }
}

impl fmt::Display for ApiKeysFault {
    /// Writes the end of a sentence that begins with the file.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApiKeysFault::Read(fault) => fault.fmt(formatter),
            ApiKeysFault::Mistakes(mistakes) => {
                formatter.write_str("has mistakes:")?;
                mistakes.iter().try_for_each(|mistake| write!(formatter, "\n  {mistake}"))
            }
        }
    }
}

impl std::error::Error for ApiKeysFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            ApiKeysFault::Read(fault) => fault.source(),
            ApiKeysFault::Mistakes(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const ALICE: &str = "0123456789abcdef-alice";
    const BOB: &str = "0123456789abcdef:bob";

    fn mistakes(result: Result<LoadedKeys, Vec<String>>) -> Vec<String> {
        result.expect_err("mistakes")
    }

    #[test]
    fn lines_and_lists_hold_names_and_keys() {
        let lines = ApiKeys::from_lines(&format!("\u{feff}# team\r\n\r\n  alice : {ALICE}\r\nbob:{BOB}")).unwrap();
        let list = ApiKeys::from_list(&format!(" alice:{ALICE} , bob:{BOB},")).unwrap();
        assert!(lines.warnings.is_empty() && list.warnings.is_empty());
        for keys in [lines.keys, list.keys] {
            assert_eq!(keys.names().collect::<Vec<_>>(), ["alice", "bob"]);
            let name_of = |shown: &str| keys.find(shown.as_bytes()).map(|id| keys.name(id).to_owned());
            assert_eq!(name_of(ALICE).as_deref(), Some("alice"));
            assert_eq!(name_of(BOB).as_deref(), Some("bob"));
            for other in ["", "alice", &ALICE[1..], &ALICE[..ALICE.len() - 1], &format!("{ALICE} ")] {
                assert_eq!(name_of(other), None, "{other}");
            }
        }
    }

    #[test]
    fn a_name_may_have_two_keys_while_one_replaces_the_other() {
        let keys = ApiKeys::from_list(&format!("alice:{ALICE},alice:{BOB}")).unwrap().keys;
        assert_eq!((keys.len(), keys.find(BOB.as_bytes()).is_some()), (2, true));
    }

    #[test]
    fn all_mistakes_are_reported_by_their_place_and_without_a_value() {
        let found = mistakes(ApiKeys::from_lines(&format!(
            "hunter2\n# fine\n:hunter2\na b:hunter2\nalice:\nbob:hunter 2\ncarol:{ALICE}\ndave:{ALICE}\n"
        )));
        let places: Vec<&str> = found.iter().map(|mistake| mistake.split(':').next().unwrap()).collect();
        assert_eq!(places, ["line 1", "line 3", "line 4", "line 5", "line 6", "line 8"]);
        assert!(!found.concat().contains("hunter") && !found.concat().contains(ALICE), "{found:?}");
    }

    #[test]
    fn no_key_at_all_is_a_mistake_and_not_an_open_door() {
        for text in ["", "\n\n", "# alice:key"] {
            assert_eq!(mistakes(ApiKeys::from_lines(text)), ["expected 1 to 1000 keys, each as name:key, found 0"]);
        }
        let many: String = (0..=KEYS_MAX).map(|number| format!("n:key-{number}\n")).collect();
        assert_eq!(mistakes(ApiKeys::from_lines(&many)).len(), 1);
    }

    #[test]
    fn a_short_key_and_a_file_that_others_can_read_are_warned_of() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        std::fs::write(&path, "alice:hunter2\n").unwrap();
        for (mode, count) in [(0o600, 1), (0o644, 2)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let loaded = ApiKeys::load(&path, FileKinds::Regular).unwrap();
            assert_eq!(loaded.warnings.len(), count, "{:?}", loaded.warnings);
            assert!(!loaded.warnings.concat().contains("hunter2"));
        }
        let error = ApiKeys::load(&directory.path().join("none"), FileKinds::Regular).unwrap_err().to_string();
        assert!(error.starts_with("the file of API keys ") && error.contains("cannot be read"), "{error}");
    }

    #[test]
    fn debug_shows_names_alone() {
        let keys = ApiKeys::from_list(&format!("alice:{ALICE}")).unwrap();
        assert_eq!(format!("{:?}", keys.keys), r#"["alice"]"#);
    }
}
