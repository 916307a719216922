use super::*;
use crate::credentials::standing::{Availability, PathFamily};

const SECOND: Duration = Duration::from_secs(1);
const LIMITED: CredentialFault = CredentialFault::RateLimited { retry_after: None };

fn model(name: &str) -> RestScope {
    RestScope::Model(Arc::from(name))
}

fn identity() -> Arc<Standing> {
    Arc::new(Standing::default())
}

/// The moment from which tests count: well after the birth of what they make.
fn start() -> Instant {
    Instant::now() + 1000 * SECOND
}

#[test]
fn a_rest_is_of_one_identity_for_one_model() {
    let (rests, start, [a, b]) = (Rests::default(), start(), [identity(), identity()]);
    assert_eq!(rests.cool(&a, &model("m"), LIMITED, start, start), Some(30 * SECOND));
    let is_free = |identity, scope: &RestScope| {
        rests.resting(scope, start).of(identity).is_none_or(|rest| rest.availability(start) == Availability::Free)
    };
    assert!(!is_free(&a, &model("m")));
    assert!(is_free(&b, &model("m")) && is_free(&a, &model("n")) && is_free(&a, &RestScope::Paths(PathFamily::Chat)));
    assert!(a.has_scoped() && !a.is_clear() && b.is_clear());
    assert_eq!(a.availability(start), Availability::Free, "as a whole");
}

#[test]
fn a_good_answer_ends_a_rest_and_leaves_nothing() {
    let (rests, start, a) = (Rests::default(), start(), identity());
    rests.cool(&a, &model("m"), LIMITED, start, start);
    rests.cool(&a, &model("n"), LIMITED, start, start);
    assert!(!rests.restore(&a, &model("m"), start - SECOND), "its attempt began before the rest did");
    assert!(rests.restore(&a, &model("m"), start) && a.has_scoped());
    assert!(!rests.restore(&a, &model("m"), start), "told once");
    assert!(rests.restore(&a, &model("n"), start));
    assert!(rests.is_empty() && a.is_clear());
}

#[test]
fn a_rest_doubles_until_it_is_forgotten() {
    let (rests, start, a) = (Rests::default(), start(), identity());
    let cool = |at| rests.cool(&a, &model("m"), LIMITED, at, at);
    assert_eq!(cool(start), Some(30 * SECOND));
    assert_eq!(rests.cool(&a, &model("m"), LIMITED, start - SECOND, start + SECOND), None, "of the same period");
    assert_eq!(cool(start + 59 * SECOND), Some(60 * SECOND));
    // It ended 60 s ago, and took as long.
    let later = start + (59 + 120) * SECOND;
    rests.resting(&model("another"), later);
    assert!(rests.is_empty() && a.is_clear());
    assert_eq!(cool(later), Some(30 * SECOND));
}

#[test]
fn no_wait_asked_for_is_no_rest() {
    let (rests, start, a) = (Rests::default(), start(), identity());
    let fault = CredentialFault::RateLimited { retry_after: Some(Duration::ZERO) };
    assert_eq!(rests.cool(&a, &model("m"), fault, start, start), None);
    assert!(rests.is_empty() && a.is_clear());
}

#[test]
fn a_thousand_rests_are_kept_and_the_oldest_go() {
    let (rests, start, [a, b]) = (Rests::default(), start(), [identity(), identity()]);
    rests.cool(&a, &model("first"), LIMITED, start, start);
    for number in 0..RESTS_MAX {
        rests.cool(&b, &model(&number.to_string()), LIMITED, start, start);
    }
    assert_eq!(rests.table.load().len(), RESTS_MAX);
    assert!(a.is_clear() && b.has_scoped());
    for number in 0..2 * LIMITS_MAX {
        rests.limit(&model(&number.to_string()), start + SECOND, start);
    }
    assert_eq!(rests.limits(start).len(), LIMITS_MAX);
}

#[test]
fn three_models_within_a_minute_and_nothing_good_in_between_are_the_identity() {
    let limited = |at: [u64; 3], good: Option<u64>| {
        let (rests, start, a) = (Rests::default(), start(), identity());
        for (number, at) in at.into_iter().enumerate() {
            let at = start + at as u32 * SECOND;
            rests.cool(&a, &model(&number.to_string()), LIMITED, at, at);
        }
        if let Some(good) = good {
            a.note_good(start + good as u32 * SECOND);
        }
        rests.limits_add_up(&a, start + at[2] as u32 * SECOND)
    };
    assert!(limited([0, 1, 2], None));
    assert!(limited([0, 30, 59], None));
    assert!(!limited([0, 30, 61], None), "too long ago");
    assert!(!limited([0, 2, 4], Some(1)), "it succeeded in between");
}

#[test]
fn families_of_paths_and_other_refusals_do_not_count_as_models() {
    let (rests, start, a) = (Rests::default(), start(), identity());
    for scope in [PathFamily::Chat, PathFamily::Messages, PathFamily::Files].map(RestScope::Paths) {
        rests.cool(&a, &scope, LIMITED, start, start);
    }
    for name in ["m", "n"] {
        rests.cool(&a, &model(name), LIMITED, start, start);
    }
    rests.cool(&a, &model("o"), CredentialFault::Forbidden, start, start);
    assert!(!rests.limits_add_up(&a, start));
}

