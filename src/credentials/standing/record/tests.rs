use std::sync::Barrier;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const RATE_LIMITED: CredentialFault = CredentialFault::RateLimited { retry_after: None };

fn record() -> Arc<Standing> {
    Arc::default()
}

fn claim(standing: &Arc<Standing>, now: Instant) -> Option<HeldProbe> {
    match standing.claim_probe(now) {
        Claim::Granted(probe) => Some(probe),
        Claim::InFlight | Claim::Needless => None,
    }
}

fn retry_after(wait: Duration) -> CredentialFault {
    CredentialFault::RateLimited { retry_after: Some(wait) }
}

/// The lengths, in seconds, of cooldowns for `faults`, each by an attempt that began after the one before.
fn lengths(faults: &[CredentialFault]) -> Vec<Option<u64>> {
    let standing = record();
    let mut now = Instant::now();
    let mut cool = |fault: &CredentialFault| {
        let length = standing.cool(*fault, now, now);
        now += length.unwrap_or_default();
        length.map(|length| length.as_secs())
    };
    faults.iter().map(&mut cool).collect()
}

#[test]
fn a_good_answer_speaks_against_a_suspicion_for_some_seconds() {
    let (standing, start) = (record(), Instant::now());
    standing.note_good(start);
    assert!(standing.suspect(start + 5 * SECOND).is_none());
    assert!(!standing.is_suspected(start + 5 * SECOND));
    let _suspicion = standing.suspect(start + 11 * SECOND);
    assert!(standing.is_suspected(start + 11 * SECOND));
}

#[test]
fn a_refusal_costs_5_minutes_and_doubles_to_an_hour() {
    let expected = [300, 600, 1200, 2400, 3600, 3600].map(Some);
    assert_eq!(lengths(&[CredentialFault::Refused; 6]), expected);
    assert_eq!(lengths(&[CredentialFault::Refused; 80]).last(), Some(&Some(3600)));
}

#[test]
fn a_rate_limit_costs_30_s_and_doubles_to_an_hour() {
    let expected = [30, 60, 120, 240, 480, 960, 1920, 3600, 3600].map(Some);
    assert_eq!(lengths(&[RATE_LIMITED; 9]), expected);
}

#[test]
fn a_rate_limit_costs_what_the_upstream_says_up_to_an_hour() {
    let faults = [retry_after(7 * SECOND), retry_after(7 * SECOND), retry_after(100 * 60 * MINUTE)];
    assert_eq!(lengths(&faults), [Some(7), Some(7), Some(3600)]);
    // It is not one of those that double.
    assert_eq!(lengths(&[RATE_LIMITED, retry_after(SECOND), RATE_LIMITED]), [Some(30), Some(1), Some(60)]);
}

#[test]
fn no_wait_asked_for_is_no_cooldown_and_ends_no_probe_of_another() {
    assert_eq!(lengths(&[retry_after(Duration::ZERO), CredentialFault::Refused]), [None, Some(300)]);
    let (standing, start) = (record(), Instant::now());
    standing.cool(RATE_LIMITED, start, start);
    let end = start + 30 * SECOND;
    let probe = claim(&standing, end);
    assert!(probe.is_some());
    assert_eq!(standing.cool(retry_after(Duration::ZERO), end, end), None);
    assert!(claim(&standing, end).is_none());
    drop(probe);
    assert!(claim(&standing, end).is_some());
}

#[test]
fn another_kind_of_fault_starts_anew() {
    let faults =
        [CredentialFault::Refused, CredentialFault::Refused, RATE_LIMITED, RATE_LIMITED, CredentialFault::Refused];
    assert_eq!(lengths(&faults), [300, 600, 30, 60, 300].map(Some));
}

