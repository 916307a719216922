//! The paths on which the upstream has no WebSocket, so that it is not asked again and again.
//!
//! Shared by all shards, without a lock: the table is small, looked at by upgrades alone, and replaced as a whole.
//! Invariant: it is bounded; a refusal is forgotten after [`REMEMBERED`], and none is kept of a path on which the
//! upstream has switched before: there it was about something else.

use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

/// The time for which the upstream is not asked again.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The most paths of either kind: an API has some. The oldest gives way.
const PATHS_MAX: usize = 128;

/// The longest path that is kept.
const PATH_BYTES_MAX: usize = 512;

/// The paths that upgrades were tried on.
#[derive(Debug, Default)]
pub struct TriedUpgrades {
    tried: ArcSwap<TriedPaths>,
}

#[derive(Debug, Clone, Default)]
struct TriedPaths {
    /// With the time at which it is forgotten.
    refused: Vec<(Box<str>, Instant)>,
    accepted: Vec<Box<str>>,
}

impl TriedUpgrades {
    /// Tells whether the upstream has said lately that it has no WebSocket on this path.
    pub fn are_refused(&self, path: &str, now: Instant) -> bool {
        self.tried.load().refused.iter().any(|(refused, until)| **refused == *path && now < *until)
    }

    /// Notes that the upstream has none on this path. Returns whether it is not asked again.
    pub fn note_refused(&self, path: &str, now: Instant) -> bool {
        if path.len() > PATH_BYTES_MAX {
            return false;
        }
        let mut is_noted = false;
        self.tried.rcu(|tried| {
            let mut tried = TriedPaths::clone(tried);
            // Another shard may have just noted that it has.
            is_noted = !tried.has_accepted(path);
            if is_noted {
                tried.refused.retain(|(refused, until)| **refused != *path && now < *until);
                push_bounded(&mut tried.refused, (path.into(), now + REMEMBERED));
            }
            tried
        });
        is_noted
    }

    /// Notes that the upstream has switched on this path.
    pub fn note_accepted(&self, path: &str) {
        if path.len() > PATH_BYTES_MAX || self.tried.load().has_accepted(path) {
            return;
        }
        self.tried.rcu(|tried| {
            let mut tried = TriedPaths::clone(tried);
            tried.refused.retain(|(refused, _)| **refused != *path);
            push_bounded(&mut tried.accepted, path.into());
            tried
        });
    }
}

impl TriedPaths {
    fn has_accepted(&self, path: &str) -> bool {
        self.accepted.iter().any(|accepted| **accepted == *path)
    }
}

fn push_bounded<T>(list: &mut Vec<T>, entry: T) {
    if list.len() >= PATHS_MAX {
        list.remove(0);
    }
    list.push(entry);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_remembered_for_its_path_and_its_time() {
        let (tried, now) = (TriedUpgrades::default(), Instant::now());
        assert!(tried.note_refused("/a", now));
        assert!(tried.are_refused("/a", now) && !tried.are_refused("/b", now));
        assert!(tried.are_refused("/a", now + REMEMBERED - Duration::from_secs(1)));
        assert!(!tried.are_refused("/a", now + REMEMBERED));
        assert!(tried.note_refused("/a", now + REMEMBERED) && tried.are_refused("/a", now + REMEMBERED));
    }

    #[test]
    fn none_is_remembered_where_the_upstream_has_switched() {
        let (tried, now) = (TriedUpgrades::default(), Instant::now());
        tried.note_refused("/a", now);
        tried.note_accepted("/a");
        assert!(!tried.are_refused("/a", now));
        assert!(!tried.note_refused("/a", now) && !tried.are_refused("/a", now));
    }

    #[test]
    fn no_more_than_so_many_paths_are_kept_and_no_long_one() {
        let (tried, now) = (TriedUpgrades::default(), Instant::now());
        for number in 0..=PATHS_MAX {
            tried.note_refused(&number.to_string(), now);
            tried.note_accepted(&format!("/{number}"));
        }
        assert!(!tried.are_refused("0", now) && tried.are_refused("1", now));
        assert_eq!(tried.tried.load().accepted.len(), PATHS_MAX);
        let long = "a".repeat(PATH_BYTES_MAX + 1);
        assert!(!tried.note_refused(&long, now) && !tried.are_refused(&long, now));
    }
}
