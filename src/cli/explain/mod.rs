//! `explain`: finds the capture of a failed exchange, and tells in plain words what became of it (`account`) and what
//! to do (`advice`).

mod account;
mod advice;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use self::account::ExchangeAccount;
use crate::capture::directory::{CaptureDirectory, exchange_of};
use crate::capture::document::CaptureDocument;
use crate::whole_file::{self, FileKinds, ReadFault};

/// The captures that a list shows.
const LISTED_MAX: usize = 20;
/// The captures that are named where several could be meant.
const CANDIDATES_MAX: usize = 5;
/// More than any capture has.
const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The thing that is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    List,
    /// The id of an exchange or a request, the beginning of one, or a path.
    One(&'a str),
}

impl<'a> Wanted<'a> {
    /// # Errors
    /// [`ExplainError::Usage`]: neither or both.
    pub fn of(list: bool, id: Option<&'a str>) -> Result<Self, ExplainError> {
        match (list, id) {
            (true, None) => Ok(Wanted::List),
            (false, Some(id)) if !id.is_empty() => Ok(Wanted::One(id)),
            _ => Err(ExplainError::Usage),
        }
    }
}

/// The reason why nothing is explained.
#[derive(Debug)]
pub enum ExplainError {
    Usage,
    NoDirectory,
    Directory(PathBuf, io::Error),
    File(PathBuf, ReadFault),
    /// It is no capture.
    NotACapture(PathBuf),
    NotFound,
    /// Some of those that could be meant.
    Ambiguous(Vec<String>),
}

impl ExplainError {
    pub fn is_usage(&self) -> bool {
        matches!(self, ExplainError::Usage | ExplainError::NoDirectory)
    }
}

impl fmt::Display for ExplainError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExplainError::Usage => formatter.write_str(
                "explain needs the id of an exchange (id or request_id in its line of the log), or --list for the newest",
            ),
            ExplainError::NoDirectory => formatter.write_str(
                "failed exchanges are not kept: start the gateway with --capture-dir DIR (or FLOW_PROXY_CAPTURE_DIR), and \
                 give explain the same",
            ),
            ExplainError::Directory(path, error) => {
                write!(formatter, "the captures in {} cannot be listed: {error}", path.display())
            }
            ExplainError::File(path, fault) => write!(formatter, "the capture {} {fault}", path.display()),
            ExplainError::NotACapture(path) => {
                write!(formatter, "{} is no capture of a failed exchange", path.display())
            }
            ExplainError::NotFound => formatter.write_str(
                "no failed exchange of that id is kept (the newest 200 are, of those that failed); see explain --list",
            ),
            ExplainError::Ambiguous(names) => {
                write!(formatter, "several failed exchanges begin so; write more of it: {}", names.join(", "))
            }
        }
    }
}

/// Returns what is told about `wanted`, of the captures in `directory`.
///
/// # Errors
/// See [`ExplainError`].
pub fn explain(wanted: &Wanted<'_>, directory: Option<PathBuf>) -> Result<String, ExplainError> {
    if let Wanted::One(path) = wanted
        && Path::new(path).is_file()
    {
        let path = Path::new(path);
        return Ok(ExchangeAccount { document: &read(path)?, file: path }.to_string());
    }
    let directory = CaptureDirectory::at(directory.ok_or(ExplainError::NoDirectory)?);
    let mut names = directory.names().map_err(|error| ExplainError::Directory(directory.path().to_owned(), error))?;
    // The newest first.
    names.reverse();
    match wanted {
        Wanted::List => Ok(list(&directory, &names)),
        Wanted::One(id) => {
            let (file, document) = find(&directory, &names, id)?;
            Ok(ExchangeAccount { document: &document, file: &file }.to_string())
        }
    }
}

fn list(directory: &CaptureDirectory, names: &[String]) -> String {
    // One that another gateway has just deleted, or that is damaged, is left out.
    let documents = names.iter().take(LISTED_MAX).filter_map(|name| read(&directory.path().join(name)).ok());
    let lines: String = documents.map(|document| account::line(&document)).collect();
    if lines.is_empty() { "No failed exchange is kept.\n".to_owned() } else { lines }
}

/// Finds the newest capture of an exchange or a request, else the only one that begins so.
fn find(directory: &CaptureDirectory, names: &[String], id: &str) -> Result<(PathBuf, CaptureDocument), ExplainError> {
    let path = |name: &String| directory.path().join(name);
    if let Some(name) = names.iter().find(|name| exchange_of(name) == Some(id) || *name == id) {
        return Ok((path(name), read(&path(name))?));
    }
    let mut candidates = Vec::new();
    for name in names {
        let Ok(document) = read(&path(name)) else { continue };
        if document.request_id.text() == id {
            return Ok((path(name), document));
        }
        let begins = [name, &document.id, document.request_id.text()].iter().any(|known| known.starts_with(id));
        if begins {
            candidates.push((path(name), document));
        }
    }
    match candidates.len() {
        0 => Err(ExplainError::NotFound),
        1 => Ok(candidates.remove(0)),
        _ => {
            let names = candidates.iter().take(CANDIDATES_MAX).map(|(_, document)| account::line(document));
            Err(ExplainError::Ambiguous(names.map(|line| line.trim_end().to_owned()).collect()))
        }
    }
}

fn read(path: &Path) -> Result<CaptureDocument, ExplainError> {
    let (bytes, _) = whole_file::read(path, FILE_BYTES_MAX, FileKinds::Regular)
        .map_err(|fault| ExplainError::File(path.to_owned(), fault))?;
    serde_json::from_slice(&bytes).map_err(|_| ExplainError::NotACapture(path.to_owned()))
}
