use std::future::pending;
use std::task::Waker;

use super::table::RESOLUTION;
use super::*;
use crate::io::Either;

#[test]
fn a_wait_that_never_ends_is_given_up_when_its_limit_has_passed() {
    on_a_shard(async {
        let deadline = Deadline::default();
        let limit = Duration::from_millis(60);
        let start = Instant::now();
        assert_eq!(deadline.within(limit, pending::<()>()).await, Err(Elapsed));
        assert!(start.elapsed() >= limit, "fired early");
    });
}

#[test]
fn the_sweeper_looks_again_when_the_earliest_is_due_or_up_to_the_resolution_later() {
    const NANOSECOND: Duration = Duration::from_nanos(1);
    let (mut table, now) = (Table::new(), Instant::now());
    let [early, late] = [(); 2].map(|()| table.slots.insert(TimerSlot::default()));
    table.arm(late, now + 9 * RESOLUTION, Waker::noop());
    table.arm(early, now + 3 * RESOLUTION, Waker::noop());
    let (due, later) = (now + 3 * RESOLUTION, now + 9 * RESOLUTION);
    assert_eq!(table.wake_due(now, true), Some(due));
    assert_eq!(table.wake_due(due - NANOSECOND, true), Some(due + RESOLUTION - NANOSECOND), "no two looks in a row");
    assert!(!table.has_fired(early, Waker::noop()), "fired early");
    assert_eq!(table.wake_due(due, true), Some(later));
    assert!(table.has_fired(early, Waker::noop()) && !table.has_fired(late, Waker::noop()));
    assert_eq!(table.wake_due(later, true), None);
    assert!(table.has_fired(late, Waker::noop()));
}

#[test]
fn a_nearer_deadline_fires_while_a_farther_one_is_armed() {
    on_a_shard(async {
        let (near, far) = (Deadline::default(), Deadline::default());
        // Were both due, the first would win.
        let order = race(
            far.within(Duration::from_secs(60), pending::<()>()),
            near.within(Duration::from_millis(30), pending::<()>()),
        )
        .await;
        assert!(matches!(order, Either::Second(Err(Elapsed))));
    });
}

#[test]
fn each_runtime_of_a_thread_has_a_sweeper_of_its_own() {
    const FAR: Duration = Duration::from_secs(60);
    for _ in 0..2 {
        on_a_shard(async {
            let (near, far) = (Deadline::default(), Deadline::default());
            let near = near.within(Duration::from_millis(1), pending::<()>());
            // It leaves a sweeper that waits for the far one.
            assert_eq!(far.within(FAR, near).await, Ok(Err(Elapsed)));
            pause(Duration::from_millis(1)).await;
        });
    }
}

#[test]
fn a_wait_that_is_over_wins_against_a_deadline_that_has_passed() {
    on_a_shard(async {
        let deadline = Deadline::default();
        let due = Instant::now() - Duration::from_secs(1);
        assert_eq!(deadline.before(due, std::future::ready(5)).await, Ok(5));
    });
}

#[test]
fn slots_are_given_back() {
    on_a_shard(async {
        let before = TABLE.with(|table| table.borrow().slots.len());
        for _ in 0..1000 {
            let deadline = Deadline::default();
            let _ = deadline.within(Duration::ZERO, pending::<()>()).await;
        }
        assert_eq!(TABLE.with(|table| table.borrow().slots.len()), before);
    });
}
