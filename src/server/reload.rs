//! New credentials and API keys while the program runs, on SIGHUP and when their file has changed; and a new certificate,
//! on SIGHUP.
//!
//! A thread of its own looks at each file, the main thread loads it. Invariant: a file that cannot be used changes
//! nothing, and one version of a file is loaded or complained of once, unless SIGHUP asks for it again.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use super::certificate;
use super::control::{Order, Shards};
use super::shard::Shared;
use super::supervisor::Event;
use crate::credentials::private_file::ReadFault;
use crate::credentials::{self, ApiKeys, ApiKeysFileError, SecretsFileError};

/// How often the file is looked at. A change is loaded at the second look that agrees, so half a second to one after it
/// was made; asking the kernel costs some microseconds.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Where something came from that can change while the program runs.
#[derive(Debug)]
pub enum Source {
    /// A file, which is read again when it changes.
    File {
        path: PathBuf,
        /// What it was when it was first read.
        version: Option<Version>,
    },
    /// Nothing that could be read again.
    Fixed,
}

/// Where credentials and API keys came from.
#[derive(Debug)]
pub struct Sources {
    pub secrets: Source,
    pub api_keys: Source,
}

/// A file that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchedFile {
    Secrets,
    ApiKeys,
}

impl Source {
    /// To be called before the file is read, so that a change in between is seen. A pipe is read once: what it gave is
    /// gone.
    #[expect(clippy::disallowed_methods, reason = "asked before there are shards")]
    pub fn file(path: &Path) -> Self {
        if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Source::Fixed;
        }
        Source::File { path: path.to_owned(), version: Version::of(path).ok() }
    }

    /// Starts to watch the file if there is one; changes come as [`Event::FileChanged`].
    fn watch(&self, file: WatchedFile, events: Sender<Event>) -> io::Result<()> {
        if let Source::File { path, version } = self {
            let (path, seen) = (path.clone(), Seen::new(*version));
            let name = match file {
                WatchedFile::Secrets => "flow-secrets",
                WatchedFile::ApiKeys => "flow-keys",
            };
            thread::Builder::new().name(name.into()).spawn(move || watch(&path, file, seen, &events))?;
        }
        Ok(())
    }
}

/// Tells one content of a file from another without reading it; symbolic links are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    size_bytes: u64,
}

impl Version {
    #[expect(clippy::disallowed_methods, reason = "runs on the main thread and on the one that watches the file")]
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        // A pipe would hold up the main thread until somebody writes to it.
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        Ok(Version::from(&metadata))
    }
}

impl From<&Metadata> for Version {
    fn from(metadata: &Metadata) -> Self {
        Version {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            size_bytes: metadata.size(),
        }
    }
}

/// The main thread's side: loads the files, and shares what they held.
pub struct Reload {
    sources: Sources,
    shared: Arc<Shared>,
}

/// Why a file is read again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    Asked,
    Changed,
}

impl Reload {
    /// Starts to watch the files; changes come as [`Event::FileChanged`].
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(sources: Sources, shared: Arc<Shared>, events: &Sender<Event>) -> io::Result<Self> {
        sources.secrets.watch(WatchedFile::Secrets, events.clone())?;
        sources.api_keys.watch(WatchedFile::ApiKeys, events.clone())?;
        Ok(Reload { sources, shared })
    }

    /// SIGHUP: loads the files, changed or not.
    pub fn on_hangup(&mut self, shards: &Shards) {
        if let Source::Fixed = self.sources.secrets {
            tracing::warn!(
                "SIGHUP changes nothing of the credentials: they did not come from a file that can be read again"
            );
        }
        self.load(WatchedFile::Secrets, shards, Reason::Asked);
        self.load(WatchedFile::ApiKeys, shards, Reason::Asked);
        self.load_certificate();
    }

    /// A file was seen to be another, unless SIGHUP was faster.
    pub fn on_change(&mut self, file: WatchedFile, now: Option<Version>, shards: &Shards) {
        if matches!(self.source(file), Source::File { version, .. } if *version != now) {
            self.load(file, shards, Reason::Changed);
        }
    }

    fn source(&mut self, file: WatchedFile) -> &mut Source {
        match file {
            WatchedFile::Secrets => &mut self.sources.secrets,
            WatchedFile::ApiKeys => &mut self.sources.api_keys,
        }
    }

    fn load(&mut self, file: WatchedFile, shards: &Shards, reason: Reason) {
        let Source::File { path, version } = self.source(file) else { return };
        // Asked before the file is read: a change while it is read is one more change.
        let now = Version::of(path);
        *version = now.as_ref().ok().copied();
        let path = path.clone();
        let is_gone = now.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let has_changed = match (file, now) {
            (WatchedFile::Secrets, _) if is_gone && reason == Reason::Changed => {
                tracing::warn!(
                    "the secrets file {} is gone; the credentials loaded before stay in use",
                    path.display()
                );
                false
            }
            (WatchedFile::ApiKeys, _) if is_gone && reason == Reason::Changed => {
                tracing::warn!("the file of API keys {} is gone; the keys loaded before stay in use", path.display());
                false
            }
            (WatchedFile::Secrets, now) => self.load_secrets(&path, now),
            (WatchedFile::ApiKeys, now) => self.load_api_keys(&path, now),
        };
        if has_changed {
            shards.tell_all(Order::Reload);
        }
    }

