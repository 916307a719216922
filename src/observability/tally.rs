//! The results of a shard's exchanges: their endings, durations and sizes, and the errors made here.
//!
//! Written by the shard alone when an exchange is over, with plain loads and stores on cache lines of its own; read by
//! other threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use super::counters::add;
use super::distribution::histogram::Histogram;
use super::exchange::{Ending, ExchangeRecord};

/// Limit on the different errors that are counted; the table of errors makes sure that it fits.
pub const ERROR_CODES_MAX: usize = 64;

/// The exchanges of one shard.
#[derive(Debug)]
pub struct Tally {
    ends: CachePadded<Ends>,
    /// On cache lines other than those that every exchange writes.
    errors: CachePadded<[AtomicU64; ERROR_CODES_MAX]>,
}

#[derive(Debug, Default)]
struct Ends {
    endings: [AtomicU64; Ending::ALL.len()],
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
    first_byte: Histogram,
    duration: Histogram,
}

impl Default for Tally {
    fn default() -> Self {
        Tally { ends: CachePadded::default(), errors: CachePadded::new([const { AtomicU64::new(0) }; ERROR_CODES_MAX]) }
    }
}

impl Tally {
    /// Counts an exchange that is over. Its duration counts only if it was forwarded: answers made here take no time.
    /// Only for the shard that owns this.
    pub fn exchange(&self, record: &ExchangeRecord<'_>, was_forwarded: bool) {
        let ends = &*self.ends;
        add(&ends.endings[record.ending as usize], 1);
        if !was_forwarded {
            return;
        }
        add(&ends.request_bytes, record.request_bytes);
        add(&ends.response_bytes, record.response_bytes);
        record.first_byte.into_iter().for_each(|time: Duration| ends.first_byte.add(time));
        ends.duration.add(record.duration);
    }

    /// Counts an error made here, by its place in the table of errors. Only for the shard that owns this.
    pub fn error(&self, place: usize) {
        add(&self.errors[place], 1);
    }

    pub fn endings(&self, ending: Ending) -> u64 {
        self.ends.endings[ending as usize].load(Ordering::Relaxed)
    }

    pub fn errors(&self, place: usize) -> u64 {
        self.errors[place].load(Ordering::Relaxed)
    }

    /// Returns the body bytes from clients, of exchanges that are over.
    pub fn request_bytes(&self) -> u64 {
        self.ends.request_bytes.load(Ordering::Relaxed)
    }

    /// Returns the body bytes to clients, of exchanges that are over.
    pub fn response_bytes(&self) -> u64 {
        self.ends.response_bytes.load(Ordering::Relaxed)
    }

    pub fn first_byte(&self) -> &Histogram {
        &self.ends.first_byte
    }

    pub fn duration(&self) -> &Histogram {
        &self.ends.duration
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observability::distribution::histogram::Spread;
    use crate::observability::exchange::ExchangeId;

    const RECORD: ExchangeRecord<'_> = ExchangeRecord {
        id: ExchangeId { shard: 0, sequence: 1 },
        request_id: "r-1",
        trace_id: None,
        method: "GET",
        path: "/",
        status: Some(200),
        credential: None,
        key: None,
        attempts: 1,
        first_byte: Some(Duration::from_millis(2)),
        duration: Duration::from_millis(3),
        request_bytes: 5,
        response_bytes: 7,
        ending: Ending::Ok,
        error_code: None,
        usage: None,
    };

    #[test]
    fn endings_of_all_exchanges_and_times_and_bytes_of_those_that_were_forwarded_are_kept() {
        let tally = Tally::default();
        tally.exchange(&RECORD, true);
        tally.exchange(&ExchangeRecord { first_byte: None, ending: Ending::ClientDisconnected, ..RECORD }, true);
        tally.exchange(&ExchangeRecord { ending: Ending::Refused, ..RECORD }, false);
        let endings: Vec<u64> = Ending::ALL.into_iter().map(|ending| tally.endings(ending)).collect();
        assert_eq!(endings, [1, 1, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!((tally.request_bytes(), tally.response_bytes()), (10, 14));
        let sums = [tally.first_byte(), tally.duration()].map(|histogram| Spread::of([histogram].into_iter()));
        assert_eq!(sums.map(|spread| (spread.buckets.iter().sum(), spread.sum_micros)), [(1, 2000), (2, 6000)]);
    }

    #[test]
    fn every_ending_and_every_error_has_a_place_of_its_own() {
        let tally = Tally::default();
        for (place, ending) in Ending::ALL.into_iter().enumerate() {
            assert_eq!(ending as usize, place, "{}", ending.as_str());
        }
        (0..ERROR_CODES_MAX).for_each(|place| tally.error(place));
        assert!((0..ERROR_CODES_MAX).all(|place| tally.errors(place) == 1));
    }
}
