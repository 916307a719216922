//! The rotations of a gateway: that of all credentials, and one for each set of credentials that keys name.
//!
//! Made when credentials or keys are loaded, and shared by all shards, so that the turns of a set are those of the
//! process. Invariant: what belongs together is replaced together: the ids in it are those of its own credentials and
//! keys.

use std::collections::HashMap;
use std::sync::Arc;

use super::affinity::SessionKey;
use super::balancer::Selector;
use super::rotation::Rotation;
use crate::credentials::api_keys::{ApiKeyId, ApiKeys, KeyPolicy};
use crate::credentials::credential::CredentialId;
use crate::credentials::snapshot::Credentials;

/// The longest period for which a set that keys name has a table of its turns. Sets of equal weights have shorter
/// ones; ten thousand keys may name as many sets.
const SET_TURNS_MAX: u64 = 64;

/// Credentials, the keys of callers, and whose requests use which of the credentials.
#[derive(Debug)]
pub struct Rotations {
    pub credentials: Arc<Credentials>,
    /// `None`: callers need no key.
    pub keys: Option<Arc<ApiKeys>>,
    /// That of all credentials, then one for each other set.
    rotations: Vec<Rotation>,
    /// That of each key, in their order; empty where no key names any. `None`: no credential that it names is there.
    of_keys: Vec<Option<RotationId>>,
}

/// The number of a rotation in [`Rotations`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotationId(u32);

impl RotationId {
    const ALL: Self = RotationId(0);
}

/// The part of a request that its credential is chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    rotation: RotationId,
    session: Option<SessionKey>,
}

impl Rotations {
    /// Makes the rotations, with all turns from the first one.
    pub fn new(credentials: Arc<Credentials>, keys: Option<Arc<ApiKeys>>) -> Self {
        Rotations::beginning_at(0, credentials, keys)
    }

    /// Makes those that follow on these.
    pub fn replaced_by(&self, credentials: Arc<Credentials>, keys: Option<Arc<ApiKeys>>) -> Self {
        // Sets too: wherever they begin, nobody is the first after each reload.
        Rotations::beginning_at(self.rotations[0].turns_taken(), credentials, keys)
    }

    fn beginning_at(begin: u64, credentials: Arc<Credentials>, keys: Option<Arc<ApiKeys>>) -> Self {
        let all: Vec<CredentialId> = credentials.ids().collect();
        let mut sets = Sets {
            ids: credentials.entries().map(|(id, entry)| (entry.name.as_str(), id)).collect(),
            known: HashMap::from([(all.clone(), RotationId::ALL)]),
            rotations: vec![Rotation::new(&credentials, all, u64::MAX, begin)],
        };
        let mut of_keys = Vec::new();
        let name_some = |keys: &&ApiKeys| keys.policies().any(|(_, policy)| policy.credentials.is_some());
        if let Some(keys) = keys.as_deref().filter(name_some) {
            of_keys.extend(keys.policies().map(|(_, policy)| sets.of_key(&credentials, policy, begin)));
        }
        let rotations = sets.rotations;
        Rotations { credentials, keys, rotations, of_keys }
    }

    /// Returns what a request with this key and of this session chooses by; `None` where there is no credential that
    /// the key may use.
    pub fn selection(&self, key: Option<ApiKeyId>, session: Option<SessionKey>) -> Option<Selection> {
        let of_key = key.and_then(|key| self.of_keys.get(key.index()));
        let rotation = of_key.copied().unwrap_or(Some(RotationId::ALL))?;
        Some(Selection { rotation, session })
    }

    /// Returns the choice of a request.
    pub fn selector(&self, selection: Selection) -> Selector<'_> {
        let Selection { rotation: RotationId(number), session } = selection;
        Selector { credentials: &self.credentials, rotation: &self.rotations[number as usize], session }
    }
}

/// The sets that were named so far.
struct Sets<'a> {
    /// By the names of the entries.
    ids: HashMap<&'a str, CredentialId>,
    known: HashMap<Vec<CredentialId>, RotationId>,
    rotations: Vec<Rotation>,
}

