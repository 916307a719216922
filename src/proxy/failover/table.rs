//! The failover table, as a pure function: it decides whether an exchange gets another attempt.
//!
//! [`decide`] looks up the [`AttemptClass`] of the last attempt together with the [`Situation`]. Not here: the choice
//! of the next credential, and whether the process can afford the attempt (`failover`).

use std::time::Duration;

use crate::proxy::attempt_class::AttemptClass;

/// Attempts beyond the first after a failure of the connection or of the upstream.
const REPEATS_MAX: u32 = 2;

/// Different credentials that one request may have refused (401, 403): if three say no, it is the request.
const REFUSALS_MAX: u32 = 3;

/// Different credentials that one request asks for an object that nobody knows, refusals included.
const SEEKERS_MAX: u32 = 3;

/// Other credentials that one request may try after a 429. More than any user has; with hundreds of entries of one
/// tenant, whose limit they share, every request would else try them all.
const SWITCHES_MAX: u32 = 16;

/// A failure that took longer is not tried again: by then the upstream may have done, and charged for, most of the work.
const FAST_FAILURE: Duration = Duration::from_secs(15);

/// The shortest and longest pause before the same is tried again. Jittered, so that the requests that failed together do
/// not come back together.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(250));

/// The state of the exchange, on which the decision depends besides the class.
#[derive(Debug, Clone, Copy)]
pub struct Situation {
    /// The duration of the attempt, its connect included.
    pub attempt_age: Duration,
    /// The time since the exchange began.
    pub exchange_age: Duration,
    /// No attempt starts when the exchange is older (`--retry-deadline`).
    pub deadline: Duration,
    /// The request can be sent again from its first byte.
    pub copy_is_whole: bool,
    /// The request may reach the upstream twice.
    pub may_replay: bool,
    /// Attempts that were made for [`Decision::Repeat`] so far.
    pub repeats: u32,
    /// Different credentials that answered 401 or 403, this attempt's included.
    pub refusals: u32,
    /// Different credentials that answered that there is no such object, this attempt's included.
    pub not_found: u32,
    /// Attempts that were made for [`Decision::Switch`] so far; they bound those after a 429.
    pub switches: u32,
}

/// The consequence of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// No other attempt: the best answer so far goes downstream.
    Settle,
    /// Another attempt after a pause, if the process can afford it, with the next credential or the same.
    Repeat { next_credential: bool },
    /// Another attempt at once, if there is another credential.
    Switch,
}

/// Looks the class up in the failover table.
pub fn decide(class: AttemptClass, situation: &Situation) -> Decision {
    if !situation.copy_is_whole || situation.exchange_age >= situation.deadline {
        return Decision::Settle;
    }
    let may_repeat = situation.repeats < REPEATS_MAX;
    let is_fast = situation.attempt_age < FAST_FAILURE;
    match class {
        AttemptClass::Unreachable if may_repeat => Decision::Repeat { next_credential: false },
        AttemptClass::Closed | AttemptClass::Unavailable if may_repeat && situation.may_replay && is_fast => {
            Decision::Repeat { next_credential: true }
        }
        // It took its limit's time to show, so only the deadline of the exchange counts.
        AttemptClass::Stalled if may_repeat && situation.may_replay => Decision::Repeat { next_credential: true },
        AttemptClass::Refused if situation.refusals < REFUSALS_MAX => Decision::Switch,
        AttemptClass::NotFound if situation.not_found + situation.refusals < SEEKERS_MAX => Decision::Switch,
        AttemptClass::RateLimited if situation.switches < SWITCHES_MAX => Decision::Switch,
        AttemptClass::Unreachable
        | AttemptClass::Closed
        | AttemptClass::Stalled
        | AttemptClass::Unavailable
        | AttemptClass::Refused
        | AttemptClass::NotFound
        | AttemptClass::RateLimited
        | AttemptClass::Settled => Decision::Settle,
    }
}

/// The pause before a [`Decision::Repeat`]; `dice` is random, from 0 to 1.
pub fn back_off(dice: f64) -> Duration {
    let (shortest, longest) = BACK_OFF;
    shortest + (longest - shortest).mul_f64(dice.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Situation = Situation {
        attempt_age: Duration::from_millis(5),
        exchange_age: Duration::from_millis(5),
        deadline: Duration::from_secs(60),
        copy_is_whole: true,
        may_replay: true,
        repeats: 0,
        refusals: 0,
        not_found: 0,
        switches: 0,
    };
    const SAME: Decision = Decision::Repeat { next_credential: false };
    const NEXT: Decision = Decision::Repeat { next_credential: true };
    const ALL: [AttemptClass; 8] = [
        AttemptClass::Unreachable,
        AttemptClass::Closed,
        AttemptClass::Stalled,
        AttemptClass::Unavailable,
        AttemptClass::Refused,
        AttemptClass::RateLimited,
        AttemptClass::NotFound,
        AttemptClass::Settled,
    ];

    fn decisions(situation: Situation) -> [Decision; 8] {
        ALL.map(|class| decide(class, &situation))
    }

    #[test]
    fn every_class_has_its_row() {
        let settle = Decision::Settle;
        let switch = Decision::Switch;
        for (what, situation, expected) in [
            ("a first attempt", FRESH, [SAME, NEXT, NEXT, NEXT, switch, switch, switch, settle]),
            (
                "two repeats",
                Situation { repeats: 2, ..FRESH },
                [settle, settle, settle, settle, switch, switch, switch, settle],
            ),
            (
                "a request that must not be sent twice",
                Situation { may_replay: false, ..FRESH },
                [SAME, settle, settle, settle, switch, switch, switch, settle],
            ),
            (
                "15 s",
                Situation { attempt_age: FAST_FAILURE, exchange_age: FAST_FAILURE, ..FRESH },
                [SAME, settle, NEXT, settle, switch, switch, switch, settle],
            ),
            (
                "three refusals",
                Situation { refusals: 3, ..FRESH },
                [SAME, NEXT, NEXT, NEXT, settle, switch, settle, settle],
            ),
            (
                "three that know no such object",
                Situation { not_found: 3, ..FRESH },
                [SAME, NEXT, NEXT, NEXT, switch, switch, settle, settle],
            ),
            (
                "two that know no such object and one that refuses",
                Situation { not_found: 2, refusals: 1, ..FRESH },
                [SAME, NEXT, NEXT, NEXT, switch, switch, settle, settle],
            ),
            (
                "16 switches",
                Situation { switches: 16, ..FRESH },
                [SAME, NEXT, NEXT, NEXT, switch, settle, switch, settle],
            ),
            ("the deadline", Situation { exchange_age: FRESH.deadline, ..FRESH }, [settle; 8]),
            ("no copy", Situation { copy_is_whole: false, ..FRESH }, [settle; 8]),
        ] {
            assert_eq!(decisions(situation), expected, "{what}");
        }
    }

    #[test]
    fn pauses_are_spread_over_the_whole_range() {
        assert_eq!(back_off(0.0), Duration::from_millis(50));
        assert_eq!(back_off(0.5), Duration::from_millis(150));
        assert_eq!(back_off(1.0), Duration::from_millis(250));
    }
}
