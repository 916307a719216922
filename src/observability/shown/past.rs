//! The last exchanges of a shard.
//!
//! Kept in places that are allocated once: noting an exchange takes some 300 instructions and 3 cache lines.
//! Invariant: as in the log, the query of a target, where clients put keys, is not kept.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use crate::observability::exchange::{CostRecord, Ending, ExchangeId, ExchangeRecord};

/// The exchanges of a shard that are kept: as many as are shown of all shards together.
pub const PAST_MAX: usize = 100;

/// Room for the texts of an exchange: a request id of 128 bytes and names beside it leave 160 and more for the path.
const TEXT_BYTES: usize = 440;
const TEXTS: usize = 6;

/// Limits on single texts; the path gets the rest.
const METHOD_BYTES_MAX: usize = 16;
const REQUEST_ID_BYTES_MAX: usize = 128;
const NAME_BYTES_MAX: usize = 48;
const PATH_BYTES_MAX: usize = 200;

/// An exchange that is over, as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct PastExchange {
    pub id: ExchangeId,
    pub ended: Instant,
    pub request_id: String,
    pub method: String,
    pub path: String,
    pub status: Option<u16>,
    pub ending: Ending,
    pub error_code: Option<&'static str>,
    pub credential: Option<String>,
    pub key: Option<String>,
    pub model: Option<String>,
    pub attempts: u32,
    pub first_byte: Option<Duration>,
    pub duration: Duration,
    /// Of the input and the output, where the answer told them.
    pub tokens: Option<(u64, u64)>,
    pub cost: Option<CostRecord>,
}

/// The last exchanges of one shard. Only for that shard.
#[derive(Debug)]
pub struct PastExchanges {
    places: RefCell<Box<[PastPlace]>>,
    /// The number of all that were noted.
    noted: Cell<usize>,
}

impl PastExchanges {
    /// Allocates all places.
    pub fn new() -> Self {
        let places = (0..PAST_MAX).map(|_| PastPlace::empty()).collect();
        PastExchanges { places: RefCell::new(places), noted: Cell::new(0) }
    }

    /// Notes an exchange that has ended just now.
    pub fn note(&self, record: &ExchangeRecord<'_>, ended: Instant) {
        let noted = self.noted.get();
        self.noted.set(noted + 1);
        self.places.borrow_mut()[noted % PAST_MAX].fill(record, ended);
    }

    /// Returns copies, the newest first.
    pub fn newest(&self) -> Vec<PastExchange> {
        let (places, noted) = (self.places.borrow(), self.noted.get());
        (noted.saturating_sub(PAST_MAX)..noted).rev().map(|number| places[number % PAST_MAX].copy()).collect()
    }
}

/// The place of one exchange. Its texts stand one after the other, so that a short one fills few cache lines.
#[derive(Debug)]
struct PastPlace {
    id: ExchangeId,
    ended: Instant,
    status: Option<u16>,
    ending: Ending,
    error_code: Option<&'static str>,
    attempts: u32,
    first_byte: Option<Duration>,
    duration: Duration,
    tokens: Option<(u64, u64)>,
    cost: Option<CostRecord>,
    ends: [u16; TEXTS],
    texts: [u8; TEXT_BYTES],
}

impl PastPlace {
    fn empty() -> Self {
        PastPlace {
            id: ExchangeId { shard: 0, sequence: 0 },
            ended: Instant::now(),
            status: None,
            ending: Ending::Ok,
            error_code: None,
            attempts: 0,
            first_byte: None,
            duration: Duration::ZERO,
            tokens: None,
            cost: None,
            ends: [0; TEXTS],
            texts: [0; TEXT_BYTES],
        }
    }

    fn fill(&mut self, record: &ExchangeRecord<'_>, ended: Instant) {
        let ExchangeRecord { id, status, ending, error_code, attempts, first_byte, duration, usage, .. } = *record;
        (self.id, self.ended, self.status, self.ending) = (id, ended, status, ending);
        (self.error_code, self.attempts, self.first_byte, self.duration) = (error_code, attempts, first_byte, duration);
        self.tokens = usage.and_then(|usage| usage.tokens).map(|tokens| (tokens.input, tokens.output));
        self.cost = usage.and_then(|usage| usage.cost);
        let model = usage.and_then(|usage| usage.model).unwrap_or_default();
        let (texts, ends, mut end) = (&mut self.texts, &mut self.ends, 0);
        // In a row and not in a loop over a table: half of the instructions.
        let mut put = |place: usize, text: &str, bytes_max: usize| {
            let text = begin_of(text, bytes_max.min(TEXT_BYTES - end)).as_bytes();
            texts[end..][..text.len()].copy_from_slice(text);
            end += text.len();
            ends[place] = end as u16;
        };
        put(0, record.method, METHOD_BYTES_MAX);
        put(1, record.request_id, REQUEST_ID_BYTES_MAX);
        put(2, record.credential.unwrap_or_default(), NAME_BYTES_MAX);
        put(3, record.key.unwrap_or_default(), NAME_BYTES_MAX);
        put(4, model, NAME_BYTES_MAX);
        put(5, record.path_without_query(), PATH_BYTES_MAX);
    }