    /// New connections get it; those that are open keep theirs.
    fn load_certificate(&self) {
        let Shared { config, listener_tls, .. } = &*self.shared;
        let (Some(files), Some(current)) = (&config.listener_tls, listener_tls) else { return };
        match certificate::load_anew(files) {
            Ok(loaded) => {
                if let Some(warning) = loaded.warning {
                    tracing::warn!("{warning}");
                }
                current.store(loaded.config);
                tracing::info!("the listener's certificate was loaded anew");
            }
            Err(error) => tracing::error!("the certificate loaded before stays in use: {error}"),
        }
    }

    fn load_secrets(&self, path: &Path, now: io::Result<Version>) -> bool {
        let unreadable = |error| SecretsFileError { path: path.to_owned(), fault: ReadFault::Unreadable(error).into() };
        let loaded = match now.map_err(unreadable).and_then(|_| credentials::load(path)) {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!("the credentials loaded before stay in use: {error}");
                return false;
            }
        };
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let before = self.shared.credentials.load_full();
        let credentials = loaded.credentials.inherit(&before);
        let names = changed_names(before.names(), credentials.names());
        let count = credentials.len();
        self.shared.ledger.open(credentials.names());
        self.shared.credentials.store(Arc::new(credentials));
        tracing::info!(credentials = count, names, "the secrets file was loaded anew");
        true
    }

    fn load_api_keys(&self, path: &Path, now: io::Result<Version>) -> bool {
        let unreadable = |error| ApiKeysFileError { path: path.to_owned(), fault: ReadFault::Unreadable(error).into() };
        let loaded = match now.map_err(unreadable).and_then(|_| ApiKeys::load(path)) {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!("the API keys loaded before stay in use: {error}");
                return false;
            }
        };
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let before = self.shared.api_keys.load_full();
        let names = changed_names(before.iter().flat_map(|keys| keys.names()), loaded.keys.names());
        let count = loaded.keys.len();
        self.shared.api_keys.store(Some(Arc::new(loaded.keys)));
        tracing::info!(keys = count, names, "the file of API keys was loaded anew");
        true
    }
}

/// Which names came and which went.
fn changed_names<'a>(before: impl Iterator<Item = &'a str>, after: impl Iterator<Item = &'a str>) -> String {
    let (before, after): (BTreeSet<_>, BTreeSet<_>) = (before.collect(), after.collect());
    let list = |what: &str, names: Vec<&str>| (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")));
    let added = list("added", after.difference(&before).copied().collect());
    let removed = list("removed", before.difference(&after).copied().collect());
    let changes: Vec<String> = added.into_iter().chain(removed).collect();
    if changes.is_empty() { "unchanged".into() } else { changes.join("; ") }
}

/// Looks at the file for as long as anybody wants to know.
#[expect(clippy::disallowed_methods, reason = "runs on a thread of its own")]
fn watch(path: &Path, file: WatchedFile, mut seen: Seen, events: &Sender<Event>) {
    loop {
        thread::sleep(LOOK_INTERVAL);
        let now = Version::of(path).ok();
        if seen.is_news(now) && events.send(Event::FileChanged(file, now)).is_err() {
            return;
        }
    }
}

/// What was seen of a file so far; `None` is a file that is not there, or cannot be asked.
struct Seen {
    told: Option<Version>,
    last: Option<Version>,
}

impl Seen {
    fn new(version: Option<Version>) -> Self {
        Seen { told: version, last: version }
    }

    /// Whether this look agrees with the one before it, so that a file is seldom read half-written, and was not told yet.
    fn is_news(&mut self, now: Option<Version>) -> bool {
        let is_steady = self.last == now;
        self.last = now;
        let is_news = is_steady && self.told != now;
        if is_news {
            self.told = now;
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(inode: u64) -> Option<Version> {
        Some(Version { device: 1, inode, modified: (1, 2), changed: (1, 2), size_bytes: 3 })
    }

    #[test]
    fn a_change_is_news_at_the_second_look_that_agrees_and_only_once() {
        let mut seen = Seen::new(version(1));
        let looks = [1, 2, 3, 3, 3, 0, 0, 0, 3, 3, 4, 3, 3].map(|inode| if inode == 0 { None } else { version(inode) });
        let news: Vec<bool> = looks.into_iter().map(|look| seen.is_news(look)).collect();
        let expected = [3, 6, 9].map(|index: usize| index);
        assert_eq!(
            news.iter().enumerate().filter(|(_, is_news)| **is_news).map(|(at, _)| at).collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn a_pipe_is_never_read_again() {
        assert!(matches!(Source::file(Path::new("/dev/null")), Source::Fixed));
        assert!(matches!(Source::file(Path::new("/nowhere")), Source::File { version: None, .. }));
    }

    #[test]
    fn names_that_come_and_go_are_told() {
        let before = ["a", "b", "c"];
        for (after, expected) in [
            (&["c", "a", "b"][..], "unchanged"),
            (&["a", "b", "c", "e", "d"], "added d, e"),
            (&["a"], "removed b, c"),
            (&["d"], "added d; removed a, b, c"),
        ] {
            assert_eq!(changed_names(before.into_iter(), after.iter().copied()), expected);
        }
    }
}
