//! The order of the rooms of `src/proxy`: each imports only those below it.

use std::collections::BTreeSet;

use super::graph::{Crate, Edges};
use super::source::files;

/// From the one that owns the order of things down to those that import none of the others.
const ROOMS: [&str; 28] = [
    "mod",
    "websocket",
    "stream",
    "filter",
    "admission",
    "owner_search",
    "attempt",
    "failover",
    "local_answer",
    "outcome",
    "counted",
    "exchange",
    "price_question",
    "quota_question",
    "resources",
    "snapshot",
    "downstream",
    "own_request",
    "trail",
    "response",
    "request",
    "sse",
    "reply_shape",
    "guard",
    "replay",
    "error",
    "key_accounts",
    "attempt_class",
];

#[test]
fn every_room_has_its_place_in_the_order() {
    let rooms: BTreeSet<String> = files().iter().filter_map(|file| Some(room(&file.path)?.to_owned())).collect();
    assert_eq!(rooms, ROOMS.map(str::to_owned).into());
}

#[test]
fn rooms_of_the_proxy_import_only_those_below() {
    let upward = upward(&Crate::read(&files()).edges(), &ROOMS);
    assert!(upward.is_empty(), "imports that do not go downwards:\n{}", upward.join("\n"));
}

/// Lists the imports between rooms that go up, and rooms that have no place in the order.
fn upward(edges: &Edges, rooms: &[&str]) -> Vec<String> {
    let place = |room: &str| rooms.iter().position(|known| *known == room);
    let goes_down = |above: &str, below: &str| place(above).zip(place(below)).is_some_and(|(from, to)| from < to);
    let mut upward = Vec::new();
    for ((from, to), (path, line)) in edges {
        let (Some(above), Some(below)) = (room(from), room(to)) else { continue };
        if above != below && !goes_down(above, below) {
            upward.push(format!("  {from}:{line} -> {to} ({path})"));
        }
    }
    upward
}

/// The room of a file: `attempt` of `proxy/attempt/relay.rs`, `outcome` of `proxy/outcome.rs`.
fn room(file: &str) -> Option<&str> {
    let rest = file.strip_prefix("proxy/")?;
    Some(rest.split(['/', '.']).next().unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(imports: &[(&str, &str)]) -> usize {
        let edge = |(from, to): &(&str, &str)| (((*from).to_owned(), (*to).to_owned()), ("path".to_owned(), 1));
        upward(&imports.iter().map(edge).collect(), &["mod", "attempt", "outcome"]).len()
    }

    #[test]
    fn an_import_that_goes_up_and_a_room_without_a_place_are_found() {
        assert_eq!(listed(&[("proxy/outcome.rs", "proxy/attempt/mod.rs")]), 1);
        assert_eq!(listed(&[("proxy/attempt/relay.rs", "proxy/mod.rs")]), 1);
        assert_eq!(listed(&[("proxy/mod.rs", "proxy/cellar.rs")]), 1);
    }

    #[test]
    fn what_goes_down_stays_within_or_is_not_of_the_proxy_passes() {
        assert_eq!(
            listed(&[("proxy/mod.rs", "proxy/outcome.rs"), ("proxy/attempt/mod.rs", "proxy/attempt/relay.rs")]),
            0
        );
        assert_eq!(listed(&[("server/mod.rs", "proxy/outcome.rs"), ("proxy/outcome.rs", "io/mod.rs")]), 0);
    }
}
