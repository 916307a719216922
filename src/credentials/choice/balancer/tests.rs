use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::credentials::standing::{Availability, Claim, HeldProbe, Standing};
use crate::credentials::{CredentialFault, from_json};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Credentials, and the rotation of all of them.
#[derive(Debug)]
pub struct All {
    pub credentials: Credentials,
    pub rotation: Rotation,
    /// The choices of exchanges that go on.
    under_way: Mutex<Vec<Choice>>,
}

impl Deref for All {
    type Target = Credentials;

    fn deref(&self) -> &Credentials {
        &self.credentials
    }
}

impl All {
    pub fn of(credentials: Credentials) -> Self {
        let rotation = Rotation::new(&credentials, credentials.ids().collect(), u64::MAX, 0);
        All { credentials, rotation, under_way: Mutex::default() }
    }

    fn selector(&self) -> Selector<'_> {
        Selector { credentials: &self.credentials, rotation: &self.rotation, session: None }
    }

    fn next(&self, now: Instant) -> Choice {
        self.selector().first(Owner::Unknown, now).expect("no owner")
    }

    /// Chooses again for an exchange that prefers the credential of this index.
    fn choose_again(&self, preferred: u16, scope: Option<&RestScope>, has_waited_enough: bool, now: Instant) -> Choice {
        self.selector().choose_again(id(preferred), scope, has_waited_enough, now)
    }

    fn other(
        &self,
        from: CredentialId,
        tried: &[CredentialId],
        scope: Option<&RestScope>,
        now: Instant,
    ) -> Option<Turn> {
        self.selector().other(from, tried, scope, now)
    }

    fn last_resort(
        &self,
        from: CredentialId,
        tried: &[CredentialId],
        scope: Option<&RestScope>,
        now: Instant,
    ) -> Option<Turn> {
        self.selector().last_resort(from, tried, scope, false, now)
    }

    /// Abbreviates a choice: the index, `?` after that of a probe, or `-` before that of a wait. Its exchange goes on.
    fn short(&self, choice: Choice) -> String {
        let short = match &choice {
            Choice::Use(turn) => format!("{}{}", turn.credential.index(), if turn.is_probe() { "?" } else { "" }),
            Choice::Wait { credential, .. } => format!("-{}", credential.index()),
            Choice::Open { preferred } => format!("~{}", preferred.index()),
        };
        self.under_way.lock().unwrap().push(choice);
        short
    }

    /// Ends the exchanges that went on.
    fn end_all(&self) {
        self.under_way.lock().unwrap().clear();
    }
}

/// Makes one entry for each (identity, weight).
pub fn entries(entries: &[(&str, u16)]) -> All {
    let entry = |(identity, weight): &(&str, u16)| {
        format!(r#"{{"clientId":"{identity}","clientSecret":"hunter2","tenant":"t","weight":{weight}}}"#)
    };
    let entries: Vec<String> = entries.iter().map(entry).collect();
    All::of(from_json(&format!("[{}]", entries.join(","))).expect("valid").credentials)
}

/// Makes one entry of weight 1 for each letter, which is its identity.
fn credentials(identities: &str) -> All {
    let letters: Vec<String> = identities.chars().map(String::from).collect();
    entries(&letters.iter().map(|letter| (letter.as_str(), 1)).collect::<Vec<_>>())
}

pub fn id(index: u16) -> CredentialId {
    CredentialId(index)
}

/// Abbreviates the choices of so many exchanges, which go on.
fn order(credentials: &All, count: usize, now: Instant) -> String {
    let chosen: Vec<String> = (0..count).map(|_| credentials.short(credentials.next(now))).collect();
    chosen.join(" ")
}

fn counts(credentials: &All, count: usize, now: Instant) -> Vec<usize> {
    let mut counts = vec![0; credentials.len()];
    for _ in 0..count {
        match credentials.next(now) {
            Choice::Use(turn) => counts[turn.credential.index()] += 1,
            Choice::Wait { .. } | Choice::Open { .. } => panic!("nothing to wait for"),
        }
    }
    counts
}

#[test]
fn requests_get_a_b_c_a_and_the_period_joins_without_a_jump() {
    let credentials = credentials("abc");
    assert_eq!(order(&credentials, 7, Instant::now()), "0 1 2 0 1 2 0");
}

#[test]
fn threads_share_one_order() {
    const THREADS: usize = 4;
    const TURNS_EACH: usize = 3000;
    let credentials = credentials("abc");
    let total = thread::scope(|scope| {
        let take = || counts(&credentials, TURNS_EACH, Instant::now());
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(take)).collect();
        let mut total = [0; 3];
        for thread in threads {
            let counts = thread.join().expect("finished");
            total.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
        }
        total
    });
    assert_eq!(total, [THREADS * TURNS_EACH / 3; 3]);
}

