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
    assert!(budget.is_blocked(at.unix) && budget.renewal.is_some() && budget.used == Some(61.0));
    assert_eq!(told.requests.as_ref().and_then(|requests| requests.used), Some(7.0));
    let unblocked = QuotaAnswer { is_blocked: Some(false), limit: None, ..answer(62.0) };
    let told = ToldQuotas::after(Some(&told), &QuotaAnswers { budget: Some(unblocked), requests: None }, at);
    let budget = told.budget.expect("told");
    assert!(!budget.is_blocked(at.unix) && budget.limit.is_none());
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

#[test]
fn a_block_lasts_as_long_as_the_answer_that_told_it_says_and_no_other_prolongs_it() {
    let at = QuotaMoment { instant: Instant::now(), unix: UnixSecond(1_796_083_200) };
    let minutes = |count: u64| moment(at, count);
    let blocked_for =
        |quota: &Quota, count: u64| quota.blocked_for(minutes(count).unix).map(|time| time.as_secs() / 60);
    let first = QuotaAnswer { is_blocked: Some(true), ..answer(60.0) };
    let blocked = Quota::after(None, &first, at);
    assert_eq!([0, 10, 14, 15, 60].map(|count| blocked_for(&blocked, count)), [Some(15), Some(5), Some(1), None, None]);
    // Answers without a word of it, and then one with.
    let quiet = Quota::after(Some(&blocked), &answer(60.0), minutes(10));
    assert_eq!([10, 15].map(|count| blocked_for(&quiet, count)), [Some(5), None]);
    let again = Quota::after(Some(&quiet), &first, minutes(20));
    assert_eq!([20, 35].map(|count| blocked_for(&again, count)), [Some(15), None]);
    // A renewal that passes, and a new cycle.
    let renewal = Some(minutes(30).unix);
    let renewed = Quota::after(None, &QuotaAnswer { renewal, ..first.clone() }, at);
    assert_eq!([0, 29, 30].map(|count| blocked_for(&renewed, count)), [Some(30), Some(1), None]);
    let passed = Quota::after(Some(&renewed), &answer(60.0), minutes(31));
    assert!(!passed.is_blocked(minutes(31).unix) && passed.has_more_than(&renewed));
    let fallen = Quota::after(Some(&renewed), &answer(1.0), minutes(10));
    assert!(!fallen.is_blocked(minutes(10).unix));
}

#[test]
fn a_renewal_is_that_of_a_quota_that_may_be_used_up() {
    let at = QuotaMoment::now();
    let told = |used: Option<f64>, limit, is_blocked, hours: u64| {
        let renewal = Some(UnixSecond(at.unix.0 + hours * 3600));
        Some(QuotaAnswer { user: None, used, limit, is_blocked: Some(is_blocked), renewal })
    };
    let some = |used: f64, is_blocked, hours| told(Some(used), Some(100.0), is_blocked, hours);
    for (budget, requests, hours) in [
        (some(40.0, false, 1), None, None),
        (some(40.0, false, 1), some(20.0, false, 2), None),
        (some(89.9, false, 1), None, None),
        (some(90.0, false, 1), some(20.0, false, 2), Some(1)),
        (some(91.0, false, 1), some(95.0, false, 2), Some(2)),
        (some(40.0, true, 1), some(95.0, false, 2), Some(1)),
        (told(Some(40.0), None, false, 1), None, Some(1)),
        (told(None, Some(100.0), false, 1), some(20.0, false, 2), Some(1)),
    ] {
        let record = QuotaRecord::default();
        record.note(&QuotaAnswers { budget, requests }, at);
        let renewal = record.renewal().map(|renewal| (renewal - at.instant).as_secs() / 3600);
        assert_eq!(renewal, hours, "{:?}", record.told());
    }
}