    fn copy(&self) -> PastExchange {
        let named = |number: usize| Some(self.text(number)).filter(|text| !text.is_empty());
        PastExchange {
            id: self.id,
            ended: self.ended,
            method: self.text(0),
            request_id: self.text(1),
            credential: named(2),
            key: named(3),
            model: named(4),
            path: self.text(5),
            status: self.status,
            ending: self.ending,
            error_code: self.error_code,
            attempts: self.attempts,
            first_byte: self.first_byte,
            duration: self.duration,
            tokens: self.tokens,
            cost: self.cost,
        }
    }

    fn text(&self, number: usize) -> String {
        let begin = if number == 0 { 0 } else { self.ends[number - 1] };
        let bytes = &self.texts[usize::from(begin)..usize::from(self.ends[number])];
        String::from_utf8_lossy(bytes).into_owned()
    }
}

/// Returns the begin of a text, in whole characters.
fn begin_of(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let end = (0..=bytes_max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observability::exchange::{TokensRecord, UsageRecord};

    const USAGE: UsageRecord<'_> = UsageRecord {
        model: Some("m-1"),
        tokens: Some(TokensRecord { input: 3, output: 4, cached: 0, reasoning: 0 }),
        cost: Some(CostRecord { dollars: 0.5, is_reported: true }),
    };

    const RECORD: ExchangeRecord<'_> = ExchangeRecord {
        id: ExchangeId { shard: 1, sequence: 26 },
        request_id: "r-1",
        trace_id: None,
        method: "POST",
        path: "/v1/messages?key=hidden#more",
        status: Some(200),
        credential: Some("team-a"),
        key: None,
        attempts: 2,
        first_byte: Some(Duration::from_millis(2)),
        duration: Duration::from_millis(3),
        request_bytes: 5,
        response_bytes: 7,
        ending: Ending::Ok,
        error_code: None,
        usage: Some(USAGE),
    };

    #[test]
    fn the_last_are_kept_newest_first_with_all_that_is_shown_and_no_query() {
        let (past, now) = (PastExchanges::new(), Instant::now());
        assert!(past.newest().is_empty());
        for sequence in 1..=250 {
            past.note(&ExchangeRecord { id: ExchangeId { shard: 1, sequence }, ..RECORD }, now);
        }
        let newest = past.newest();
        let numbers: Vec<u64> = newest.iter().map(|exchange| exchange.id.sequence).collect();
        assert_eq!(numbers, (151..=250).rev().collect::<Vec<_>>());
        let expected = PastExchange {
            id: ExchangeId { shard: 1, sequence: 250 },
            ended: now,
            request_id: "r-1".into(),
            method: "POST".into(),
            path: "/v1/messages".into(),
            status: Some(200),
            ending: Ending::Ok,
            error_code: None,
            credential: Some("team-a".into()),
            key: None,
            model: Some("m-1".into()),
            attempts: 2,
            first_byte: Some(Duration::from_millis(2)),
            duration: Duration::from_millis(3),
            tokens: Some((3, 4)),
            cost: Some(CostRecord { dollars: 0.5, is_reported: true }),
        };
        assert_eq!(newest[0], expected);
    }

    #[test]
    fn texts_are_cut_between_characters_and_fit_however_long_they_are() {
        let past = PastExchanges::new();
        let long = "é".repeat(1000);
        let usage = Some(UsageRecord { model: Some(&long), ..USAGE });
        let names = (Some(long.as_str()), Some(long.as_str()));
        let record = ExchangeRecord { request_id: &long, method: &long, path: &long, usage, ..RECORD };
        past.note(&ExchangeRecord { credential: names.0, key: names.1, ..record }, Instant::now());
        let kept = past.newest().remove(0);
        let lengths = [&kept.method, &kept.request_id, &kept.path].map(String::len);
        assert_eq!(lengths, [METHOD_BYTES_MAX, REQUEST_ID_BYTES_MAX, 152]);
        let names = [kept.credential, kept.key, kept.model].map(|name| name.map(|name| name.len()));
        assert_eq!(names, [Some(NAME_BYTES_MAX); 3]);
        past.note(&RECORD, Instant::now());
        assert_eq!(past.newest()[0].path, "/v1/messages", "what was there before does not show");
    }
}