#[test]
fn the_last_resort_is_the_one_that_is_free_soonest_and_was_not_tried() {
    let (credentials, now) = (credentials("abcd"), Instant::now());
    for (index, seconds) in [(1, 30), (2, 10), (3, 20)] {
        let fault = CredentialFault::RateLimited { retry_after: Some(seconds * SECOND) };
        credentials.cool(id(index), fault, now, now);
    }
    assert!(credentials.other(id(0), &[], None, now).is_none());
    let turn = credentials.last_resort(id(0), &[], None, now);
    assert!(turn.is_some_and(|turn| turn.credential == id(2) && turn.is_probe()));
    let turn = credentials.last_resort(id(0), &[id(2), id(3)], None, now);
    assert!(turn.is_some_and(|turn| turn.credential == id(1) && turn.is_probe()));
    assert!(credentials.last_resort(id(0), &[id(1), id(2), id(3)], None, now).is_none());
}

#[test]
fn one_whose_user_is_blocked_is_no_last_resort_but_for_what_nobody_else_has() {
    let (credentials, now) = (credentials("abc"), Instant::now());
    credentials.standing(id(1)).block(now + MINUTE, now);
    credentials.cool(id(2), CredentialFault::Refused, now, now);
    let resort = |tried: &[_], may_be_blocked, now| {
        let turn = credentials.selector().last_resort(id(0), tried, None, may_be_blocked, now);
        turn.map(|turn| turn.credential.index())
    };
    assert_eq!([resort(&[], false, now), resort(&[id(2)], false, now)], [Some(2), None]);
    assert_eq!([resort(&[], true, now), resort(&[id(1)], true, now)], [Some(1), Some(2)]);
    assert_eq!(resort(&[id(2)], false, now + MINUTE), Some(1), "the block has ended");
}

#[test]
fn a_limit_of_all_is_that_of_those_that_are_not_blocked() {
    let now = Instant::now();
    let m = model("m");
    let limited = |seconds: u32| CredentialFault::RateLimited { retry_after: Some(seconds * SECOND) };
    let shortest = |credentials: &All, now| credentials.shortest_limit_of_all(&m, &[(id(0), 20 * SECOND)], now);
    let credentials = credentials("abc");
    credentials.cool(id(1), limited(10), now, now);
    assert_eq!(shortest(&credentials, now), None, "c has not said so");
    credentials.standing(id(2)).block(now + MINUTE, now);
    assert_eq!(shortest(&credentials, now), Some(10 * SECOND));
    credentials.standing(id(1)).block(now + 5 * MINUTE, now);
    assert_eq!(shortest(&credentials, now), Some(20 * SECOND), "b cannot be asked either");
    assert_eq!(shortest(&credentials, now + MINUTE), None, "c is asked again");
    credentials.standing(id(0)).block(now + MINUTE, now);
    assert_eq!(shortest(&credentials, now), None, "nobody is left who says so");
}

#[test]
fn the_turns_of_one_that_cools_down_go_to_the_others_evenly() {
    let credentials = credentials("abcd");
    let now = Instant::now();
    assert_eq!(credentials.cool(id(1), CredentialFault::Refused, now, now), Some(5 * MINUTE));
    assert_eq!(counts(&credentials, 300, now), [100, 0, 100, 100]);
    // Of two neighbours too, where the next one in the order would get three turns of four.
    credentials.cool(id(2), CredentialFault::Refused, now, now);
    assert_eq!(counts(&credentials, 300, now), [150, 0, 0, 150]);
}

