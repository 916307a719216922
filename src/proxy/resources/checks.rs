//! The number of a shard's background checks that are under way.

use std::cell::Cell;
use std::rc::Rc;

/// The limit on them: more would be as many requests that nobody asked for.
const CHECKS_MAX: usize = 4;

/// The number of a shard's checks that are under way.
#[derive(Debug, Clone, Default)]
pub struct ChecksUnderWay(Rc<Cell<usize>>);

/// A check's place among those.
#[derive(Debug)]
pub struct CheckPlace(ChecksUnderWay);

impl ChecksUnderWay {
    /// Takes a place; `None` where there is none.
    pub fn take(&self) -> Option<CheckPlace> {
        let count = self.0.get();
        (count < CHECKS_MAX).then(|| {
            self.0.set(count + 1);
            CheckPlace(self.clone())
        })
    }
}

impl Drop for CheckPlace {
    fn drop(&mut self) {
        let CheckPlace(ChecksUnderWay(count)) = self;
        count.set(count.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_a_few_checks_are_under_way_at_a_time() {
        let checks = ChecksUnderWay::default();
        let mut places: Vec<_> = (0..CHECKS_MAX).map(|_| checks.take().expect("a place")).collect();
        assert!(checks.take().is_none());
        places.pop();
        assert!(checks.take().is_some());
    }
}
