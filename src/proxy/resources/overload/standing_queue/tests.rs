use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);
const LONG: Duration = TARGET.saturating_add(MILLISECOND);
const STEP: Duration = Duration::from_millis(10);

/// Requests at moments of a clock of its own.
struct Case {
    start: Instant,
    queue: StandingQueue,
}

impl Case {
    fn new() -> Self {
        Case { start: Instant::now() + Duration::from_secs(3_600), queue: StandingQueue::default() }
    }

    fn judge(&mut self, at: Duration, past: Duration, coming: Duration) -> Judgement {
        self.queue.judge(self.start + at, RequestWait { past, coming })
    }

    /// Requests each [`STEP`] of `times` that have waited for so long. Returns how many were refused.
    fn run(&mut self, times: std::ops::Range<u64>, past: Duration) -> usize {
        let times = (times.start..times.end).step_by(STEP.as_millis() as usize);
        times.filter(|at| self.judge(Duration::from_millis(*at), past, Duration::ZERO) == Judgement::Refuse).count()
    }

    /// A case in which requests are refused from 1 s on.
    fn standing() -> Self {
        let mut case = Case::new();
        assert_eq!(case.run(0..1_000, LONG), 0);
        assert_eq!(case.run(1_000..1_010, LONG), 1);
        case
    }
}

#[test]
fn those_that_wait_too_long_are_refused_once_all_have_for_an_interval() {
    let mut case = Case::standing();
    assert!(case.queue.is_standing());
    assert_eq!(case.judge(Duration::from_millis(1_010), TARGET, TARGET), Judgement::Serve, "it did not wait too long");
    assert_eq!(case.judge(Duration::from_millis(1_011), LONG, Duration::ZERO), Judgement::Refuse);
    assert_eq!(
        case.judge(Duration::from_millis(1_012), Duration::ZERO, LONG),
        Judgement::Refuse,
        "the wait is to come"
    );
}

#[test]
fn one_that_has_not_waited_begins_the_interval_anew() {
    let mut case = Case::new();
    assert_eq!(case.run(0..990, LONG), 0);
    assert_eq!(case.judge(Duration::from_millis(995), TARGET, Duration::ZERO), Judgement::Serve);
    assert_eq!(case.run(1_000..2_000, LONG), 0);
    assert_eq!(case.run(2_000..2_010, LONG), 1);
}

#[test]
fn those_that_found_nobody_before_them_are_no_queue() {
    let mut case = Case::new();
    // As a process that is stopped again and again, for longer than the interval in all.
    for at in (0..60_000).step_by(700) {
        assert_eq!(case.run(at..at + 50, Duration::from_millis(600)), 0);
    }
    assert!(!case.queue.is_standing());
    // The requests of each stop came just after the last one had been served, by a clock that is not exact.
    for at in (100_000..160_000).step_by(700) {
        assert_eq!(case.run(at..at + 10, Duration::from_millis(705)), 0);
    }
    assert!(!case.queue.is_standing());
}

#[test]
fn a_burst_is_served_if_its_work_takes_less_than_the_interval() {
    let mut case = Case::new();
    for at in 0..1_000 {
        let at = Duration::from_millis(at);
        assert_eq!(case.judge(at, Duration::from_secs(20) + at, Duration::ZERO), Judgement::Serve);
    }
    assert_eq!(case.judge(Duration::from_secs(3), MILLISECOND, Duration::ZERO), Judgement::Serve);
    assert!(case.queue.is_short());
}

#[test]
fn of_a_queue_that_refusals_do_not_shorten_half_of_the_time_is_served() {
    let mut case = Case::standing();
    let refused = case.run(1_010..11_000, Duration::from_secs(3));
    assert!((450..=550).contains(&refused), "{refused} of 999");
    // Those that were let in wait too: there is enough to do.
    for at in 11_000..11_400 {
        assert_eq!(case.judge(Duration::from_millis(at), LONG, LONG), Judgement::Refuse);
    }
}

#[test]
fn after_one_that_has_not_waited_those_that_have_are_refused_again() {
    let mut case = Case::standing();
    assert_eq!(case.judge(Duration::from_millis(1_110), LONG, Duration::ZERO), Judgement::Serve);
    assert_eq!(case.judge(Duration::from_millis(1_115), TARGET, Duration::ZERO), Judgement::Serve);
    assert_eq!(case.judge(Duration::from_millis(1_120), LONG, Duration::ZERO), Judgement::Refuse);
}

#[test]
fn it_ends_when_nobody_has_waited_too_long_for_an_interval() {
    let mut case = Case::standing();
    let late = Duration::from_millis(1_000);
    assert_eq!(case.run(1_010..1_900, TARGET), 0);
    assert!(!case.queue.ends(case.start + late + INTERVAL - MILLISECOND));
    assert!(case.queue.is_standing());
    assert!(case.queue.ends(case.start + late + INTERVAL));
    assert!(case.queue.is_short());
    assert_eq!(case.run(2_000..3_000, LONG), 0, "refused before the interval has passed anew");
}

#[test]
fn nobody_is_refused_who_has_not_waited_or_where_somebody_has_not_within_the_interval() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..300 {
        let mut case = Case::new();
        let mut at = Duration::ZERO;
        let mut last_short = Duration::ZERO;
        let mut has_refused = false;
        let short_percent = random.u32(0..8);
        for _ in 0..2_000 {
            at += Duration::from_micros(random.u64(0..5_000));
            let is_short = random.u32(0..100) < short_percent;
            let target = TARGET.as_millis() as u64;
            let wait = if is_short { random.u64(0..=target) } else { random.u64(target + 1..5_000) };
            let (past, coming) = (Duration::from_millis(wait), Duration::from_millis(random.u64(0..=wait)));
            let (past, coming) = if random.bool() { (past, coming) } else { (coming, past) };
            let verdict = case.judge(at, past, coming);
            if is_short {
                assert_eq!(verdict, Judgement::Serve);
                last_short = at;
            }
            if verdict == Judgement::Refuse && !has_refused {
                has_refused = true;
                assert!(at - last_short >= INTERVAL, "after {:?}", at - last_short);
            }
        }
    }
}
