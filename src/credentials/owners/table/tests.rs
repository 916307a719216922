use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::thread;

use proptest::prelude::*;

use super::*;

const LIFE: Duration = Duration::from_secs(64);

fn table() -> OwnerTable {
    OwnerTable::new(LIFE)
}

fn object(number: usize) -> ObjectKey {
    ObjectKey::of(format!("resp_{number}").as_bytes())
}

#[test]
fn what_is_noted_is_found_until_it_is_forgotten_or_has_not_been_used_for_its_life() {
    let (table, life) = (table(), ticks(LIFE));
    assert_eq!((table.find(object(1), 5), table.count()), (None, 0));
    table.note(object(1), OwnerKey(7), 5);
    assert_eq!((table.find(object(1), 5), table.count()), (Some(OwnerKey(7)), 1));
    assert_eq!(table.find(object(2), 5), None);
    assert_eq!(table.find(object(1), 4 + life), Some(OwnerKey(7)), "a use");
    assert_eq!(table.find(object(1), 3 + 2 * life), Some(OwnerKey(7)), "counted from the last use");
    assert_eq!(table.find(object(1), 3 + 3 * life), None);
    table.note(object(1), OwnerKey(8), 3 + 3 * life);
    assert_eq!(table.find(object(1), 3 + 3 * life), Some(OwnerKey(8)), "made anew");
    table.forget(object(1));
    table.forget(object(2));
    assert_eq!((table.find(object(1), 3 + 3 * life), table.count()), (None, 0));
}

#[test]
fn of_more_than_it_holds_the_oldest_go() {
    let table = table();
    let capacity = SETS * WAYS;
    assert_eq!(capacity, 16_384);
    for number in 0..2 * capacity {
        table.note(object(number), OwnerKey(number as u64), (number / 100) as u32);
    }
    assert!(table.count() <= capacity);
    assert!(table.entries(330).count() <= capacity);
    let kept = |range: Range<usize>| range.filter(|number| table.find(object(*number), 330).is_some()).count();
    assert_eq!(kept(0..capacity / 2), 0, "the oldest");
    assert_eq!(kept(capacity + capacity / 2..2 * capacity), capacity / 2, "the newest half of what it holds");
}

#[test]
fn ten_thousand_are_all_kept() {
    let table = table();
    (0..10_000).for_each(|number| table.note(object(number), OwnerKey(number as u64), 1));
    let found = (0..10_000).filter(|number| table.find(object(*number), 1) == Some(OwnerKey(*number as u64))).count();
    assert_eq!((found, table.count()), (10_000, 10_000));
}

#[test]
fn threads_never_see_the_owner_of_another_object() {
    // All in one set that is too small for them, so that places change hands all the time.
    let objects: Vec<ObjectKey> = (0..).map(object).filter(|key| set_index(*key) == 0).take(2 * WAYS).collect();
    let owner = |key: ObjectKey| OwnerKey(!key.0);
    let table = table();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for start in 0..2 {
            let (table, objects, is_over) = (&table, &objects, &is_over);
            scope.spawn(move || {
                for round in 0..100 {
                    for key in objects.iter().skip(start * WAYS / 2).step_by(3 - start) {
                        table.note(*key, owner(*key), round);
                        if round % 7 == 0 {
                            table.forget(*key);
                        }
                    }
                }
                is_over.store(true, Ordering::Relaxed);
            });
        }
        while !is_over.load(Ordering::Relaxed) {
            for key in &objects {
                assert!(table.find(*key, 0).is_none_or(|found| found == owner(*key)));
            }
        }
    });
    assert!(table.entries(0).all(|entry| entry.owner == owner(entry.object)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_is_a_map_while_there_is_room(steps in prop::collection::vec((0_usize..40, 0_u64..5, prop::bool::ANY), 0..200)) {
        let (table, mut map) = (table(), HashMap::new());
        for (number, owner, is_noted) in steps {
            if is_noted {
                table.note(object(number), OwnerKey(owner), 1);
                map.insert(number, OwnerKey(owner));
            } else {
                table.forget(object(number));
                map.remove(&number);
            }
            for number in 0..40 {
                prop_assert_eq!(table.find(object(number), 1), map.get(&number).copied());
            }
            prop_assert_eq!(table.count(), map.len());
        }
    }
}