impl Sets<'_> {
    /// Returns the rotation of the credentials that a key names, as far as they are there.
    fn of_key(&mut self, credentials: &Credentials, policy: &KeyPolicy, begin: u64) -> Option<RotationId> {
        let Some(names) = &policy.credentials else { return Some(RotationId::ALL) };
        let mut members: Vec<CredentialId> =
            names.iter().filter_map(|name| self.ids.get(name.as_str()).copied()).collect();
        members.sort_unstable_by_key(|id| id.index());
        members.dedup();
        if members.is_empty() {
            return None;
        }
        if let Some(known) = self.known.get(&members) {
            return Some(*known);
        }
        // As many as there are keys at most.
        let id = RotationId(self.rotations.len() as u32);
        self.rotations.push(Rotation::new(credentials, members.clone(), SET_TURNS_MAX, begin));
        self.known.insert(members, id);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::from_json;

    fn credentials(names: &[&str]) -> Arc<Credentials> {
        let entry = |name: &&str| format!(r#"{{"name":"{name}","clientId":"{name}","clientSecret":"s","tenant":"t"}}"#);
        let text = names.iter().map(entry).collect::<Vec<_>>().join(",");
        Arc::new(from_json(&format!("[{text}]")).expect("valid").credentials)
    }

    /// Makes a key for each list of names; one without a list may use all.
    fn keys(lists: &[Option<&[&str]>]) -> (Arc<ApiKeys>, Vec<ApiKeyId>) {
        let key = |number: usize| format!("a-key-of-{number}-0123456789");
        let entry = |(number, list): (usize, &Option<&[&str]>)| {
            let credentials = list.map(|names| format!(r#","credentials":{names:?}"#)).unwrap_or_default();
            format!(r#"{{"name":"of-{number}","key":"{}"{credentials}}}"#, key(number))
        };
        let text = lists.iter().enumerate().map(entry).collect::<Vec<_>>().join(",");
        let keys = ApiKeys::from_text(&format!("[{text}]")).expect("valid").keys;
        let ids = (0..lists.len()).map(|number| keys.find(key(number).as_bytes()).expect("a key")).collect();
        (Arc::new(keys), ids)
    }

    /// The indices of the turns that requests with these keys take, one after the other.
    fn turns(rotations: &Rotations, keys: &[ApiKeyId]) -> Vec<usize> {
        let now = std::time::Instant::now();
        let turn = |key: &ApiKeyId| {
            let selection = rotations.selection(Some(*key), None).expect("a credential");
            let choice = rotations.selector(selection).first(super::super::turn::Owner::Unknown, now);
            choice.expect("no owner").credential().index()
        };
        keys.iter().map(turn).collect()
    }

    #[test]
    fn keys_that_name_the_same_set_share_its_turns_and_use_no_other_credential() {
        let (keys, ids) = keys(&[None, Some(&["c", "a"]), Some(&["b"]), Some(&["a", "gone", "c", "a"])]);
        let rotations = Rotations::new(credentials(&["a", "b", "c"]), Some(keys));
        assert_eq!(rotations.rotations.len(), 3);
        let [all, set, one, same] = ids[..] else { panic!("four keys") };
        assert_eq!(
            turns(&rotations, &[set, same, one, set, all, one, same, all, all, all]),
            [0, 2, 1, 0, 0, 1, 2, 1, 2, 0]
        );
    }

    #[test]
    fn a_key_that_names_all_takes_the_turns_of_all() {
        let (keys, ids) = keys(&[None, Some(&["b", "a"])]);
        let rotations = Rotations::new(credentials(&["a", "b"]), Some(keys));
        assert_eq!(turns(&rotations, &[ids[0], ids[1], ids[0], ids[1]]), [0, 1, 0, 1]);
    }

    #[test]
    fn a_key_whose_credentials_have_gone_has_none_until_one_is_back() {
        let (keys, ids) = keys(&[Some(&["b"]), None]);
        let before = Rotations::new(credentials(&["a"]), Some(keys.clone()));
        assert_eq!(before.selection(Some(ids[0]), None), None);
        assert_eq!(turns(&before, &[ids[1], ids[1]]), [0, 0]);
        let after = before.replaced_by(credentials(&["a", "b"]), Some(keys));
        assert_eq!(turns(&after, &[ids[0]]), [1]);
    }

    #[test]
    fn turns_go_on_where_they_were_after_a_reload() {
        let (keys, ids) = keys(&[None]);
        let before = Rotations::new(credentials(&["a", "b", "c"]), Some(keys.clone()));
        assert_eq!(turns(&before, &[ids[0], ids[0]]), [0, 1]);
        let after = before.replaced_by(before.credentials.clone(), Some(keys));
        assert_eq!(turns(&after, &[ids[0], ids[0]]), [2, 0]);
    }

    #[test]
    fn ten_thousand_keys_with_sets_of_their_own_are_no_burden() {
        let names: Vec<String> = (0..200).map(|index| format!("credential-{index}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let lists: Vec<[&str; 4]> =
            (0..10_000).map(|key| [1, 3, 7, 19].map(|step| names[(key * step + key / 200) % 200])).collect();
        let lists: Vec<Option<&[&str]>> = lists.iter().map(|list| Some(&list[..])).collect();
        let (keys, ids) = keys(&lists);
        let rotations = Rotations::new(credentials(&names), Some(keys));
        assert!(rotations.rotations.len() > 5000);
        assert_eq!(turns(&rotations, &ids[10..11]), [10]);
    }
}
