//! The last 15 minutes in steps of 5 s, and the figures of the last 10 s, from a sample a second.
//!
//! The admin thread samples whether anybody looks or not: a page shows the history when it opens. Invariant: bounded in
//! steps and samples; a step in which nothing was sampled, as while the machine slept, is unknown.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::sample::CountSample;

/// The length of a step, and the number that is kept.
pub const STEP_SECONDS: u64 = 5;
pub const STEPS_MAX: usize = 180;

/// The samples that the present figures are of: those of 10 s.
const SAMPLES_MAX: usize = 11;

/// The figures of one step.
#[derive(Debug, Clone, Copy)]
struct HistoryStep {
    requests: u64,
    errors: u64,
    first_byte: [Option<f64>; 2],
    open_streams: u64,
    tokens_out: u64,
    cost: f64,
}

impl HistoryStep {
    fn between(earlier: &CountSample, later: &CountSample) -> Self {
        HistoryStep {
            requests: later.requests.saturating_sub(earlier.requests),
            errors: later.errors.saturating_sub(earlier.errors),
            first_byte: [0.5, 0.95].map(|part| later.first_byte_since(earlier, part)),
            open_streams: later.open_streams,
            tokens_out: later.output_tokens.saturating_sub(earlier.output_tokens),
            cost: (later.cost - earlier.cost).max(0.0),
        }
    }
}

/// The samples and the steps, the oldest first.
#[derive(Debug, Default)]
pub struct StateHistory {
    samples: VecDeque<CountSample>,
    /// `None`: unknown.
    steps: VecDeque<Option<HistoryStep>>,
    /// The number of the step that is under way, since 1970, and the sample at its begin.
    under_way: Option<(u64, CountSample)>,
}

impl StateHistory {
    /// Takes a sample.
    pub fn add(&mut self, sample: CountSample, now: SystemTime) {
        let number = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / STEP_SECONDS;
        match self.under_way {
            None => self.under_way = Some((number, sample)),
            Some((begun, first)) if begun != number => {
                self.push(Some(HistoryStep::between(&first, &sample)));
                // A clock that was set back makes no gap.
                let missed = number.saturating_sub(begun + 1).min(STEPS_MAX as u64);
                (0..missed).for_each(|_| self.push(None));
                self.under_way = Some((number, sample));
            }
            Some(_) => {}
        }
        self.samples.push_back(sample);
        if self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
    }

    fn push(&mut self, step: Option<HistoryStep>) {
        self.steps.push_back(step);
        if self.steps.len() > STEPS_MAX {
            self.steps.pop_front();
        }
    }

    /// Returns the last `count` steps, unknown ones where there are fewer.
    pub fn last(&self, count: usize) -> HistoryView {
        let unknown = count.saturating_sub(self.steps.len());
        let steps: Vec<Option<HistoryStep>> = std::iter::repeat_n(None, unknown)
            .chain(self.steps.iter().skip(self.steps.len().saturating_sub(count)).copied())
            .collect();
        fn each<T>(steps: &[Option<HistoryStep>], of: impl Fn(&HistoryStep) -> T) -> Vec<Option<T>> {
            steps.iter().map(|step| step.as_ref().map(&of)).collect()
        }
        let first_byte = |place: usize| steps.iter().map(|step| step.and_then(|step| step.first_byte[place])).collect();
        HistoryView {
            step: STEP_SECONDS,
            end: self.under_way.map_or(0, |(number, _)| number * STEP_SECONDS),
            requests: each(&steps, |step| step.requests),
            errors: each(&steps, |step| step.errors),
            ttfb_p50: first_byte(0),
            ttfb_p95: first_byte(1),
            open_streams: each(&steps, |step| step.open_streams),
            tokens_out: each(&steps, |step| step.tokens_out),
            cost_usd: each(&steps, |step| step.cost),
        }
    }

