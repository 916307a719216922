//! The choices of sessions, while those that they prefer rest, and afterwards.

use std::time::Duration;

use super::tests::{All, entries, id};
use super::*;
use crate::credentials::CredentialFault;

const SECOND: Duration = Duration::from_secs(1);
const SESSIONS: u32 = 300;

fn session(number: u32) -> SessionKey {
    SessionKey::of(&number.to_be_bytes())
}

fn selector(all: &All, number: u32) -> Selector<'_> {
    Selector { credentials: all, rotation: &all.rotation, session: Some(session(number)) }
}

/// The rank of each session.
fn ranks(all: &All) -> Vec<Vec<usize>> {
    (0..SESSIONS).map(|number| all.rotation.ranking(session(number)).map(CredentialId::index).collect()).collect()
}

/// The credential of each session; a probe that it makes is given up.
fn chosen(all: &All, now: Instant) -> Vec<usize> {
    let choose = |number| match selector(all, number).first(Owner::Unknown, now).expect("no owner") {
        Choice::Use(turn) => turn.credential.index(),
        other => panic!("{other:?}"),
    };
    (0..SESSIONS).map(choose).collect()
}

/// Returns whether the choice is this credential, as no probe.
fn uses(choice: &Choice, credential: CredentialId) -> bool {
    matches!(choice, Choice::Use(turn) if turn.credential == credential && !turn.is_probe())
}

fn limited(time: Duration) -> CredentialFault {
    CredentialFault::RateLimited { retry_after: Some(time) }
}

#[test]
fn a_session_keeps_its_credential_and_takes_no_turn() {
    let (all, now) = (entries(&[("a", 1), ("b", 1), ("c", 1)]), Instant::now());
    let first: Vec<usize> = ranks(&all).iter().map(|rank| rank[0]).collect();
    assert_eq!((chosen(&all, now), chosen(&all, now)), (first.clone(), first));
    assert_eq!(all.rotation.turns_taken(), 0);
}

#[test]
fn a_rest_moves_only_the_sessions_of_the_one_that_rests_each_to_its_next_and_back_afterwards() {
    let (all, now) = (entries(&[("a", 1), ("b", 2), ("c", 1), ("b", 1)]), Instant::now());
    let ranks = ranks(&all);
    let before = chosen(&all, now);
    all.cool(id(1), limited(10 * SECOND), now, now);
    let expected: Vec<usize> = ranks.iter().map(|rank| if rank[0] == 1 { rank[1] } else { rank[0] }).collect();
    assert_eq!(chosen(&all, now + SECOND), expected);
    assert!(expected.contains(&0) && expected.contains(&2) && before.contains(&1));
    all.cool(id(0), limited(10 * SECOND), now, now);
    assert!(chosen(&all, now + SECOND).iter().all(|index| *index == 2));
    assert_eq!(chosen(&all, now + 10 * SECOND), before);
}

#[test]
fn the_probe_after_a_rest_is_a_request_of_one_of_its_sessions_and_the_others_wait_elsewhere() {
    let (all, now) = (entries(&[("a", 1), ("b", 1)]), Instant::now());
    let (own, others): (Vec<u32>, Vec<u32>) =
        (0..SESSIONS).partition(|number| all.rotation.first_for(session(*number)) == id(0));
    all.cool(id(0), limited(SECOND), now, now);
    let end = now + SECOND;
    let choose = |number| selector(&all, number).first(Owner::Unknown, end).expect("no owner");
    assert!(uses(&choose(others[0]), id(1)), "no probe by another's");
    let Choice::Use(probe) = choose(own[0]) else { panic!("no turn") };
    assert_eq!((probe.credential, probe.is_probe()), (id(0), true));
    assert!(uses(&choose(own[1]), id(1)));
    assert!(all.restore(id(0), end, end));
    assert!(uses(&choose(own[1]), id(0)));
}

#[test]
fn a_rest_for_a_model_moves_only_requests_for_it() {
    let (all, now) = (entries(&[("a", 1), ("b", 1), ("c", 1)]), Instant::now());
    let number = (0..SESSIONS).find(|number| all.rotation.first_for(session(*number)) == id(1)).expect("one");
    let next = all.rotation.ranking(session(number)).nth(1).expect("another");
    let [m, n] = ["m", "n"].map(|model| RestScope::Model(model.into()));
    all.cool_for(id(1), &m, limited(10 * SECOND), now, now);
    let selector = selector(&all, number);
    let first = selector.first(Owner::Unknown, now).expect("no owner");
    assert!(matches!(first, Choice::Open { preferred } if preferred == id(1)));
    assert!(uses(&selector.choose_again(id(1), Some(&m), false, now), next));
    assert!(uses(&selector.choose_again(id(1), Some(&n), false, now), id(1)));
}

#[test]
fn failover_goes_on_in_the_rank_of_the_session_with_suspected_ones_last() {
    let (all, now) = (entries(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]), Instant::now());
    for (number, rank) in ranks(&all).iter().enumerate().take(40) {
        let selector = selector(&all, number as u32);
        let rank: Vec<CredentialId> = rank.iter().map(|index| id(*index as u16)).collect();
        let other = |tried: &[CredentialId]| selector.other(rank[0], tried, None, now).map(|turn| turn.credential);
        assert_eq!(
            [other(&[]), other(&rank[1..2]), other(&rank[1..3]), other(&rank)],
            [Some(rank[1]), Some(rank[2]), Some(rank[3]), None]
        );
        let suspicion = all.suspect(rank[1], now);
        assert_eq!(other(&[]), Some(rank[2]));
        assert_eq!(other(&rank[2..]), Some(rank[1]));
        drop(suspicion);
    }
}

#[test]
fn two_files_with_the_same_entries_in_another_order_agree() {
    let one = entries(&[("a", 3), ("b", 1), ("c", 2), ("a", 1)]);
    let other = entries(&[("c", 2), ("a", 4), ("b", 1)]);
    let name = |all: &All, number| all.entry(all.rotation.first_for(session(number))).client_id.clone();
    for number in 0..SESSIONS {
        assert_eq!(name(&one, number), name(&other, number));
    }
}