#[test]
fn the_turns_of_one_that_cools_down_go_to_the_others_in_proportion_to_their_weights() {
    let credentials = entries(&[("a", 30), ("b", 10), ("c", 20), ("d", 20)]);
    let now = Instant::now();
    credentials.cool(id(2), CredentialFault::Refused, now, now);
    assert_eq!(counts(&credentials, 8 * 60, now), [240, 80, 0, 160]);
    // And not in blocks: within any few turns nobody is far from its share.
    for _ in 0..8 {
        let counts = counts(&credentials, 24, now);
        assert!((10..=14).contains(&counts[0]) && (2..=6).contains(&counts[1]), "{counts:?}");
    }
}

#[test]
fn a_cooldown_covers_all_entries_of_the_identity() {
    let credentials = credentials("abab");
    let now = Instant::now();
    assert_eq!(credentials.identities_count(), 2);
    assert!(credentials.is_same_identity(id(0), id(2)) && !credentials.is_same_identity(id(0), id(1)));
    credentials.cool(id(2), CredentialFault::Refused, now, now);
    assert_eq!(credentials.cooling_for(id(0), now), Some(5 * MINUTE));
    assert_eq!(counts(&credentials, 100, now), [0, 50, 0, 50]);
}

#[test]
fn the_first_request_after_a_cooldown_is_the_probe_and_others_go_elsewhere_meanwhile() {
    let credentials = credentials("ab");
    let start = Instant::now();
    credentials.cool(id(0), CredentialFault::Refused, start, start);
    let end = start + 5 * MINUTE;
    assert_eq!(order(&credentials, 4, end - Duration::from_nanos(1)), "1 1 1 1");
    assert_eq!(order(&credentials, 4, end), "0? 1 1 1");
    assert!(credentials.restore(id(0), end, end));
    assert_eq!(order(&credentials, 4, end), "0 1 0 1");
}

#[test]
fn a_probe_that_says_nothing_for_a_second_holds_back_nobody() {
    let credentials = credentials("ab");
    let start = Instant::now();
    credentials.cool(id(0), CredentialFault::Refused, start, start);
    let end = start + 5 * MINUTE;
    assert_eq!(order(&credentials, 2, end), "0? 1");
    assert_eq!(order(&credentials, 2, end + SECOND - Duration::from_nanos(1)), "1 1");
    assert_eq!(order(&credentials, 4, end + SECOND), "0 1 0 1");
}

#[test]
fn a_probe_that_is_given_up_is_taken_by_another() {
    let credentials = credentials("ab");
    let start = Instant::now();
    credentials.cool(id(0), CredentialFault::Refused, start, start);
    let end = start + 5 * MINUTE;
    assert_eq!(order(&credentials, 2, end), "0? 1");
    credentials.end_all();
    assert_eq!(order(&credentials, 4, end), "0? 1 1 1");
}

#[test]
fn a_probe_that_fails_begins_the_next_cooldown() {
    let credentials = credentials("ab");
    let start = Instant::now();
    credentials.cool(id(0), CredentialFault::Refused, start, start);
    let end = start + 5 * MINUTE;
    assert_eq!(order(&credentials, 2, end), "0? 1");
    assert_eq!(credentials.cool(id(0), CredentialFault::Refused, end, end + SECOND / 2), Some(10 * MINUTE));
    assert_eq!(order(&credentials, 4, end + 9 * MINUTE), "1 1 1 1");
}

#[test]
fn when_all_cool_down_the_one_that_is_free_soonest_is_probed_by_one_request_at_a_time() {
    let credentials = credentials("abc");
    let start = Instant::now();
    for (index, seconds) in [(0, 30), (1, 10), (2, 20)] {
        let retry_after = Some(Duration::from_secs(seconds));
        credentials.cool(id(index), CredentialFault::RateLimited { retry_after }, start, start);
    }
    let now = start + SECOND;
    assert_eq!(order(&credentials, 4, now), "1? -1 -1 -1");
    // An exchange that has waited long enough uses it too.
    assert_eq!(credentials.short(credentials.choose_again(0, None, false, now)), "-1");
    assert_eq!(credentials.short(credentials.choose_again(0, None, true, now)), "1");
    // And so does everyone once the probe takes too long.
    assert_eq!(order(&credentials, 3, now + SECOND), "1 1 1");
    // A probe that fails makes another the soonest.
    let retry_after = Some(MINUTE);
    assert_eq!(credentials.cool(id(1), CredentialFault::RateLimited { retry_after }, now, now), Some(MINUTE));
    assert_eq!(order(&credentials, 3, now), "2? -2 -2");
    credentials.end_all();
    assert_eq!(order(&credentials, 2, now), "2? -2");
    // One that succeeds frees it for all, those that wait with their own turns among them.
    assert!(credentials.restore(id(2), now, now));
    assert_eq!(credentials.short(credentials.choose_again(0, None, false, now)), "2");
    assert_eq!(order(&credentials, 3, now), "2 2 2");
}

