use std::sync::Arc;

use super::*;
use crate::credentials::quota::answer::QuotaAnswer;
use crate::credentials::quota::moment::UnixSecond;
use crate::credentials::{Choice, CredentialFault, FaultKind, Owner, Rotations, from_json};

const MINUTE: Duration = Duration::from_secs(60);

/// Makes credentials with one identity for each letter; equal letters are one identity.
fn credentials(letters: &str) -> Arc<Credentials> {
    let entry =
        |letter: char| format!(r#"{{"name":"{letter}","clientId":"{letter}","clientSecret":"s","tenant":"t"}}"#);
    let entries: Vec<String> = letters.chars().map(entry).collect();
    Arc::new(from_json(&format!("[{}]", entries.join(","))).expect("valid").credentials)
}

fn ids(credentials: &Credentials) -> Vec<CredentialId> {
    credentials.ids().collect()
}

fn start() -> QuotaMoment {
    QuotaMoment { instant: Instant::now(), unix: UnixSecond(1_796_083_200) }
}

fn after(start: QuotaMoment, time: Duration) -> QuotaMoment {
    QuotaMoment { instant: start.instant + time, unix: UnixSecond(start.unix.0 + time.as_secs()) }
}

/// The answers to a user whose budget is renewed in a day.
fn told(user: Option<&str>, used: f64, is_blocked: bool) -> QuotaAnswers {
    let budget = QuotaAnswer {
        user: user.map(str::to_owned),
        used: Some(used),
        limit: Some(100.0),
        is_blocked: Some(is_blocked),
        renewal: Some(UnixSecond(start().unix.0 + 86_400)),
    };
    QuotaAnswers { budget: Some(budget), requests: None }
}

fn names(credentials: &Credentials) -> Vec<(String, usize)> {
    credentials.quota_groups().into_iter().map(|group| (group.name, group.credentials.len())).collect()
}

/// Returns what the log does not say yet: the user, what it is, and the places of the credentials.
fn news(credentials: &Credentials) -> Vec<String> {
    let told = |what: &str, group: &QuotaGroup| {
        let places: Vec<String> = group.credentials.iter().map(|id| id.index().to_string()).collect();
        format!("{} {what} {}", group.name, places.join(" "))
    };
    let news = credentials.quota_news(start().unix).into_iter();
    let line = |news| match news {
        QuotaNews::Begins(group) => told("begins", &group),
        QuotaNews::Joins(group) => told("joins", &group),
        QuotaNews::Ends(group) => told("ends", &group),
    };
    news.map(line).collect()
}

fn next(rotations: &Rotations, now: Instant) -> Choice {
    let selection = rotations.selection(None, None).expect("credentials");
    rotations.selector(selection).first(Owner::Unknown, now).expect("no owner")
}

/// Returns the credentials of the next turns.
fn turns(credentials: &Arc<Credentials>, now: Instant) -> Vec<usize> {
    let rotations = Rotations::new(credentials.clone(), None);
    let mut used: Vec<usize> = (0..30).map(|_| next(&rotations, now).credential().index()).collect();
    used.sort_unstable();
    used.dedup();
    used
}

#[test]
fn the_credentials_of_one_user_are_one_group_with_what_was_told_last() {
    let credentials = credentials("abacde");
    let (ids, at) = (ids(&credentials), start());
    assert!(credentials.quota_groups().is_empty());
    credentials.note_quotas(ids[0], &told(Some("u"), 10.0, false), at);
    credentials.note_quotas(ids[3], &told(Some("u"), 12.0, false), after(at, MINUTE));
    credentials.note_quotas(ids[1], &told(None, 1.0, false), at);
    credentials.note_quotas(ids[4], &told(None, 2.0, false), at);
    // The second entry of an identity, and one that was told nothing.
    assert_eq!(names(&credentials), [("u".into(), 3), ("b".into(), 1), ("d".into(), 1)]);
    let used = |group: &QuotaGroup| group.quota(QuotaKind::Budget).and_then(|budget| budget.used);
    assert_eq!(used(&credentials.quota_groups()[0]), Some(12.0));
    assert_eq!(credentials.identities().len(), 5);
}

#[test]
fn the_name_of_a_user_is_short_and_its_own() {
    let credentials = credentials("abc");
    let (ids, at) = (ids(&credentials), start());
    let long = |middle: &str| format!("0123456789{middle}abcdef");
    credentials.note_quotas(ids[0], &told(Some(&long("-one-long-id-")), 1.0, false), at);
    credentials.note_quotas(ids[1], &told(Some(&long("-another-long-id-")), 1.0, false), at);
    credentials.note_quotas(ids[2], &told(Some("b"), 1.0, false), at);
    assert_eq!(
        names(&credentials),
        [("0123456789…abcdef".into(), 1), ("0123456789…abcdef#2".into(), 1), ("b".into(), 1)]
    );
}

#[test]
fn all_credentials_of_a_blocked_user_rest_until_the_renewal_and_no_probe_ends_it() {
    let credentials = credentials("abc");
    let (ids, at) = (ids(&credentials), start());
    credentials.note_quotas(ids[1], &told(Some("u"), 90.0, false), at);
    assert_eq!(credentials.note_quotas(ids[0], &told(Some("u"), 100.0, true), after(at, MINUTE)), [ids[0], ids[1]]);
    assert_eq!(credentials.note_quotas(ids[1], &told(Some("u"), 100.0, true), after(at, 2 * MINUTE)), []);
    let resting = |id, time| credentials.cooling(id, (at.instant) + time).map(|cooling| cooling.kind);
    for id in [ids[0], ids[1]] {
        assert_eq!(resting(id, 3 * MINUTE), Some(FaultKind::QuotaBlocked));
        assert_eq!(resting(id, 1439 * MINUTE), Some(FaultKind::QuotaBlocked));
        assert_eq!(resting(id, 1441 * MINUTE), None);
        // Good answers, to attempts before and after the rest began.
        credentials.restore(id, at.instant, at.instant + 3 * MINUTE);
        credentials.restore(id, at.instant + 3 * MINUTE, at.instant + 3 * MINUTE);
        assert_eq!(resting(id, 3 * MINUTE), Some(FaultKind::QuotaBlocked));
    }
    assert_eq!(turns(&credentials, at.instant + 3 * MINUTE), [2]);
    assert_eq!(turns(&credentials, at.instant + 1441 * MINUTE), [0, 1, 2]);
}

#[test]
fn an_answer_that_says_so_ends_the_rest_and_no_other() {
    let credentials = credentials("abc");
    let (ids, at) = (ids(&credentials), start());
    for id in [ids[0], ids[1]] {
        credentials.note_quotas(id, &told(Some("u"), 100.0, true), at);
    }
    let limited = CredentialFault::RateLimited { retry_after: Some(10 * MINUTE) };
    credentials.cool(ids[0], limited, at.instant + MINUTE, at.instant + MINUTE);
    credentials.note_quotas(ids[1], &told(Some("u"), 100.0, false), after(at, 5 * MINUTE));
    let cooling = |id| credentials.cooling(id, at.instant + 5 * MINUTE).map(|cooling| cooling.kind);
    assert_eq!((cooling(ids[0]), cooling(ids[1])), (Some(FaultKind::RateLimited), None));
}

#[test]
fn where_all_are_blocked_one_is_asked_and_nobody_waits() {
    let credentials = credentials("ab");
    let (ids, at) = (ids(&credentials), start());
    for id in &ids {
        credentials.note_quotas(*id, &told(Some("u"), 100.0, true), at);
    }
    let rotations = Rotations::new(credentials, None);
    for _ in 0..10 {
        let choice = next(&rotations, at.instant + MINUTE);
        assert!(matches!(&choice, Choice::Use(turn) if !turn.is_probe()), "{choice:?}");
    }
}

#[test]
fn the_log_says_once_that_a_user_is_blocked_and_once_that_it_is_not() {
    let credentials = credentials("abcb");
    let (ids, at) = (ids(&credentials), start());
    assert_eq!(news(&credentials), [""; 0]);
    credentials.note_quotas(ids[0], &told(Some("u"), 100.0, true), at);
    credentials.note_quotas(ids[2], &told(Some("v"), 1.0, false), at);
    assert_eq!(news(&credentials), ["u begins 0"]);
    // A second credential of the same user, of which there are two entries.
    credentials.note_quotas(ids[1], &told(Some("u"), 100.0, true), after(at, MINUTE));
    assert_eq!(news(&credentials), ["u joins 1 3"]);
    assert_eq!(news(&credentials), [""; 0]);
    credentials.note_quotas(ids[1], &told(Some("u"), 100.0, false), after(at, 5 * MINUTE));
    assert_eq!(news(&credentials), ["u ends 0 1 3"]);
    assert_eq!(news(&credentials), [""; 0]);
}

#[test]
fn the_log_says_too_that_a_user_with_two_entries_of_one_identity_is_blocked() {
    let credentials = credentials("aa");
    credentials.note_quotas(ids(&credentials)[0], &told(Some("u"), 100.0, true), start());
    assert_eq!(news(&credentials), ["u begins 0 1"]);
    assert_eq!(news(&credentials), [""; 0]);
}

#[test]
fn a_reload_keeps_the_quotas_of_the_identities_that_stay() {
    let before = credentials("abc");
    let (before_ids, at) = (ids(&before), start());
    before.note_quotas(before_ids[0], &told(Some("u"), 100.0, true), at);
    before.note_quotas(before_ids[1], &told(Some("u"), 100.0, true), at);
    let next = Arc::into_inner(credentials("cad")).expect("the only one").inherit(&before);
    assert_eq!(names(&next), [("u".into(), 1)]);
    let next_ids = ids(&next);
    assert!(next.cooling(next_ids[1], at.instant + MINUTE).is_some());
    // What the old snapshot learns, the new one knows.
    before.note_quotas(before_ids[2], &told(Some("w"), 1.0, false), at);
    assert_eq!(names(&next), [("w".into(), 1), ("u".into(), 1)]);
}

#[test]
fn a_quota_that_answers_say_is_used_up_rests_until_the_renewal_where_that_is_known() {
    let credentials = credentials("ab");
    let (ids, at) = (ids(&credentials), start());
    let used_up = |id| credentials.cool(id, CredentialFault::QuotaUsedUp, at.instant, at.instant);
    credentials.note_quotas(ids[0], &told(Some("u"), 99.0, false), at);
    assert_eq!(used_up(ids[0]), Some(1440 * MINUTE));
    assert_eq!(used_up(ids[1]), Some(15 * MINUTE));
    // The upstream said before that the user is not blocked, and says so still.
    credentials.note_quotas(ids[0], &told(Some("u"), 99.5, false), after(at, 5 * MINUTE));
    assert_eq!(credentials.cooling_for(ids[0], at.instant + 5 * MINUTE), Some(1435 * MINUTE));
    // With a higher limit it rests as long as it would have without.
    let mut raised = told(Some("u"), 99.5, false);
    raised.budget.iter_mut().for_each(|budget| budget.limit = Some(200.0));
    credentials.note_quotas(ids[0], &raised, after(at, 10 * MINUTE));
    assert_eq!(credentials.cooling_for(ids[0], at.instant + 10 * MINUTE), Some(5 * MINUTE));
}

#[test]
fn a_block_of_a_quota_that_is_not_told_any_more_ends_when_it_was_to_end() {
    let credentials = credentials("ab");
    let (ids, at) = (ids(&credentials), start());
    let mut blocked = told(Some("u"), 100.0, true);
    blocked.budget.iter_mut().for_each(|budget| budget.renewal = None);
    credentials.note_quotas(ids[0], &blocked, at);
    // From then on the other kind alone is told.
    let budget = QuotaAnswer { user: Some("u".into()), used: Some(1.0), ..QuotaAnswer::default() };
    let other = QuotaAnswers { requests: Some(budget), budget: None };
    for minutes in [5, 10, 14] {
        credentials.note_quotas(ids[0], &other, after(at, minutes * MINUTE));
        let left = credentials.cooling_for(ids[0], at.instant + minutes * MINUTE);
        assert_eq!(left, Some((15 - minutes) * MINUTE));
    }
    assert_eq!(credentials.quota_news(after(at, 14 * MINUTE).unix).len(), 1);
    credentials.note_quotas(ids[0], &other, after(at, 16 * MINUTE));
    assert_eq!(credentials.cooling_for(ids[0], at.instant + 16 * MINUTE), None);
    let news = credentials.quota_news(after(at, 16 * MINUTE).unix);
    assert!(matches!(news[..], [QuotaNews::Ends(_)]), "{news:?}");
}

#[test]
fn a_used_up_quota_does_not_wait_for_a_renewal_that_its_amounts_contradict() {
    let credentials = credentials("ab");
    let (ids, at) = (ids(&credentials), start());
    credentials.note_quotas(ids[0], &told(Some("u"), 40.0, false), at);
    assert_eq!(credentials.cool(ids[0], CredentialFault::QuotaUsedUp, at.instant, at.instant), Some(15 * MINUTE));
}

#[test]
fn those_whose_last_question_failed_are_counted_by_identity() {
    let credentials = credentials("aba");
    let ids = ids(&credentials);
    credentials.note_quotas_failing(ids[0], true);
    credentials.note_quotas_failing(ids[2], true);
    assert_eq!(credentials.quotas_failing_count(), 1);
    credentials.note_quotas_failing(ids[0], false);
    assert_eq!(credentials.quotas_failing_count(), 0);
}
