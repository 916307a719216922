//! The order of precedence, as a table: a row for each combination.

use super::tests::{entries, id};
use super::*;
use crate::credentials::CredentialFault;

/// The owner of the object that the request names.
#[derive(Debug, Clone, Copy)]
enum NamedObject {
    Nothing,
    Within,
    Outside,
}

/// Those that rest: nobody; the one that the request prefers; all that it may use, of which one is free soonest.
#[derive(Debug, Clone, Copy)]
enum Rest {
    None,
    Preferred,
    All,
}

/// The rank of this session is `c d b a`, so that no choice is the same as that of the turn, which is `a`'s, or with a
/// key `b`'s.
const SESSION: &[u8] = b"session-7";
const TURN: usize = 0;

/// The one that is free soonest where all rest.
const SOONEST: u16 = 1;

#[test]
fn the_keys_credentials_come_before_the_owner_the_owner_before_the_session_and_the_session_before_the_turn() {
    use NamedObject::{Nothing, Outside, Within};
    use Rest::{All, None, Preferred};
    // Key set, object named, session, rests: the index, with `?` where it is probed, or `404`.
    for (has_key, named, has_session, rest, expected) in [
        (false, Nothing, false, None, "0"),
        (false, Nothing, false, Preferred, "1"),
        (false, Nothing, false, All, "1?"),
        (false, Nothing, true, None, "2"),
        (false, Nothing, true, Preferred, "3"),
        (false, Nothing, true, All, "1?"),
        (false, Within, false, None, "3"),
        (false, Within, false, Preferred, "3"),
        (false, Within, false, All, "3"),
        (false, Within, true, None, "3"),
        (false, Within, true, Preferred, "3"),
        (false, Within, true, All, "3"),
        // The key may use b and d.
        (true, Nothing, false, None, "1"),
        (true, Nothing, false, Preferred, "3"),
        (true, Nothing, false, All, "1?"),
        (true, Nothing, true, None, "3"),
        (true, Nothing, true, Preferred, "1"),
        (true, Nothing, true, All, "1?"),
        (true, Within, false, None, "3"),
        (true, Within, false, Preferred, "3"),
        (true, Within, false, All, "3"),
        (true, Within, true, None, "3"),
        (true, Within, true, Preferred, "3"),
        (true, Within, true, All, "3"),
        (true, Outside, false, None, "404"),
        (true, Outside, false, Preferred, "404"),
        (true, Outside, false, All, "404"),
        (true, Outside, true, None, "404"),
        (true, Outside, true, Preferred, "404"),
        (true, Outside, true, All, "404"),
    ] {
        let found = chosen(has_key, named, has_session, rest);
        assert_eq!(found, expected, "key {has_key}, object {named:?}, session {has_session}, rests {rest:?}");
    }
}

fn chosen(has_key: bool, named: NamedObject, has_session: bool, rest: Rest) -> String {
    let now = Instant::now();
    let all = entries(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
    let members = if has_key { vec![id(1), id(3)] } else { all.ids().collect() };
    let rotation = Rotation::new(&all, members, u64::MAX, TURN as u64);
    let session = has_session.then(|| SessionKey::of(SESSION));
    let selector = Selector { credentials: &all, rotation: &rotation, session };
    let owner = match named {
        NamedObject::Nothing => Owner::Unknown,
        NamedObject::Within => selector.owner(all.owner_key(id(3))),
        NamedObject::Outside => selector.owner(all.owner_key(id(2))),
    };
    let limited =
        |seconds: u64| CredentialFault::RateLimited { retry_after: Some(std::time::Duration::from_secs(seconds)) };
    let rests = |id: CredentialId| match rest {
        Rest::None => None,
        Rest::Preferred => (id == selector.likely()).then_some(20),
        Rest::All => Some(if id.index() == usize::from(SOONEST) { 10 } else { 20 }),
    };
    for resting in all.ids() {
        if let Some(seconds) = rests(resting) {
            all.cool(resting, limited(seconds), now, now);
        }
    }
    match selector.first(owner, now) {
        Err(OwnedByOthers) => "404".to_owned(),
        Ok(Choice::Use(turn)) => format!("{}{}", turn.credential.index(), if turn.is_probe() { "?" } else { "" }),
        Ok(other) => format!("{other:?}"),
    }
}
