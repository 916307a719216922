//! The credentials of one user as one: the upstream counts a quota by user, whoever of its credentials asks.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::FlowToken;
use super::moment::UnixSecond;
use super::record::{Quota, QuotaAnswers, QuotaKind, QuotaMoment};
use crate::credentials::credential::CredentialId;
use crate::credentials::snapshot::Credentials;

/// The longest id of a user that is shown whole, in characters, and the parts of a longer one that are.
const SHOWN_MAX: usize = 20;
const SHOWN_BEGIN: usize = 10;
const SHOWN_END: usize = 6;

/// The credentials of one user, and its quotas as they were told last to any of them.
#[derive(Debug, Clone)]
pub struct QuotaGroup {
    /// The id of the user, shortened where it is long, else the name of the credential; unique in a snapshot.
    pub name: String,
    /// In the order of the file.
    pub credentials: Vec<CredentialId>,
    pub budget: Option<Arc<Quota>>,
    pub requests: Option<Arc<Quota>>,
}

impl QuotaGroup {
    pub fn quota(&self, kind: QuotaKind) -> Option<&Quota> {
        match kind {
            QuotaKind::Budget => self.budget.as_deref(),
            QuotaKind::Requests => self.requests.as_deref(),
        }
    }

    /// Returns the quotas that are known.
    pub fn quotas(&self) -> impl Iterator<Item = (QuotaKind, &Quota)> {
        QuotaKind::ALL.into_iter().filter_map(|kind| Some((kind, self.quota(kind)?)))
    }

    pub fn is_blocked(&self, now: UnixSecond) -> bool {
        self.quotas().any(|(_, quota)| quota.is_blocked(now))
    }

    /// Returns for how long a user that is blocked rests: until the last of the quotas that block it is renewed.
    pub fn blocked_for(&self, now: QuotaMoment) -> Option<Duration> {
        self.quotas().filter_map(|(_, quota)| quota.blocked_for(now.unix)).max()
    }
}

/// Something of a user's block that the log does not say yet.
#[derive(Debug)]
pub enum QuotaNews {
    Begins(QuotaGroup),
    /// These credentials were found to be of a user whose block began before.
    Joins(QuotaGroup),
    Ends(QuotaGroup),
}

impl Credentials {
    /// Returns the users of the credentials that were told of a quota, in the order of the file.
    pub fn quota_groups(&self) -> Vec<QuotaGroup> {
        let mut groups: Vec<(Option<String>, QuotaGroup)> = Vec::new();
        for id in self.ids() {
            let Some(told) = self.quota(id).told() else { continue };
            let is_same = |(user, group): &(Option<String>, QuotaGroup)| match &told.user {
                Some(_) => *user == told.user,
                None => user.is_none() && self.is_same_identity(group.credentials[0], id),
            };
            if let Some((_, group)) = groups.iter_mut().find(|group| is_same(group)) {
                group.credentials.push(id);
                group.budget = newer(group.budget.take(), told.budget.clone());
                group.requests = newer(group.requests.take(), told.requests.clone());
                continue;
            }
            let name = told.user.as_deref().map_or_else(|| self.entry(id).name.clone(), shown);
            let (budget, requests) = (told.budget.clone(), told.requests.clone());
            groups.push((told.user.clone(), QuotaGroup { name, credentials: vec![id], budget, requests }));
        }
        let mut taken = HashSet::new();
        let mut groups: Vec<QuotaGroup> = groups.into_iter().map(|(_, group)| group).collect();
        groups.iter_mut().for_each(|group| group.name = unique(&group.name, &mut taken));
        groups
    }