#[test]
fn answers_to_attempts_that_began_before_a_cooldown_do_not_lengthen_it() {
    let (standing, start) = (record(), Instant::now());
    assert_eq!(standing.cool(CredentialFault::Refused, start, start + SECOND), Some(5 * MINUTE));
    assert_eq!(standing.cool(CredentialFault::Refused, start, start + MINUTE), None);
    assert_eq!(standing.cool(RATE_LIMITED, start + SECOND / 2, start + MINUTE), None);
    assert_eq!(standing.cooling_for(start + MINUTE), Some(4 * MINUTE + SECOND));
    // Not after its end either.
    assert_eq!(standing.cool(CredentialFault::Refused, start, start + 10 * MINUTE), None);
    assert_eq!(standing.cool(CredentialFault::Refused, start + SECOND, start + 10 * MINUTE), Some(10 * MINUTE));
}

#[test]
fn a_later_deadline_never_shortens_an_earlier_one() {
    let (standing, start) = (record(), Instant::now());
    standing.cool(CredentialFault::Refused, start, start);
    assert_eq!(standing.cool(RATE_LIMITED, start + MINUTE, start + MINUTE), Some(4 * MINUTE));
    assert_eq!(standing.cooling_for(start + MINUTE), Some(4 * MINUTE));
}

#[test]
fn a_cooldown_ends_by_itself() {
    let (standing, start) = (record(), Instant::now());
    standing.cool(RATE_LIMITED, start, start);
    let end = start + 30 * SECOND;
    assert_eq!(standing.availability(end - SECOND), Availability::Held { until: end });
    assert_eq!(standing.cooling_for(end - SECOND), Some(SECOND));
    assert_eq!(standing.availability(end), Availability::AwaitsProbe);
    assert_eq!(standing.cooling_for(end), None);
}

#[test]
fn a_good_answer_clears_everything_unless_its_attempt_began_before() {
    let (standing, start) = (record(), Instant::now());
    assert!(!standing.restore(start), "nothing was wrong");
    standing.cool(CredentialFault::Refused, start, start + SECOND);
    let _suspicion = standing.suspect(start + SECOND);
    assert!(!standing.restore(start));
    assert_eq!(standing.cooling_for(start + SECOND), Some(5 * MINUTE));
    assert!(standing.is_suspected(start + SECOND));
    assert!(standing.restore(start + SECOND));
    assert!(standing.is_clear() && !standing.is_suspected(start + SECOND));
    assert_eq!(standing.availability(start + SECOND), Availability::Free);
    assert!(!standing.restore(start + SECOND), "told once");
    assert_eq!(
        standing.cool(CredentialFault::Refused, start + SECOND, start + SECOND),
        Some(5 * MINUTE),
        "no doubling"
    );
}

#[test]
fn a_suspicion_that_is_lifted_is_no_recovery() {
    let (standing, start) = (record(), Instant::now());
    let first = standing.suspect(start);
    assert!(standing.is_suspected(start + SECOND - Duration::from_nanos(1)));
    assert!(!standing.is_suspected(start + SECOND), "it ends by itself");
    assert!(!standing.restore(start));
    assert!(standing.is_clear());
    let second = standing.suspect(start);
    drop(first);
    assert!(standing.is_suspected(start), "the one that has ended is not it");
    drop(second);
    assert!(standing.is_clear());
    let _third = standing.suspect(start);
    standing.cool(RATE_LIMITED, start, start);
    assert!(!standing.is_suspected(start), "now it is known");
}

#[test]
fn a_probe_belongs_to_one_and_counts_for_a_second() {
    let (standing, start) = (record(), Instant::now());
    assert!(matches!(standing.claim_probe(start), Claim::Needless), "there is nothing to find out");
    standing.cool(RATE_LIMITED, start, start);
    let end = start + 30 * SECOND;
    let probe = claim(&standing, end).expect("the probe");
    assert!(matches!(standing.claim_probe(end), Claim::InFlight));
    assert_eq!(standing.availability(end), Availability::Held { until: end });
    assert!(matches!(standing.claim_probe(end + SECOND), Claim::Needless));
    assert_eq!(standing.availability(end + SECOND), Availability::Free);
    drop(probe);
    assert!(claim(&standing, end + SECOND).is_some());
}

