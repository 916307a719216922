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

/// Different credentials that one request asks for an object that nobody knows, whatever else they answer.
const SEEKERS_MAX: u32 = 3;

/// Different credentials that one request may ask after a 429 or a used-up quota. More than any user has; with hundreds
/// of entries of one tenant, whose limit they share, every request would else try them all.
const ASKED_MAX: u32 = 16;

/// A failure that took longer is not tried again: by then the upstream may have done, and charged for, most of the
/// work.
const FAST_FAILURE: Duration = Duration::from_secs(15);

/// The shortest and longest pause before the same is tried again. Jittered, so that the requests that failed together
/// do not come back together.
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
    pub replay_is_whole: bool,
    /// The request may reach the upstream twice.
    pub may_replay: bool,
    /// Attempts that were made for [`Decision::Repeat`] so far.
    pub repeats: u32,
    /// Different credentials that answered 401 or 403, this attempt's included.
    pub refusals: u32,
    /// Different credentials that answered as [`AttemptClass::is_of_credential`] says, this attempt's included.
    pub asked: u32,
    /// It is known that requests of this kind are limited whoever makes them.
    pub is_limited_for_all: bool,
    /// Different credentials that answered that there is no such object, this attempt's included.
    pub not_found: u32,
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
    if !situation.replay_is_whole || situation.exchange_age >= situation.deadline {
        return Decision::Settle;
    }
    let may_repeat = situation.repeats < REPEATS_MAX;
    let is_fast = situation.attempt_age < FAST_FAILURE;
    // Once one has said that there is no such object, the others are asked for it.
    let may_seek_on = situation.not_found == 0 || situation.asked < SEEKERS_MAX;
    let may_ask_on = situation.asked < ASKED_MAX && may_seek_on;
    match class {
        AttemptClass::Unreachable if may_repeat => Decision::Repeat { next_credential: false },
        AttemptClass::Closed | AttemptClass::Unavailable if may_repeat && situation.may_replay && is_fast => {
            Decision::Repeat { next_credential: true }
        }
        // It took its limit's time to show, so only the deadline of the exchange counts.
        AttemptClass::Stalled if may_repeat && situation.may_replay => Decision::Repeat { next_credential: true },
        AttemptClass::Unauthorized | AttemptClass::Forbidden if situation.refusals < REFUSALS_MAX && may_seek_on => {
            Decision::Switch
        }
        AttemptClass::RateLimited if may_ask_on && !situation.is_limited_for_all => Decision::Switch,
        AttemptClass::QuotaUsedUp if may_ask_on => Decision::Switch,
        AttemptClass::NotFound if situation.not_found + situation.refusals < SEEKERS_MAX && may_seek_on => {
            Decision::Switch
        }
        AttemptClass::Unreachable
        | AttemptClass::Closed
        | AttemptClass::Stalled
        | AttemptClass::Unavailable
        | AttemptClass::Unauthorized
        | AttemptClass::Forbidden
        | AttemptClass::NotFound
        | AttemptClass::RateLimited
        | AttemptClass::QuotaUsedUp
        | AttemptClass::Succeeded
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
        replay_is_whole: true,
        may_replay: true,
        repeats: 0,
        refusals: 0,
        asked: 1,
        is_limited_for_all: false,
        not_found: 0,
    };
    const SAME: Decision = Decision::Repeat { next_credential: false };
    const NEXT: Decision = Decision::Repeat { next_credential: true };
    const ALL: [AttemptClass; 11] = [
        AttemptClass::Unreachable,
        AttemptClass::Closed,
        AttemptClass::Stalled,
        AttemptClass::Unavailable,
        AttemptClass::Unauthorized,
        AttemptClass::Forbidden,
        AttemptClass::RateLimited,
        AttemptClass::QuotaUsedUp,
        AttemptClass::NotFound,
        AttemptClass::Succeeded,
        AttemptClass::Settled,
    ];

    fn decisions(situation: Situation) -> [Decision; 11] {
        ALL.map(|class| decide(class, &situation))
    }

    #[test]
    fn every_class_has_its_row() {
        let end = Decision::Settle;
        let other = Decision::Switch;
        for (what, situation, expected) in [
            ("a first attempt", FRESH, [SAME, NEXT, NEXT, NEXT, other, other, other, other, other, end, end]),
            (
                "two repeats",
                Situation { repeats: 2, ..FRESH },
                [end, end, end, end, other, other, other, other, other, end, end],
            ),
            (
                "a request that must not be sent twice",
                Situation { may_replay: false, ..FRESH },
                [SAME, end, end, end, other, other, other, other, other, end, end],
            ),
            (
                "15 s",
                Situation { attempt_age: FAST_FAILURE, exchange_age: FAST_FAILURE, ..FRESH },
                [SAME, end, NEXT, end, other, other, other, other, other, end, end],
            ),
            (
                "three refusals",
                Situation { refusals: 3, asked: 3, ..FRESH },
                [SAME, NEXT, NEXT, NEXT, end, end, other, other, end, end, end],
            ),
            (
                "15 asked",
                Situation { asked: 15, ..FRESH },
                [SAME, NEXT, NEXT, NEXT, other, other, other, other, other, end, end],
            ),
            (
                "16 asked",
                Situation { asked: 16, ..FRESH },
                [SAME, NEXT, NEXT, NEXT, other, other, end, end, other, end, end],
            ),
            (
                "limited whoever asks",
                Situation { is_limited_for_all: true, ..FRESH },
                [SAME, NEXT, NEXT, NEXT, other, other, end, other, other, end, end],
            ),
            (
                "three that know no such object",
                Situation { not_found: 3, asked: 3, ..FRESH },
                [SAME, NEXT, NEXT, NEXT, end, end, end, end, end, end, end],
            ),
            (
                "two that know no such object and one that refuses",
                Situation { not_found: 2, refusals: 1, asked: 3, ..FRESH },
                [SAME, NEXT, NEXT, NEXT, end, end, end, end, end, end, end],
            ),
            (
                "two that know no such object and one that is limited",
                Situation { not_found: 2, asked: 3, ..FRESH },
                [SAME, NEXT, NEXT, NEXT, end, end, end, end, end, end, end],
            ),
            (
                "one that knows no such object and two that refuse",
                Situation { not_found: 1, refusals: 2, asked: 3, ..FRESH },
                [SAME, NEXT, NEXT, NEXT, end, end, end, end, end, end, end],
            ),
            (
                "one that knows no such object and one that refuses",
                Situation { not_found: 1, refusals: 1, asked: 2, ..FRESH },
                [SAME, NEXT, NEXT, NEXT, other, other, other, other, other, end, end],
            ),
            ("the deadline", Situation { exchange_age: FRESH.deadline, ..FRESH }, [end; 11]),
            ("no copy", Situation { replay_is_whole: false, ..FRESH }, [end; 11]),
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