#[test]
fn a_second_model_whose_quota_is_used_up_is_the_identity() {
    let (rests, start, a) = (Rests::default(), start(), identity());
    assert_eq!(rests.cool(&a, &model("m"), CredentialFault::QuotaUsedUp, start, start), Some(15 * 60 * SECOND));
    assert!(!rests.quotas_add_up(&a, start));
    let later = start + 14 * 60 * SECOND;
    rests.cool(&a, &model("n"), CredentialFault::QuotaUsedUp, later, later);
    assert!(rests.quotas_add_up(&a, later));
    assert!(!rests.quotas_add_up(&a, later + 2 * 60 * SECOND), "the first has ended");
}

#[test]
fn a_limit_is_known_to_others_for_a_second_or_until_a_good_answer() {
    let (rests, start, [a, b]) = (Rests::default(), start(), [identity(), identity()]);
    let is_known = |identity, name, at| rests.recent_limit(identity, &model(name), at).is_some();
    rests.note_recent(&a, &model("m"), 45 * SECOND, start);
    assert!(is_known(&a, "m", start) && !is_known(&b, "m", start) && !is_known(&a, "n", start));
    assert_eq!(rests.recent_limit(&a, &model("m"), start + SECOND / 2), Some(89 * SECOND / 2), "of what it asked");
    assert!(!is_known(&a, "m", start + SECOND) && a.is_clear(), "nothing rests");
    a.note_good(start + SECOND / 2);
    assert!(!is_known(&a, "m", start + SECOND / 2));
    rests.note_recent(&a, &model("m"), Duration::ZERO, start + SECOND);
    assert!(!is_known(&a, "m", start + SECOND), "it asks for no time");
    for number in 0..2 * RECENT_MAX {
        rests.note_recent(&a, &model(&number.to_string()), SECOND, start);
    }
    assert_eq!(rests.recent.load().len(), RECENT_MAX);
}

#[test]
fn a_limit_for_everybody_ends_by_itself() {
    let (rests, start) = (Rests::default(), start());
    rests.limit(&model("m"), start + SECOND, start);
    assert!(rests.is_limited(&model("m"), start) && !rests.is_limited(&model("n"), start));
    assert!(!rests.is_limited(&model("m"), start + SECOND));
    assert!(rests.limits(start + SECOND).is_empty());
    assert!(rests.has_limits(start) && !rests.has_limits(start + SECOND));
}

#[test]
fn a_limit_for_everybody_ends_with_a_good_answer_to_an_attempt_that_began_after_it_did() {
    let (rests, start) = (Rests::default(), start());
    for name in ["m", "n"] {
        rests.limit(&model(name), start + SECOND, start);
    }
    assert!(!rests.end_limit(&model("m"), start - SECOND, start) && rests.is_limited(&model("m"), start));
    assert!(rests.end_limit(&model("m"), start, start) && !rests.is_limited(&model("m"), start));
    assert!(!rests.end_limit(&model("m"), start, start), "told once");
    assert!(rests.is_limited(&model("n"), start) && rests.has_limits(start));
    assert!(rests.end_limit(&model("n"), start, start) && !rests.has_limits(start));
}

#[test]
fn models_that_may_not_be_used_are_forgotten_where_none_may_be() {
    let (rests, start, [a, b]) = (Rests::default(), start(), [identity(), identity()]);
    for (identity, name) in [(&a, "m"), (&a, "n"), (&b, "m")] {
        rests.cool(identity, &model(name), CredentialFault::Forbidden, start, start);
    }
    rests.cool(&a, &model("limited"), LIMITED, start, start);
    rests.forget_forbidden(&a);
    assert_eq!([&a, &b].map(|identity| rests.of_identity(identity, start).len()), [1, 1]);
}

#[test]
fn rests_of_identities_that_are_gone_are_dropped() {
    let (rests, start, [a, b]) = (Rests::default(), start(), [identity(), identity()]);
    rests.cool(&a, &model("m"), LIMITED, start, start);
    rests.cool(&b, &model("m"), LIMITED, start, start);
    rests.keep_identities(|identity| Arc::ptr_eq(identity, &a));
    assert_eq!((rests.of_identity(&a, start).len(), rests.table.load().len()), (1, 1));
}

#[test]
fn the_flags_follow_the_table_under_threads() {
    let (rests, start, a) = (Rests::default(), start(), identity());
    let work = |seed: u64| {
        for round in 0..2_000 {
            let scope = model(["m", "n", "o"][((round + seed) % 3) as usize]);
            if (round / 3 + seed).is_multiple_of(2) {
                rests.cool(&a, &scope, LIMITED, start, start);
            } else {
                rests.restore(&a, &scope, start);
            }
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|seed| drop(scope.spawn(move || work(seed)))));
    assert_eq!(a.has_scoped(), !rests.is_empty());
    ["m", "n", "o"].iter().for_each(|name| _ = rests.restore(&a, &model(name), start));
    assert!(rests.is_empty() && a.is_clear());
}