#[test]
fn a_wait_goes_on_with_its_own_turn_and_takes_no_other() {
    let credentials = credentials("ab");
    let now = Instant::now();
    credentials.cool(id(0), CredentialFault::Refused, now, now);
    credentials.cool(id(1), CredentialFault::Refused, now, now);
    assert_eq!(credentials.short(credentials.next(now)), "0?");
    let waits = credentials.next(now);
    assert!(matches!(waits, Choice::Wait { credential, preferred } if (credential, preferred) == (id(0), id(1))));
    credentials.restore(id(0), now, now);
    credentials.restore(id(1), now, now);
    assert_eq!(credentials.short(credentials.choose_again(1, None, false, now)), "1");
    assert_eq!(order(&credentials, 2, now), "0 1");
}

#[test]
fn a_probe_during_a_cooldown_is_not_the_one_after_it() {
    let credentials = credentials("ab");
    let start = Instant::now();
    credentials.cool(id(0), CredentialFault::Refused, start, start);
    credentials.cool(id(1), CredentialFault::Refused, start, start + SECOND);
    assert_eq!(order(&credentials, 2, start + MINUTE), "0? -0");
    assert_eq!(order(&credentials, 2, start + 5 * MINUTE), "0? -0");
}

#[test]
fn the_only_identity_there_is_is_always_used_at_once() {
    let credentials = credentials("aa");
    let now = Instant::now();
    assert_eq!(credentials.identities_count(), 1);
    assert_eq!(credentials.cool(id(0), CredentialFault::Refused, now, now), Some(5 * MINUTE));
    let _suspicion = credentials.suspect(id(0), now);
    assert_eq!(order(&credentials, 4, now), "0 1 0 1");
    assert_eq!(order(&credentials, 4, now + 5 * MINUTE), "0 1 0 1");
    assert!(credentials.other(id(0), &[], None, now).is_none());
}

#[test]
fn a_suspected_one_is_passed_over_for_a_second_while_there_is_another() {
    let credentials = credentials("abc");
    let now = Instant::now();
    let old = credentials.suspect(id(1), now);
    assert_eq!(counts(&credentials, 60, now), [30, 0, 30]);
    assert_eq!(order(&credentials, 3, now + SECOND), "0 1 2");
    drop(credentials.suspect(id(1), now + SECOND));
    drop(old);
    assert_eq!(order(&credentials, 3, now + SECOND), "0 1 2");
}

#[test]
fn suspicion_alone_holds_back_nobody() {
    let credentials = credentials("abc");
    let now = Instant::now();
    let _suspicions: Vec<_> = (0..3).map(|index| credentials.suspect(id(index), now)).collect();
    assert_eq!(order(&credentials, 3, now), "0 1 2");
    // With the rest cooling down a suspected one gets all the turns, and nobody waits.
    credentials.cool(id(0), CredentialFault::Refused, now, now);
    credentials.cool(id(2), CredentialFault::Refused, now, now);
    assert_eq!(order(&credentials, 3, now), "1 1 1");
}

#[test]
fn another_credential_is_the_next_in_the_file_of_an_identity_that_was_not_tried() {
    let credentials = credentials("aabcb");
    let now = Instant::now();
    let other = |from, tried: &[CredentialId]| {
        credentials.other(id(from), tried, None, now).map(|turn| (turn.credential.index(), turn.is_probe()))
    };
    assert_eq!(other(0, &[]), Some((2, false)));
    assert_eq!(other(3, &[]), Some((4, false)));
    assert_eq!(other(4, &[]), Some((0, false)), "after the last comes the first");
    assert_eq!(other(4, &[id(1)]), Some((3, false)));
    assert_eq!(other(4, &[id(1), id(3)]), None);
}

