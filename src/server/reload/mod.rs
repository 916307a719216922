//! The reload of credentials and API keys, on SIGHUP and when their file has changed, and of the certificate and the
//! prices, on SIGHUP.
//!
//! A thread of its own watches each file (`watch`), the main thread loads it. Invariant: a file that cannot be used
//! changes nothing, and one version of a file (`watched_file`) is loaded, or its error logged, once, unless SIGHUP asks
//! for it again.

pub mod source;
mod watch;
pub mod watched_file;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use self::source::{FileSource, Sources};
use self::watched_file::{FileVersion, WatchedFile};
use super::admin_token;
use super::certificate;
use super::error::RunError;
use super::key_check::{KeyProblem, KeySurroundings, check_keys, lines_of};
use super::limit_history;
use super::prices;
use super::shard::shared::Shared;
use super::supervisor::control::{Order, Shards};
use super::supervisor::event::SupervisorEvent;
use crate::credentials::{self, ApiKeys, ApiKeysFileError, SecretsFileError};
use crate::observability::list_names;
use crate::whole_file::{FileKinds, ReadFault};

/// Loads the files on the main thread, and shares their content with the shards.
pub struct Reload {
    sources: Sources,
    shared: Arc<Shared>,
    /// The newest API keys do not fit what else is configured, as where a credential of theirs is not there yet.
    are_keys_refused: bool,
}

/// The reason why a file is read again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReloadReason {
    Asked,
    Changed,
}

impl Reload {
    /// Starts to watch the files; changes are sent as [`SupervisorEvent::FileChanged`].
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(sources: Sources, shared: Arc<Shared>, events: &Sender<SupervisorEvent>) -> io::Result<Self> {
        watch::start(&sources.secrets, WatchedFile::Secrets, events.clone())?;
        watch::start(&sources.api_keys, WatchedFile::ApiKeys, events.clone())?;
        Ok(Reload { sources, shared, are_keys_refused: false })
    }

    /// Loads all files on SIGHUP, changed or not.
    pub fn on_hangup(&mut self, shards: &Shards) {
        if let FileSource::Fixed = self.sources.secrets {
            tracing::warn!(
                "SIGHUP changes nothing of the credentials: they did not come from a file that can be read again"
            );
        }
        // First what keys are checked against.
        prices::reload(&self.sources.prices, &self.shared.prices);
        self.load(WatchedFile::Secrets, shards, ReloadReason::Asked);
        self.load(WatchedFile::ApiKeys, shards, ReloadReason::Asked);
        self.warn_of_keys();
        self.load_certificate();
        self.load_admin_token();
    }

    /// Loads a file that has changed, unless a SIGHUP has done so already.
    pub fn on_change(&mut self, file: WatchedFile, now: Option<FileVersion>, shards: &Shards) {
        if matches!(self.source(file), FileSource::File { version, .. } if *version != now) {
            self.load(file, shards, ReloadReason::Changed);
            if file == WatchedFile::Secrets {
                // Keys that were refused for a credential may have waited for it.
                if self.are_keys_refused {
                    self.load(WatchedFile::ApiKeys, shards, ReloadReason::Changed);
                }
                self.warn_of_keys();
            }
        }
    }

    fn source(&mut self, file: WatchedFile) -> &mut FileSource {
        match file {
            WatchedFile::Secrets => &mut self.sources.secrets,
            WatchedFile::ApiKeys => &mut self.sources.api_keys,
        }
    }

    fn load(&mut self, file: WatchedFile, shards: &Shards, reason: ReloadReason) {
        let FileSource::File { path, version } = self.source(file) else { return };
        // Taken before the file is read: a change while it is read counts as one more.
        let now = FileVersion::of(path);
        *version = now.as_ref().ok().copied();
        let path = path.clone();
        let is_gone = now.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let has_changed = match (file, now) {
            (WatchedFile::Secrets, _) if is_gone && reason == ReloadReason::Changed => {
                tracing::warn!(
                    "the secrets file {} is gone; the credentials loaded before stay in use",
                    path.display()
                );
                false
            }
            (WatchedFile::ApiKeys, _) if is_gone && reason == ReloadReason::Changed => {
                tracing::warn!("the file of API keys {} is gone; the keys loaded before stay in use", path.display());
                false
            }
            (WatchedFile::Secrets, now) => self.load_secrets(&path, now),
            (WatchedFile::ApiKeys, now) => self.load_api_keys(&path, now),
        };
        if has_changed {
            self.shared.renew_rotations();
            shards.tell_all(Order::Reload);
            if file == WatchedFile::Secrets {
                // Only now: a round that a shard begins before it knows of the new credentials asks with the old ones.
                self.shared.quota.iter().for_each(|schedule| schedule.hasten());
            }
        }
    }

