//! The rests of identities for one model or one family of paths, and the models that are limited for everybody.
//!
//! One table for the process, in all snapshots and on all shards, of at most [`RESTS_MAX`] rests and [`LIMITS_MAX`]
//! limits; the oldest go. Invariant: a table is an immutable value that one atomic swap replaces; a request looks into
//! it only when the flag of an identity says that it may rest for something. A rest is forgotten once it has been over
//! for as long as it took, half a minute at least: until then the next one of its kind is longer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::cooldown::{CredentialFault, FaultKind};
use super::record::{Cooling, Standing};
use super::scope::RestScope;
use crate::sync::{ArcSwap, AtomicBool};

/// Limit on the rests: hundreds of identities that rest for a few models each.
const RESTS_MAX: usize = 1024;

/// Limit on the models that are known to be limited for everybody: more than an upstream serves.
const LIMITS_MAX: usize = 256;

/// Limit on the 429s that are remembered for others, and the longest time for which one is.
const RECENT_MAX: usize = 256;
const RECENT_FOR: Duration = Duration::from_secs(1);

/// The shortest time for which a rest is remembered after its end.
const REMEMBERED_MIN: Duration = Duration::from_secs(30);

/// The number of models of one identity whose limits within [`LIMITS_WITHIN`] tell that the identity itself is limited.
const LIMITS_OF_IDENTITY: usize = 3;
const LIMITS_WITHIN: Duration = Duration::from_secs(60);

/// The number of models of one identity whose quotas are used up at a time that tell the same.
const QUOTAS_OF_IDENTITY: usize = 2;

/// The rests of all identities.
#[derive(Debug, Default)]
pub struct Rests {
    /// Oldest first.
    table: ArcSwap<Vec<Arc<ScopedRest>>>,
    /// Oldest first.
    limits: ArcSwap<Vec<ScopeLimit>>,
    /// Set while `limits` may hold one that has not ended: a request that succeeds pays one load while there is none.
    has_limits: AtomicBool,
    /// Oldest first.
    recent: ArcSwap<Vec<RecentLimit>>,
}

/// The rest of one identity for one model or one family of paths.
#[derive(Debug)]
struct ScopedRest {
    identity: Arc<Standing>,
    scope: RestScope,
    standing: Arc<Standing>,
}

/// A model, or a family of paths, that is limited for everybody.
#[derive(Debug, Clone)]
struct ScopeLimit {
    scope: RestScope,
    began: Instant,
    until: Instant,
}

/// A 429 that one request got: others that are under way need not ask for the same.
#[derive(Debug, Clone)]
struct RecentLimit {
    identity: Arc<Standing>,
    scope: RestScope,
    at: Instant,
    /// The end of the time for which others make use of it.
    until: Instant,
    /// The end of the time for which the identity asks to be left alone.
    asked_until: Instant,
}

/// The rests for one model or one family of paths.
#[derive(Debug, Default)]
pub struct Resting {
    rests: Vec<Arc<ScopedRest>>,
}

impl Resting {
    /// Returns the record of an identity's rest.
    pub fn of(&self, identity: &Arc<Standing>) -> Option<&Arc<Standing>> {
        self.rests.iter().find(|rest| Arc::ptr_eq(&rest.identity, identity)).map(|rest| &rest.standing)
    }
}

impl ScopedRest {
    fn is(&self, identity: &Arc<Standing>, scope: &RestScope) -> bool {
        Arc::ptr_eq(&self.identity, identity) && self.scope == *scope
    }

    fn is_forgotten(&self, now: Instant) -> bool {
        let Some(last) = self.standing.last_cooldown() else { return true };
        now >= last.until + (last.until - last.began).max(REMEMBERED_MIN)
    }
}

impl RecentLimit {
    fn is(&self, identity: &Arc<Standing>, scope: &RestScope) -> bool {
        Arc::ptr_eq(&self.identity, identity) && self.scope == *scope
    }
}

impl Rests {
    pub fn is_empty(&self) -> bool {
        self.table.load().is_empty()
    }

    /// Returns the rests for `scope`. Those that are to be forgotten are.
    pub fn resting(&self, scope: &RestScope, now: Instant) -> Resting {
        let table = self.table.load();
        if table.iter().any(|rest| rest.is_forgotten(now)) {
            self.keep(|rest| !rest.is_forgotten(now));
        }
        Resting { rests: table.iter().filter(|rest| rest.scope == *scope).cloned().collect() }
    }