#[test]
fn another_credential_is_one_that_can_be_used() {
    let credentials = credentials("abcd");
    let now = Instant::now();
    let other = |now| credentials.other(id(0), &[], None, now).map(|turn| (turn.credential.index(), turn.is_probe()));
    credentials.cool(id(1), CredentialFault::RateLimited { retry_after: Some(2 * SECOND) }, now, now);
    assert_eq!(other(now), Some((2, false)));
    let _second = credentials.suspect(id(2), now);
    assert_eq!(other(now), Some((3, false)), "a suspected one comes last");
    let _third = credentials.suspect(id(3), now);
    assert_eq!(other(now), Some((2, false)), "unless all are");
    let probe = credentials.other(id(0), &[], None, now + 2 * SECOND).expect("its cooldown has ended");
    assert!(probe.credential == id(1) && probe.is_probe());
    assert_eq!(other(now + 2 * SECOND), Some((2, false)), "its probe is in flight");
    for index in 1..4 {
        credentials.cool(id(index), CredentialFault::Refused, now + 2 * SECOND, now + 2 * SECOND);
    }
    assert_eq!(other(now + 2 * SECOND), None, "all others cool down");
}

#[test]
fn a_reload_keeps_the_standing_of_the_identities_that_stay() {
    let (old, now) = (entries(&[("a", 1), ("b", 1), ("c", 1)]), Instant::now());
    old.cool(id(1), CredentialFault::Refused, now, now);
    old.cool(id(2), CredentialFault::Refused, now, now);
    let new = entries(&[("b", 5), ("a", 1), ("d", 1)]).credentials.inherit(&old);
    let cooling: Vec<_> = new.ids().map(|id| new.cooling_for(id, now).is_some()).collect();
    assert_eq!(cooling, [true, false, false]);
    // What exchanges of the old snapshot find out counts for the new one.
    assert!(old.restore(id(1), now, now));
    assert_eq!(new.cooling_for(id(0), now), None);
    // The same clientId with another secret is another identity.
    let text = r#"[{"clientId":"c","clientSecret":"other","tenant":"t"}]"#;
    let mended = from_json(text).expect("valid").credentials.inherit(&old);
    assert_eq!(mended.cooling_for(id(0), now), None);
}

fn model(name: &str) -> RestScope {
    RestScope::Model(name.into())
}

#[test]
fn where_one_rests_for_a_model_its_turns_are_decided_once_the_model_is_known() {
    let (credentials, now) = (credentials("abc"), Instant::now());
    let limited = CredentialFault::RateLimited { retry_after: None };
    assert_eq!(credentials.cool_for(id(1), &model("m"), limited, now, now), Some(30 * SECOND));
    assert_eq!(order(&credentials, 6, now), "0 ~1 2 0 ~1 2");
    let again = |scope: Option<&RestScope>| credentials.short(credentials.choose_again(1, scope, false, now));
    assert_eq!([again(Some(&model("n"))), again(None)], ["1", "1"], "it rests for another");
    let spares: Vec<String> = (0..4).map(|_| again(Some(&model("m")))).collect();
    assert_eq!(spares, ["0", "2", "0", "2"], "its turns are shared");
    assert_eq!(credentials.cooling_for(id(1), now), None, "as a whole");
}

#[test]
fn a_rest_for_a_model_ends_with_one_probe() {
    let (credentials, now) = (credentials("ab"), Instant::now());
    let (m, limited) = (model("m"), CredentialFault::RateLimited { retry_after: None });
    credentials.cool_for(id(0), &m, limited, now, now);
    let end = now + 30 * SECOND;
    let again = || credentials.short(credentials.choose_again(0, Some(&m), false, end));
    assert_eq!([again(), again()], ["0?", "1"]);
    credentials.end_all();
    assert_eq!(again(), "0?");
    assert!(credentials.restore_for(id(0), &m, end));
    assert_eq!(order(&credentials, 2, end), "0 1");
}