    /// Loads the certificate for new connections; open ones keep theirs.
    fn load_certificate(&self) {
        let Shared { config, listener_tls, .. } = &*self.shared;
        let (Some(files), Some(current)) = (&config.listener_tls, listener_tls) else { return };
        match certificate::load(files, FileKinds::Regular) {
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

    /// Loads the token of the admin pages; sessions that were made of another end.
    fn load_admin_token(&self) {
        match admin_token::load(&self.shared.config, FileKinds::Regular) {
            Ok(None) => {}
            Ok(Some(token)) => {
                self.shared.admin_token.store(Some(Arc::new(token)));
                tracing::info!("the token of the admin pages was loaded anew");
            }
            Err(error) => tracing::error!("the token of the admin pages that was loaded before stays in use: {error}"),
        }
    }

    fn load_secrets(&self, path: &Path, now: io::Result<FileVersion>) -> bool {
        let unreadable = |error| SecretsFileError { path: path.to_owned(), fault: ReadFault::Unreadable(error).into() };
        let loaded = match now.map_err(unreadable).and_then(|_| credentials::load(path, FileKinds::Regular)) {
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

    fn load_api_keys(&mut self, path: &Path, now: io::Result<FileVersion>) -> bool {
        let unreadable = |error| ApiKeysFileError { path: path.to_owned(), fault: ReadFault::Unreadable(error).into() };
        let loaded = match now.map_err(unreadable).and_then(|_| ApiKeys::load(path, FileKinds::Regular)) {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!("the API keys loaded before stay in use: {error}");
                return false;
            }
        };
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let problems = self.problems_of(&loaded.keys);
        self.are_keys_refused = !problems.is_empty();
        if !problems.is_empty() {
            tracing::error!("the API keys loaded before stay in use: {}", RunError::Keys(problems));
            return false;
        }
        let before = self.shared.api_keys.load_full();
        let names = changed_names(before.iter().flat_map(|keys| keys.names()), loaded.keys.names());
        let count = loaded.keys.len();
        let keys = Arc::new(loaded.keys);
        self.shared.key_accounts.adopt(Some(&keys));
        limit_history::refresh(&self.shared);
        self.shared.api_keys.store(Some(keys));
        tracing::info!(keys = count, names, "the file of API keys was loaded anew");
        true
    }

    /// Warns of keys in use that do not fit what was loaded since: a credential of theirs may be gone.
    fn warn_of_keys(&self) {
        let keys = self.shared.api_keys.load();
        let problems = keys.as_ref().map_or_else(Vec::new, |keys| self.problems_of(keys));
        lines_of(&problems).for_each(|line| tracing::warn!("{line}"));
    }

    fn problems_of(&self, keys: &ApiKeys) -> Vec<KeyProblem> {
        let Shared { config, credentials, prices, .. } = &*self.shared;
        let (credentials, table) = (credentials.load(), prices.table());
        let credentials = Some(credentials.names().collect());
        check_keys(keys, &KeySurroundings { credentials, usage: &config.usage, prices: table.as_deref() })
    }
}

/// Lists the first of the names that were added and removed.
fn changed_names<'a>(before: impl Iterator<Item = &'a str>, after: impl Iterator<Item = &'a str>) -> String {
    let (before, after): (BTreeSet<_>, BTreeSet<_>) = (before.collect(), after.collect());
    let list = |what: &str, names: Vec<&str>| (!names.is_empty()).then(|| format!("{what} {}", list_names(names)));
    let added = list("added", after.difference(&before).copied().collect());
    let removed = list("removed", before.difference(&after).copied().collect());
    let changes: Vec<String> = added.into_iter().chain(removed).collect();
    if changes.is_empty() { "unchanged".into() } else { changes.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

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
