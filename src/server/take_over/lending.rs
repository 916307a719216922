//! The state of the lending of the listening sockets. The main thread that stops and the thread that lends may race: the
//! first to change the state wins.

use std::sync::atomic::Ordering;

use crate::sync::AtomicU8;

/// The state; possible by default.
#[derive(Debug, Default)]
pub struct Lending(AtomicU8);

const POSSIBLE: u8 = 0;
/// A successor has the sockets, and does not serve on them yet.
const UNDER_WAY: u8 = 1;
/// This process stops, and the sockets are lent no more.
const WITHDRAWN: u8 = 2;

impl Lending {
    /// Lends the sockets; false if they are withdrawn.
    pub fn begin(&self) -> bool {
        self.change(POSSIBLE, UNDER_WAY)
    }

    /// Ends the lending to one successor: another may have them.
    pub fn end(&self) {
        self.change(UNDER_WAY, POSSIBLE);
    }

    /// Lends the sockets no more. Returns false if a successor has them already, and may be about to serve.
    pub fn withdraw(&self) -> bool {
        self.change(POSSIBLE, WITHDRAWN)
    }

    fn change(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}