#[test]
fn another_credential_is_one_that_does_not_rest_for_the_model() {
    let (credentials, now) = (credentials("abc"), Instant::now());
    let (m, n) = (model("m"), model("n"));
    credentials.cool_for(id(1), &m, CredentialFault::Forbidden, now, now);
    let other = |scope| credentials.other(id(0), &[], scope, now).map(|turn| turn.credential.index());
    assert_eq!([other(Some(&m)), other(Some(&n)), other(None)], [Some(2), Some(1), Some(1)]);
    credentials.cool_for(id(2), &m, CredentialFault::Forbidden, now, now + SECOND);
    assert_eq!(other(Some(&m)), None);
    let last_resort = credentials.last_resort(id(0), &[], Some(&m), now).expect("one that rests");
    assert_eq!(last_resort.credential, id(1));
    assert_eq!(last_resort.probes.are_held(), (false, true));
}

/// Makes `a`, which rests as a whole and for the model `m`, beside `b`.
fn resting_twice(now: Instant) -> (All, RestScope) {
    let (credentials, m) = (credentials("ab"), model("m"));
    credentials.cool(id(0), CredentialFault::Refused, now, now);
    credentials.cool_for(id(0), &m, CredentialFault::RateLimited { retry_after: None }, now, now);
    (credentials, m)
}

fn granted(claim: Claim) -> Option<HeldProbe> {
    match claim {
        Claim::Granted(probe) => Some(probe),
        Claim::InFlight | Claim::Needless => None,
    }
}

fn claim_whole(credentials: &All, now: Instant) -> Option<HeldProbe> {
    granted(credentials.identity(id(0)).claim_probe(now))
}

fn claim_for(credentials: &All, scope: &RestScope, now: Instant) -> Option<HeldProbe> {
    let rest: Arc<Standing> =
        credentials.resting(Some(scope), now).of(credentials.identity(id(0))).expect("a rest").clone();
    granted(rest.claim_probe(now))
}

#[test]
fn nothing_is_claimed_while_another_request_probes_a_part_of_it() {
    let now = Instant::now();
    let (credentials, m) = resting_twice(now);
    let _whole = claim_whole(&credentials, now).expect("the probe");
    assert!(!credentials.last_resort(id(1), &[], Some(&m), now).expect("a").is_probe());
    assert!(claim_for(&credentials, &m, now).is_some(), "the whole is probed");
    let (credentials, m) = resting_twice(now);
    let _scoped = claim_for(&credentials, &m, now).expect("the probe");
    assert!(!credentials.last_resort(id(1), &[], Some(&m), now).expect("a").is_probe());
    assert!(claim_whole(&credentials, now).is_some(), "the model is probed");
}

#[test]
fn a_probe_that_is_given_up_is_the_one_that_was_claimed() {
    let now = Instant::now();
    let (credentials, m) = resting_twice(now);
    let _scoped = claim_for(&credentials, &m, now).expect("the probe");
    let turn = credentials.last_resort(id(1), &[], None, now).expect("a");
    assert!(turn.is_probe() && claim_whole(&credentials, now).is_none());
    drop(turn);
    assert!(claim_for(&credentials, &m, now).is_none(), "another request probes the model");
    assert!(claim_whole(&credentials, now).is_some());
}

#[test]
fn the_only_identity_there_is_is_used_whatever_it_rests_for() {
    let (credentials, now) = (credentials("aa"), Instant::now());
    credentials.cool_for(id(0), &model("m"), CredentialFault::RateLimited { retry_after: None }, now, now);
    assert_eq!(order(&credentials, 4, now), "0 1 0 1");
}

#[test]
fn a_reload_keeps_the_rests_for_models_of_the_identities_that_stay() {
    let (old, now) = (credentials("abc"), Instant::now());
    for index in [1, 2] {
        old.cool_for(id(index), &model("m"), CredentialFault::Forbidden, now, now);
    }
    let new = entries(&[("b", 5), ("d", 1)]).credentials.inherit(&old);
    let resting: Vec<_> = new.ids().map(|id| new.scoped_rests(id, now).len()).collect();
    assert_eq!(resting, [1, 0]);
    assert!(old.scoped_rests(id(2), now).is_empty(), "nobody asks for it any more");
}

