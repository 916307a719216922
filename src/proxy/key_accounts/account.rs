//! The account of one key.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;

use super::calendar::{PeriodSum, UtcDate};
use super::minute::SlidingMinute;
use super::parallel::ParallelPlaces;
use crate::credentials::{KeyLimits, LimitField};
use crate::usage::cost::Usd;
use crate::usage::totals::UsageSums;

/// The units of [`Usd`] in the unit that amounts of money are summed up in: 1e-8 dollars.
const USD_UNITS: u64 = 10_000;
const UNITS_PER_DOLLAR: f64 = 1e8;

/// A limit that a request has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitReached {
    pub kind: LimitField,
    /// The seconds until it may be less than reached; at least 1.
    pub seconds: u64,
}

impl LimitReached {
    fn of(kind: LimitField, seconds: u64) -> Self {
        // SDKs do not honour more than a minute, and then try again too soon.
        let most = if kind.is_long() { u64::MAX } else { 60 };
        LimitReached { kind, seconds: seconds.clamp(1, most) }
    }
}

/// Prints the end of "has reached its limit …".
impl fmt::Display for LimitReached {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LimitReached { kind, seconds } = *self;
        let name = kind.name();
        let minutes = seconds.div_ceil(60);
        match (kind, seconds) {
            (LimitField::Parallel, _) => write!(formatter, "{name}: too many of its requests are under way or wait"),
            (_, 0..=120) => write!(formatter, "{name} (again in {seconds} s)"),
            (_, 121..=172_800) => write!(formatter, "{name} (again in {} h {} min)", minutes / 60, minutes % 60),
            _ => write!(formatter, "{name} (again in {} days)", seconds.div_ceil(86_400)),
        }
    }
}

/// A limit, and how much of it is used, in its own unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LimitUse {
    pub kind: LimitField,
    pub used: f64,
    pub limit: f64,
}

/// The cost of one answer, or of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spending {
    pub tokens: u64,
    pub cost: Usd,
}

impl Spending {
    /// Returns what was counted together: what was reported, and estimates of the rest.
    pub fn of(sums: &UsageSums) -> Self {
        let UsageSums { tokens, estimated, reported_cost, estimated_cost, .. } = sums;
        let counts = [tokens.input, tokens.output, estimated.input, estimated.output];
        let mut cost = *reported_cost;
        cost += *estimated_cost;
        Spending { tokens: counts.into_iter().fold(0, u64::saturating_add), cost }
    }
}

/// The use of one key's limits.
#[derive(Debug)]
pub struct KeyAccount {
    born: Instant,
    limits: ArcSwap<KeyLimits>,
    pub parallel: Arc<ParallelPlaces>,
    /// Made with the first request: most of many keys are not in use.
    requests: OnceLock<Box<SlidingMinute>>,
    tokens: OnceLock<Box<SlidingMinute>>,
    tokens_of_day: PeriodSum,
    /// In units of 1e-8 dollars, as that of the month.
    usd_of_day: PeriodSum,
    usd_of_month: PeriodSum,
    /// A request came.
    is_in_use: AtomicBool,
    /// The requests that were refused, for each limit.
    refused: [AtomicU64; LimitField::ALL.len()],
}

impl Default for KeyAccount {
    fn default() -> Self {
        KeyAccount {
            born: Instant::now(),
            limits: ArcSwap::default(),
            parallel: Arc::default(),
            requests: OnceLock::new(),
            tokens: OnceLock::new(),
            tokens_of_day: PeriodSum::default(),
            usd_of_day: PeriodSum::default(),
            usd_of_month: PeriodSum::default(),
            is_in_use: AtomicBool::new(false),
            refused: Default::default(),
        }
    }
}

impl KeyAccount {
    pub(super) fn set_limits(&self, limits: &KeyLimits) {
        self.limits.store(Arc::new(*limits));
        self.parallel.set_limit(limits.parallel);
    }

    pub(super) fn has_long_limits(&self) -> bool {
        let KeyLimits { tokens_per_day, usd_per_day, usd_per_month, .. } = **self.limits.load();
        tokens_per_day.is_some() || usd_per_day.is_some() || usd_per_month.is_some()
    }