    /// Returns the figures of the last 10 s, or of the time since the start.
    pub fn present(&self) -> PresentFigures {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return PresentFigures::default();
        };
        let seconds = last.at.saturating_duration_since(first.at);
        let rate = |of: fn(&CountSample) -> u64| {
            (seconds > Duration::ZERO).then(|| of(last).saturating_sub(of(first)) as f64 / seconds.as_secs_f64())
        };
        PresentFigures {
            requests_per_second: rate(|sample| sample.requests),
            errors_per_second: rate(|sample| sample.errors),
            output_tokens_per_second: rate(|sample| sample.output_tokens),
            time_to_first_byte_p50: last.first_byte_since(first, 0.5),
            time_to_first_byte_p95: last.first_byte_since(first, 0.95),
            open_streams: last.open_streams,
            open_exchanges: last.open_exchanges,
        }
    }
}

/// The figures over time: one value a step, the oldest first.
#[derive(Debug, Serialize)]
pub struct HistoryView {
    step: u64,
    /// Unix seconds of the end of the last step.
    pub end: u64,
    requests: Vec<Option<u64>>,
    errors: Vec<Option<u64>>,
    ttfb_p50: Vec<Option<f64>>,
    ttfb_p95: Vec<Option<f64>>,
    /// At the end of the step.
    open_streams: Vec<Option<u64>>,
    tokens_out: Vec<Option<u64>>,
    cost_usd: Vec<Option<f64>>,
}

/// The figures of the present.
#[derive(Debug, Default, Serialize)]
pub struct PresentFigures {
    requests_per_second: Option<f64>,
    time_to_first_byte_p50: Option<f64>,
    time_to_first_byte_p95: Option<f64>,
    open_streams: u64,
    open_exchanges: u64,
    errors_per_second: Option<f64>,
    output_tokens_per_second: Option<f64>,
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::sample::tests::sample;
    use super::*;

    /// A history with a sample at each of these seconds, each with as many requests.
    fn history(seconds: impl Iterator<Item = (u64, u64)>) -> StateHistory {
        let (began, mut history) = (Instant::now(), StateHistory::default());
        for (second, requests) in seconds {
            let after = Duration::from_secs(second);
            history.add(sample(began + after, requests, &[(4, requests)]), UNIX_EPOCH + after);
        }
        history
    }

    #[test]
    fn a_step_has_what_came_in_it_and_steps_without_samples_are_unknown() {
        let view = history((100..=115).chain([131]).map(|second| (second, 10 * (second - 100)))).last(8);
        assert_eq!(view.end, 130);
        let steps = [None, None, Some(50), Some(50), Some(50), Some(160), None, None];
        assert_eq!(view.requests, steps);
        assert_eq!(view.tokens_out, steps.map(|step| step.map(|requests| requests * 100)));
        assert_eq!((view.ttfb_p50[1], view.ttfb_p50[2]), (None, Some(0.175)));
    }

    #[test]
    fn steps_and_samples_are_bounded_however_the_clock_jumps() {
        let mut history = history((0..10_000).map(|second| (second, second)));
        history.add(sample(Instant::now(), 20_000, &[]), UNIX_EPOCH);
        history.add(sample(Instant::now(), 20_000, &[]), UNIX_EPOCH + Duration::from_secs(u64::from(u32::MAX)));
        assert_eq!((history.samples.len(), history.steps.len()), (SAMPLES_MAX, STEPS_MAX));
        assert!(history.last(STEPS_MAX).requests.iter().all(Option::is_none));
    }

    #[test]
    fn the_present_is_the_last_ten_seconds_and_unknown_before_a_second_sample() {
        let present =
            history((0..30).map(|second| (second, if second < 25 { 0 } else { 10 * (second - 24) }))).present();
        assert_eq!((present.requests_per_second, present.errors_per_second), (Some(5.0), Some(0.5)));
        assert_eq!((present.time_to_first_byte_p50, present.open_streams), (Some(0.175), 3));
        assert_eq!(history([(0, 0)].into_iter()).present().requests_per_second, None);
        assert_eq!(StateHistory::default().present().time_to_first_byte_p95, None);
    }
}