#[test]
fn one_thread_of_eight_gets_the_probe() {
    for _ in 0..200 {
        let credentials = credentials("ab");
        let start = Instant::now();
        for index in 0..2 {
            credentials.cool(id(index), CredentialFault::Refused, start, start);
        }
        let probes = AtomicUsize::new(0);
        let choose = || {
            let choice = credentials.next(start);
            match &choice {
                Choice::Use(turn) => {
                    assert!(turn.is_probe());
                    probes.fetch_add(1, Ordering::Relaxed);
                }
                Choice::Wait { credential, .. } => assert_eq!(*credential, id(0)),
                Choice::Open { .. } => panic!("nobody rests for a model"),
            }
            credentials.short(choice);
        };
        thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(choose))));
        assert_eq!(probes.into_inner(), 1);
    }
}

#[test]
fn who_loses_the_race_for_a_probe_uses_another_that_is_free() {
    for _ in 0..300 {
        let credentials = credentials("aaaaaaaabc");
        let start = Instant::now();
        credentials.cool(id(0), CredentialFault::Refused, start, start);
        let soon = CredentialFault::RateLimited { retry_after: Some(SECOND) };
        credentials.cool(id(8), soon, start, start);
        let probes = AtomicUsize::new(0);
        let all = Barrier::new(8);
        let choose = || {
            all.wait();
            let choice = credentials.next(start + SECOND);
            match &choice {
                Choice::Use(turn) if turn.is_probe() => _ = probes.fetch_add(1, Ordering::Relaxed),
                Choice::Use(turn) => assert_eq!(turn.credential, id(9)),
                Choice::Wait { .. } | Choice::Open { .. } => panic!("a wait while one is free"),
            }
            credentials.short(choice);
        };
        thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(choose))));
        assert_eq!(probes.into_inner(), 1);
    }
}

#[test]
fn threads_that_change_everything_at_once_leave_a_state_that_can_be_cleared() {
    let credentials = credentials("abc");
    let work = |seed: u16| {
        let (mut suspicions, mut turns) = (Vec::new(), Vec::new());
        for round in 0..2_000_u16 {
            let (id, now) = (id((round + seed) % 3), Instant::now());
            match (round / 3 + seed) % 6 {
                0 => _ = credentials.cool(id, CredentialFault::Refused, now, now),
                1 => _ = credentials.restore(id, now, now),
                2 => suspicions.extend(credentials.suspect(id, now)),
                3 => suspicions.clear(),
                4 => turns.clear(),
                _ => turns.extend(credentials.other(id, &[], None, now)),
            }
            credentials.next(now);
        }
    };
    thread::scope(|scope| (0..4).for_each(|seed| drop(scope.spawn(move || work(seed)))));
    let now = Instant::now();
    for id in credentials.ids() {
        let standing = credentials.standing(id);
        // Were the flag wrong, a restore would pass the trouble by and the cooldown would last.
        credentials.restore(id, now, now);
        assert_eq!(credentials.cooling_for(id, now), None);
        assert!(standing.is_clear() && standing.availability(now) == Availability::Free);
    }
    assert_eq!(counts(&credentials, 300, now), [100; 3]);
}

#[test]
fn no_debug_output_holds_a_secret() {
    let (credentials, now) = (credentials("ab"), Instant::now());
    credentials.cool(id(0), CredentialFault::Refused, now, now);
    let suspicion = credentials.suspect(id(1), now);
    let choice = credentials.next(now);
    let shown = format!("{credentials:?} {choice:?} {suspicion:?} {:?}", credentials.other(id(0), &[], None, now));
    assert!(shown.contains("Cooldown") && shown.contains("probes") && !shown.contains("hunter2"), "{shown}");
}

/// Something that happens to a credential, some time after what happened before.
#[derive(Debug, Clone)]
enum BalancerStep {
    Next,
    ChooseAgain { has_waited_enough: bool },
    Cool { index: u16, fault: CredentialFault, attempt_age: Duration },
    Restore { index: u16, attempt_age: Duration },
    EndExchange { number: usize },
    Suspect { index: u16 },
    EndSuspicion { number: usize },
}

