//! The order in which the upstream's addresses are tried, by the results of earlier tries.
//!
//! First the one that answered last, then the families in turn (RFC 8305 §4), last those that failed or were given up,
//! until they answer again: one that accepts and then hangs must not cost every connect its whole limit. Invariant: an
//! address is never both the winner and distrusted.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;

use super::resolve::ADDRESS_COUNT_MAX;

/// The results of one shard's tries of the upstream's addresses.
#[derive(Debug, Default)]
pub struct Addresses {
    /// The address that answered last.
    winner: Cell<Option<SocketAddr>>,
    /// The addresses whose last try led to nothing, the longest ago first; at most `ADDRESS_COUNT_MAX`.
    distrusted: RefCell<Vec<SocketAddr>>,
    /// The addresses that the last dropped connect had under way.
    abandoned: RefCell<Vec<SocketAddr>>,
}

impl Addresses {
    pub fn in_order(&self, found: &[SocketAddr]) -> Vec<SocketAddr> {
        let distrusted = self.distrusted.borrow();
        let mut ordered = families_in_turn(found);
        if let Some(place) = ordered.iter().position(|address| Some(*address) == self.winner.get()) {
            ordered[..=place].rotate_right(1);
        }
        // Stable, and `None` comes first.
        ordered.sort_by_key(|address| distrusted.iter().position(|distrusted| distrusted == address));
        ordered
    }

    /// Begins to record the tries of one connect.
    pub fn begin(&self) -> Tries<'_> {
        Tries { addresses: self, under_way: RefCell::default() }
    }

    /// Distrusts the addresses of the last dropped connect, which had enough time.
    pub fn distrust_abandoned(&self) {
        // The one that was tried first had the most time: it comes last of all.
        for address in self.abandoned.take().into_iter().rev() {
            self.distrust(address);
        }
    }

    fn trust(&self, address: SocketAddr) {
        self.distrusted.borrow_mut().retain(|known| *known != address);
        self.winner.set(Some(address));
    }

    fn distrust(&self, address: SocketAddr) {
        if self.winner.get() == Some(address) {
            self.winner.set(None);
        }
        let mut distrusted = self.distrusted.borrow_mut();
        distrusted.retain(|known| *known != address);
        if distrusted.len() == ADDRESS_COUNT_MAX {
            // Most likely one that the name no longer has.
            distrusted.remove(0);
        }
        distrusted.push(address);
    }
}

/// The addresses that one connect has under way. Those that still are when this is dropped were abandoned.
#[derive(Debug)]
pub struct Tries<'a> {
    addresses: &'a Addresses,
    under_way: RefCell<Vec<SocketAddr>>,
}

impl Tries<'_> {
    pub fn begin(&self, address: SocketAddr) {
        self.under_way.borrow_mut().push(address);
    }

    /// Notes that `address` has accepted, and that the tries beside it are closed without blame.
    pub fn go_on_with(&self, address: SocketAddr) {
        self.under_way.borrow_mut().retain(|other| *other == address);
    }

    pub fn succeed(&self, address: SocketAddr) {
        self.under_way.borrow_mut().clear();
        self.addresses.trust(address);
    }

    pub fn fail(&self, address: SocketAddr) {
        self.under_way.borrow_mut().retain(|other| *other != address);
        self.addresses.distrust(address);
    }
}

impl Drop for Tries<'_> {
    fn drop(&mut self) {
        self.addresses.abandoned.replace(self.under_way.take());
    }
}

/// Returns the system's order with the two families in turn, so that a family that leads nowhere costs one try at a
/// time.
fn families_in_turn(found: &[SocketAddr]) -> Vec<SocketAddr> {
    let leads_with_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let mut lead = found.iter().filter(|address| address.is_ipv6() == leads_with_v6);
    let mut other = found.iter().filter(|address| address.is_ipv6() != leads_with_v6);
    let mut ordered = Vec::with_capacity(found.len());
    loop {
        let pair = [lead.next(), other.next()];
        if pair == [None, None] {
            return ordered;
        }
        ordered.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    fn numbered(numbers: &[u16]) -> Vec<SocketAddr> {
        numbers.iter().map(|number| SocketAddr::from(([127, 0, 0, 1], *number))).collect()
    }

    fn order(addresses: &Addresses, found: &[SocketAddr]) -> Vec<u16> {
        addresses.in_order(found).iter().map(SocketAddr::port).collect()
    }

    #[test]
    fn families_take_turns_and_the_last_winner_goes_first() {
        let addresses = Addresses::default();
        let found = parsed(&["[::1]:443", "[::2]:443", "1.1.1.1:443", "2.2.2.2:443", "3.3.3.3:443"]);
        assert_eq!(
            addresses.in_order(&found),
            parsed(&["[::1]:443", "1.1.1.1:443", "[::2]:443", "2.2.2.2:443", "3.3.3.3:443"])
        );
        addresses.begin().succeed("2.2.2.2:443".parse().unwrap());
        assert_eq!(
            addresses.in_order(&found),
            parsed(&["2.2.2.2:443", "[::1]:443", "1.1.1.1:443", "[::2]:443", "3.3.3.3:443"])
        );
        assert_eq!(addresses.in_order(&[]), []);
    }

    #[test]
    fn one_that_failed_goes_last_until_it_answers_again() {
        let (addresses, found) = (Addresses::default(), numbered(&[1, 2, 3]));
        addresses.begin().succeed(found[0]);
        addresses.begin().fail(found[0]);
        assert_eq!((order(&addresses, &found), addresses.winner.get()), (vec![2, 3, 1], None));
        addresses.begin().fail(found[1]);
        assert_eq!(order(&addresses, &found), [3, 1, 2]);
        addresses.begin().fail(found[0]);
        assert_eq!(order(&addresses, &found), [3, 2, 1]);
        addresses.begin().succeed(found[0]);
        assert_eq!(order(&addresses, &found), [1, 3, 2]);
    }

    #[test]
    fn what_a_connect_that_was_given_up_had_under_way_goes_last() {
        let (addresses, found) = (Addresses::default(), numbered(&[1, 2, 3, 4]));
        let tries = addresses.begin();
        tries.begin(found[0]);
        tries.begin(found[1]);
        drop(tries);
        assert_eq!(order(&addresses, &found), [1, 2, 3, 4], "it was not for its slowness");
        addresses.distrust_abandoned();
        assert_eq!(order(&addresses, &found), [3, 4, 2, 1]);
    }

    #[test]
    fn nothing_is_said_against_those_that_lost_the_race_nor_by_a_connect_that_tried_none() {
        let (addresses, found) = (Addresses::default(), numbered(&[1, 2, 3]));
        let tries = addresses.begin();
        tries.begin(found[0]);
        tries.begin(found[1]);
        tries.go_on_with(found[1]);
        drop(tries);
        // It waited for a permit, say.
        drop(addresses.begin());
        addresses.distrust_abandoned();
        assert_eq!(order(&addresses, &found), [1, 2, 3]);
        let tries = addresses.begin();
        tries.begin(found[0]);
        tries.begin(found[1]);
        tries.go_on_with(found[1]);
        drop(tries);
        addresses.distrust_abandoned();
        assert_eq!(order(&addresses, &found), [1, 3, 2]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let addresses = Addresses::default();
        let found = numbered(&(1..=100).collect::<Vec<_>>());
        found.iter().for_each(|address| addresses.begin().fail(*address));
        assert_eq!(addresses.distrusted.borrow().len(), ADDRESS_COUNT_MAX);
    }
}
