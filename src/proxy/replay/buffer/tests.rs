use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn budget(bytes: usize) -> (Arc<AtomicUsize>, ReplayBudget) {
    let process_free = Arc::new(AtomicUsize::new(bytes));
    (process_free.clone(), ReplayBudget::new(process_free, bytes, 1))
}

/// Sends all that is unsent, `step` bytes at a time.
fn send(replay: &mut ReplayBuffer, step: usize) -> Vec<u8> {
    let mut sent = Vec::new();
    while !replay.unsent().is_empty() {
        let count = replay.unsent().len().min(step);
        sent.extend_from_slice(&replay.unsent()[..count]);
        replay.mark_sent(count);
    }
    sent
}

fn body(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| index as u8).collect()
}

#[test]
fn a_rewound_copy_is_sent_again_byte_for_byte() {
    let (_, budget) = budget(1 << 20);
    let mut replay = ReplayBuffer::default();
    for step in [1000, PLAINTEXT_MAX] {
        replay.begin(&budget).extend_from_slice(b"head");
        let body = body(100_000);
        for part in body.chunks(30_000) {
            assert!(replay.push(part, 1 << 20, &budget));
            send(&mut replay, step);
        }
        replay.rewind();
        assert_eq!(send(&mut replay, step), [b"head", body.as_slice()].concat());
        assert!(replay.push(b"more", 1 << 20, &budget));
        assert_eq!(send(&mut replay, step), b"more");
    }
}

#[test]
fn a_part_of_the_head_can_be_replaced_by_a_longer_or_shorter_one() {
    let (_, budget) = budget(1 << 20);
    let mut replay = ReplayBuffer::default();
    replay.begin(&budget).extend_from_slice(b"head: <one>, more;");
    let body = body(100_000);
    for part in body.chunks(30_000) {
        assert!(replay.push(part, 1 << 20, &budget));
    }
    let mut range = 6..11;
    for value in [&b"<another one>"[..], b"<>", &[b'x'; 70_000]] {
        send(&mut replay, 1000);
        replay.rewind();
        range = replay.replace(range, value);
        assert_eq!(send(&mut replay, PLAINTEXT_MAX), [b"head: ", value, b", more;", &body].concat());
        replay.rewind();
    }
}

#[test]
fn the_head_of_a_copy_that_was_given_up_can_be_replaced_before_it_is_sent() {
    let (_, budget) = budget(1 << 20);
    let mut replay = ReplayBuffer::default();
    replay.begin(&budget).extend_from_slice(b"POST / HTTP/1.1\r\nA: old\r\n\r\n");
    assert!(!replay.push(&body(40_000), 0, &budget));
    assert_eq!(replay.replace(20..23, b"longer"), 20..26);
    assert_eq!(send(&mut replay, 999), [b"POST / HTTP/1.1\r\nA: longer\r\n\r\n", &body(40_000)[..]].concat());
}

#[test]
fn there_is_room_for_what_limit_and_budget_allow() {
    let (_, budget) = budget(10_000);
    let mut replay = ReplayBuffer::default();
    replay.begin(&budget).extend_from_slice(b"head");
    assert!(replay.has_room_for(10_000, 10_000, &budget));
    assert!(!replay.has_room_for(10_001, usize::MAX, &budget), "the budget");
    assert!(!replay.has_room_for(10_000, 9_999, &budget), "the limit");
    assert!(replay.push(&body(4_000), 9_999, &budget));
    assert!(replay.has_room_for(5_999, 9_999, &budget) && !replay.has_room_for(6_000, 9_999, &budget));
    replay.stop_keeping(&budget);
    assert!(!replay.has_room_for(1, 9_999, &budget), "what was given up does not come back");
}

#[test]
fn a_copy_beyond_its_limit_is_given_up_and_nothing_unsent_is_lost() {
    let (process_free, budget) = budget(1 << 20);
    let mut replay = ReplayBuffer::default();
    replay.begin(&budget).extend_from_slice(b"head");
    assert!(replay.push(&body(5_000), 10_000, &budget));
    replay.mark_sent(2_000);
    assert!(!replay.push(&body(6_000), 10_000, &budget));
    assert!(!replay.is_whole());
    let expected = [b"head", body(5_000).as_slice(), body(6_000).as_slice()].concat();
    assert_eq!(send(&mut replay, 700), expected[2_000..]);
    assert!(replay.segments.is_empty(), "what was sent is not held");
    drop(budget);
    assert_eq!(process_free.load(Ordering::Relaxed), 1 << 20);
}

#[test]
fn a_copy_that_is_no_longer_kept_holds_only_what_is_unsent() {
    let (_, budget) = budget(1 << 22);
    let mut replay = ReplayBuffer::default();
    replay.begin(&budget).extend_from_slice(b"head");
    for _ in 0..10 {
        replay.push(&body(PLAINTEXT_MAX), 1 << 22, &budget);
    }
    let all = replay.segments.len();
    replay.mark_sent(replay.unsent().len());
    replay.mark_sent(replay.unsent().len());
    replay.stop_keeping(&budget);
    assert_eq!(replay.segments.len(), all - 2);
    assert_eq!(send(&mut replay, PLAINTEXT_MAX).len(), 9 * PLAINTEXT_MAX);
}

#[test]
fn all_copies_of_the_process_share_one_budget() {
    const TOTAL: usize = 16 << 20;
    let process_free = Arc::new(AtomicUsize::new(TOTAL));
    let shard = || ReplayBudget::new(process_free.clone(), TOTAL, 2);
    let (first, second) = (shard(), shard());
    let (mut a, mut b) = (ReplayBuffer::default(), ReplayBuffer::default());
    a.begin(&first);
    b.begin(&second);
    assert!(a.push(&body(10 << 20), usize::MAX, &first));
    assert!(b.push(&body(6 << 20), usize::MAX, &second));
    assert!(!b.push(b"one byte more", usize::MAX, &second));
    assert!(a.is_whole() && !b.is_whole());
    a.release(&first);
    drop((first, second));
    assert_eq!(process_free.load(Ordering::Relaxed), TOTAL);
}