    /// Admits a request of a key with these limits, but for its place among those under way. A day and a month are read
    /// from the clock only where they matter.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn admit(&self, limits: &KeyLimits, now: Instant) -> Result<(), LimitReached> {
        if !self.is_in_use() {
            self.is_in_use.store(true, Ordering::Relaxed);
        }
        self.check(limits, now)?;
        let second = self.second(now);
        if let Some(limit) = limits.requests_per_minute.map(u64::from) {
            let requests = self.requests.get_or_init(Box::default);
            if !requests.take_one(second, limit) {
                let seconds = requests.seconds_until_below(second, limit);
                return Err(self.refuse(LimitField::RequestsPerMinute, seconds));
            }
        }
        Ok(())
    }

    /// Checks the limits of what was used, once more after a wait.
    ///
    /// # Errors
    /// The limit that is reached.
    pub fn check(&self, limits: &KeyLimits, now: Instant) -> Result<(), LimitReached> {
        self.reached(limits, now).map_or(Ok(()), |reached| Err(self.refuse(reached.kind, reached.seconds)))
    }

    /// Returns the limit of what was used that is reached.
    pub fn reached(&self, limits: &KeyLimits, now: Instant) -> Option<LimitReached> {
        if let Some(reached) = self.period_reached(limits) {
            return Some(reached);
        }
        let limit = limits.tokens_per_minute?;
        let (second, tokens) = (self.second(now), self.tokens());
        let seconds = || tokens.seconds_until_below(second, limit);
        (tokens.sum(second) >= limit).then(|| LimitReached::of(LimitField::TokensPerMinute, seconds()))
    }

    fn period_reached(&self, limits: &KeyLimits) -> Option<LimitReached> {
        let KeyLimits { tokens_per_day, usd_per_day, usd_per_month, .. } = *limits;
        if tokens_per_day.is_none() && usd_per_day.is_none() && usd_per_month.is_none() {
            return None;
        }
        let date = UtcDate::now();
        // The longest first: what is over with a day is not over before the month is.
        if usd_per_month.is_some_and(|limit| self.usd_of_month.get(date.month) >= usd_units(limit)) {
            return Some(LimitReached::of(LimitField::UsdPerMonth, date.seconds_left_of_month()));
        }
        if usd_per_day.is_some_and(|limit| self.usd_of_day.get(date.day) >= usd_units(limit)) {
            return Some(LimitReached::of(LimitField::UsdPerDay, date.seconds_left_of_day()));
        }
        let is_reached = tokens_per_day.is_some_and(|limit| self.tokens_of_day.get(date.day) >= limit);
        is_reached.then(|| LimitReached::of(LimitField::TokensPerDay, date.seconds_left_of_day()))
    }

    /// Tells whether a request of the key came since the start.
    pub fn is_in_use(&self) -> bool {
        self.is_in_use.load(Ordering::Relaxed)
    }

    /// Counts a request that was refused for a limit.
    pub fn refuse(&self, kind: LimitField, seconds: u64) -> LimitReached {
        self.refused[kind as usize].fetch_add(1, Ordering::Relaxed);
        LimitReached::of(kind, seconds)
    }

    /// Counts what an answer has cost.
    pub fn spend(&self, spending: Spending, now: Instant) {
        let Spending { tokens, cost } = spending;
        let limits = self.limits.load();
        if limits.tokens_per_minute.is_some() {
            self.tokens().add(self.second(now), tokens);
        }
        // Also without a limit of that time: one may be set before it is over.
        let date = UtcDate::now();
        self.tokens_of_day.add(date.day, tokens);
        let cost = cost.units().div_ceil(USD_UNITS);
        if cost > 0 {
            self.usd_of_day.add(date.day, cost);
            self.usd_of_month.add(date.month, cost);
        }
    }

    /// Makes the amounts of the day and the month at least those that were written by this process, those before it and
    /// those beside it.
    pub fn raise_to(&self, date: UtcDate, of_day: Spending, of_month: Spending) {
        self.tokens_of_day.raise_to(date.day, of_day.tokens);
        self.usd_of_day.raise_to(date.day, of_day.cost.units().div_ceil(USD_UNITS));
        self.usd_of_month.raise_to(date.month, of_month.cost.units().div_ceil(USD_UNITS));
    }

    /// Returns what is used of each limit there is.
    pub fn used(&self, now: Instant, date: UtcDate) -> Vec<LimitUse> {
        let limits = **self.limits.load();
        let second = self.second(now);
        let minute = |minute: &OnceLock<Box<SlidingMinute>>| minute.get().map_or(0, |minute| minute.sum(second)) as f64;
        let dollars = |units: u64| units as f64 / UNITS_PER_DOLLAR;
        LimitField::ALL
            .into_iter()
            .filter_map(|kind| {
                let (limit, used) = match kind {
                    LimitField::Parallel => (limits.parallel.map(f64::from), f64::from(self.parallel.counts().0)),
                    LimitField::RequestsPerMinute => {
                        (limits.requests_per_minute.map(f64::from), minute(&self.requests))
                    }
                    LimitField::TokensPerMinute => {
                        (limits.tokens_per_minute.map(|limit| limit as f64), minute(&self.tokens))
                    }
                    LimitField::TokensPerDay => {
                        (limits.tokens_per_day.map(|limit| limit as f64), self.tokens_of_day.get(date.day) as f64)
                    }
                    LimitField::UsdPerDay => (limits.usd_per_day, dollars(self.usd_of_day.get(date.day))),
                    LimitField::UsdPerMonth => (limits.usd_per_month, dollars(self.usd_of_month.get(date.month))),
                };
                Some(LimitUse { kind, used, limit: limit? })
            })
            .collect()
    }

    /// Returns how many requests were refused for a limit.
    pub fn refused(&self, kind: LimitField) -> u64 {
        self.refused[kind as usize].load(Ordering::Relaxed)
    }

    fn tokens(&self) -> &SlidingMinute {
        self.tokens.get_or_init(Box::default)
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.born).as_secs()
    }
}

fn usd_units(dollars: f64) -> u64 {
    // A conversion from a float saturates.
    (dollars * UNITS_PER_DOLLAR).ceil() as u64
}