#[test]
fn an_exchange_that_outlives_its_probe_ends_no_probe_of_another() {
    let (standing, start) = (record(), Instant::now());
    standing.cool(RATE_LIMITED, start, start);
    let end = start + 30 * SECOND;
    let slow = claim(&standing, end).expect("the probe");
    // Meanwhile it counts as free, one of the others is limited again, and the next rest has its own probe.
    assert_eq!(standing.cool(RATE_LIMITED, end + SECOND, end + SECOND), Some(MINUTE));
    let end = end + SECOND + MINUTE;
    let probe = claim(&standing, end).expect("the probe");
    drop(slow);
    assert!(matches!(standing.claim_probe(end), Claim::InFlight));
    drop(probe);
    assert!(claim(&standing, end).is_some());
}

#[test]
fn a_suspicion_lasts_until_all_who_have_it_let_go() {
    let (standing, start) = (record(), Instant::now());
    let (first, second) = (standing.suspect(start), standing.suspect(start + SECOND / 2));
    drop(second);
    assert!(standing.is_suspected(start + SECOND / 2), "the first still has it");
    let third = standing.suspect(start + SECOND / 2);
    drop(first);
    assert!(standing.is_suspected(start + SECOND / 2), "the third still has it");
    standing.cool(RATE_LIMITED, start, start);
    let fourth = standing.suspect(start + SECOND);
    drop(third);
    assert!(standing.is_suspected(start + SECOND), "what the third had has ended");
    drop(fourth);
    assert!(!standing.is_suspected(start + SECOND));
}

#[test]
fn the_flag_follows_the_state_under_threads() {
    const THREADS: usize = 2;
    let (standing, start) = (record(), Instant::now());
    let all = Barrier::new(THREADS);
    let hammer = || {
        for _ in 0..20_000 {
            all.wait();
            standing.cool(CredentialFault::Refused, start, start);
            standing.restore(start);
            let suspicion = standing.suspect(start);
            all.wait();
            // Nobody changes anything until all have looked.
            assert_eq!(standing.is_clear(), standing.trouble.load().is_none());
            all.wait();
            drop(suspicion);
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(hammer))));
}

#[test]
fn a_check_is_made_once_a_minute_by_one() {
    let (standing, start) = (record(), Instant::now());
    assert_eq!(standing.claim_check(start), CheckClaim::Granted);
    assert_eq!(standing.claim_check(start + SECOND), CheckClaim::UnderWay);
    standing.end_check();
    assert_eq!(standing.claim_check(start + MINUTE - SECOND), CheckClaim::Needless);
    assert_eq!(standing.claim_check(start + MINUTE), CheckClaim::Granted);
}

#[test]
fn the_end_without_a_renewal_outlasts_other_faults() {
    let (standing, start) = (record(), Instant::now());
    standing.cool(CredentialFault::QuotaUsedUp, start, start);
    standing.cool_until_renewal(start + 600 * MINUTE, start);
    // Doubled; the end with the renewal stays.
    let later = start + MINUTE;
    assert_eq!(standing.cool(CredentialFault::QuotaUsedUp, later, later), Some(599 * MINUTE));
    assert_eq!(standing.cool(RATE_LIMITED, later, later), Some(599 * MINUTE));
    standing.shorten();
    assert_eq!(standing.cooling_for(later), Some(30 * MINUTE));
    // A later renewal does not take the place of that end.
    let standing = record();
    standing.cool(CredentialFault::QuotaUsedUp, start, start);
    standing.cool_until_renewal(start + 600 * MINUTE, start);
    standing.cool(CredentialFault::QuotaUsedUp, later, later);
    standing.cool_until_renewal(start + 700 * MINUTE, later);
    standing.shorten();
    assert_eq!(standing.cooling_for(later), Some(30 * MINUTE));
}
