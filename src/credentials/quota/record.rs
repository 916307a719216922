//! The quotas of one identity's user, as the upstream told them last, and the token to ask for them.
//!
//! Invariant: what was told is an immutable value that one atomic swap replaces. One shard at a time asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;

use super::answer::{FlowToken, QuotaAnswer};
use super::moment::UnixSecond;
use super::projection::{QuotaSample, QuotaUse, RECENT, exhaustion};

/// The samples that are kept of a quota: enough for the time that counts as the present, one every few minutes.
const SAMPLES_MAX: usize = 16;

/// The part of the amount before to which a new cycle brings it down at least; a smaller fall is a correction.
const NEW_CYCLE: f64 = 0.5;

/// The rest of a blocked user whose renewal is not known, or has passed: as the first one of a quota that is used up.
const BLOCKED_UNKNOWN_SECONDS: u64 = 15 * 60;

/// The longest rest that one answer gives reason to: that of a month. Another answer gives reason to the next.
const BLOCKED_MAX: Duration = Duration::from_secs(31 * 24 * 60 * 60);

/// The share from which on it can be true that a quota is used up: amounts are told some minutes late.
const NEARLY_USED_UP: f64 = 0.9;

/// A moment by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct QuotaMoment {
    pub instant: Instant,
    pub unix: UnixSecond,
}

impl QuotaMoment {
    pub fn now() -> Self {
        QuotaMoment { instant: Instant::now(), unix: UnixSecond::of(SystemTime::now()) }
    }
}

/// The kinds of quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaKind {
    /// In US dollars.
    Budget,
    /// In requests.
    Requests,
}

impl QuotaKind {
    pub const ALL: [QuotaKind; 2] = [QuotaKind::Budget, QuotaKind::Requests];

    /// Returns its name in the log, the metrics and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            QuotaKind::Budget => "budget",
            QuotaKind::Requests => "requests",
        }
    }
}

/// One quota, as it is known.
#[derive(Debug, Clone)]
pub struct Quota {
    /// The time of the last answer.
    pub at: QuotaMoment,
    pub used: Option<f64>,
    /// `None`: there is none.
    pub limit: Option<f64>,
    pub renewal: Option<UnixSecond>,
    /// The end of the block, by the last answer that said that there is one; `None`: it does not block.
    blocked_until: Option<UnixSecond>,
    fell_at: Option<UnixSecond>,
    samples: Vec<QuotaSample>,
}

impl Quota {
    /// Makes the quota of an answer after the one before. The answer leaves as it was what it does not tell.
    fn after(previous: Option<&Quota>, answer: &QuotaAnswer, at: QuotaMoment) -> Self {
        let used_before = previous.and_then(|previous| previous.used);
        let is_new_cycle =
            answer.used.zip(used_before).is_some_and(|(used, before)| before > 0.0 && used < before * NEW_CYCLE);
        let mut samples = previous.map_or_else(Vec::new, |previous| previous.samples.clone());
        if is_new_cycle {
            samples.clear();
        }
        samples.retain(|sample| at.unix.since(sample.at) <= RECENT && sample.at <= at.unix);
        samples.extend(answer.used.map(|used| QuotaSample { at: at.unix, used }));
        let surplus = samples.len().saturating_sub(SAMPLES_MAX);
        samples.drain(..surplus);
        let renewal = answer.renewal.or(previous.and_then(|previous| previous.renewal));
        let blocked_until = match answer.is_blocked {
            Some(is_blocked) => is_blocked.then(|| block_end(renewal, at.unix)),
            // Not prolonged by an answer that says nothing of it.
            None => previous.filter(|_| !is_new_cycle).and_then(|previous| previous.blocked_until),
        };
        Quota {
            at,
            used: answer.used.or(used_before),
            limit: answer.limit,
            renewal,
            blocked_until: blocked_until.filter(|until| at.unix < *until),
            fell_at: if is_new_cycle { Some(at.unix) } else { previous.and_then(|previous| previous.fell_at) },
            samples,
        }
    }

    /// Returns whether there is more to spend than the one before had: it blocks no longer, begins a cycle anew, or has a
    /// higher limit.
    fn has_more_than(&self, previous: &Quota) -> bool {
        // One that is not told any more may come back.
        let is_raised = self.limit.zip(previous.limit).is_some_and(|(limit, before)| limit > before);
        is_raised
            || self.fell_at != previous.fell_at
            || (previous.blocked_until.is_some() && self.blocked_until.is_none())
    }

    /// Returns when it runs out if it is used on as it is; see [`exhaustion`].
    pub fn exhaustion(&self, now: UnixSecond) -> Option<UnixSecond> {
        let Quota { used, limit, renewal, fell_at, ref samples, .. } = *self;
        exhaustion(&QuotaUse { used, limit, renewal, fell_at, samples }, now)
    }

    /// Returns the part of the limit that is used; `None` where either is not known.
    pub fn share(&self) -> Option<f64> {
        Some(self.used? / self.limit?)
    }

    /// Returns the time up to the renewal; `None` where that is not known or has passed.
    pub fn renewed_in(&self, now: UnixSecond) -> Option<Duration> {
        let time = self.renewal?.since(now).min(BLOCKED_MAX);
        (!time.is_zero()).then_some(time)
    }

