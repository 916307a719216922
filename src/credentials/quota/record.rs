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
const BLOCKED_UNKNOWN: Duration = Duration::from_secs(15 * 60);

/// The longest rest that one answer gives reason to: that of a month. Another answer gives reason to the next.
const BLOCKED_MAX: Duration = Duration::from_secs(31 * 24 * 60 * 60);

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
    pub is_blocked: bool,
    pub renewal: Option<UnixSecond>,
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
        Quota {
            at,
            used: answer.used.or(used_before),
            limit: answer.limit,
            is_blocked: answer.is_blocked.or(previous.map(|previous| previous.is_blocked)).unwrap_or(false),
            renewal: answer.renewal.or(previous.and_then(|previous| previous.renewal)),
            fell_at: if is_new_cycle { Some(at.unix) } else { previous.and_then(|previous| previous.fell_at) },
            samples,
        }
    }

    /// Returns whether there is more to spend than the one before had: it blocks no longer, begins a cycle anew, or has a
    /// higher limit.
    fn has_more_than(&self, previous: &Quota) -> bool {
        // One that is not told any more may come back.
        let is_raised = self.limit.zip(previous.limit).is_some_and(|(limit, before)| limit > before);
        is_raised || self.fell_at != previous.fell_at || (previous.is_blocked && !self.is_blocked)
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

    /// Returns for how long a user rests whom this quota blocks.
    pub fn blocked_for(&self, now: UnixSecond) -> Option<Duration> {
        self.is_blocked.then(|| self.renewed_in(now).unwrap_or(BLOCKED_UNKNOWN))
    }
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
}

impl QuotaRecord {
    pub fn told(&self) -> Option<Arc<ToldQuotas>> {
        self.told.load_full()
    }

    /// Returns the renewal of the quota of which more is used; `None` where it is not known.
    pub fn renewal(&self) -> Option<Instant> {
        let told = self.told()?;
        let quotas = [&told.requests, &told.budget].into_iter().flatten();
        // Of two of which nothing is known, the later one: the budget.
        let share = |quota: &Quota| quota.share().unwrap_or(0.0);
        let fuller = quotas.max_by(|one, other| share(one).total_cmp(&share(other)))?;
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

    /// Notes what the log says from now on, and returns what it said before.
    pub(super) fn log(&self, is_blocked: bool) -> bool {
        self.is_logged.swap(is_blocked, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(start: QuotaMoment, minutes: u64) -> QuotaMoment {
        let time = Duration::from_secs(minutes * 60);
        QuotaMoment { instant: start.instant + time, unix: UnixSecond(start.unix.0 + time.as_secs()) }
    }

    fn answer(used: f64) -> QuotaAnswer {
        QuotaAnswer { used: Some(used), limit: Some(100.0), ..QuotaAnswer::default() }
    }

    #[test]
    fn samples_are_of_the_last_half_hour_and_of_one_cycle() {
        let start = QuotaMoment { instant: Instant::now(), unix: UnixSecond(1_796_083_200) };
        let mut quota = Quota::after(None, &answer(60.0), start);
        for step in 1..=100 {
            quota = Quota::after(Some(&quota), &answer(60.0 + f64::from(step)), moment(start, 5 * step as u64));
        }
        assert_eq!(quota.samples.len(), 7);
        for step in 1..=100 {
            quota = Quota::after(Some(&quota), &answer(161.0), QuotaMoment { ..moment(start, 500 + step / 50) });
        }
        assert_eq!((quota.samples.len(), quota.fell_at), (SAMPLES_MAX, None));
        let corrected = Quota::after(Some(&quota), &answer(150.0), moment(start, 505));
        assert!(corrected.fell_at.is_none() && corrected.samples.len() > 1);
        let renewed = Quota::after(Some(&quota), &answer(0.5), moment(start, 505));
        assert_eq!((renewed.fell_at, renewed.samples.len()), (Some(moment(start, 505).unix), 1));
        // A clock that was set back leaves no samples of the future.
        assert_eq!(Quota::after(Some(&quota), &answer(162.0), moment(start, 0)).samples.len(), 1);
    }

    #[test]
    fn an_answer_leaves_as_it_was_what_it_does_not_tell() {
        let at = QuotaMoment::now();
        let blocked = QuotaAnswer {
            user: Some("u".into()),
            is_blocked: Some(true),
            renewal: Some(UnixSecond(at.unix.0 + 100)),
            ..answer(60.0)
        };
        let first = QuotaAnswers { budget: Some(blocked), requests: Some(answer(7.0)) };
        let told = ToldQuotas::after(None, &first, at);
        let told = ToldQuotas::after(Some(&told), &QuotaAnswers { budget: Some(answer(61.0)), requests: None }, at);
        assert_eq!(told.user.as_deref(), Some("u"));
        let budget = told.budget.as_ref().expect("told");
        assert!(budget.is_blocked && budget.renewal.is_some() && budget.used == Some(61.0));
        assert_eq!(told.requests.as_ref().and_then(|requests| requests.used), Some(7.0));
        let unblocked = QuotaAnswer { is_blocked: Some(false), limit: None, ..answer(62.0) };
        let told = ToldQuotas::after(Some(&told), &QuotaAnswers { budget: Some(unblocked), requests: None }, at);
        let budget = told.budget.expect("told");
        assert!(!budget.is_blocked && budget.limit.is_none());
    }

    #[test]
    fn there_is_more_to_spend_with_a_higher_limit_a_new_cycle_or_the_end_of_a_block() {
        let at = QuotaMoment::now();
        let before = QuotaAnswer { is_blocked: Some(true), ..answer(60.0) };
        let previous = Quota::after(None, &before, at);
        for (what, next, expected) in [
            ("the same", before.clone(), false),
            ("more used", QuotaAnswer { used: Some(61.0), ..before.clone() }, false),
            ("corrected", QuotaAnswer { used: Some(55.0), ..before.clone() }, false),
            ("a new cycle", QuotaAnswer { used: Some(1.0), ..before.clone() }, true),
            ("a higher limit", QuotaAnswer { limit: Some(101.0), ..before.clone() }, true),
            ("a lower limit", QuotaAnswer { limit: Some(99.0), ..before.clone() }, false),
            ("no limit", QuotaAnswer { limit: None, ..before.clone() }, false),
            ("not blocked", QuotaAnswer { is_blocked: Some(false), ..before.clone() }, true),
            ("no status", QuotaAnswer { is_blocked: None, ..before.clone() }, false),
        ] {
            assert_eq!(Quota::after(Some(&previous), &next, at).has_more_than(&previous), expected, "{what}");
        }
    }

    #[test]
    fn a_blocked_user_rests_until_the_renewal_or_a_quarter_of_an_hour() {
        let at = QuotaMoment { instant: Instant::now(), unix: UnixSecond(1_796_083_200) };
        for (is_blocked, renewal, seconds) in [
            (false, Some(100), None),
            (true, Some(100), Some(100)),
            (true, None, Some(15 * 60)),
            (true, Some(0), Some(15 * 60)),
            (true, Some(-100), Some(15 * 60)),
            (true, Some(90 * 86_400), Some(31 * 86_400)),
        ] {
            let renewal = renewal.map(|seconds: i64| UnixSecond((at.unix.0 as i64 + seconds) as u64));
            let answer = QuotaAnswer { is_blocked: Some(is_blocked), renewal, ..answer(1.0) };
            let quota = Quota::after(None, &answer, at);
            assert_eq!(quota.blocked_for(at.unix), seconds.map(Duration::from_secs), "{renewal:?}");
        }
    }
}