    /// Notes what the upstream told a credential of its user's quotas. Where one of them is blocked, all credentials of
    /// the user rest from now on; where none is any more, those rests end. Where there is more to spend than before, a
    /// used-up quota does not wait for its renewal. Returns the credentials whose rest begins.
    pub fn note_quotas(&self, id: CredentialId, answers: &QuotaAnswers, at: QuotaMoment) -> Vec<CredentialId> {
        let has_more = self.quota(id).note(answers, at);
        let group = self.quota_groups().into_iter().find(|group| group.credentials.contains(&id));
        let Some(group) = group else { return Vec::new() };
        let identities = self.identities_of(&group.credentials);
        if has_more {
            identities.iter().for_each(|id| self.standing(*id).shorten());
        }
        let Some(time) = group.blocked_for(at) else {
            identities.iter().for_each(|id| self.standing(*id).unblock());
            return Vec::new();
        };
        let begins = |id: &CredentialId| self.standing(*id).block(at.instant + time, at.instant);
        identities.into_iter().filter(begins).collect()
    }

    /// Returns the users of which the log does not say yet that they are blocked, or that they are not any more.
    pub fn quota_news(&self, now: UnixSecond) -> Vec<QuotaNews> {
        self.quota_groups().into_iter().filter_map(|group| self.news_of(group, now)).collect()
    }

    fn news_of(&self, mut group: QuotaGroup, now: UnixSecond) -> Option<QuotaNews> {
        let is_blocked = group.is_blocked(now);
        let identities = self.identities_of(&group.credentials);
        let count = identities.len();
        // All of them: each notes what the log says.
        let is_new = |id: &CredentialId| self.quota(*id).log(is_blocked) != is_blocked;
        let new: Vec<CredentialId> = identities.into_iter().filter(is_new).collect();
        if new.is_empty() {
            return None;
        }
        if !is_blocked {
            return Some(QuotaNews::Ends(group));
        }
        if new.len() == count {
            return Some(QuotaNews::Begins(group));
        }
        group.credentials.retain(|id| new.iter().any(|new| self.is_same_identity(*id, *new)));
        Some(QuotaNews::Joins(group))
    }

    /// Returns one credential of each identity, in the order of the file.
    pub fn identities(&self) -> Vec<CredentialId> {
        self.identities_of(&self.ids().collect::<Vec<_>>())
    }

    /// Notes whether the last question for the quotas of the credential's user failed.
    pub fn note_quotas_failing(&self, id: CredentialId, is_failing: bool) {
        self.quota(id).note_failing(is_failing);
    }

    /// Returns the number of identities whose last question failed.
    pub fn quotas_failing_count(&self) -> usize {
        self.identities().into_iter().filter(|id| self.quota(*id).is_failing()).count()
    }

    /// Returns the token by which the credential's identity asks for its quotas, as long as it can be used.
    pub fn quota_token(&self, id: CredentialId, now: Instant) -> Option<Arc<FlowToken>> {
        self.quota(id).token(now)
    }

    /// Keeps a token, or forgets one that is not accepted any more.
    pub fn keep_quota_token(&self, id: CredentialId, token: Option<Arc<FlowToken>>) {
        self.quota(id).keep_token(token);
    }

    fn identities_of(&self, ids: &[CredentialId]) -> Vec<CredentialId> {
        let is_first = |(place, id): &(usize, &CredentialId)| {
            ids[..*place].iter().all(|earlier| !self.is_same_identity(*earlier, **id))
        };
        ids.iter().enumerate().filter(is_first).map(|(_, id)| *id).collect()
    }
}

fn newer(one: Option<Arc<Quota>>, other: Option<Arc<Quota>>) -> Option<Arc<Quota>> {
    [one, other].into_iter().flatten().max_by_key(|quota| quota.at.instant)
}

fn shown(user: &str) -> String {
    let count = user.chars().count();
    if count <= SHOWN_MAX {
        return user.to_owned();
    }
    let begin = user.chars().take(SHOWN_BEGIN);
    begin.chain(['…']).chain(user.chars().skip(count - SHOWN_END)).collect()
}

/// Returns the name itself, or with `#2`, `#3`, … if it is taken.
fn unique(name: &str, taken: &mut HashSet<String>) -> String {
    let numbered = (2..).map(|number| format!("{name}#{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    let name = names.find(|name| !taken.contains(name)).unwrap_or_default();
    taken.insert(name.clone());
    name
}

#[cfg(test)]
mod tests;