fn step() -> impl Strategy<Value = BalancerStep> {
    let index = 0_u16..5;
    let age = || (0_u64..400).prop_map(Duration::from_secs);
    let fault = prop_oneof![
        Just(CredentialFault::Refused),
        prop::option::of(0_u64..100)
            .prop_map(|wait| CredentialFault::RateLimited { retry_after: wait.map(Duration::from_secs) }),
    ];
    prop_oneof![
        6 => Just(BalancerStep::Next),
        2 => any::<bool>().prop_map(|has_waited_enough| BalancerStep::ChooseAgain { has_waited_enough }),
        3 => (index.clone(), fault, age())
            .prop_map(|(index, fault, attempt_age)| BalancerStep::Cool { index, fault, attempt_age }),
        1 => (index.clone(), age()).prop_map(|(index, attempt_age)| BalancerStep::Restore { index, attempt_age }),
        2 => any::<usize>().prop_map(|number| BalancerStep::EndExchange { number }),
        1 => index.prop_map(|index| BalancerStep::Suspect { index }),
        1 => any::<usize>().prop_map(|number| BalancerStep::EndSuspicion { number }),
    ]
}

/// Checks what holds for every choice, whatever came before it.
fn check(credentials: &All, choice: &Choice, was_free: &[bool], now: Instant) {
    match choice {
        Choice::Use(Turn { credential, probes }) => {
            let is_cooling = credentials.cooling_for(*credential, now).is_some();
            assert!(!is_cooling || !was_free.contains(&true), "a cooling one in place of a free one");
            let claim = credentials.identity(*credential).claim_probe(now);
            assert!(!probes.are_held().0 || matches!(claim, Claim::InFlight));
        }
        Choice::Wait { .. } => assert!(!was_free.contains(&true), "a wait while one is free"),
        Choice::Open { .. } => panic!("nobody rests for a model"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_happens_a_free_one_is_used_before_one_that_cools_down(
        weights in prop::collection::vec(1_u16..=40, 5),
        steps in prop::collection::vec((step(), 0_u64..200_000), 1..120),
    ) {
        // Five entries of four identities.
        let names = ["a", "b", "c", "d", "b"];
        let credentials = entries(&names.into_iter().zip(weights).collect::<Vec<_>>());
        let mut now = Instant::now() + Duration::from_secs(1000);
        let (mut exchanges, mut suspicions) = (Vec::new(), Vec::new());
        for (step, passed) in steps {
            now += Duration::from_millis(passed);
            let is_free = |id| !matches!(credentials.standing(id).availability(now), Availability::Held { .. });
            let was_free: Vec<bool> = credentials.ids().map(is_free).collect();
            match step {
                BalancerStep::Next => {
                    exchanges.push(credentials.next(now));
                    check(&credentials, &exchanges[exchanges.len() - 1], &was_free, now);
                }
                BalancerStep::ChooseAgain { has_waited_enough } => {
                    let choice = credentials.choose_again(3, None, has_waited_enough, now);
                    prop_assert!(!has_waited_enough || matches!(choice, Choice::Use(_)));
                    check(&credentials, &choice, &was_free, now);
                    exchanges.push(choice);
                }
                BalancerStep::Cool { index, fault, attempt_age } => {
                    let before = credentials.cooling_for(id(index), now);
                    let after = credentials.cool(id(index), fault, now - attempt_age, now);
                    prop_assert!(after.is_none_or(|after| Some(after) >= before));
                    prop_assert!(after.is_none_or(|after| after <= 60 * MINUTE));
                    prop_assert!(credentials.cooling_for(id(index), now) >= before);
                }
                BalancerStep::Restore { index, attempt_age } => {
                    credentials.restore(id(index), now - attempt_age, now);
                }
                BalancerStep::EndExchange { number } if !exchanges.is_empty() => {
                    exchanges.swap_remove(number % exchanges.len());
                }
                BalancerStep::Suspect { index } => suspicions.extend(credentials.suspect(id(index), now)),
                BalancerStep::EndSuspicion { number } if !suspicions.is_empty() => {
                    suspicions.swap_remove(number % suspicions.len());
                }
                BalancerStep::EndExchange { .. } | BalancerStep::EndSuspicion { .. } => {}
            }
        }
    }
}