    /// Begins a rest, or the next one; as [`Standing::cool`].
    pub fn cool(
        &self,
        identity: &Arc<Standing>,
        scope: &RestScope,
        fault: CredentialFault,
        attempt_began: Instant,
        now: Instant,
    ) -> Option<Duration> {
        if let Some(rest) = self.find(identity, scope) {
            return rest.standing.cool(fault, attempt_began, now);
        }
        let standing = Arc::new(Standing::default());
        let length = standing.cool(fault, attempt_began, now)?;
        let new = Arc::new(ScopedRest { identity: identity.clone(), scope: scope.clone(), standing });
        let before = self.table.rcu(|table| {
            if table.iter().any(|rest| rest.is(identity, scope)) {
                return Arc::clone(table);
            }
            let mut next: Vec<_> = table.iter().filter(|rest| !rest.is_forgotten(now)).cloned().collect();
            let surplus = (next.len() + 1).saturating_sub(RESTS_MAX);
            next.drain(..surplus);
            next.push(new.clone());
            Arc::new(next)
        });
        // Those that went, and the new one.
        let went = before.iter().filter(|rest| rest.is_forgotten(now));
        let oldest = before.iter().find(|rest| !rest.is_forgotten(now));
        self.settle(went.chain(oldest).map(|rest| &rest.identity).chain([identity]));
        // Another thread may have been the first.
        match before.iter().find(|rest| rest.is(identity, scope)) {
            Some(rest) => rest.standing.cool(fault, attempt_began, now),
            None => Some(length),
        }
    }

    /// Clears a rest that began before the attempt that got a good answer. Returns whether there was one.
    pub fn restore(&self, identity: &Arc<Standing>, scope: &RestScope, attempt_began: Instant) -> bool {
        let Some(rest) = self.find(identity, scope) else { return false };
        let is_restored = rest.standing.restore(attempt_began);
        if is_restored {
            self.keep(|rest| !rest.is(identity, scope));
        }
        is_restored
    }

    /// Ends the rests of an identity for models that it may not use, since it turned out that it may use none.
    pub fn forget_forbidden(&self, identity: &Arc<Standing>) {
        let is_forbidden =
            |rest: &ScopedRest| rest.standing.last_cooldown().is_some_and(|last| last.kind == FaultKind::Forbidden);
        self.keep(|rest| !(Arc::ptr_eq(&rest.identity, identity) && is_forbidden(rest)));
    }

    /// Ends all rests of an identity, and what is remembered of them.
    pub fn forget(&self, identity: &Arc<Standing>) {
        self.keep(|rest| !Arc::ptr_eq(&rest.identity, identity));
    }

    /// Keeps the rests of identities that `is_kept` knows.
    pub fn keep_identities(&self, is_kept: impl Fn(&Arc<Standing>) -> bool) {
        self.keep(|rest| is_kept(&rest.identity));
    }

    /// Returns whether enough models of the identity were limited, and nothing of it succeeded in between, to tell that
    /// it is limited itself.
    pub fn limits_add_up(&self, identity: &Arc<Standing>, now: Instant) -> bool {
        let is_recent =
            |began: Instant| now.saturating_duration_since(began) < LIMITS_WITHIN && !identity.was_good_since(began);
        self.models_of(identity, FaultKind::RateLimited, |cooling| is_recent(cooling.began)) >= LIMITS_OF_IDENTITY
    }

    /// Returns whether the quotas of enough models of the identity are used up to tell that its own is.
    pub fn quotas_add_up(&self, identity: &Arc<Standing>, now: Instant) -> bool {
        self.models_of(identity, FaultKind::QuotaUsedUp, |cooling| now < cooling.until) >= QUOTAS_OF_IDENTITY
    }

    fn models_of(&self, identity: &Arc<Standing>, kind: FaultKind, counts: impl Fn(Cooling) -> bool) -> usize {
        let table = self.table.load();
        let models = table.iter().filter(|rest| Arc::ptr_eq(&rest.identity, identity) && rest.scope.is_model());
        let coolings = models.filter_map(|rest| rest.standing.last_cooldown());
        let coolings = coolings.map(|last| Cooling { kind: last.kind, began: last.began, until: last.until });
        coolings.filter(|cooling| cooling.kind == kind && counts(*cooling)).count()
    }

    /// Notes that `scope` is limited for everybody until then.
    pub fn limit(&self, scope: &RestScope, until: Instant, now: Instant) {
        self.limits.rcu(|limits| {
            let others = limits.iter().filter(|limit| now < limit.until && limit.scope != *scope);
            let mut next: Vec<_> = others.cloned().collect();
            let surplus = (next.len() + 1).saturating_sub(LIMITS_MAX);
            next.drain(..surplus);
            next.push(ScopeLimit { scope: scope.clone(), began: now, until });
            next
        });
        self.settle_limits(now);
    }

