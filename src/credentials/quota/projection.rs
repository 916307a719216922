//! The moment at which a quota runs out if it is used on as it is: at the larger of the pace of the last half hour and
//! that of its cycle.

use std::time::Duration;

use super::moment::UnixSecond;

/// The time whose pace counts as the present one.
pub const RECENT: Duration = Duration::from_secs(30 * 60);

/// The time that two samples are apart at least: the use of minutes says little of days.
const APART_MIN: Duration = Duration::from_secs(10 * 60);

/// The time from the begin of a cycle on in which nothing is projected: its few figures say nothing of a month.
const FIRST_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The latest end that is told where no renewal is known.
const HORIZON: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The amount that was used at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuotaSample {
    pub at: UnixSecond,
    pub used: f64,
}

/// The use of one quota, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuotaUse<'a> {
    pub used: Option<f64>,
    /// `None`: there is none.
    pub limit: Option<f64>,
    pub renewal: Option<UnixSecond>,
    /// The last time that the amount fell, because a cycle began.
    pub fell_at: Option<UnixSecond>,
    /// Oldest first, all of this cycle.
    pub samples: &'a [QuotaSample],
}

/// Returns when the quota runs out, or `now` if it has. `None` in a cycle's first day, where there is no limit, and where
/// it lasts until its renewal.
pub fn exhaustion(quota: &QuotaUse<'_>, now: UnixSecond) -> Option<UnixSecond> {
    let (used, limit) = (quota.used?, quota.limit?);
    if used >= limit {
        return Some(now);
    }
    let renewal = quota.renewal.filter(|renewal| *renewal > now);
    // One that has passed and was not replaced began the present cycle.
    let by_renewal = renewal.map_or(quota.renewal, UnixSecond::month_before);
    let began = by_renewal.max(quota.fell_at);
    if began.is_some_and(|began| now.since(began) < FIRST_DAY) {
        return None;
    }
    let of_cycle = began.map(|began| used / now.since(began).as_secs_f64());
    let pace = of_cycle.unwrap_or(0.0).max(recent_pace(quota.samples, now).unwrap_or(0.0));
    let left = (limit - used) / pace;
    let end = renewal.unwrap_or(UnixSecond(now.0.saturating_add(HORIZON.as_secs())));
    // Of no pace at all it is endless.
    (left < end.since(now).as_secs_f64()).then(|| UnixSecond(now.0 + left as u64))
}

/// Returns the amount used a second in the last half hour; `None` where that is not known.
fn recent_pace(samples: &[QuotaSample], now: UnixSecond) -> Option<f64> {
    let mut recent = samples.iter().filter(|sample| now.since(sample.at) <= RECENT);
    let (first, last) = (recent.next()?, recent.next_back()?);
    let time = last.at.since(first.at);
    (time >= APART_MIN).then(|| (last.used - first.used).max(0.0) / time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::super::moment::parse;
    use super::*;

    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;

    fn at(text: &str) -> UnixSecond {
        parse(text).expect("a moment")
    }

    /// Samples of so many minutes before `now`.
    fn samples(now: UnixSecond, each: &[(u64, f64)]) -> Vec<QuotaSample> {
        each.iter()
            .map(|(minutes, used)| QuotaSample { at: UnixSecond(now.0 - minutes * MINUTE), used: *used })
            .collect()
    }

    #[test]
    fn a_quota_runs_out_at_the_larger_pace_and_never_after_its_renewal() {
        // Ten days into a cycle of thirty.
        let (now, renewal) = (at("2026-11-11"), at("2026-12-01"));
        let fell = |before: u64| Some(UnixSecond(now.0 - before));
        let base =
            QuotaUse { used: Some(50.0), limit: Some(100.0), renewal: Some(renewal), fell_at: None, samples: &[] };
        // 5 a day are left alone for ten days; 1 an hour for fifty hours.
        let fast = samples(now, &[(30, 49.5), (15, 49.75), (0, 50.0)]);
        let slow = samples(now, &[(30, 49.99), (0, 50.0)]);
        let close = samples(now, &[(9, 0.0), (0, 50.0)]);
        let old = samples(now, &[(70, 0.0), (31, 50.0)]);
        for (what, quota, expected) in [
            ("at the cycle's pace", base, Some(10 * DAY)),
            ("at the recent pace", QuotaUse { samples: &fast, ..base }, Some(50 * HOUR)),
            ("a slower recent pace", QuotaUse { samples: &slow, ..base }, Some(10 * DAY)),
            ("samples too close", QuotaUse { samples: &close, ..base }, Some(10 * DAY)),
            ("samples too old", QuotaUse { samples: &old, ..base }, Some(10 * DAY)),
            ("no limit", QuotaUse { limit: None, ..base }, None),
            ("not known what was used", QuotaUse { used: None, ..base }, None),
            ("nothing used", QuotaUse { used: Some(0.0), ..base }, None),
            ("lasts until the renewal", QuotaUse { used: Some(33.0), ..base }, None),
            ("just does not", QuotaUse { used: Some(34.0), ..base }, Some(1_677_176)),
            ("used up", QuotaUse { used: Some(100.0), ..base }, Some(0)),
            ("used up on the first day", QuotaUse { used: Some(100.0), fell_at: fell(HOUR), ..base }, Some(0)),
            ("first day after a fall", QuotaUse { fell_at: fell(DAY - 1), samples: &fast, ..base }, None),
            ("second day after a fall", QuotaUse { fell_at: fell(2 * DAY), ..base }, Some(2 * DAY)),
            ("a fall before the cycle", QuotaUse { fell_at: fell(20 * DAY), ..base }, Some(10 * DAY)),
            ("first day by the renewal", QuotaUse { renewal: Some(at("2026-12-10T12:00")), ..base }, None),
            ("no renewal known, a fall", QuotaUse { renewal: None, fell_at: fell(2 * DAY), ..base }, Some(2 * DAY)),
            ("no begin known", QuotaUse { renewal: None, samples: &fast, ..base }, Some(50 * HOUR)),
            ("no begin and no sample", QuotaUse { renewal: None, ..base }, None),
            ("renewed two days ago", QuotaUse { renewal: Some(at("2026-11-09")), ..base }, Some(2 * DAY)),
            ("renewed an hour ago", QuotaUse { renewal: Some(at("2026-11-10T23:00")), ..base }, None),
            ("in more than a year", QuotaUse { used: Some(0.1), renewal: None, fell_at: fell(9 * DAY), ..base }, None),
        ] {
            let expected = expected.map(|seconds| UnixSecond(now.0 + seconds));
            assert_eq!(exhaustion(&quota, now), expected, "{what}");
        }
    }
}