    /// Returns for how long a user rests whom this quota blocks: up to the renewal, or for a quarter of an hour after the
    /// answer that said so; `None` where it does not block, or does not any more.
    pub fn blocked_for(&self, now: UnixSecond) -> Option<Duration> {
        let time = self.blocked_until?.since(now).min(BLOCKED_MAX);
        (!time.is_zero()).then_some(time)
    }

    pub fn is_blocked(&self, now: UnixSecond) -> bool {
        self.blocked_for(now).is_some()
    }

    /// Returns whether nothing that was told of it contradicts that it is used up.
    fn may_be_used_up(&self) -> bool {
        self.blocked_until.is_some() || self.share().is_none_or(|share| share >= NEARLY_USED_UP)
    }
}

/// Returns when a block ends of which an answer told at `told`.
fn block_end(renewal: Option<UnixSecond>, told: UnixSecond) -> UnixSecond {
    renewal.filter(|renewal| told < *renewal).unwrap_or(UnixSecond(told.0.saturating_add(BLOCKED_UNKNOWN_SECONDS)))
}

/// The answers to one question, those that could be read.
#[derive(Debug, Clone, Default)]
pub struct QuotaAnswers {
    pub budget: Option<QuotaAnswer>,
    pub requests: Option<QuotaAnswer>,
}

/// The quotas that the upstream told an identity.
#[derive(Debug, Clone, Default)]
pub struct ToldQuotas {
    /// The user whose quotas they are; `None`: the identity alone.
    pub user: Option<String>,
    pub budget: Option<Arc<Quota>>,
    pub requests: Option<Arc<Quota>>,
}

impl ToldQuotas {
    fn after(previous: Option<&ToldQuotas>, answers: &QuotaAnswers, at: QuotaMoment) -> Self {
        let next = |answer: &Option<QuotaAnswer>, previous: Option<&Arc<Quota>>| match answer {
            Some(answer) => Some(Arc::new(Quota::after(previous.map(|previous| &**previous), answer, at))),
            None => previous.cloned(),
        };
        let told_user = [&answers.budget, &answers.requests].into_iter().flatten().find_map(|told| told.user.clone());
        ToldQuotas {
            user: told_user.or_else(|| previous?.user.clone()),
            budget: next(&answers.budget, previous.and_then(|previous| previous.budget.as_ref())),
            requests: next(&answers.requests, previous.and_then(|previous| previous.requests.as_ref())),
        }
    }

    fn has_more_than(&self, previous: &ToldQuotas) -> bool {
        let has_more = |quota: &Option<Arc<Quota>>, previous: &Option<Arc<Quota>>| {
            quota.as_ref().zip(previous.as_ref()).is_some_and(|(quota, previous)| quota.has_more_than(previous))
        };
        has_more(&self.budget, &previous.budget) || has_more(&self.requests, &previous.requests)
    }
}

/// The quotas of one identity.
#[derive(Debug, Default)]
pub struct QuotaRecord {
    /// `None`: it was never told any.
    told: ArcSwapOption<ToldQuotas>,
    token: ArcSwapOption<FlowToken>,
    /// The log says that its user is blocked.
    is_logged: AtomicBool,
    /// The last question brought no answer that could be read, or not all.
    is_failing: AtomicBool,
}

impl QuotaRecord {
    pub fn told(&self) -> Option<Arc<ToldQuotas>> {
        self.told.load_full()
    }

    /// Returns the renewal of the quota that is used up, which is the one that blocks, or of which more is used; `None`
    /// where it is not known, or the amounts say that none is.
    pub fn renewal(&self) -> Option<Instant> {
        let told = self.told()?;
        let quotas = [&told.requests, &told.budget].into_iter().flatten().filter(|quota| quota.may_be_used_up());
        // Of two of which nothing is known, the later one: the budget.
        let fullness = |quota: &Quota| match quota.blocked_until {
            Some(_) => f64::INFINITY,
            None => quota.share().unwrap_or(0.0),
        };
        let fuller = quotas.max_by(|one, other| fullness(one).total_cmp(&fullness(other)))?;
        Some(fuller.at.instant + fuller.renewed_in(fuller.at.unix)?)
    }

    /// Notes the answers. Returns whether one of the quotas has more to spend than before.
    pub(super) fn note(&self, answers: &QuotaAnswers, at: QuotaMoment) -> bool {
        let previous = self.told();
        let next = ToldQuotas::after(previous.as_deref(), answers, at);
        let has_more = previous.is_some_and(|previous| next.has_more_than(&previous));
        self.told.store(Some(Arc::new(next)));
        has_more
    }

    /// Returns the token, as long as it can be used.
    pub(super) fn token(&self, now: Instant) -> Option<Arc<FlowToken>> {
        self.token.load_full().filter(|token| now < token.until)
    }

    pub(super) fn keep_token(&self, token: Option<Arc<FlowToken>>) {
        self.token.store(token);
    }

    /// Notes whether the last question failed.
    pub(super) fn note_failing(&self, is_failing: bool) {
        self.is_failing.store(is_failing, Ordering::Relaxed);
    }

    pub(super) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// Notes what the log says from now on, and returns what it said before.
    pub(super) fn log(&self, is_blocked: bool) -> bool {
        self.is_logged.swap(is_blocked, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
