//! `flow-uring init`: asks for credentials and writes them into the secrets file.
//!
//! Invariant: a secret is neither shown nor logged, and the file is the old one or the new one, whole, whenever this
//! ends. Answers may come from a terminal or a pipe, a line each in the order of the questions. Not here: the form of
//! the file (`credentials`), how it is replaced (`private_write`), and the trial of the new credentials, which is `check --online`.

mod error;
mod prompt;
mod signal_guard;
mod words;

use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use self::prompt::Prompt;
use self::signal_guard::SignalGuard;
use self::words::say;
use crate::cli::private_write::{FormerFile, Target};
use crate::credentials::{NewEntry, Secret, extended, from_json, private_file, written};
use crate::whole_file::FileKinds;

pub use error::InitError;

/// The number of times that a question is asked before the answers count as not meant for it.
const ATTEMPTS_MAX: usize = 3;
/// Limit on the entries of one run; more are appended by another one.
const ENTRIES_MAX: usize = 100;

/// A file that was written.
#[derive(Debug)]
pub struct Written {
    pub path: PathBuf,
    /// The file that was there before.
    pub backup: Option<PathBuf>,
    pub names: Vec<String>,
}

/// The answer to what becomes of a file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Existing {
    Append,
    Replace,
}

/// Asks, and writes the file.
///
/// # Errors
/// The user cancels, the answers end or are not valid, or the file cannot be written: it is as before then.
pub fn init(path: &Path) -> Result<Written, InitError> {
    let failed = |error| InitError::File { path: path.to_owned(), error };
    let target = Target::find(path).map_err(failed)?;
    let mut prompt = Prompt::open().map_err(InitError::Input)?;
    let old = match &target {
        Target::New(_) => None,
        Target::Old(path) => Some((read(path)?, path)),
    };
    let kept = match &old {
        None => None,
        Some((text, path)) => match ask_about(&mut prompt, text, path)? {
            Existing::Append => Some(text),
            Existing::Replace => None,
        },
    };
    let entries = ask_for_entries(&mut prompt)?;
    let text = match kept {
        Some(text) => extended(text, &entries),
        None => written(&entries),
    };
    let text = text.map_err(InitError::NotValid)?;
    let loaded = from_json(&text).map_err(InitError::NotValid)?;
    // From here on no signal ends it before the file is whole.
    drop(prompt);
    let backup = target.write(&text, FormerFile::Backup);
    let backup = backup.map_err(|error| InitError::File { path: target.path().to_owned(), error })?;
    let names = loaded.credentials.names().map(str::to_owned).collect();
    Ok(Written { path: target.path().to_owned(), backup, names })
}

/// Asks whether the credentials are to be tried now; where the answers have ended, they are not.
///
/// # Errors
/// The answer cannot be read.
pub fn ask_for_trial() -> Result<bool, InitError> {
    let mut prompt = Prompt::open().map_err(InitError::Input)?;
    let answer =
        prompt.ask("Try each of them with the upstream now (one request each)? [Y/n] ").map_err(InitError::Input)?;
    Ok(answer.is_some_and(|answer| !is(&answer, "no")))
}

/// Lets signals end the program again, for as long as what it returns lives.
///
/// # Errors
/// The handlers or their thread cannot be set up.
pub fn end_by_signals() -> Result<impl Sized, InitError> {
    SignalGuard::guard(None).map_err(InitError::Input)
}

fn read(path: &Path) -> Result<Zeroizing<String>, InitError> {
    let read = private_file::read(path, FileKinds::Regular);
    read.map(|(text, _)| text).map_err(|fault| InitError::Read { path: path.to_owned(), fault })
}

fn ask_about(prompt: &mut Prompt, text: &str, path: &Path) -> Result<Existing, InitError> {
    let can_append = match from_json(text) {
        Ok(_) => true,
        Err(fault) => {
            say(&format!("{} is there already, and it {fault}\n", path.display()));
            false
        }
    };
    let question = if can_append {
        format!("{} is there already. Append to it, replace it (a backup stays), or cancel? [a/r/C] ", path.display())
    } else {
        "Replace it (a backup stays), or cancel? [r/C] ".to_owned()
    };
    for _ in 0..ATTEMPTS_MAX {
        let answer = prompt.ask(&question).map_err(InitError::Input)?.ok_or(InitError::Cancelled)?;
        if can_append && is(&answer, "append") {
            return Ok(Existing::Append);
        }
        if is(&answer, "replace") {
            return Ok(Existing::Replace);
        }
        if answer.is_empty() || is(&answer, "cancel") {
            return Err(InitError::Cancelled);
        }
    }
    Err(InitError::NoAnswer("append, replace or cancel"))
}

fn ask_for_entries(prompt: &mut Prompt) -> Result<Vec<NewEntry>, InitError> {
    let mut entries = Vec::new();
    loop {
        let client_id = needed(prompt, "client id", |prompt| prompt.ask("Client id: "))?;
        let client_secret = needed(prompt, "client secret", |prompt| prompt.ask_hidden("Client secret (not shown): "))?;
        let tenant = needed(prompt, "tenant", |prompt| prompt.ask("Tenant: "))?;
        let name = prompt.ask("Name for the log (optional): ").map_err(InitError::Input)?;
        entries.push(NewEntry {
            client_id: Secret::from(client_id),
            client_secret: Secret::from(client_secret),
            tenant: tenant.to_string(),
            name: name.filter(|name| !name.is_empty()).map(|name| name.to_string()),
        });
        if entries.len() == ENTRIES_MAX {
            return Ok(entries);
        }
        let more = prompt.ask("Another credential? [y/N] ").map_err(InitError::Input)?;
        if !more.is_some_and(|more| is(&more, "yes")) {
            return Ok(entries);
        }
    }
}

/// Asks for what cannot be left out.
fn needed(
    prompt: &mut Prompt,
    what: &'static str,
    ask: impl Fn(&mut Prompt) -> io::Result<Option<Zeroizing<String>>>,
) -> Result<Zeroizing<String>, InitError> {
    for _ in 0..ATTEMPTS_MAX {
        let answer = ask(prompt).map_err(InitError::Input)?.ok_or(InitError::NoAnswer(what))?;
        if !answer.is_empty() {
            return Ok(answer);
        }
    }
    Err(InitError::NoAnswer(what))
}

/// Returns true for the word or its first letter, in any case.
fn is(answer: &str, word: &str) -> bool {
    answer.eq_ignore_ascii_case(word) || answer.eq_ignore_ascii_case(&word[..1])
}