    /// Ends the limit of `scope` if it began before the attempt that got a good answer. Returns whether there was one.
    pub fn end_limit(&self, scope: &RestScope, attempt_began: Instant, now: Instant) -> bool {
        let is_over = |limit: &ScopeLimit| limit.scope == *scope && limit.began <= attempt_began;
        if !self.limits.load().iter().any(is_over) {
            return false;
        }
        let before =
            self.limits.rcu(|limits| limits.iter().filter(|limit| !is_over(limit)).cloned().collect::<Vec<_>>());
        self.settle_limits(now);
        before.iter().any(|limit| is_over(limit) && now < limit.until)
    }

    /// Returns whether there is a limit that has not ended. Costs one load while there was none for long.
    pub fn has_limits(&self, now: Instant) -> bool {
        self.has_limits.load(Ordering::Relaxed) && (self.is_any_limited(now) || self.settle_limits(now))
    }

    fn is_any_limited(&self, now: Instant) -> bool {
        self.limits.load().iter().any(|limit| now < limit.until)
    }

    /// Makes the flag agree with the limits, as [`Standing::settle_scoped`] does with the rests. Returns it.
    fn settle_limits(&self, now: Instant) -> bool {
        loop {
            let is_set = self.is_any_limited(now);
            self.has_limits.store(is_set, Ordering::Release);
            if self.is_any_limited(now) == is_set {
                return is_set;
            }
        }
    }

    pub fn is_limited(&self, scope: &RestScope, now: Instant) -> bool {
        self.limits.load().iter().any(|limit| limit.scope == *scope && now < limit.until)
    }

    /// Notes that an identity has just been limited and asks to be left alone for `time`, of which others make use for
    /// a second at most. It is no evidence, and nothing rests for it.
    pub fn note_recent(&self, identity: &Arc<Standing>, scope: &RestScope, time: Duration, now: Instant) {
        self.recent.rcu(|recent| {
            let others = recent.iter().filter(|limit| now < limit.until && !limit.is(identity, scope));
            let mut next: Vec<_> = others.cloned().collect();
            let surplus = (next.len() + 1).saturating_sub(RECENT_MAX);
            next.drain(..surplus);
            let until = now + time.min(RECENT_FOR);
            let (identity, scope) = (identity.clone(), scope.clone());
            next.push(RecentLimit { identity, scope, at: now, until, asked_until: now + time });
            next
        });
    }

    /// Returns for how long from `now` on an identity asks to be left alone that has just been limited and got no good
    /// answer since; `None` of any other.
    pub fn recent_limit(&self, identity: &Arc<Standing>, scope: &RestScope, now: Instant) -> Option<Duration> {
        let recent = self.recent.load();
        let known = recent.iter().find(|limit| limit.is(identity, scope))?;
        let is_known = now < known.until && !identity.was_good_since(known.at);
        is_known.then(|| known.asked_until.saturating_duration_since(now))
    }

    /// Returns the limits that have not ended.
    pub fn limits(&self, now: Instant) -> Vec<(RestScope, Cooling)> {
        let limits = self.limits.load();
        let current = limits.iter().filter(|limit| now < limit.until);
        let listed = |limit: &ScopeLimit| {
            let cooling = Cooling { kind: FaultKind::RateLimited, began: limit.began, until: limit.until };
            (limit.scope.clone(), cooling)
        };
        current.map(listed).collect()
    }

    /// Returns the rests of an identity that have not ended.
    pub fn of_identity(&self, identity: &Arc<Standing>, now: Instant) -> Vec<(RestScope, Cooling)> {
        if !identity.has_scoped() {
            return Vec::new();
        }
        let table = self.table.load();
        let own = table.iter().filter(|rest| Arc::ptr_eq(&rest.identity, identity));
        own.filter_map(|rest| Some((rest.scope.clone(), rest.standing.cooling(now)?))).collect()
    }

    fn find(&self, identity: &Arc<Standing>, scope: &RestScope) -> Option<Arc<ScopedRest>> {
        if !identity.has_scoped() {
            return None;
        }
        self.table.load().iter().find(|rest| rest.is(identity, scope)).cloned()
    }

    fn keep(&self, is_kept: impl Fn(&ScopedRest) -> bool) {
        let before = self.table.rcu(|table| table.iter().filter(|rest| is_kept(rest)).cloned().collect::<Vec<_>>());
        self.settle(before.iter().filter(|rest| !is_kept(rest)).map(|rest| &rest.identity));
    }

    /// Makes the flags of identities agree with the table.
    fn settle<'a>(&self, identities: impl Iterator<Item = &'a Arc<Standing>>) {
        for identity in identities {
            identity.settle_scoped(|| self.table.load().iter().any(|rest| Arc::ptr_eq(&rest.identity, identity)));
        }
    }
}

#[cfg(test)]
mod tests;
